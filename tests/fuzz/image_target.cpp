#include "fuzz/image_target.hpp"

#include <algorithm>

#include "fuzz/core.hpp"
#include "fuzz/input.hpp"
#include "fuzz/mend.hpp"
#include "store/base/units.hpp"

namespace store::fuzz {

Image decode_image(Bytes bytes) {
  constexpr std::uint64_t kRoom = 64;  // blocks that the device may grow by
  Input input(bytes);
  const std::uint8_t options = input.byte();
  Image image{std::make_shared<test::MemDisk>(), how_to_open(options)};
  std::uint32_t blocks = 0;
  while (!input.empty()) {
    const auto content = input.take(input.number<std::uint16_t>() % (kPageBytes + 1));
    const auto block = image.disk->block(PageNo(blocks++));
    std::transform(content.begin(), content.end(), block.begin(), [](std::uint8_t b) { return std::byte{b}; });
  }
  if ((options & 64) != 0) blocks += 5;  // of zeros
  image.disk->set_size_blocks(blocks);
  image.disk->set_capacity_blocks(blocks + kRoom);
  if ((options & 32) != 0) Mender(*image.disk, {}).mend_all();
  return image;
}

std::vector<std::uint8_t> encode_image(test::MemDisk& disk) {
  std::vector<std::uint8_t> bytes{0};
  for (std::uint32_t number = 0; number < disk.size_blocks(); ++number) {
    const auto block = disk.block(PageNo(number));
    std::size_t used = block.size();
    while (used > 0 && block[used - 1] == std::byte{0}) --used;
    bytes.push_back(static_cast<std::uint8_t>(used & 0xff));
    bytes.push_back(static_cast<std::uint8_t>(used >> 8));
    std::transform(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(used), std::back_inserter(bytes),
                   [](std::byte b) { return static_cast<std::uint8_t>(b); });
  }
  return bytes;
}

void run_image(Bytes bytes) {
  const Image image = decode_image(bytes);
  run_on_core(exercise(image.disk, image.how));
}

}  // namespace store::fuzz
