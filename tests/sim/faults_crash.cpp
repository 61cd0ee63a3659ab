// Faults that end a life: power cuts of all kinds, and chains of them.
#include <fmt/format.h>

#include <algorithm>

#include "sim/fault_entries.hpp"

namespace store::test {

namespace {

std::string judge_images(FaultContext& context, Life& life, const KeySpace& keys, const LifePlan& plan,
                         SimRandom random) {
  for (const CrashImage& image : life.images()) {
    LifePlan next = plan;
    next.on_step = nullptr;
    next.seed = random.next();
    next.images = 0;
    next.operations = 3;
    const Judgement judgement{.works_on = random.one_in(6)};
    if (std::string wrong = judge_image(context, life, image, keys, next, judgement); !wrong.empty()) return wrong;
  }
  return {};
}

// A third of the logs have a device of their own: the power is cut on both at once, and each keeps what it likes.
LifePlan plan_of_crash(const FaultContext& context, std::uint64_t seed) {
  LifePlan plan = plan_of(context, seed);
  if (plan.mode != WalMode::none && SimRandom(seed).child(15).one_in(3)) plan.log_device.emplace();
  return plan;
}

std::string power_cuts(FaultContext& context, std::uint64_t seed, SimDisk::Keep keep) {
  LifePlan plan = plan_of_crash(context, seed);
  const KeySpace keys(plan.keys);
  std::string wrong;
  Beginning beginning = begin_store(context, plan, keys, wrong);
  if (!wrong.empty()) return wrong;
  plan.log_device = beginning.log_device;
  plan.images = static_cast<unsigned>(std::min<std::uint64_t>(context.most_images, 100));
  plan.keep = keep;
  Life life(plan, beginning.image, beginning.next_op, keys);
  life.run(context.arena);
  wrong = life.judge();
  if (wrong.empty() && life.open_error()) wrong = life.open_error()->what();
  if (!wrong.empty()) return wrong;
  return judge_images(context, life, keys, plan, SimRandom(seed).child(7));
}

constexpr int kChainDepth = 3;

// Every image is the start of a life that works, and of which images are taken in turn: while it recovers, grows, flushes
// and closes.
std::string chain(FaultContext& context, Life& parent, const KeySpace& keys, const LifePlan& plan, SimRandom random,
                  int depth) {
  for (const CrashImage& image : parent.images()) {
    LifePlan next = plan;
    next.seed = random.next();
    next.operations = static_cast<unsigned>(random.below(5));
    next.images = depth < kChainDepth ? 3 : 0;
    // Half of the chains look at recovery, of which there is little in time.
    if (random.one_in(2)) {
      next.images *= 20;
      next.operations = 0;
    }
    next.end = random.one_in(2) ? LifePlan::End::close : LifePlan::End::drop;
    std::unique_ptr<Life> life;
    std::string wrong = judge_image(context, parent, image, keys, next, {.works_on = true}, &life);
    if (!wrong.empty() || life->open_error()) {
      if (wrong.empty()) continue;
      return fmt::format("depth {}: {}", depth, wrong);
    }
    if (life->images().size() > 6) life->images().resize(6);
    wrong = chain(context, *life, keys, plan, random.child(static_cast<std::uint64_t>(depth)), depth + 1);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace

std::string run_power_cut(FaultContext& context, std::uint64_t seed) {
  return power_cuts(context, seed, SimDisk::Keep::any);
}

std::string run_extension_lost(FaultContext& context, std::uint64_t seed) {
  return power_cuts(context, seed, SimDisk::Keep::extension_lost);
}

std::string run_crash_chain(FaultContext& context, std::uint64_t seed) {
  LifePlan plan = plan_of_crash(context, seed);
  const KeySpace keys(plan.keys);
  plan.images = 8;
  plan.operations = 8;
  Life life(plan, {}, 1, keys);
  life.run(context.arena);
  std::string wrong = life.judge();
  if (wrong.empty() && life.open_error()) wrong = life.open_error()->what();
  if (!wrong.empty()) return wrong;
  return chain(context, life, keys, plan, SimRandom(seed).child(8), 1);
}

// Every write of a small workload, torn after every sector, from its begin or from its end, with all or none of the other
// volatile writes.
std::string run_torn_write(FaultContext& context, std::uint64_t seed) {
  LifePlan plan = plan_of_crash(context, seed);
  const KeySpace keys(plan.keys);
  std::string wrong;
  Beginning beginning = begin_store(context, plan, keys, wrong);
  if (!wrong.empty()) return wrong;
  plan.log_device = beginning.log_device;
  plan.operations = 4;
  SimRandom random = SimRandom(seed).child(9);
  Life* current = nullptr;
  plan.on_step = [&](SimDisk& disk, const Operation& operation, SimDisk::Step step) {
    if (operation.op != DeviceOp::write || step != SimDisk::Step::issued) return;
    const std::uint64_t way = random.below(4);
    for (unsigned sectors = 0; sectors <= disk.last_write_sectors(); ++sectors) {
      const bool tail = ((sectors + way) & 1) != 0;
      const bool keep_others = ((sectors + way) & 2) != 0;
      current->images().push_back(current->image_of_torn(disk, sectors, tail, keep_others));
    }
  };
  Life life(plan, beginning.image, beginning.next_op, keys);
  current = &life;
  life.run(context.arena);
  wrong = life.judge();
  if (wrong.empty() && life.open_error()) wrong = life.open_error()->what();
  if (!wrong.empty()) return wrong;
  return judge_images(context, life, keys, plan, SimRandom(seed).child(10));
}

}  // namespace store::test
