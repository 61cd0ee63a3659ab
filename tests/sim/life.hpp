// One life of a store: from opening (or creating) it on a simulated disk, through work by several tasks at once, to its end.
// While it lives, images of what a power cut would leave are taken; each is later the start of a further life, which
// judges what it finds by the history of the life that the image was taken from. A life is a function of its plan and
// its first image.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <store/store.hpp>
#include <string>
#include <vector>

#include "sim/history.hpp"
#include "support/sim_cluster.hpp"
#include "support/sim_disk.hpp"

namespace monterey::detail {
class IoInjection;
}

namespace store::test {

struct LifePlan {
  std::uint64_t seed = 1;
  WalMode mode = WalMode::none;
  std::uint32_t keys = 40;
  unsigned tasks = 8;
  unsigned operations = 24;  // each task's
  bool big_values = false;   // some over 64 KiB
  bool compacts = true;
  bool long_batches = false;  // some that fill more than a group of the log
  bool loads = false;         // a store that is found empty is loaded in bulk, beside all else
  std::uint64_t capacity_blocks = 512;
  std::optional<SimImage> log_device;  // one of the log's own, and what is on it at first
  enum class End : std::uint8_t { close, drop } end = End::close;
  bool may_create = true;
  OpenOptions open{};
  const State* known = nullptr;             // what is on the first image, where reading may fail
  const std::vector<char>* only = nullptr;  // of the operations, by number, those to do; all if null

  // Images: about so many, at random moments of the device and whenever something was acknowledged.
  unsigned images = 0;
  SimDisk::Keep keep = SimDisk::Keep::any;

  bool trace = false;  // prints what happens

  // What the life may meet without being wrong: a fault is injected, or the first image is damaged.
  bool reads_may_fail = false;
  bool writes_may_fail = false;
  bool check_may_fail = false;
  std::function<void(SimDisk&)> on_disk;                                   // when the disk is there
  std::function<void(SimDisk&, const Operation&, SimDisk::Step)> on_step;  // at every step of it
};

// What a power cut left, and what must be in it.
struct CrashImage {
  SimImage contents;
  std::optional<SimImage> log_device;
  std::uint64_t at = 0;           // the event of the history
  std::uint64_t must_before = 0;  // whatever had ended before this event is durable
  enum class Phase : std::uint8_t { creating, opening, open, closed } phase = Phase::open;
};

class Life {
 public:
  // `parent` is the life that `from` was taken from; both null for a life that begins with nothing.
  Life(LifePlan plan, SimImage start, std::uint32_t first_op, const KeySpace& keys);
  ~Life();

  // Errors: std::logic_error when the engine waits for ever; the process should not go on after that.
  void run(monterey::FixedBufs& arena);

  // The same on a file and the machine's own I/O, altered on its way. Not a function of the seed.
  void run_on_file(monterey::FixedBufs& arena, const std::string& path, monterey::detail::IoInjection& injection);

  // What is wrong; empty if nothing. The histories of reads and scans are judged here, so call it once, after run().
  std::string judge();
  // Why it could not be opened, if so.
  const std::optional<Error>& open_error() const { return open_error_; }
  bool opened() const { return opened_; }
  // What it found when it was opened.
  const State& base() const { return history_.base(); }
  // The same key by key; without those that could not be read.
  const std::vector<Seen>& found() const { return found_; }
  const History& history() const { return history_; }
  // What it last read, when the work was done.
  const State& left() const { return left_; }
  std::vector<CrashImage>& images() { return images_; }
  // For images that a hook takes itself: with these contents of the store's device, and of the log's what a power cut now
  // leaves.
  CrashImage image_of(SimImage contents);
  // The same after a power cut that tore the last write of `torn`, one of the two devices: SimDisk::torn().
  CrashImage image_of_torn(const SimDisk& torn, unsigned sectors, bool tail, bool keep_others);
  SimDisk& disk() { return *disk_; }
  // What reads of the log's own device see.
  std::optional<SimImage> log_contents() const;
  const std::vector<std::string>& open_notes() const { return open_notes_; }
  std::uint64_t trace_hash() const { return trace_; }
  // Operations that failed for a reason that only a fault gives.
  std::uint64_t errors() const { return errors_; }
  const std::string& last_error() const { return last_error_; }
  bool was_poisoned() const { return poisoned_; }
  // Faults that had struck when the work was done, and its end began.
  std::uint64_t struck_at_work() const { return struck_at_work_; }

