// Faults of what lies on the device: rotten bits, and damage to the blocks that everything hangs on.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "sim/fault_entries.hpp"
#include "store/page/meta.hpp"

namespace store::test {

namespace {

// A store that was closed in order.
struct ClosedStore {
  LifePlan plan;
  KeySpace keys;
  std::unique_ptr<Life> life;
  std::string wrong;

  ClosedStore(FaultContext& context, std::uint64_t seed, unsigned operations)
      : ClosedStore(context, plan_of(context, seed), operations) {}
  ClosedStore(FaultContext& context, const LifePlan& planned, unsigned operations) : plan(planned), keys(plan.keys) {
    const Beginning beginning = begin_store(context, plan, keys, wrong);
    if (!wrong.empty()) return;
    plan.operations = operations;
    plan.end = LifePlan::End::close;
    life = std::make_unique<Life>(plan, beginning.image, beginning.next_op, keys);
    life->run(context.arena);
    wrong = life->judge();
    if (wrong.empty() && life->open_error()) wrong = life->open_error()->what();
    plan.only = nullptr;
  }
  CrashImage image() const { return life->image_of(life->disk().contents()); }
};

Meta newest_meta(const SimImage& image, std::uint32_t& slot) {
  Meta newest;
  for (std::uint32_t s = 0; s < kMetaSlots; ++s) {
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      const DecodedMeta decoded = decode_meta(image.block(meta_block(s, copy).value), s);
      if (decoded.state != MetaState::good || decoded.meta.generation <= newest.generation) continue;
      newest = decoded.meta;
      slot = s;
    }
  }
  return newest;
}

void flip(SimImage& image, std::uint64_t bit) {
  std::byte& byte = image.edit(static_cast<std::uint32_t>(bit / (8 * 4096)))[bit / 8 % 4096];
  byte ^= static_cast<std::byte>(1u << bit % 8);
}

// --- a block's damage ---

enum class Damage : std::uint8_t { zeros, rubbish, bit, foreign, torn, unreadable, stale };
constexpr unsigned kDamages = 7;
constexpr const char* kDamageNames[kDamages] = {
    "zeros",        "rubbish",    "a flipped bit",           "another block's contents",
    "a torn block", "unreadable", "as before the last write"};

void damage_block(SimImage& image, std::uint32_t block, Damage damage, SimRandom& random) {
  const auto bytes = image.edit(block);
  switch (damage) {
    case Damage::zeros: std::memset(bytes.data(), 0, bytes.size()); break;
    case Damage::rubbish:
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
      break;
    case Damage::bit: flip(image, std::uint64_t{block} * 8 * 4096 + random.below(8 * 4096)); break;
    case Damage::foreign: {
      const SimBlockRef other = image.blocks[random.between(kMetaBlocks, image.size_blocks() - 1)];
      image.blocks[block] = other;
      break;
    }
    case Damage::torn: {
      const std::size_t at = random.between(1, kSectorsPerBlock - 1) * kSectorBytes;
      std::memset(bytes.data() + at, 0xee, bytes.size() - at);
      break;
    }
    case Damage::unreadable: break;
    case Damage::stale: {  // of a meta page
      DecodedMeta decoded = decode_meta(image.block(block), block / kMetaCopies);
      if (decoded.state != MetaState::good || decoded.meta.generation.value < 3) break;
      decoded.meta.generation = Generation(decoded.meta.generation.value - 2);
      if (decoded.meta.tree_root.birth > decoded.meta.generation)
        decoded.meta.tree_root.birth = decoded.meta.generation;
      decoded.meta.allocator_root.birth = std::min(decoded.meta.allocator_root.birth, decoded.meta.generation);
      encode_meta(decoded.meta, block / kMetaCopies, bytes);
      break;
    }
  }
}

}  // namespace

// Bits of a store, drawn.
std::string run_bit_rot(FaultContext& context, std::uint64_t seed) {
  ClosedStore store(context, seed, 6);
  if (!store.wrong.empty()) return store.wrong;
  const CrashImage whole = store.image();
  const std::uint64_t bits = whole.contents.size_blocks() * 4096 * 8;
  SimRandom random = SimRandom(seed).child(20);
  const std::uint64_t samples = std::min<std::uint64_t>(context.most_images, 2000);
  for (std::uint64_t i = 0; i < samples; ++i) {
    CrashImage image = whole;
    const std::uint64_t bit = random.below(bits);
    flip(image.contents, bit);
    LifePlan next = store.plan;
    next.seed = random.next();
    const std::string wrong = judge_image(context, *store.life, image, store.keys, next, {.damaged = true});
    if (!wrong.empty()) return fmt::format("bit {} of block {}: {}", bit % (8 * 4096), bit / (8 * 4096), wrong);
  }
  return {};
}

