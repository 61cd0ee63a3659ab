// Faults of the device while a store lives: operations that fail, and operations that lie.
#include <fmt/format.h>

#include <algorithm>

#include "monterey/io_injection.hpp"
#include "sim/fault_entries.hpp"
#include "store/page/meta.hpp"
#include "support/temp_dir.hpp"

namespace store::test {

namespace {

// A workload, small enough that a fault can strike each of its operations in turn.
struct Workload {
  LifePlan plan;
  KeySpace keys;
  Beginning beginning;
  std::string wrong;
  State known;                                                // before it
  std::uint64_t reads = 0, writes = 0, syncs = 0, grows = 0;  // of it, undisturbed

  Workload(FaultContext& context, std::uint64_t seed) : plan(plan_of(context, seed)), keys(plan.keys) {
    plan.operations = 6;
    beginning = begin_store(context, plan, keys, wrong);
    if (!wrong.empty()) return;
    Life life(plan, beginning.image, beginning.next_op, keys);
    life.run(context.arena);
    wrong = life.judge();
    known = life.base();
    reads = life.disk().count(DeviceOp::read);
    writes = life.disk().count(DeviceOp::write);
    syncs = life.disk().count(DeviceOp::sync);
    grows = life.disk().count(DeviceOp::grow);
  }
};

// The power is cut after the life: what it had acknowledged is there, also after the worst.
std::string judge_ends(FaultContext& context, Life& life, const Workload& work, SimRandom& random, Judgement judgement,
                       int images) {
  for (int i = 0; i < images; ++i) life.images().push_back(life.image_of(life.disk().power_cut(random)));
  for (const CrashImage& image : life.images()) {
    LifePlan next = work.plan;
    next.seed = random.next();
    next.images = 0;
    if (std::string wrong = judge_image(context, life, image, work.keys, next, judgement); !wrong.empty()) return wrong;
  }
  return {};
}

std::string named(const SimFault& fault, const std::string& wrong) {
  if (wrong.empty()) return {};
  static constexpr const char* kNames[] = {"read", "write", "sync", "trim", "grow", "shrink"};
  static constexpr const char* kKinds[] = {"failing", "lost", "misdirected"};
  return fmt::format("{} {} {}{}: {}", kKinds[static_cast<std::size_t>(fault.kind)],
                     kNames[static_cast<std::size_t>(fault.op)], fault.number,
                     fault.for_good ? " and all after it" : "", wrong);
}

// One life of the workload with one fault. `after` looks at what became of it.
template <class After>
std::string strike(FaultContext& context, const Workload& work, const SimFault& fault, LifePlan plan, After after) {
  plan.known = &work.known;
  plan.on_disk = [&fault](SimDisk& disk) { disk.inject(fault); };
  Life life(plan, work.beginning.image, work.beginning.next_op, work.keys);
  life.run(context.arena);
  std::string wrong = life.judge();
  if (wrong.empty()) wrong = after(life);
  return named(fault, wrong);
}

bool hits_unvouched(const SimDisk& disk) {
  const SimImage image = disk.contents();
  return std::ranges::any_of(disk.lied_about(),
                             [&image](const Extent& blocks) { return is_in_log_or_meta(image, blocks); });
}

}  // namespace

std::string run_write_error(FaultContext& context, std::uint64_t seed) {
  Workload work(context, seed);
  if (!work.wrong.empty()) return work.wrong;
  SimRandom random = SimRandom(seed).child(11);
  LifePlan plan = work.plan;
  plan.writes_may_fail = true;
  for (std::uint64_t i = 0; i < work.writes + work.grows; ++i) {
    SimFault fault;
    fault.op = i < work.writes ? DeviceOp::write : DeviceOp::grow;
    fault.number = i < work.writes ? i : i - work.writes;
    fault.for_good = random.one_in(2);
    fault.errc = random.one_in(2) ? Errc::no_space : Errc::io_error;
    const std::string wrong = strike(context, work, fault, plan, [&](Life& life) -> std::string {
      if (life.disk().struck() > 0 && life.errors() == 0 && !life.open_error() && fault.for_good &&
          i + 4 < work.writes && fault.op == DeviceOp::write && life.disk().struck() > 20) {
        return "writes failed and nobody was told";
      }
      return judge_ends(context, life, work, random, {}, 2);
    });
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string run_sync_error(FaultContext& context, std::uint64_t seed) {
  Workload work(context, seed);
  if (!work.wrong.empty()) return work.wrong;
  SimRandom random = SimRandom(seed).child(12);
  LifePlan plan = work.plan;
  plan.writes_may_fail = true;
  for (std::uint64_t i = 0; i < 2 * work.syncs; ++i) {
    SimFault fault;
    fault.op = DeviceOp::sync;
    fault.number = i / 2;
    fault.keeps_data = i % 2 == 0;
    const std::string wrong = strike(context, work, fault, plan, [&](Life& life) -> std::string {
      if (life.disk().struck() == 0) return {};
      // A sync that close() makes, or a flush that goes on after it, has nobody left to see the poison.
      if (!life.open_error() && !life.was_poisoned() && life.struck_at_work() > 0) return "it did not poison";
      return judge_ends(context, life, work, random, {}, 3);
    });
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string run_read_error(FaultContext& context, std::uint64_t seed) {
  Workload work(context, seed);
  if (!work.wrong.empty()) return work.wrong;
  SimRandom random = SimRandom(seed).child(13);
  LifePlan plan = work.plan;
  plan.reads_may_fail = true;
  plan.writes_may_fail = true;  // those that read first
  plan.check_may_fail = true;
  for (std::uint64_t i = 0; i < work.reads; ++i) {
    SimFault fault;
    fault.op = DeviceOp::read;
    fault.number = i;
    const std::string wrong = strike(context, work, fault, plan, [&](Life& life) -> std::string {
      if (life.was_poisoned()) return "a failed read poisoned";
      if (!life.open_error() && life.errors() > plan.tasks + 2)
        return fmt::format("{} operations failed", life.errors());
      return judge_ends(context, life, work, random, {}, 1);
    });
    if (!wrong.empty()) return wrong;
  }
  return {};
}

// The device acknowledges what it did not do. Where that hits a meta page or the log, which nothing vouches for, what was
// acknowledged may be lost; what is found is still right.
std::string run_lying_device(FaultContext& context, std::uint64_t seed) {
  Workload work(context, seed);
  if (!work.wrong.empty()) return work.wrong;
  SimRandom random = SimRandom(seed).child(14);
  LifePlan plan = work.plan;
  plan.reads_may_fail = true;
  plan.writes_may_fail = true;
  plan.check_may_fail = true;
  for (std::uint64_t i = 0; i < 2 * work.writes + work.reads; ++i) {
    SimFault fault;
    fault.op = i < 2 * work.writes ? DeviceOp::write : DeviceOp::read;
    fault.number = i < 2 * work.writes ? i / 2 : i - 2 * work.writes;
    fault.kind = i < 2 * work.writes && i % 2 == 0 ? SimFault::Kind::lost : SimFault::Kind::misdirected;
    const std::string wrong = strike(context, work, fault, plan, [&](Life& life) -> std::string {
      const Judgement judgement{.damaged = true, .prefix_is_enough = hits_unvouched(life.disk())};
      return judge_ends(context, life, work, random, judgement, 1);
    });
    if (!wrong.empty()) return wrong;
  }
  return {};
}

// On a real file, through whatever I/O this machine has: completions that are short, interrupted or refused for now, in any
// order, are nobody's business above the runtime.
std::string run_short_io(FaultContext& context, std::uint64_t seed) {
  LifePlan plan = plan_of(context, seed);
  const KeySpace keys(plan.keys);
  const TempDir directory;
  const std::string path = directory.file("store");
  plan.end = LifePlan::End::close;
  monterey::detail::IoInjection injection(seed, {.short_count = 100, .eintr = 60, .eagain = 60, .reorder = 300});
  Life life(plan, {}, 1, keys);
  life.run_on_file(context.arena, path, injection);
  std::string wrong = life.judge();
  if (wrong.empty() && life.open_error()) wrong = life.open_error()->what();
  if (!wrong.empty()) return wrong;
  plan.tasks = 0;
  plan.only = nullptr;
  plan.may_create = false;
  Life second(plan, {}, life.history().next_op(), keys);
  second.run_on_file(context.arena, path, injection);
  wrong = second.judge();
  if (wrong.empty() && second.open_error()) wrong = second.open_error()->what();
  if (wrong.empty()) wrong = life.history().check_view(second.found(), life.history().now() + 1, life.history().now());
  const monterey::detail::IoInjection::Counts& counts = injection.counts();
  context.images += counts.short_count + counts.eintr + counts.eagain + counts.held;
  return wrong;
}

}  // namespace store::test
