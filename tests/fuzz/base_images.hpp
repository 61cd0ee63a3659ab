// The stores that the mutated target damages: made once in a process, by the engine itself, and small.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/base/ids.hpp"
#include "support/mem_block_device.hpp"

namespace store::fuzz {

struct BaseImage {
  const char* name;
  std::shared_ptr<test::MemDisk> disk;
  std::vector<PageNo> pages;  // all that its newest state reaches, the meta pages first
};

std::span<const BaseImage> base_images();

}  // namespace store::fuzz
