#include "support/mem_block_device.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <monterey/preempt.hpp>

namespace store::test {
namespace {

constexpr std::size_t kBlockBytes = 4096;

void require_range(const MemDisk& disk, PageNo first, std::uint64_t bytes) {
  if (bytes % kBlockBytes == 0 && first.value + bytes / kBlockBytes <= disk.size_blocks()) return;
  throw Error(Errc::invalid_argument, fmt::format("{}: {} bytes from block {} are not whole blocks of its {}",
                                                  disk.name(), bytes, first.value, disk.size_blocks()));
}

}  // namespace

// Suspends an operation until the test releases it, or its task is destroyed.
class MemDisk::Hold {
 public:
  Hold(MemDisk& disk, const Operation& operation) : disk_(disk) { held_.operation = operation; }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { std::erase(disk_.held_, &held_); }

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    held_.waiter = waiter;
    disk_.held_.push_back(&held_);
  }
  void await_resume() const noexcept {}

 private:
  MemDisk& disk_;
  Held held_;
};

// An operation between its issue and its completion.
class MemDisk::Flight {
 public:
  Flight(std::shared_ptr<MemDisk> disk, std::size_t& of_device, Operation operation)
      : disk_(std::move(disk)), of_device_(of_device), operation_(operation) {
    ++of_device_;
    operation_.number = disk_->numbers_[static_cast<std::size_t>(operation_.op)]++;
    disk_->count(operation_);
    ++disk_->in_flight_;
    disk_->reads_in_flight_ += operation_.op == DeviceOp::read;
    disk_->counts_.max_in_flight = std::max<std::uint64_t>(disk_->counts_.max_in_flight, disk_->in_flight_);
    disk_->counts_.max_reads_in_flight =
        std::max<std::uint64_t>(disk_->counts_.max_reads_in_flight, disk_->reads_in_flight_);
    error_ = disk_->fault_of(operation_);
  }
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;
  ~Flight() {
    --of_device_;
    --disk_->in_flight_;
    disk_->reads_in_flight_ -= operation_.op == DeviceOp::read;
  }

  MemDisk& disk() const { return *disk_; }

  // Waits as the disk is told to, then throws if the operation is to fail.
  monterey::Task<> complete() {
    const Completion completion = disk_->completion_of(operation_);
    if (completion == Completion::yield) co_await monterey::yield();
    if (completion == Completion::held) {
      Hold hold(*disk_, operation_);
      co_await hold;
    }
    if (error_) throw Error(*error_);
  }

 private:
  std::shared_ptr<MemDisk> disk_;
  std::size_t& of_device_;
  Operation operation_;
  std::optional<Error> error_;
};

MemDisk::MemDisk(Options options)
    : name_(std::move(options.name)), size_blocks_(options.size_blocks), capacity_blocks_(options.capacity_blocks) {}

std::size_t MemDisk::held(DeviceOp op) const {
  return static_cast<std::size_t>(
      std::count_if(held_.begin(), held_.end(), [op](const Held* held) { return held->operation.op == op; }));
}

void MemDisk::release(std::size_t index) {
  Held* const held = held_.at(index);
  held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(index));
  held->node.park(held->waiter);
}

void MemDisk::release_all() {
  while (!held_.empty()) release();
}

void MemDisk::reset_counts() {
  counts_ = {};
  std::fill(std::begin(numbers_), std::end(numbers_), 0);
  counts_.max_in_flight = in_flight_;
  counts_.max_reads_in_flight = reads_in_flight_;
}

std::vector<Operation> MemDisk::take_trace() { return std::exchange(trace_, {}); }

std::span<std::byte, 4096> MemDisk::block(PageNo page) {
  Chunk& chunk = chunks_[page.value / kChunkBlocks];
  if (chunk.empty()) chunk.resize(kChunkBlocks * kBlockBytes);
  return std::span<std::byte, kBlockBytes>(chunk.data() + page.value % kChunkBlocks * kBlockBytes, kBlockBytes);
}

void MemDisk::set_size_blocks(std::uint64_t blocks) {
  for (std::uint64_t page = blocks; page < size_blocks_ && page % kChunkBlocks != 0; ++page) {
    const auto bytes = block(PageNo(static_cast<std::uint32_t>(page)));
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
  }
  std::erase_if(chunks_, [blocks](const auto& chunk) { return chunk.first * kChunkBlocks >= blocks; });
  size_blocks_ = blocks;
}

std::shared_ptr<MemDisk> MemDisk::copy() const {
  auto other = std::make_shared<MemDisk>(Options{size_blocks_, capacity_blocks_, name_});
  other->chunks_ = chunks_;
  return other;
}

