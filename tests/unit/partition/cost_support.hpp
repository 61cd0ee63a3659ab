// What the tests of costs share: keys and values of the sizes that the performance model speaks of, thread CPU time,
// and a look past the engine at a committed state on a MemDisk.
#pragma once

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "support/mem_block_device.hpp"

namespace store::test {

inline constexpr std::size_t kKeyBytes = 16;
inline constexpr std::size_t kValueBytes = 100;

inline std::string key_of(std::uint64_t i) {
  char text[32];
  std::snprintf(text, sizeof text, "key%013llu", static_cast<unsigned long long>(i));
  return text;
}

inline std::vector<std::string> keys_up_to(std::uint64_t count) {
  std::vector<std::string> keys;
  keys.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) keys.push_back(key_of(i));
  return keys;
}

inline double thread_cpu_us() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

// The newest commit on a disk; no write of a meta page may be half done.
inline Meta newest_meta(MemDisk& disk) {
  Meta newest;
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    const DecodedMeta decoded = decode_meta(disk.block(meta_block(slot, 0)), slot);
    if (decoded.state == MetaState::good && decoded.meta.generation >= newest.generation) newest = decoded.meta;
  }
  return newest;
}

// The leaves of the tree below `page`, from left to right.
inline void append_leaves(MemDisk& disk, PagePointer page, unsigned level, std::vector<PagePointer>& leaves) {
  if (level == 0) {
    leaves.push_back(page);
    return;
  }
  const BranchView branch(disk.block(page.page).data());
  for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
    append_leaves(disk, branch.child(slot), level - 1, leaves);
  }
}

inline std::vector<PagePointer> leaves_of(MemDisk& disk) {
  const Meta meta = newest_meta(disk);
  std::vector<PagePointer> leaves;
  if (meta.tree_height > 0) append_leaves(disk, meta.tree_root, meta.tree_height - 1u, leaves);
  return leaves;
}

}  // namespace store::test
