// The input of the image target. It gives the blocks of a device one after the other, each by a length and so many bytes, the
// rest of the block being zeros: a store of a few entries takes some hundred bytes, and what a change shifts stays within a
// block. On demand the checksums are mended: nobody guesses them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fuzz/exercise.hpp"
#include "fuzz/targets.hpp"
#include "support/mem_block_device.hpp"

namespace store::fuzz {

struct Image {
  std::shared_ptr<test::MemDisk> disk;
  HowToOpen how;
};

Image decode_image(Bytes input);
// Opened in the ordinary way.
std::vector<std::uint8_t> encode_image(test::MemDisk& disk);

}  // namespace store::fuzz
