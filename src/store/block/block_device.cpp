#include <store/block_device.hpp>

#include <cstring>
#include <vector>

namespace store {

monterey::Task<> BlockDevice::read_scattered(PageNo first, std::span<const BlockSpan> pages,
                                             monterey::IoClass io_class) {
  std::vector<std::byte> whole(pages.size() * BlockSpan::extent);
  co_await read(first, whole, io_class);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    std::memcpy(pages[i].data(), whole.data() + i * BlockSpan::extent, BlockSpan::extent);
  }
}

monterey::Task<> BlockDevice::write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) {
  co_await write(first, from, io_class);
  co_await sync();
}

}  // namespace store