// A seed has its share of the bits of a store of 64 blocks; so many seeds have each of them.
std::string run_every_bit(FaultContext& context, std::uint64_t seed) {
  constexpr std::uint64_t kBlocks = 64;
  constexpr std::uint64_t kBits = kBlocks * 4096 * 8;
  constexpr std::uint64_t kShare = 2048;
  constexpr std::uint64_t kShares = kBits / kShare;
  context.mode = WalMode::per_op;
  LifePlan plan = plan_of(context, 1 + (seed - 1) / kShares);
  plan.keys = 60;
  plan.long_batches = false;
  plan.big_values = false;
  plan.compacts = false;  // the device keeps its size
  plan.capacity_blocks = kBlocks;
  ClosedStore store(context, plan, 12);
  if (!store.wrong.empty()) return store.wrong;
  const CrashImage whole = store.image();
  if (whole.contents.size_blocks() != kBlocks)
    return fmt::format("the store has {} blocks", whole.contents.size_blocks());
  for (std::uint64_t i = 0; i < std::min(kShare, context.most_images); ++i) {
    const std::uint64_t bit = (seed - 1) % kShares * kShare + i;
    CrashImage image = whole;
    flip(image.contents, bit);
    LifePlan next = store.plan;
    next.seed = seed * kShare + i;
    const std::string wrong = judge_image(context, *store.life, image, store.keys, next, {.damaged = true});
    if (!wrong.empty()) return fmt::format("bit {} of block {}: {}", bit % (8 * 4096), bit / (8 * 4096), wrong);
  }
  return {};
}

std::string run_meta_block(FaultContext& context, std::uint64_t seed) {
  ClosedStore store(context, seed, 4);
  if (!store.wrong.empty()) return store.wrong;
  SimRandom random = SimRandom(seed).child(21);
  const CrashImage whole = store.image();
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
    for (unsigned d = 0; d < kDamages; ++d) {
      const auto damage = static_cast<Damage>(d);
      CrashImage image = whole;
      damage_block(image.contents, block, damage, random);
      LifePlan next = store.plan;
      next.seed = random.next();
      if (damage == Damage::unreadable) {
        next.on_disk = [block](SimDisk& disk) { disk.make_unreadable(PageNo(block)); };
      }
      std::unique_ptr<Life> life;
      std::string wrong = judge_image(context, *store.life, image, store.keys, next, {}, &life);
      // A store that was committed once has nothing in its other slot.
      const bool matters = decode_meta(whole.contents.block(block), block / kMetaCopies).state == MetaState::good &&
                           (damage == Damage::unreadable || !(image.contents == whole.contents));
      if (wrong.empty() && matters && life->open_notes().empty()) wrong = "the damage was not told";
      if (wrong.empty() && matters && damage != Damage::unreadable) {
        const CrashImage after = life->image_of(life->disk().power_cut(random));
        next.seed = random.next();
        std::unique_ptr<Life> second;
        wrong = judge_image(context, *life, after, store.keys, next, {}, &second);
        if (wrong.empty() && !second->open_notes().empty()) wrong = "not mended: " + second->open_notes().front();
      }
      if (!wrong.empty()) return fmt::format("meta block {}, {}: {}", block, kDamageNames[d], wrong);
    }
  }
  return {};
}

