#include "sim/life.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <monterey/capabilities.hpp>
#include <monterey/detail/reactor.hpp>
#include <monterey/spawn.hpp>
#include <utility>

#include "monterey/io_backend.hpp"

namespace store::test {

namespace {

constexpr std::size_t kMaxCachePages = 64;
constexpr std::size_t kMaxIoDepth = 16;
// How many of the slowest syncs after wal_batch_interval a batched write may take to be durable: those of the group before and
// its own, of the log and of runs, and the writes.
constexpr int kBatchedSyncs = 6;
constexpr unsigned kStepsExpected = 300;  // of the device, in a life of the usual size

}  // namespace

PartitionConfig Life::config_of(const LifePlan& plan) {
  SimRandom random = SimRandom(plan.seed).child(1);
  PartitionConfig config;
  config.wal_mode = plan.mode;
  config.cache_pages = random.pick<std::size_t>({8, 9, 16, kMaxCachePages});
  config.write_buffer_bytes = random.pick<std::size_t>({16u << 10, 16u << 10, 32u << 10, 64u << 10});
  if (plan.long_batches) config.write_buffer_bytes = 1u << 20;
  config.write_buffer_count = random.pick<std::size_t>({2, 3});
  config.io_depth = random.pick<std::size_t>({2, 4, kMaxIoDepth});
  config.wal_batch_interval = std::chrono::microseconds(random.pick<std::uint64_t>({100, 1000, 5000}));
  return config;
}

std::size_t Life::arena_bytes() {
  PartitionConfig config;
  config.cache_pages = kMaxCachePages;
  config.io_depth = kMaxIoDepth;
  return config.buffer_config().bytes * 2;
}

Life::Life(LifePlan plan, SimImage start, std::uint32_t first_op, const KeySpace& keys)
    : plan_(std::move(plan)),
      keys_(keys),
      config_(config_of(plan_)),
      random_(SimRandom(plan_.seed).child(2)),
      image_random_(SimRandom(plan_.seed).child(3)),
      start_(std::move(start)),
      history_(keys, first_op) {
  if (plan_.known != nullptr) history_.set_base(*plan_.known);
}

Life::~Life() = default;

void Life::run(monterey::FixedBufs& arena) {
  if (plan_.trace) fmt::print("--- a life with seed {}, from {} blocks\n", plan_.seed, start_.size_blocks());
  SimRandom random = SimRandom(plan_.seed).child(4);
  const SimSchedule schedule{.seed = random.next(),
                             .disorder_percent = random.pick<unsigned>({0, 10, 60}),
                             .suspend_percent = random.pick<unsigned>({0, 5, 30})};
  cluster_ = std::make_unique<SimCluster>(schedule, arena);
  disk_ = make_disk(random, start_);
  if (plan_.log_device) log_disk_ = make_disk(random, *plan_.log_device);
  if (plan_.on_disk) plan_.on_disk(*disk_);
  cluster_->run(main());
  trace_ = cluster_->trace_hash();
  for (const SimDisk* disk : {disk_.get(), log_disk_.get()}) {
    if (disk != nullptr && !disk->complaint().empty()) wrong(disk->complaint());
  }
}

std::unique_ptr<SimDisk> Life::make_disk(SimRandom& random, const SimImage& start) {
  const SimDisk::Options options{.seed = random.next(),
                                 .capacity_blocks = std::max<std::uint64_t>(plan_.capacity_blocks, start.size_blocks()),
                                 .latency = std::chrono::microseconds(random.pick<std::uint64_t>({10, 100, 1000})),
                                 .durable_writes = random.one_in(2)};
  auto made = std::make_unique<SimDisk>(*cluster_, options, start);
  made->on_step = [this, disk = made.get()](const Operation& operation, SimDisk::Step step) {
    if (plan_.trace) {
      static constexpr const char* kNames[] = {"read", "write", "sync", "trim", "grow", "shrink"};
      fmt::print("{:>9} {} {}{} {} block {} +{}\n", cluster_->now().count() / 1000,
                 step == SimDisk::Step::issued ? "begin" : "end  ", disk == log_disk_.get() ? "log's " : "",
                 kNames[static_cast<std::size_t>(operation.op)], operation.number, operation.first.value,
                 operation.blocks);
    }
    if (plan_.on_step) plan_.on_step(*disk, operation, step);
    if (plan_.images > 0 && image_random_.below(kStepsExpected) < plan_.images) capture();
  };
  return made;
}

CrashImage Life::image_of(SimImage contents) {
  CrashImage image{std::move(contents), std::nullopt, history_.now(), durable_before(), phase_};
  if (log_disk_) image.log_device = log_disk_->power_cut(image_random_, plan_.keep);
  return image;
}

CrashImage Life::image_of_torn(const SimDisk& torn, unsigned sectors, bool tail, bool keep_others) {
  SimImage contents = torn.torn(sectors, tail, keep_others);
  if (&torn == disk_.get()) return image_of(std::move(contents));
  CrashImage image = image_of(disk_->power_cut(image_random_, plan_.keep));
  image.log_device = std::move(contents);
  return image;
}

std::optional<SimImage> Life::log_contents() const {
  return log_disk_ ? std::optional(log_disk_->contents()) : std::nullopt;
}

void Life::run_on_file(monterey::FixedBufs& arena, const std::string& path, monterey::detail::IoInjection& injection) {
  path_ = path;
  monterey::Capabilities capabilities;
  const auto backend = monterey::detail::make_backend(monterey::Backend::automatic, arena, capabilities);
  backend->set_injection(&injection);
  {
    monterey::detail::ReactorOptions options;
    options.capabilities = &capabilities;
    monterey::detail::Reactor reactor(*backend, options);
    monterey::FixedBufs::set_current(&arena);
    {
      const monterey::detail::Reactor::Activation activation(reactor);
      monterey::spawn(main());
    }
    reactor.run();
    monterey::FixedBufs::set_current(nullptr);
  }
  backend->set_injection(nullptr);
}

std::chrono::nanoseconds Life::now() const {
  return cluster_ ? cluster_->now() : std::chrono::steady_clock::now().time_since_epoch();
}

monterey::Task<std::unique_ptr<BlockDevice>> Life::open_device() {
  std::unique_ptr<BlockDevice> device;
  if (disk_) {
    device = std::make_unique<SimBlockDevice>(*disk_, plan_.open.read_only);
  } else {
    device = co_await FileBlockDevice::open(path_, {.capacity_blocks = plan_.capacity_blocks});
  }
  co_return std::move(device);
}

std::string Life::judge() {
  if (violation_.empty()) violation_ = history_.check_reads();
  if (violation_.empty()) violation_ = history_.check_scans();
  return violation_;
}

void Life::wrong(const std::string& what) {
  if (violation_.empty()) violation_ = what;
}

std::uint64_t Life::durable_before() const {
  if (phase_ == Phase::closed || !disk_ || plan_.mode == WalMode::per_op) return history_.now() + 1;
  std::uint64_t before = durable_before_;
  if (plan_.mode == WalMode::batched) {
    // A log that has failed makes nothing durable any more, and says so to whoever writes next.
    const auto slowest_sync =
        std::max(disk_->slowest_sync(), log_disk_ ? log_disk_->slowest_sync() : disk_->slowest_sync());
    const auto deadline =
        disk_->first_struck_at().value_or(now()) - config_.wal_batch_interval - slowest_sync * kBatchedSyncs;
    for (const History::Op& op : history_.ops()) {
      if (op.outcome == History::Outcome::applied && op.ended_at <= deadline) before = std::max(before, op.ended + 1);
    }
  }
  return before;
}

void Life::capture() {
  if (images_.size() >= plan_.images * 2) return;
  images_.push_back(image_of(disk_->power_cut(image_random_, plan_.keep)));
}

monterey::Task<> Life::main() {
  std::exception_ptr error;
  try {
    co_await open();
    if (opened_) {
      std::vector<monterey::JoinHandle<>> tasks;
      if (plan_.loads) tasks.push_back(monterey::spawn(bulk_load(random_.child(~0u))));
      for (unsigned task = 0; task < plan_.tasks; ++task) tasks.push_back(monterey::spawn(work(task)));
      for (auto& task : tasks) co_await task;
      co_await finish();
    }
  } catch (...) {
    error = std::current_exception();
  }
  db_.reset();
  if (error) std::rethrow_exception(error);
}

monterey::Task<> Life::open() {
  std::exception_ptr error;
  try {
    std::unique_ptr<BlockDevice> device = co_await open_device();
    const bool creates = plan_.may_create && device->size_blocks() == 0;
    phase_ = creates ? Phase::creating : Phase::opening;
    std::unique_ptr<BlockDevice> log_device;
    if (log_disk_) log_device = std::make_unique<SimBlockDevice>(*log_disk_, plan_.open.read_only);
    if (creates) {
      db_.emplace(co_await Partition::create(std::move(device), std::move(log_device), config_));
    } else {
      db_.emplace(co_await Partition::open(std::move(device), std::move(log_device), config_, plan_.open));
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      open_error_ = e;
    } catch (const std::bad_alloc&) {
      open_error_ = Error(Errc::io_error, "bad_alloc");
    }
    co_return;
  }
  opened_ = true;
  open_notes_ = db_->stats().open_notes;
  co_await read_base();
  history_.tick();
  phase_ = Phase::open;
}

// What is there is the base of this life's history. Where the scan fails, what single reads can bring.
monterey::Task<> Life::read_base() {
  State base(keys_.count());
  std::exception_ptr error;
  try {
    co_await scan_all(found_);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    outcome_of(error, "the first scan", Does::read);
    found_.clear();
    for (std::uint32_t key = 0; key < keys_.count(); ++key) {
      const std::optional<ValueId> value = co_await read(key);
      if (value) found_.push_back({key, *value});
    }
  }
  for (const Seen& seen : found_) base[seen.key] = seen.value;
  if (plan_.known == nullptr) {
    history_.set_base(std::move(base));
  } else {
    const std::string differs = history_.check_view(found_, 0, history_.now());
    if (!differs.empty()) wrong(differs);
  }
}

monterey::Task<> Life::scan_all(std::vector<Seen>& found) {
  found.clear();
  std::vector<char> there(keys_.count());
  auto scan = co_await db_->scan("");
  for (;;) {
    const bool more = co_await scan.advance();
    if (!more) break;
    const std::optional<std::uint32_t> key = keys_.index(scan.key());
    if (!key) {
      wrong(fmt::format("a scan found a key of {} bytes that was never written", scan.key().size()));
      co_return;
    }
    there[*key] = 1;
    found.push_back(seen(*key, scan.value()));
  }
  for (std::uint32_t key = 0; key < keys_.count(); ++key) {
    if (!there[key]) found.push_back({key, {}});
  }
}

Seen Life::seen(std::uint32_t key, std::optional<std::string_view> value) {
  if (!value) return {key, {}};
  const std::optional<ValueId> id = parse_value(*value);
  if (!id) {
    wrong(fmt::format("key {} has a wrong value of {} bytes", key, value->size()));
    return {key, {}};
  }
  return {key, *id};
}

monterey::Task<> Life::finish() {
  const std::uint64_t begun = history_.tick();
  poisoned_ = !db_->stats().poisoned.empty();
  if (disk_) struck_at_work_ = disk_->struck();
  if (poisoned_) co_await expect_poisoned();
  std::exception_ptr error;
  try {
    std::vector<Seen> seen;
    co_await scan_all(seen);
    left_.resize(keys_.count());
    for (const Seen& one : seen) left_[one.key] = one.value;
    history_.add_scan(std::move(seen), begun, history_.now());
    const CheckReport report = co_await db_->check();
    // A meta write that failed has left what a check must notice; the next life judges it.
    poisoned_ = !db_->stats().poisoned.empty();
    if (!report.ok && !plan_.check_may_fail && !poisoned_) wrong("check: " + report.errors.front());
  } catch (...) {
    error = std::current_exception();
  }
  if (error) outcome_of(error, "the last scan or check", Does::read);
  if (plan_.end == LifePlan::End::drop) co_return;
  error = nullptr;
  try {
    co_await db_->close();
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    outcome_of(error, "close", Does::write);
    co_return;
  }
  if (poisoned_) co_return;
  phase_ = Phase::closed;
  if (plan_.images > 0) capture();
}

namespace {

monterey::Task<std::optional<Errc>> errc_of(monterey::Task<> task) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    co_return error.errc();
  }
  co_return std::nullopt;
}

