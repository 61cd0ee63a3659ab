// A disk that loses power and fails, under a simulated core. This is the fault model; the engine may rely on nothing more.
//
// * A sector is 512 bytes and is written whole or not at all; a block is eight. An operation moves its bytes when it
//   completes; operations in flight at once complete in any order, by seeded latencies.
// * A write that has completed is what reads see, and volatile. It becomes durable when a sync that began after its
//   completion completes. A size that grew is volatile in the same way. write_durably() is a write and a sync on some disks; on
//   others, by Options, one write whose blocks alone are durable when it completes.
// * Power may be cut at any moment. power_cut() gives what may then be found: the durable contents, and over them any
//   subset of the sectors of the volatile writes and of those in flight, in any order: of two writes to one sector either
//   may be the one that stays. The size is any between the durable one and the present one; beyond it everything is lost.
//   Taking such an image leaves the running disk as it is.
// * A failed write may have written any part. A failed sync may have made any part durable; what it did not is either still
//   volatile, so that a later sync writes it, or dropped for good although reads go on seeing it and later syncs succeed:
//   what a kernel does that marks pages clean after an error. Chosen by the fault.
// * A lying disk acknowledges what it did not do: a write that is lost, or lands on another block; a read of another block.
// * Memory handed to a write must not change before it completes; if it does, complaint() says so.
//
// Contents are shared, block by block and copy on write: an image of a few hundred blocks costs microseconds.
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <monterey/task.hpp>
#include <optional>
#include <span>
#include <store/block_device.hpp>
#include <store/error.hpp>
#include <string>
#include <vector>

#include "support/mem_block_device.hpp"
#include "support/sim_cluster.hpp"

namespace store::test {

inline constexpr std::size_t kSectorBytes = 512;
inline constexpr unsigned kSectorsPerBlock = 8;

using SimBlock = std::array<std::byte, 4096>;
using SimBlockRef = std::shared_ptr<const SimBlock>;  // null: zeros

// The contents of a disk without power.
struct SimImage {
  std::vector<SimBlockRef> blocks;

  std::uint64_t size_blocks() const { return blocks.size(); }
  std::span<const std::byte, 4096> block(std::uint32_t page) const;
  // A copy of the block of its own, to change.
  std::span<std::byte, 4096> edit(std::uint32_t page);
  bool operator==(const SimImage& other) const;
};

struct SimFault {
  enum class Kind : std::uint8_t {
    error,        // the operation throws
    lost,         // write: acknowledged, not done
    misdirected,  // read, write: of another block
  };
  DeviceOp op = DeviceOp::read;
  std::uint64_t number = 0;  // among the operations of its kind
  bool for_good = false;     // this one and all after it
  Kind kind = Kind::error;
  Errc errc = Errc::io_error;
  int os_error = EIO;
  bool keeps_data = true;  // of a failed sync: what it did not write stays volatile, else it is dropped
};

class SimDisk {
 public:
  struct Options {
    std::uint64_t seed = 1;
    std::uint64_t capacity_blocks = 1024;
    std::chrono::microseconds latency{100};  // typical; some take fifty times as long
    bool durable_writes = false;             // write_durably() is one operation
  };
  // Where an operation is when on_step is called.
  enum class Step : std::uint8_t { issued, completed };

  SimDisk(SimCluster& cluster, const Options& options, SimImage image = {});
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  void inject(const SimFault& fault) { faults_.push_back(fault); }
  // Every read of the block fails from now on, until it has been written.
  void make_unreadable(PageNo page) { unreadable_.push_back(page); }
  // Operations that have failed.
  std::uint64_t struck() const { return struck_; }
  // When the first of them did.
  std::optional<std::chrono::nanoseconds> first_struck_at() const { return first_struck_at_; }
  // Blocks that a lying write should have changed, or changed instead.
  const std::vector<Extent>& lied_about() const { return lied_about_; }

  std::function<void(const Operation&, Step)> on_step;

  enum class Keep : std::uint8_t { any, extension_lost };
  SimImage power_cut(SimRandom& random, Keep keep = Keep::any) const;
  // The write that was issued last, torn after `sectors` of its sectors (or, with `tail`, before them); of the other volatile
  // writes all are kept or none.
  SimImage torn(unsigned sectors, bool tail, bool keep_others) const;
  // What reads see, as if all of it were durable.
  SimImage contents() const { return SimImage{view_}; }
  unsigned last_write_sectors() const;

  std::uint64_t count(DeviceOp op) const { return counts_[static_cast<std::size_t>(op)]; }
  std::chrono::nanoseconds slowest_sync() const;
  const std::string& complaint() const { return complaint_; }
  std::uint64_t size_blocks() const { return view_.size(); }
  std::uint64_t capacity_blocks() const { return options_.capacity_blocks; }
  SimCluster& cluster() const { return cluster_; }

 private:
  friend class SimBlockDevice;

  struct Pending {
    PageNo first;
    std::vector<SimBlockRef> blocks;
    std::uint64_t completed = 0;  // order of completion; 0: in flight
  };
  using PendingRef = std::shared_ptr<Pending>;

  const SimFault* fault_of(Operation& operation);
  [[noreturn]] void fail(const SimFault& fault, const Operation& operation);
  void step(const Operation& operation, Step step);
  std::chrono::nanoseconds latency();
  static void put_sectors(std::vector<SimBlockRef>& blocks, std::uint64_t page, const SimBlockRef& from,
                          unsigned sectors);
  void apply(const Pending& pending, std::vector<SimBlockRef>& to) const;

  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class);
  enum class Durability : std::uint8_t { later, on_completion };
  void make_durable(const Pending& pending);
  monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class,
                         Durability durability = Durability::later);
  monterey::Task<> sync();
  monterey::Task<> resize(DeviceOp op, std::uint64_t blocks);

  SimCluster& cluster_;
  Options options_;
  SimRandom random_;
  std::vector<SimBlockRef> view_;
  std::vector<SimBlockRef> durable_;
  std::vector<PendingRef> pending_;  // completed ones in order of completion, and those in flight
  PendingRef last_write_;
  std::uint64_t completions_ = 0;
  std::uint64_t shrunk_to_ = ~0ull;  // the smallest size since the last sync
  std::array<std::uint64_t, kDeviceOps> counts_{};
  std::vector<SimFault> faults_;
  std::uint64_t struck_ = 0;
  std::optional<std::chrono::nanoseconds> first_struck_at_;
  std::vector<Extent> lied_about_;
  std::vector<PageNo> unreadable_;
  std::string complaint_;
};

// The BlockDevice on a SimDisk, which outlives it.
class SimBlockDevice final : public BlockDevice {
 public:
  explicit SimBlockDevice(SimDisk& disk, bool read_only = false) : disk_(disk), read_only_(read_only) {}

  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) override;
  monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override;
  monterey::Task<> write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override;
  monterey::Task<> sync() override;
  monterey::Task<> trim(Extent blocks) override;
  monterey::Task<> grow(std::uint64_t blocks) override;
  monterey::Task<> shrink(std::uint64_t blocks) override;
  std::uint64_t size_blocks() const override { return disk_.size_blocks(); }
  std::uint64_t capacity_blocks() const override { return disk_.capacity_blocks(); }
  bool read_only() const override { return read_only_; }
  std::string name() const override { return "simulated"; }

 private:
  void require_writable() const;

  SimDisk& disk_;
  bool read_only_;
};

}  // namespace store::test
