#include <fmt/format.h>

#include <cstdio>
#include <store/store.hpp>
#include <vector>

#include "crash/expected_state.hpp"
#include "crash/names.hpp"
#include "crash/worker.hpp"

namespace store::crash {

namespace {

constexpr std::size_t kMaxPrinted = 30;

class Verification {
 public:
  explicit Verification(const Settings& settings) : settings_(settings), state_(settings.state) {}

  monterey::Task<> run(PartitionConfig config) {
    auto device = co_await FileBlockDevice::open(settings_.store, {});
    Partition db = co_await Partition::open_or_create(std::move(device), config);
    const CheckReport report = co_await db.check();
    for (const std::string& error : report.errors) find("check: " + error);
    if (!report.ok && report.errors.empty()) find("check: not ok");
    co_await scan_all(db);
    co_await get_all(db);
    const History history = state_.history();
    for (std::string& finding : judge(history, found_)) find(std::move(finding));
    fmt::print("verified operations={} replayed={} violations={}\n", history.operations.size(),
               db.stats().replayed_records, findings_);
    if (findings_ != 0) co_return;
    state_.restart(found_);
    // Every other time the next load starts from what this one leaves behind like a crash.
    if (mix(settings_.seed) % 2 == 0) co_await db.close();
  }

  std::size_t findings() const { return findings_; }

 private:
  void find(std::string what) {
    if (findings_++ < kMaxPrinted) fmt::print("violation: {}\n", what);
  }

  monterey::Task<> scan_all(const Partition& db) {
    Scan scan = co_await db.scan("");
    for (;;) {
      const bool more = co_await scan.advance();
      if (!more) break;
      const std::optional<std::uint32_t> key = key_number(scan.key());
      if (!key || *key >= found_.size()) {
        find(fmt::format("a key of {} bytes that was never written", scan.key().size()));
        continue;
      }
      const std::optional<ValueName> name = value_name(scan.value());
      if (!name || name->key != *key) {
        find(fmt::format("key {}: {} bytes that were never written", *key, scan.value().size()));
        continue;
      }
      found_[*key] = Held{name->operation, name->bytes};
    }
  }

  monterey::Task<> get_all(const Partition& db) {
    for (std::uint32_t key = 0; key < found_.size(); ++key) {
      const std::string text = key_text(key);
      const std::optional<PinnedValue> value = co_await db.get_pinned(text);
      Held held;
      if (value) {
        const std::optional<ValueName> name = value_name(value->view());
        if (name) held = Held{name->operation, name->bytes};
      }
      if (held != found_[key] || (value && held.operation == 0)) {
        find(fmt::format("key {}: get and scan differ: operation {} and {}", key, held.operation,
                         found_[key].operation));
      }
    }
  }

  const Settings& settings_;
  ExpectedState state_;
  std::vector<Held> found_ = std::vector<Held>(ExpectedState::kKeys);
  std::size_t findings_ = 0;
};

}  // namespace

std::size_t run_verification(const Settings& settings) {
  const PartitionConfig config = random_config(settings.mode, settings.seed);
  Verification verification(settings);
  const auto start = [&] { monterey::spawn(verification.run(config)); };
  monterey::Cluster::builder().cores(1).buffers(config.buffer_config()).init(start).run();
  return verification.findings();
}

}  // namespace store::crash
