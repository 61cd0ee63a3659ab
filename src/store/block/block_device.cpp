#include <store/block_device.hpp>

#include <cstring>
#include <vector>

namespace store {

monterey::Task<> BlockDevice::read_scattered(PageNo first, std::span<const BlockSpan> pieces,
                                             monterey::IoClass io_class) {
  std::size_t bytes = 0;
  for (const BlockSpan piece : pieces) bytes += piece.size();
  std::vector<std::byte> whole(bytes);
  co_await read(first, whole, io_class);
  const std::byte* from = whole.data();
  for (const BlockSpan piece : pieces) {
    std::memcpy(piece.data(), from, piece.size());
    from += piece.size();
  }
}

monterey::Task<> BlockDevice::write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) {
  co_await write(first, from, io_class);
  co_await sync();
}

}  // namespace store
