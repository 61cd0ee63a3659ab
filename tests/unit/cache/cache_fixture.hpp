// Valid tree pages on a disk in memory, and a cache over it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <monterey/detail/reactor.hpp>
#include <monterey/fixed_bufs.hpp>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <monterey/when_all.hpp>

#include "store/cache/page_cache.hpp"
#include "store/page/branch.hpp"
#include "store/page/header.hpp"
#include "store/page/leaf.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store::test {

using monterey::IoClass;
using monterey::Task;
using Pin = PageCache::Pin;

// The bytes of a leaf that says which page and which generation it is.
inline PagePointer make_page(PageBytes page, std::uint32_t number, std::uint64_t birth) {
  const std::string value = std::to_string(number) + " of " + std::to_string(birth);
  const LeafCell cells[] = {{"what", LeafValue(value)}};
  encode_leaf(cells, page);
  return seal_page(page, PageNo(number), Generation(birth));
}

// What a page made by make_page() says.
inline std::string what_is(const std::byte* page) {
  const LeafView leaf(page);
  return leaf.count() == 1 ? std::string(leaf.value(0).bytes()) : std::string("no page of this test");
}
inline std::string what_is(const Pin& pin) { return pin ? what_is(pin.data()) : std::string("no pin"); }

struct CacheUnderTest {
  explicit CacheUnderTest(std::size_t frames, std::uint64_t blocks = 1000)
      : disk(std::make_shared<MemDisk>()),
        device(disk),
        cache(std::make_unique<PageCache>(device, monterey::FixedBufs::current().allocate(frames * 4096))) {
    disk->set_size_blocks(blocks);
  }

  PagePointer put(std::uint32_t number, std::uint64_t birth = 1) {
    return make_page(disk->block(PageNo(number)), number, birth);
  }
  // A branch of one child, which is none of this disk's.
  PagePointer put_branch(std::uint32_t number) {
    const BranchCell cells[] = {{"", PagePointer{PageNo(number + 1), 0, Generation(1), 0}}};
    const PageBytes page = disk->block(PageNo(number));
    encode_branch(cells, 1, page);
    return seal_page(page, PageNo(number), Generation(1));
  }
  std::vector<PagePointer> put_range(std::uint32_t first, std::uint32_t count, std::uint64_t birth = 1) {
    std::vector<PagePointer> pointers;
    for (std::uint32_t i = 0; i < count; ++i) pointers.push_back(put(first + i, birth));
    return pointers;
  }
  std::uint64_t reads() const { return disk->counts().reads; }

  std::shared_ptr<MemDisk> disk;
  MemBlockDevice device;
  std::unique_ptr<PageCache> cache;
};

// A pin() that was started by hand, so that it can be destroyed while it waits.
class StartedPin {
 public:
  StartedPin(PageCache& cache, const PagePointer& pointer, Reuse reuse = Reuse::likely)
      : task_(cache.pin(pointer, IoClass::foreground, reuse)), latch_(std::make_unique<monterey::detail::Latch>()) {
    latch_->left = 1;
    task_.start(*latch_);
  }
  bool ended() const { return latch_->left == 0; }
  Pin take() { return task_.result().take(); }
  void destroy() { task_ = Task<Pin>(); }

 private:
  Task<Pin> task_;
  std::unique_ptr<monterey::detail::Latch> latch_;
};

// Lets everything that is ready run, and what that makes ready.
inline Task<> settle() {
  for (int i = 0; i < 10; ++i) co_await monterey::yield();
}

}  // namespace store::test