// What cannot be mended is refused, and left as it is.
std::string run_refused(FaultContext& context, std::uint64_t seed) {
  ClosedStore store(context, seed, 4);
  if (!store.wrong.empty()) return store.wrong;
  SimRandom random = SimRandom(seed).child(22);
  const CrashImage whole = store.image();
  std::uint32_t slot = 0;
  const Meta newest = newest_meta(whole.contents, slot);
  enum Target { all_metas, newest_slot, tree_root, allocator_root, kTargets };
  for (int target = 0; target < kTargets; ++target) {
    if (target == tree_root && newest.tree_root.is_null()) continue;
    for (unsigned d = 0; d < kDamages; ++d) {
      const auto damage = static_cast<Damage>(d);
      if (target == all_metas && (damage == Damage::zeros || damage == Damage::unreadable)) continue;
      if (damage == Damage::stale) continue;
      // Damage to it is a torn commit, for all that can be known; but what cannot be read may be the newest.
      if (target == newest_slot && damage != Damage::unreadable) continue;
      CrashImage image = whole;
      std::vector<std::uint32_t> blocks{newest.tree_root.page.value};
      if (target == allocator_root) blocks = {newest.allocator_root.page.value};
      if (target == all_metas) blocks = {0, 1, 2, 3};
      if (target == newest_slot) blocks = {meta_block(slot, 0).value, meta_block(slot, 1).value};
      for (const std::uint32_t block : blocks) damage_block(image.contents, block, damage, random);
      if (image.contents == whole.contents && damage != Damage::unreadable) continue;
      LifePlan next = store.plan;
      next.seed = random.next();
      next.end = LifePlan::End::drop;
      next.tasks = 0;
      next.may_create = false;
      if (damage == Damage::unreadable) {
        next.on_disk = [&blocks](SimDisk& disk) {
          for (const std::uint32_t block : blocks) disk.make_unreadable(PageNo(block));
        };
      }
      ++context.images;
      Life life(next, image.contents, store.life->history().next_op(), store.keys);
      life.run(context.arena);
      std::string wrong;
      const Errc expected = damage == Damage::unreadable ? Errc::io_error : Errc::corruption;
      if (!life.open_error()) {
        wrong = "it was opened";
      } else if (life.open_error()->errc() != expected) {
        wrong = fmt::format("refused, but as: {}", life.open_error()->what());
        // Where no meta page has its magic, nothing says that there was a store.
        if (target == all_metas && life.open_error()->errc() == Errc::not_a_store) wrong.clear();
      }
      if (wrong.empty() && !(life.disk().contents() == image.contents)) wrong = "it was changed";
      if (!wrong.empty()) {
        static constexpr const char* kNames[] = {"all meta pages", "the newest meta pages", "the tree's root",
                                                 "the allocator's root"};
        return fmt::format("{}, {}: {}", kNames[target], kDamageNames[d], wrong);
      }
    }
  }
  return {};
}

// Two at once: a life with a failing or lying device, a power cut while it goes on, and rot in what is left.
std::string run_two_faults(FaultContext& context, std::uint64_t seed) {
  LifePlan plan = plan_of(context, seed);
  const KeySpace keys(plan.keys);
  std::string wrong;
  const Beginning beginning = begin_store(context, plan, keys, wrong);
  if (!wrong.empty()) return wrong;
  SimRandom random = SimRandom(seed).child(23);
  plan.operations = 10;
  plan.images = 12;
  plan.reads_may_fail = true;
  plan.check_may_fail = true;
  plan.writes_may_fail = true;
  SimFault fault;
  fault.op = random.pick({DeviceOp::read, DeviceOp::write, DeviceOp::write, DeviceOp::sync, DeviceOp::grow});
  fault.number = random.below(fault.op == DeviceOp::sync || fault.op == DeviceOp::grow ? 12 : 120);
  fault.for_good = random.one_in(3);
  fault.errc = random.one_in(3) ? Errc::no_space : Errc::io_error;
  fault.keeps_data = random.one_in(2);
  SimFault second;
  second.op = random.pick({DeviceOp::read, DeviceOp::write, DeviceOp::sync});
  second.number = fault.number + random.below(20);
  plan.on_disk = [&](SimDisk& disk) {
    disk.inject(fault);
    disk.inject(second);
  };
  plan.known = &beginning.state;
  Life life(plan, beginning.image, beginning.next_op, keys);
  life.run(context.arena);
  wrong = life.judge();
  if (!wrong.empty()) return wrong;
  for (const CrashImage& taken : life.images()) {
    CrashImage image = taken;
    LifePlan next = plan;
    next.on_disk = nullptr;
    next.known = nullptr;
    next.images = 0;
    next.seed = random.next();
    next.reads_may_fail = next.writes_may_fail = next.check_may_fail = false;
    Judgement judgement{.works_on = random.one_in(4)};
    if (random.one_in(2) && image.contents.size_blocks() > 0) {
      // Where the older meta slot is torn by the cut, rot in the newer one leaves none, or an older state.
      const std::uint64_t bit = random.below(image.contents.size_blocks() * 4096 * 8);
      flip(image.contents, bit);
      judgement.damaged = true;
      const PageNo block(static_cast<std::uint32_t>(bit / (4096 * 8)));
      judgement.prefix_is_enough = is_in_log_or_meta(image.contents, {block, 1});
    } else if (random.one_in(2)) {
      SimFault third;
      third.op = random.pick({DeviceOp::read, DeviceOp::write, DeviceOp::sync});
      third.number = random.below(10);
      next.on_disk = [third](SimDisk& disk) { disk.inject(third); };
      judgement.damaged = true;
    }
    wrong = judge_image(context, life, image, keys, next, judgement);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace store::test
