// Incremental copies: a source that is written to, compacted and crashes, and one target that follows it, increment by increment,
// and loses power on the way. Whenever that is, the target is the old copy, whole, or the new one.
//
// The program of a seed is its own: few tasks and many leaves, and erased stretches of neighbours, so that leaves vanish and others
// inherit their keys.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <monterey/spawn.hpp>
#include <monterey/time.hpp>
#include <store/store.hpp>

#include "sim/fault_entries.hpp"

namespace store::test {

namespace {

using Model = std::map<std::string, std::string>;

constexpr std::uint64_t kCapacityBlocks = 6000;
constexpr std::size_t kImagesOfOneCopy = 6;

class Copying {
 public:
  Copying(FaultContext& context, std::uint64_t seed, monterey::FixedBufs& arena)
      : context_(context),
        random_(SimRandom(seed).child(300)),
        image_random_(SimRandom(seed).child(301)),
        arena_(arena),
        cluster_({.seed = random_.next(),
                  .disorder_percent = random_.pick<unsigned>({0, 10, 60}),
                  .suspend_percent = random_.pick<unsigned>({0, 5})},
                 arena) {
    LifePlan plan;
    plan.seed = seed;
    plan.mode = context.mode;
    config_ = Life::config_of(plan);
    keys_ = random_.pick<std::uint64_t>({40, 200, 500});
    key_bytes_ = random_.pick<std::size_t>({12, 60, 250});
  }

  std::string run() {
    cluster_.run(rounds());
    return wrong_;
  }

 private:
  struct Image {
    SimImage contents;
    bool is_new;  // the copy had been acknowledged
  };

  std::string key(std::uint64_t n) const {
    std::string text = fmt::format("key{:04}", n);
    text.resize(key_bytes_, '.');
    return text;
  }
  std::string value() {
    std::string text = fmt::format("{}:", ++values_);
    text.resize(random_.one_in(20) ? random_.between(1000, 9000) : random_.below(300) + 8, 'v');
    return text;
  }
  void say(const std::string& what) {
    if (wrong_.empty()) wrong_ = fmt::format("round {}: {}", round_, what);
  }

  SimDisk& add_disk(SimImage image) {
    const SimDisk::Options options{.seed = random_.next(),
                                   .capacity_blocks = kCapacityBlocks,
                                   .latency = std::chrono::microseconds(random_.pick<std::uint64_t>({10, 100, 1000})),
                                   .durable_writes = random_.one_in(2)};
    return disks_.emplace_back(cluster_, options, std::move(image));
  }

  // Until the tasks of partitions that are gone have given their memory back.
  monterey::Task<> wait_for_memory(std::size_t partitions) {
    const std::size_t used = partitions * config_.buffer_config().bytes;
    while (arena_.free_bytes() + used < arena_.size_bytes()) {
      co_await monterey::sleep_for(std::chrono::microseconds(50));
    }
  }

  monterey::Task<> rounds() {
    std::exception_ptr error;
    try {
      source_ = &add_disk({});
      db_.emplace(co_await Partition::create(std::make_unique<SimBlockDevice>(*source_), config_));
      const std::uint64_t last = random_.between(4, 12);
      for (round_ = 0; round_ < last && wrong_.empty() && context_.images < context_.most_images; ++round_) {
        co_await work();
        if (random_.one_in(4)) co_await reopen();
        co_await copy();
        co_await judge_images();
        if (random_.one_in(5)) co_await compact_target();
      }
      db_.reset();
    } catch (const std::exception& thrown) {
      say(thrown.what());
    }
    db_.reset();
  }

  monterey::Task<> work() {
    for (std::uint64_t left = random_.between(1, 6); left > 0; --left) {
      const std::uint64_t kind = random_.below(10);
      const std::uint64_t from = random_.below(keys_);
      const std::uint64_t to = std::min(keys_, from + random_.between(1, random_.one_in(3) ? keys_ : 30));
      if (kind < 5) {
        for (std::uint64_t n = from; n < to; ++n) {
          const std::string k = key(n);
          model_[k] = value();
          co_await db_->put(k, model_[k]);
        }
      } else if (kind < 7) {
        co_await db_->erase_range(key(from), key(to));
        model_.erase(model_.lower_bound(key(from)), model_.lower_bound(key(to)));
      } else {
        for (std::uint64_t n = from; n < to; ++n) {
          const std::string k = key(n);
          co_await db_->erase(k);
          model_.erase(k);
        }
      }
      if (random_.one_in(3)) co_await db_->flush();
    }
    if (random_.one_in(5)) static_cast<void>(co_await db_->compact());
  }

  // In order, or after a power cut; what is there then is what goes on.
  monterey::Task<> reopen() {
    if (random_.one_in(3)) {
      co_await db_->close();
    } else {
      source_ = &add_disk(source_->power_cut(image_random_));
      may_have_lost_ = true;
    }
    db_.reset();
    co_await wait_for_memory(0);
    db_.emplace(co_await Partition::open(std::make_unique<SimBlockDevice>(*source_), config_));
    model_ = co_await contents(*db_);
  }

  static monterey::Task<Model> contents(const Partition& db) {
    Model found;
    Scan scan = co_await db.scan("");
    for (;;) {
      const bool more = co_await scan.advance();
      if (!more) break;
      found.emplace_hint(found.end(), scan.key(), scan.value());
    }
    co_return std::move(found);
  }

