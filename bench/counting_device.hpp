// A device that counts what goes to the one behind it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <store/block_device.hpp>
#include <string>
#include <utility>

namespace bench {

struct DeviceCounts {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t blocks_written = 0;
  std::uint64_t syncs = 0;
};

class CountingDevice final : public store::BlockDevice {
 public:
  // `counts` must outlive the device.
  CountingDevice(std::unique_ptr<store::BlockDevice> device, DeviceCounts& counts)
      : device_(std::move(device)), counts_(counts) {}

  monterey::Task<> read(store::PageNo first, std::span<std::byte> into, monterey::IoClass io_class) override {
    ++counts_.reads;
    return device_->read(first, into, io_class);
  }
  monterey::Task<> read_scattered(store::PageNo first, std::span<const store::BlockSpan> pieces,
                                  monterey::IoClass io_class) override {
    ++counts_.reads;
    return device_->read_scattered(first, pieces, io_class);
  }
  monterey::Task<> write(store::PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override {
    count_write(from.size());
    return device_->write(first, from, io_class);
  }
  monterey::Task<> write_durably(store::PageNo first, std::span<const std::byte> from,
                                 monterey::IoClass io_class) override {
    count_write(from.size());
    return device_->write_durably(first, from, io_class);
  }
  monterey::Task<> sync() override {
    ++counts_.syncs;
    return device_->sync();
  }
  monterey::Task<> trim(store::Extent blocks) override { return device_->trim(blocks); }
  monterey::Task<> grow(std::uint64_t blocks) override { return device_->grow(blocks); }
  monterey::Task<> shrink(std::uint64_t blocks) override { return device_->shrink(blocks); }
  std::uint64_t size_blocks() const override { return device_->size_blocks(); }
  std::uint64_t capacity_blocks() const override { return device_->capacity_blocks(); }
  bool read_only() const override { return device_->read_only(); }
  std::string name() const override { return device_->name(); }

 private:
  void count_write(std::size_t bytes) {
    ++counts_.writes;
    counts_.blocks_written += bytes / 4096;
  }

  std::unique_ptr<store::BlockDevice> device_;
  DeviceCounts& counts_;
};

}  // namespace bench