  static PartitionConfig config_of(const LifePlan& plan);
  static std::size_t arena_bytes();

 private:
  using Phase = CrashImage::Phase;
  monterey::Task<> main();
  monterey::Task<std::unique_ptr<BlockDevice>> open_device();
  std::unique_ptr<SimDisk> make_disk(SimRandom& random, const SimImage& start);
  std::chrono::nanoseconds now() const;
  monterey::Task<> open();
  monterey::Task<> read_base();
  monterey::Task<> scan_all(std::vector<Seen>& found);
  monterey::Task<> work(unsigned task);
  monterey::Task<> step(SimRandom random);
  monterey::Task<> finish();
  monterey::Task<> expect_poisoned();

  monterey::Task<> bulk_load(SimRandom random);
  monterey::Task<> put(SimRandom random);
  monterey::Task<> erase(SimRandom random);
  monterey::Task<> erase_range(SimRandom random);
  monterey::Task<> batch(SimRandom random);
  monterey::Task<> replace(SimRandom random);
  monterey::Task<> get(SimRandom random);
  monterey::Task<> get_into(SimRandom random, std::uint32_t key);
  monterey::Task<ValueId> get_into(SimRandom random, const Snapshot& snapshot, std::uint32_t key);
  monterey::Task<> get_many(SimRandom random);
  monterey::Task<> scan(SimRandom random);
  monterey::Task<> snapshot(SimRandom random);
  monterey::Task<> flush(SimRandom random);
  monterey::Task<> compact(SimRandom random);
  monterey::Task<std::optional<ValueId>> read(std::uint32_t key);

  // Neighbouring keys, at least one, and bounds around them.
  struct KeyRange {
    std::vector<std::uint32_t> keys;
    std::string from;
    std::optional<std::string> to;
  };

  std::uint32_t key(SimRandom& random) const;
  KeyRange range(SimRandom& random) const;
  ValueId new_value(SimRandom& random, std::uint32_t op, std::uint32_t part) const;
  Seen seen(std::uint32_t key, std::optional<std::string_view> value);
  enum class Does : std::uint8_t { read, write };
  History::Outcome outcome_of(const std::exception_ptr& error, const char* verb, Does does);
  void end(std::uint32_t op, History::Outcome outcome);
  void wrong(const std::string& what);
  void capture();
  std::uint64_t durable_before() const;

  LifePlan plan_;
  const KeySpace& keys_;
  PartitionConfig config_;
  SimRandom random_;
  SimRandom image_random_;
  SimImage start_;
  std::unique_ptr<SimCluster> cluster_;
  std::unique_ptr<SimDisk> disk_;      // null on a file
  std::unique_ptr<SimDisk> log_disk_;  // null without a log device
  std::string path_;
  std::optional<Partition> db_;
  History history_;
  Phase phase_ = Phase::opening;
  bool opened_ = false;
  std::optional<Error> open_error_;
  std::vector<std::string> open_notes_;
  std::vector<Seen> found_;
  State left_;
  std::vector<CrashImage> images_;
  std::uint64_t durable_before_ = 0;
  std::string violation_;
  std::string last_error_;
  std::uint64_t errors_ = 0;
  std::uint64_t trace_ = 0;
  bool poisoned_ = false;
  std::uint64_t struck_at_work_ = 0;
};

}  // namespace store::test