  // Writes beside the copy, each noted when it is done.
  static monterey::Task<> write_beside(Copying* self, std::uint64_t writes) {
    for (; writes > 0 && self->wrong_.empty(); --writes) {
      const std::string k = self->key(self->random_.below(self->keys_));
      const std::string v = self->value();
      co_await self->db_->put(k, v);
      self->beside_.emplace_back(k, v);
      co_await monterey::sleep_for(std::chrono::microseconds(self->random_.below(500)));
    }
  }

  monterey::Task<> copy() {
    const bool is_first = target_ == nullptr;
    if (is_first) target_ = &add_disk({});
    images_.clear();
    acknowledged_ = false;
    target_->on_step = [this](const Operation&, SimDisk::Step) {
      if (images_.size() < kImagesOfOneCopy && image_random_.one_in(12)) {
        images_.push_back({target_->power_cut(image_random_), acknowledged_});
      }
    };
    beside_.clear();
    auto writing = monterey::spawn(write_beside(this, random_.one_in(2) ? random_.below(20) : 0));
    std::string failure;
    try {
      BackupOptions options;
      if (!is_first) options.since = random_.one_in(2) ? BackupOptions::kOfTarget : generation_;
      const BackupReport report = co_await db_->backup(std::make_unique<SimBlockDevice>(*target_), options);
      generation_ = report.generation;
      acknowledged_ = true;
      images_.push_back({target_->power_cut(image_random_), true});
    } catch (const std::exception& error) {
      failure = error.what();
    }
    co_await writing;
    target_->on_step = nullptr;
    // A meta slot was torn, which may have been a commit: then only a full copy will do.
    if (may_have_lost_ && failure.find("without its newest commits") != std::string::npos) {
      may_have_lost_ = false;
      target_ = nullptr;
      for (const auto& [k, v] : beside_) model_[k] = v;
      co_await copy();
      co_return;
    }
    if (!failure.empty()) say("the copy failed: " + failure);
    if (is_first) images_.erase(images_.begin(), images_.end() - (failure.empty() ? 1 : 0));
  }

  // The state at the call is that before the writes beside it, or behind the first few of them.
  monterey::Task<> judge_images() {
    std::vector<Model> states{model_};
    for (const auto& [k, v] : beside_) {
      model_[k] = v;
      states.push_back(model_);
    }
    std::optional<Model> made;
    for (auto image = images_.rbegin(); image != images_.rend() && wrong_.empty(); ++image) {
      ++context_.images;
      SimDisk& disk = add_disk(image->contents);
      co_await wait_for_memory(1);
      auto there = co_await Partition::open(std::make_unique<SimBlockDevice>(disk), config_);
      // A commit replaces the meta slot that the power cut may have torn.
      co_await there.erase("never there");
      co_await there.flush();
      const CheckReport report = co_await there.check();
      if (!report.ok) say("check of the copy: " + report.errors.front());
      Model found = co_await contents(there);
      const bool is_new = std::ranges::find(states, found) != states.end();
      if (!is_new && (image->is_new || found != copied_)) {
        say(fmt::format("the copy has {} entries, of {} before and {} after it, and is neither{}", found.size(),
                        copied_.size(), states.front().size(), image->is_new ? "; it was acknowledged" : ""));
      }
      if (is_new && made && found != *made && found != copied_) say("two images have two new copies");
      if (is_new && !made) made = std::move(found);
      co_await there.close();
    }
    if (made) copied_ = std::move(*made);
    // Now and then the target goes on from the power cut.
    if (wrong_.empty() && !images_.empty() && random_.one_in(3)) co_await fall_back();
  }

  monterey::Task<> fall_back() {
    target_ = &add_disk(images_[random_.below(images_.size())].contents);
    co_await wait_for_memory(1);
    const OpenOptions reading{.read_only = true};
    auto there = co_await Partition::open(std::make_unique<SimBlockDevice>(*target_), config_, reading);
    copied_ = co_await contents(there);
    generation_ = there.stats().origin.generation;
    co_await there.close();
  }

  monterey::Task<> compact_target() {
    co_await wait_for_memory(1);
    auto there = co_await Partition::open(std::make_unique<SimBlockDevice>(*target_), config_);
    static_cast<void>(co_await there.compact());
    co_await there.close();
  }

  FaultContext& context_;
  SimRandom random_;
  SimRandom image_random_;
  monterey::FixedBufs& arena_;
  SimCluster cluster_;
  PartitionConfig config_;
  std::uint64_t keys_ = 0;
  std::size_t key_bytes_ = 0;
  std::deque<SimDisk> disks_;  // of the past, too: what was dropped may still write
  SimDisk* source_ = nullptr;
  SimDisk* target_ = nullptr;
  std::optional<Partition> db_;
  Model model_;
  std::vector<std::pair<std::string, std::string>> beside_;
  Model copied_;
  std::uint64_t generation_ = 0;
  std::vector<Image> images_;
  bool acknowledged_ = false;
  bool may_have_lost_ = false;  // the source, a commit, when it was opened last
  std::uint64_t values_ = 0;
  std::uint64_t round_ = 0;
  std::string wrong_;
};

}  // namespace

std::string run_increment(FaultContext& context, std::uint64_t seed) {
  return Copying(context, seed, context.arena).run();
}

}  // namespace store::test
