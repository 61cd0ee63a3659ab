// The write buffer's memory against its promise: every mapping and every allocation is counted from outside.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <store/error.hpp>
#include <string>
#include <vector>

#include "store/writebuf/write_buffer.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STORE_COUNT_MEMORY 0  // the sanitizers replace these functions themselves
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STORE_COUNT_MEMORY 0
#endif
#endif
#ifndef STORE_COUNT_MEMORY
#define STORE_COUNT_MEMORY 1
#endif

#if STORE_COUNT_MEMORY
namespace {
std::size_t g_mapped = 0;
std::size_t g_allocated = 0;  // ever, frees are not subtracted
std::size_t g_allocations = 0;
}  // namespace

extern "C" void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  const long result = syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  if (result == -1) return MAP_FAILED;
  g_mapped += length;
  return reinterpret_cast<void*>(result);
}
extern "C" int munmap(void* address, size_t length) noexcept {
  g_mapped -= length;
  return static_cast<int>(syscall(SYS_munmap, address, length));
}
void* operator new(std::size_t bytes) {
  g_allocated += bytes;
  ++g_allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace store {
namespace {

TEST(WriteBufferMemory, StaysWithinItsPromiseAndPutsAllocateNothing) {
  for (const std::size_t arena : {std::size_t{4096}, std::size_t{100'001}, std::size_t{8} << 20}) {
    for (const std::size_t value_bytes : {0u, 8u, 100u}) {
      const std::string value(value_bytes, 'v');
      const std::size_t mapped = g_mapped;
      const std::size_t allocated = g_allocated;
      auto buffer = WriteBuffer::create({.arena_bytes = arena});
      const std::size_t created = g_allocations;
      char key[32];
      std::uint64_t i = 0;
      for (;; ++i) {
        const int n =
            std::snprintf(key, sizeof key, "%llx", static_cast<unsigned long long>(i * 0x9E3779B97F4A7C15u >> 24));
        if (!buffer->put({key, static_cast<std::size_t>(n)}, value, SeqNo{i + 1})) break;
      }
      buffer->freeze();
      EXPECT_EQ(g_allocations, created);
      EXPECT_LE(g_mapped - mapped + g_allocated - allocated, WriteBuffer::memory_bytes(arena));
      EXPECT_GT(i, arena / 200);

      auto it = buffer->iterate();
      const std::size_t made = g_allocations;
      std::size_t seen = 0;
      for (it.seek(""); it.valid(); it.next()) ++seen;
      for (; seen > 0 && !it.valid(); --seen) it.seek_last_before(std::nullopt);
      EXPECT_EQ(g_allocations, made);
      it = buffer->iterate();
      buffer.reset();
      EXPECT_GT(g_mapped, mapped);  // the iterator keeps it
      { const auto last = std::move(it); }
      EXPECT_EQ(g_mapped, mapped);
    }
  }
}

}  // namespace
}  // namespace store
#endif

namespace store {
namespace {

TEST(WriteBufferMemory, AskedForTooMuchIsAnErrorThatNamesTheBytes) {
  try {
    // 32 GiB of arenas until the address space is used up.
    std::vector<std::shared_ptr<WriteBuffer>> buffers;
    for (int i = 0; i < 100'000; ++i)
      buffers.push_back(WriteBuffer::create({.arena_bytes = WriteBuffer::kMaxArenaBytes}));
    FAIL() << "the system refused nothing";
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("lower write_buffer_bytes"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace store