monterey::Task<> put_once(Partition& db, std::string_view key) { co_await db.put(key, "12345678"); }

}  // namespace

monterey::Task<> Life::expect_poisoned() {
  const std::optional<Errc> of_put = co_await errc_of(put_once(*db_, keys_.text(0)));
  if (of_put != Errc::poisoned) wrong("a put on a poisoned partition was not refused");
  const std::optional<Errc> of_flush = co_await errc_of(db_->flush());
  if (of_flush != Errc::poisoned) wrong("a flush of a poisoned partition was not refused");
  std::optional<Errc> of_snapshot;
  try {
    static_cast<void>(db_->snapshot());
  } catch (const Error& error) {
    of_snapshot = error.errc();
  }
  if (of_snapshot != Errc::poisoned) wrong("a snapshot of a poisoned partition was not refused");
  const std::optional<Errc> of_sync = co_await errc_of(db_->sync());
  if (of_sync != Errc::poisoned) wrong("a sync of a poisoned partition was not refused");
}

History::Outcome Life::outcome_of(const std::exception_ptr& error, const char* verb, Does does) {
  const bool is_tolerated = does == Does::read ? plan_.reads_may_fail : plan_.writes_may_fail;
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    last_error_ = e.what();
    switch (e.errc()) {
      case Errc::conflict: return History::Outcome::nothing;
      case Errc::no_space: ++errors_; return History::Outcome::nothing;
      case Errc::io_error:
      case Errc::corruption:
      case Errc::poisoned:
        ++errors_;
        if (!is_tolerated) wrong(fmt::format("{}: {}", verb, e.what()));
        return History::Outcome::unknown;
      default: break;
    }
    wrong(fmt::format("{}: {}", verb, e.what()));
  } catch (const std::bad_alloc&) {
    ++errors_;
    if (!is_tolerated) wrong(fmt::format("{}: bad_alloc", verb));
  }
  return History::Outcome::unknown;
}

void Life::end(std::uint32_t op, History::Outcome outcome) {
  history_.end(op, outcome, now());
  const History::Op& record = history_.ops()[op - (history_.next_op() - history_.ops().size())];
  if (record.kind == History::Kind::flush && outcome == History::Outcome::applied) {
    durable_before_ = std::max(durable_before_, record.begun);
  }
  if (plan_.trace) {
    std::string changes;
    for (const History::Change& change : record.changes) changes += history_.shown({change.key, change.value}) + "; ";
    fmt::print("{:>9} operation {} ended as {} (events {} to {}): {}{}\n", now().count() / 1000, op,
               static_cast<int>(outcome), record.begun, history_.now(), changes,
               outcome == History::Outcome::applied ? "" : last_error_);
  }
  if (cluster_) cluster_->note(std::uint64_t{op} << 8 | static_cast<std::uint64_t>(outcome));
  if (plan_.images > 0 && image_random_.below(kStepsExpected) < plan_.images) capture();
}

}  // namespace store::test
