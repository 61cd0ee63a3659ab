#include <store/block_device.hpp>

namespace store {

monterey::Task<> BlockDevice::write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) {
  co_await write(first, from, io_class);
  co_await sync();
}

}  // namespace store
