#include "tools/observed.hpp"

#include <span>
#include <string>
#include <utility>

namespace store::tool {
namespace {

constexpr std::size_t kBlockBytes = 4096;

class ObservedDevice final : public BlockDevice {
 public:
  ObservedDevice(std::unique_ptr<BlockDevice> device, const ReadObserver& observer)
      : device_(std::move(device)), observer_(observer) {}

  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) override {
    observer_(into.size() / kBlockBytes);
    return device_->read(first, into, io_class);
  }
  monterey::Task<> read_scattered(PageNo first, std::span<const BlockSpan> pieces,
                                  monterey::IoClass io_class) override {
    std::size_t bytes = 0;
    for (const BlockSpan piece : pieces) bytes += piece.size();
    observer_(bytes / kBlockBytes);
    return device_->read_scattered(first, pieces, io_class);
  }
  monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override {
    return device_->write(first, from, io_class);
  }
  monterey::Task<> write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override {
    return device_->write_durably(first, from, io_class);
  }
  monterey::Task<> sync() override { return device_->sync(); }
  monterey::Task<> trim(Extent blocks) override { return device_->trim(blocks); }
  monterey::Task<> grow(std::uint64_t blocks) override { return device_->grow(blocks); }
  monterey::Task<> shrink(std::uint64_t blocks) override { return device_->shrink(blocks); }
  std::uint64_t size_blocks() const override { return device_->size_blocks(); }
  std::uint64_t capacity_blocks() const override { return device_->capacity_blocks(); }
  bool read_only() const override { return device_->read_only(); }
  std::string name() const override { return device_->name(); }

 private:
  std::unique_ptr<BlockDevice> device_;
  const ReadObserver& observer_;
};

// The manifest is no part of what a command works through.
class ObservedShards final : public ShardDevices {
 public:
  ObservedShards(std::shared_ptr<const ShardDevices> devices, const ReadObserver& observer)
      : devices_(std::move(devices)), observer_(observer) {}

  monterey::Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool create) const override {
    return devices_->open_manifest(access, create);
  }
  monterey::Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access, bool create) const override {
    co_return observed(co_await devices_->open_shard(place, access, create), observer_);
  }
  monterey::Task<> remove_shard(ShardPlace place) const override { return devices_->remove_shard(place); }

 private:
  const std::shared_ptr<const ShardDevices> devices_;
  const ReadObserver& observer_;
};

}  // namespace

std::unique_ptr<BlockDevice> observed(std::unique_ptr<BlockDevice> device, const ReadObserver& observer) {
  return std::make_unique<ObservedDevice>(std::move(device), observer);
}

std::shared_ptr<const ShardDevices> observed(std::shared_ptr<const ShardDevices> devices,
                                             const ReadObserver& observer) {
  return std::make_shared<ObservedShards>(std::move(devices), observer);
}

}  // namespace store::tool
