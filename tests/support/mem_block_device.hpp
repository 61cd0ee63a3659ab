// A block device in memory, for tests of everything above the device. A MemDisk holds the blocks, counts what is done, and lets a
// test hold operations back or make them fail; MemBlockDevice is the BlockDevice on it. The disk outlives its devices, so
// a store can be closed and opened again on the same bytes:
//
//   auto disk = std::make_shared<MemDisk>();
//   auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
//
// Operations complete at once, without suspending, unless told otherwise. A held or yielding read or write moves its bytes when it
// completes, so writes that are held back are not seen. Writes are durable when they complete: power cuts are not modelled here.
// Works wherever a reactor is current, in a Cluster or driven by hand; operations that complete at once need none.
#pragma once

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <monterey/detail/ready.hpp>
#include <monterey/io_class.hpp>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <store/error.hpp>
#include <store/types.hpp>

namespace store::test {

enum class DeviceOp : std::uint8_t { read, write, sync, trim, grow, shrink };
inline constexpr std::size_t kDeviceOps = 6;

// One operation on a disk, as hooks and the trace see it.
struct Operation {
  DeviceOp op = DeviceOp::read;
  PageNo first;              // read, write, trim
  std::uint64_t blocks = 0;  // their length; of grow and shrink the new size
  monterey::IoClass io_class = monterey::IoClass::foreground;
  std::uint64_t number = 0;  // among the operations of its kind, from 0

  bool covers(PageNo page) const { return page.value >= first.value && page.value < first.value + blocks; }
};

// Makes operations of one kind fail: `skip` of them pass first, then `times` fail. A failed write writes nothing.
struct Fault {
  DeviceOp op = DeviceOp::read;
  std::uint64_t skip = 0;
  std::uint64_t times = 1;
  Errc errc = Errc::io_error;
  int os_error = EIO;  // of io_error
};

struct DeviceCounts {
  std::uint64_t reads = 0, writes = 0, syncs = 0, trims = 0, grows = 0, shrinks = 0;
  std::uint64_t blocks_read = 0, blocks_written = 0;
  std::uint64_t max_in_flight = 0;  // of all kinds, issued and not completed
  std::uint64_t max_reads_in_flight = 0;

  std::uint64_t bytes_read() const { return blocks_read * 4096; }
  std::uint64_t bytes_written() const { return blocks_written * 4096; }
};

class MemDisk {
 public:
  struct Options {
    std::uint64_t size_blocks = 0;
    std::uint64_t capacity_blocks = std::uint64_t{1} << 20;
    std::string name = "memory";
  };
  enum class Completion : std::uint8_t {
    at_once,  // the task finishes without suspending
    yield,    // after one turn through the ready queue
    held,     // when the test releases it
  };

  MemDisk() : MemDisk(Options()) {}
  explicit MemDisk(Options options);

  // How operations complete from now on; what is held stays held. `choose` overrides it per operation.
  void complete(Completion completion) { completion_ = completion; }
  void complete_by(std::function<Completion(const Operation&)> choose) { choose_ = std::move(choose); }

  std::size_t held() const { return held_.size(); }
  std::size_t held(DeviceOp op) const;
  const Operation& held_operation(std::size_t index) const { return held_.at(index)->operation; }
  // Lets a held operation go on, counted from the one held longest. It completes when the reactor resumes it.
  void release(std::size_t index = 0);
  void release_all();

  void inject(Fault fault) { faults_.push_back(fault); }
  void clear_faults() { faults_.clear(); }
  // Called as each operation is issued; an error returned is thrown when it completes.
  std::function<std::optional<Error>(const Operation&)> on_operation;

  const DeviceCounts& counts() const { return counts_; }
  void reset_counts();
  std::size_t in_flight() const { return in_flight_; }

  // Every operation in the order it was issued, while recording.
  void record(bool on) { recording_ = on; }
  std::vector<Operation> take_trace();

  // The bytes of a block, to look at or to damage. Unwritten blocks are zero.
  std::span<std::byte, 4096> block(PageNo page);
  std::uint64_t size_blocks() const { return size_blocks_; }
  std::uint64_t capacity_blocks() const { return capacity_blocks_; }
  void set_size_blocks(std::uint64_t blocks);  // as if the medium had been cut off or had grown
  void set_capacity_blocks(std::uint64_t blocks) { capacity_blocks_ = blocks; }
  const std::string& name() const { return name_; }
  // A disk with the same bytes and nothing else in common.
  std::shared_ptr<MemDisk> copy() const;

 private:
  friend class MemBlockDevice;

  static constexpr std::size_t kChunkBlocks = 64;
  using Chunk = std::vector<std::byte>;

  struct Held {
    monterey::detail::ReadyNode node;
    std::coroutine_handle<> waiter;
    Operation operation;
  };
  class Hold;
  class Flight;

  std::optional<Error> fault_of(const Operation& operation);
  Completion completion_of(const Operation& operation) const;
  void count(const Operation& operation);

  std::string name_;
  std::uint64_t size_blocks_;
  std::uint64_t capacity_blocks_;
  std::unordered_map<std::uint64_t, Chunk> chunks_;
  Completion completion_ = Completion::at_once;
  std::function<Completion(const Operation&)> choose_;
  std::vector<Held*> held_;
  std::vector<Fault> faults_;
  DeviceCounts counts_;
  std::uint64_t numbers_[kDeviceOps] = {};
  std::size_t in_flight_ = 0;
  std::size_t reads_in_flight_ = 0;
  bool recording_ = false;
  std::vector<Operation> trace_;
};

class MemBlockDevice final : public BlockDevice {
 public:
  enum class Access : std::uint8_t { read_write, read_only };

  explicit MemBlockDevice(std::shared_ptr<MemDisk> disk, Access access = Access::read_write)
      : disk_(std::move(disk)), access_(access) {}
  // A device on a disk of its own, of `size_blocks` zeroed blocks.
  explicit MemBlockDevice(std::uint64_t size_blocks = 0);
  // Aborts while an operation is in flight, whose memory and state a real device would still use.
  ~MemBlockDevice() override;

  MemDisk& disk() { return *disk_; }
  std::shared_ptr<MemDisk> share() { return disk_; }

  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) override;
  monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override;
  monterey::Task<> sync() override;
  monterey::Task<> trim(Extent blocks) override;
  monterey::Task<> grow(std::uint64_t blocks) override;
  monterey::Task<> shrink(std::uint64_t blocks) override;
  std::uint64_t size_blocks() const override { return disk_->size_blocks(); }
  std::uint64_t capacity_blocks() const override { return std::max(disk_->capacity_blocks(), disk_->size_blocks()); }
  bool read_only() const override { return access_ == Access::read_only; }
  std::string name() const override { return disk_->name(); }

 private:
  void require_writable() const;

  std::shared_ptr<MemDisk> disk_;
  Access access_;
  std::size_t in_flight_ = 0;
};

}  // namespace store::test
