#include "fuzz/exercise.hpp"

#include <algorithm>
#include <optional>
#include <store/error.hpp>
#include <store/partition.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/targets.hpp"

namespace store::fuzz {
namespace {

constexpr std::size_t kKeysKept = 12;

// What a hostile image may give.
bool is_of_damage(Errc errc) {
  return errc == Errc::corruption || errc == Errc::not_a_store || errc == Errc::unsupported_format ||
         errc == Errc::no_space;
}

void judge(const Error& error) {
  // A meta page may say so of any store.
  if (std::string_view(error.what()).find("has its log on a device of its own") != std::string_view::npos) return;
  if (!is_of_damage(error.errc())) fail(std::string("an unexpected error: ") + error.what());
  require(std::string_view(error.what()).size() > 20, "an error without a text");
}

// Whether the task ended well; if not, `no_space` gets whether it was for want of space, and `why` the error's text.
monterey::Task<bool> succeeds(monterey::Task<> task, bool* no_space = nullptr, std::string* why = nullptr) {
  bool ok = true;
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    judge(error);
    if (why != nullptr) *why = error.what();
    if (no_space != nullptr) *no_space = error.errc() == Errc::no_space;
    ok = false;
  }
  co_return ok;
}

monterey::Task<> get(const Partition& db, std::string_view key) {
  const std::optional<std::string> value = co_await db.get(key);
  const bool there = co_await db.contains(key);
  require(there == value.has_value(), "get and contains differ");
}
monterey::Task<> get_many(const Partition& db, std::vector<std::string_view> keys) {
  const auto values = co_await db.get_many(keys);
  require(values.size() == keys.size(), "get_many loses a key");
}
monterey::Task<> pin(const Partition& db, std::string_view key, std::optional<PinnedValue>* value) {
  *value = co_await db.get_pinned(key);
}
monterey::Task<> put(Partition& db, std::string_view key, std::string_view value) { co_await db.put(key, value); }
monterey::Task<> erase(Partition& db, std::string_view key) { co_await db.erase(key); }
monterey::Task<> estimate(const Partition& db, std::string from) {
  static_cast<void>(co_await db.approximate_range(std::move(from)));
}

// What a whole scan has seen.
struct Seen {
  std::uint64_t entries = 0;
  std::vector<std::string> keys;  // some, spread over all
  std::string last;
  std::string value;
};

void see(Seen& seen, const Scan& scan, bool reverse) {
  const std::string_view key = scan.key();
  if (seen.entries > 0 && !(reverse ? key < seen.last : seen.last < key)) fail("a scan turned back");
  seen.value.assign(scan.value());  // every byte of it is there
  if ((seen.entries & (seen.entries - 1)) == 0 && seen.keys.size() < kKeysKept) seen.keys.emplace_back(key);
  seen.last.assign(key);
  ++seen.entries;
}

monterey::Task<> scan_on(Scan& scan, bool reverse, Seen* seen) {
  for (;;) {
    const bool more = co_await scan.advance();
    if (!more) break;
    see(*seen, scan, reverse);
  }
}

monterey::Task<> scan_all(const Partition& db, bool reverse, Seen* seen) {
  ScanOptions options;
  options.reverse = reverse;
  Scan scan = co_await db.scan("", std::nullopt, options);
  co_await scan_on(scan, reverse, seen);
}

monterey::Task<> start_scan(const Partition& db, std::optional<Scan>* scan, Seen* seen) {
  Scan started = co_await db.scan("");
  const bool more = co_await started.advance();
  if (more) see(*seen, started, false);
  scan->emplace(std::move(started));
}

class Exercise {
 public:
  explicit Exercise(Partition& db) : db_(db) {}

  monterey::Task<> read() {
    const bool checked = co_await succeeds(check(&sound_));
    if (!checked) sound_ = false;
    Seen forward;
    Seen backward;
    const bool there = co_await succeeds(scan_all(db_, false, &forward));
    expect(there, "a scan failed");
    const bool back = co_await succeeds(scan_all(db_, true, &backward));
    expect(back, "a scan in reverse failed");
    expect(forward.entries == entries_ && backward.entries == entries_, "scans and check count differently");
    keys_ = forward.keys;
    keys_.insert(keys_.end(), backward.keys.begin(), backward.keys.end());
    for (const char* key : {"a", "key000003", "m\xff", "zz"}) keys_.emplace_back(key);
    keys_.emplace_back(kMaxKeyBytes, '\xff');
    keys_.emplace_back(1, '\0');
    for (const std::string& key : keys_) {
      const bool ok = co_await succeeds(get(db_, key));
      expect(ok, "a lookup failed");
    }
    const bool many = co_await succeeds(get_many(db_, {keys_.begin(), keys_.end()}));
    expect(many, "get_many failed");
  }