std::optional<Error> MemDisk::fault_of(const Operation& operation) {
  if (on_operation) {
    if (std::optional<Error> error = on_operation(operation)) return error;
  }
  for (Fault& fault : faults_) {
    if (fault.op != operation.op || fault.times == 0) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    --fault.times;
    const std::string what =
        fmt::format("{}: injected failure of operation {} on block {}", name_, operation.number, operation.first.value);
    if (fault.errc == Errc::io_error) return Error::from_errno(fault.os_error, what);
    return Error(fault.errc, what);
  }
  return std::nullopt;
}

MemDisk::Completion MemDisk::completion_of(const Operation& operation) const {
  return choose_ ? choose_(operation) : completion_;
}

void MemDisk::count(const Operation& operation) {
  if (recording_) trace_.push_back(operation);
  switch (operation.op) {
    case DeviceOp::read:
      ++counts_.reads;
      counts_.blocks_read += operation.blocks;
      break;
    case DeviceOp::write:
      ++counts_.writes;
      counts_.blocks_written += operation.blocks;
      break;
    case DeviceOp::sync: ++counts_.syncs; break;
    case DeviceOp::trim: ++counts_.trims; break;
    case DeviceOp::grow: ++counts_.grows; break;
    case DeviceOp::shrink: ++counts_.shrinks; break;
  }
}

MemBlockDevice::MemBlockDevice(std::uint64_t size_blocks)
    : disk_(std::make_shared<MemDisk>()), access_(Access::read_write) {
  disk_->set_size_blocks(size_blocks);
}

MemBlockDevice::~MemBlockDevice() {
  if (in_flight_ == 0) return;
  std::fprintf(stderr, "a device goes with %zu operations in flight\n", in_flight_);
  std::abort();
}

void MemBlockDevice::require_writable() const {
  if (read_only()) throw Error(Errc::read_only, disk_->name() + ": it was opened for reading");
}

monterey::Task<> MemBlockDevice::read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) {
  require_range(*disk_, first, into.size());
  const Operation operation{DeviceOp::read, first, into.size() / kBlockBytes, io_class, 0};
  MemDisk::Flight flight(disk_, in_flight_, operation);
  co_await flight.complete();
  for (std::uint32_t page = first.value; !into.empty(); ++page, into = into.subspan(kBlockBytes)) {
    std::memcpy(into.data(), flight.disk().block(PageNo(page)).data(), kBlockBytes);
  }
}

monterey::Task<> MemBlockDevice::write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) {
  require_writable();
  require_range(*disk_, first, from.size());
  const Operation operation{DeviceOp::write, first, from.size() / kBlockBytes, io_class, 0};
  MemDisk::Flight flight(disk_, in_flight_, operation);
  co_await flight.complete();
  for (std::uint32_t page = first.value; !from.empty(); ++page, from = from.subspan(kBlockBytes)) {
    std::memcpy(flight.disk().block(PageNo(page)).data(), from.data(), kBlockBytes);
  }
}

monterey::Task<> MemBlockDevice::sync() {
  const Operation operation{DeviceOp::sync, PageNo(), 0, monterey::IoClass::foreground, 0};
  MemDisk::Flight flight(disk_, in_flight_, operation);
  co_await flight.complete();
}

monterey::Task<> MemBlockDevice::trim(Extent blocks) {
  require_writable();
  require_range(*disk_, blocks.first, std::uint64_t{blocks.count} * kBlockBytes);
  const Operation operation{DeviceOp::trim, blocks.first, blocks.count, monterey::IoClass::foreground, 0};
  MemDisk::Flight flight(disk_, in_flight_, operation);
  co_await flight.complete();
  for (std::uint64_t page = blocks.first.value; page < blocks.end(); ++page) {
    // Not zeros: who reads trimmed blocks has a defect.
    const auto bytes = flight.disk().block(PageNo(static_cast<std::uint32_t>(page)));
    std::fill(bytes.begin(), bytes.end(), std::byte{0xee});
  }
}

monterey::Task<> MemBlockDevice::grow(std::uint64_t blocks) {
  if (blocks <= disk_->size_blocks()) co_return;
  require_writable();
  const Operation operation{DeviceOp::grow, PageNo(), blocks, monterey::IoClass::foreground, 0};
  MemDisk::Flight flight(disk_, in_flight_, operation);
  co_await flight.complete();
  if (blocks > flight.disk().capacity_blocks()) {
    throw Error(Errc::no_space, fmt::format("{}: cannot grow to {} blocks; its capacity is {} blocks", disk_->name(),
                                            blocks, disk_->capacity_blocks()));
  }
  if (blocks > flight.disk().size_blocks()) flight.disk().set_size_blocks(blocks);
}

monterey::Task<> MemBlockDevice::shrink(std::uint64_t blocks) {
  require_writable();
  if (blocks >= disk_->size_blocks()) co_return;
  const Operation operation{DeviceOp::shrink, PageNo(), blocks, monterey::IoClass::foreground, 0};
  MemDisk::Flight flight(disk_, in_flight_, operation);
  disk_->set_size_blocks(blocks);
  co_await flight.complete();
}

}  // namespace store::test