  // Puts, long values, erases and a range among what is there, under a scan and a pinned value; then a flush.
  monterey::Task<> write() {
    std::optional<PinnedValue> pinned;
    static_cast<void>(co_await succeeds(pin(db_, keys_.front(), &pinned)));
    std::optional<Scan> scan;
    Seen seen;
    static_cast<void>(co_await succeeds(start_scan(db_, &scan, &seen)));
    const std::string long_value(5000, 'l');
    const std::string longest(kMaxBufferedValueBytes + 5000, 'm');
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const std::string& key = keys_[i];
      if (i % 4 == 0) co_await change(erase(db_, key));
      if (i % 4 == 1) co_await change(put(db_, key, "short"));
      if (i % 4 == 2) co_await change(put(db_, key.substr(0, 900) + "+", long_value));
      if (i == 3) co_await change(put(db_, key, longest));
    }
    co_await flush();
    if (scan) {
      const bool ok = co_await succeeds(scan_on(*scan, false, &seen));
      expect(ok, "a scan failed after a flush");
    }
    const std::string value(700, 'v');
    for (int i = 0; i < 24; ++i) co_await change(put(db_, "n" + std::to_string(i * 37 % 24), value));
    co_await flush();
    co_await change(estimate(db_, keys_.front()));
    co_await change(db_.erase_range(keys_.front(), keys_[keys_.size() / 2]));
    co_await change(put(db_, keys_.front().substr(0, 900) + "+", value));
    co_await flush();
  }

  bool is_sound() const { return sound_; }

 private:
  static constexpr std::size_t kMaxKeyBytes = 1024;
  static constexpr std::size_t kMaxBufferedValueBytes = 64u << 10;

  void expect(bool condition, const char* what) const {
    if (sound_ && !condition) fail(std::string("check found nothing wrong, but ") + what);
  }

  monterey::Task<> check(bool* ok) {
    const CheckReport report = co_await db_.check();
    require(report.ok == report.errors.empty(), "a check without a verdict");
    // It looks at the last commit only: a crafted log may have brought anything into the buffers.
    *ok = report.ok && db_.stats().buffered_entries == 0;
    entries_ = report.entries;
  }

  // What was accepted must find its space.
  monterey::Task<> flush() {
    std::string why;
    const bool ok = co_await succeeds(db_.flush(), nullptr, &why);
    if (!ok) expect(false, ("a flush failed: " + why).c_str());
  }

  monterey::Task<> change(monterey::Task<> task) {
    bool no_space = false;
    const bool ok = co_await succeeds(std::move(task), &no_space);
    expect(ok || no_space, "a write failed");
  }

  Partition& db_;
  bool sound_ = false;
  std::uint64_t entries_ = 0;
  std::vector<std::string> keys_;
};

monterey::Task<> open(std::shared_ptr<test::MemDisk> disk, HowToOpen how, std::optional<Partition>* db) {
  const auto access =
      how.read_only ? test::MemBlockDevice::Access::read_only : test::MemBlockDevice::Access::read_write;
  OpenOptions options;
  options.read_only = how.read_only;
  options.allow_rollback = how.allow_rollback;
  Partition opened =
      co_await Partition::open(std::make_unique<test::MemBlockDevice>(disk, access), small_config(how), options);
  db->emplace(std::move(opened));
}

}  // namespace

HowToOpen how_to_open(std::uint8_t options) {
  constexpr WalMode kModes[] = {WalMode::none, WalMode::none, WalMode::batched, WalMode::per_op};
  return {(options & 1) != 0, (options & 2) != 0, (options & 4) != 0, kModes[(options >> 3) & 3]};
}

PartitionConfig small_config(HowToOpen how) {
  return {.cache_pages = how.small_cache ? 8u : 64u,
          .wal_mode = how.wal_mode,
          .write_buffer_bytes = 32u << 10,
          .io_depth = 16};
}

monterey::Task<> check(std::shared_ptr<test::MemDisk> disk, CheckReport* report) {
  std::optional<Partition> db;
  co_await open(std::move(disk), {.read_only = true}, &db);
  *report = co_await db->check();
  co_await db->close();
}

monterey::Task<> exercise(std::shared_ptr<test::MemDisk> disk, HowToOpen how) {
  std::optional<Partition> db;
  const bool opened = co_await succeeds(open(disk, how, &db));
  if (!opened) co_return;
  static_cast<void>(db->stats());
  bool sound = false;
  {
    Exercise first(*db);
    co_await first.read();
    if (!how.read_only) co_await first.write();
    sound = first.is_sound();
  }
  std::string why;
  const bool closed = co_await succeeds(db->close(), nullptr, &why);
  if (sound && !closed) fail("check found nothing wrong, but the store did not close: " + why);
  db.reset();
  if (how.read_only) co_return;
  // What was committed must be as good as what was there.
  const bool again = co_await succeeds(open(disk, how, &db), nullptr, &why);
  // The open before, or its flushes, may have used up the last generation or the last number of an open.
  const bool is_used_up = why.find("nothing more can be written") != std::string::npos;
  if (sound && !again && !is_used_up) fail("a sound store does not open again: " + why);
  if (!again) co_return;
  Exercise second(*db);
  co_await second.read();
  if (sound && !second.is_sound()) fail("a store that was sound is damaged after a flush");
  static_cast<void>(co_await succeeds(db->close()));
}

}  // namespace store::fuzz
