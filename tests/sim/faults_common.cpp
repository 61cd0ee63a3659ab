#include <fmt/format.h>

#include <utility>

#include "sim/faults.hpp"
#include "store/page/meta.hpp"

namespace store::test {

LifePlan plan_of(const FaultContext& context, std::uint64_t seed) {
  SimRandom random = SimRandom(seed).child(100);
  LifePlan plan;
  plan.seed = seed;
  plan.mode = context.mode;
  plan.keys = random.pick<std::uint32_t>({8, 30, 60, 120});
  plan.big_values = random.one_in(3);
  plan.capacity_blocks = random.pick<std::uint64_t>({160, 300, 1000});
  if (plan.big_values) plan.capacity_blocks += 300;
  if (random.one_in(8)) {
    plan.long_batches = true;
    plan.keys = 60;
    plan.operations = 10;
    plan.capacity_blocks = 8192;
  }
  plan.end = random.one_in(2) ? LifePlan::End::close : LifePlan::End::drop;
  plan.loads = random.one_in(2);
  plan.only = context.only;
  plan.trace = context.trace;
  return plan;
}

bool is_in_log_or_meta(const SimImage& image, const Extent& blocks) {
  if (blocks.first.value < kMetaBlocks) return true;
  for (std::uint32_t block = 0; block < kMetaBlocks && block < image.size_blocks(); ++block) {
    const DecodedMeta decoded = decode_meta(image.block(block), block / kMetaCopies);
    if (decoded.state != MetaState::good) continue;
    for (std::size_t i = 0; i < decoded.meta.log_segment_count; ++i) {
      const Extent& segment = decoded.meta.log_segments[i];
      if (segment.first.value < blocks.end() && blocks.first.value < segment.end()) return true;
    }
  }
  return false;
}

namespace {

// Moves the newest state of an image to numbers just below the limits of the format.
void raise_numbers(SimImage& image) {
  Meta newest;
  std::uint32_t slot = kMetaSlots;
  for (std::uint32_t s = 0; s < kMetaSlots; ++s) {
    const DecodedMeta decoded = decode_meta(image.block(meta_block(s, 0).value), s);
    if (decoded.state != MetaState::good) continue;
    if (slot == kMetaSlots || decoded.meta.generation > newest.generation) {
      newest = decoded.meta;
      slot = s;
    }
  }
  if (slot == kMetaSlots) return;
  // The engine stops writing 2^16 generations, 2^32 sequence numbers and 2^62 bytes of log before the end.
  newest.generation = Generation(kMaxGeneration.value - (1u << 16) - (1u << 12));
  newest.last_merged = SeqNo(kMaxSeqNo.value - (std::uint64_t{1} << 32) - (1u << 20));
  newest.incarnation = ~std::uint64_t{0} - 1000;
  if (newest.log_segment_count > 0) newest.log_lsn = (std::uint64_t{1} << 62) - (std::uint64_t{1} << 30);
  for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
    encode_meta(newest, slot, image.edit(meta_block(slot, copy).value));
  }
}

}  // namespace

Beginning begin_store(FaultContext& context, const LifePlan& plan, const KeySpace& keys, std::string& wrong) {
  SimRandom random = SimRandom(plan.seed).child(101);
  const std::uint64_t kind = random.below(4);
  if (kind == 0) return {{}, plan.log_device, State(keys.count()), 1};
  LifePlan first = plan;
  first.seed = random.next();
  first.operations = static_cast<unsigned>(random.between(1, 16));
  first.end = LifePlan::End::close;
  first.images = 0;
  first.only = nullptr;
  Life life(first, {}, 1, keys);
  life.run(context.arena);
  wrong = life.judge();
  Beginning beginning{life.disk().contents(), life.log_contents(), life.left(), life.history().next_op()};
  if (kind == 1) raise_numbers(beginning.image);
  return beginning;
}

std::string judge_image(FaultContext& context, const Life& parent, const CrashImage& image, const KeySpace& keys,
                        LifePlan plan, const Judgement& judgement, std::unique_ptr<Life>* life_out) {
  using Phase = CrashImage::Phase;
  ++context.images;
  plan.only = nullptr;
  plan.known = nullptr;
  plan.may_create = false;
  plan.log_device = image.log_device;
  plan.reads_may_fail |= judgement.damaged;
  plan.writes_may_fail |= judgement.damaged;
  plan.check_may_fail |= judgement.damaged;
  if (!judgement.works_on) {
    plan.tasks = 0;
    plan.end = LifePlan::End::drop;
  }
  auto life = std::make_unique<Life>(plan, image.contents, parent.history().next_op(), keys);
  life->run(context.arena);
  std::string wrong = life->judge();
  if (wrong.empty() && life->open_error()) {
    const Errc errc = life->open_error()->errc();
    // A store whose creation was cut off is none: it may be seen as empty, as something else or as damaged.
    const bool unborn = image.phase == Phase::creating && (errc == Errc::not_a_store || errc == Errc::corruption);
    const bool named =
        judgement.damaged && (errc == Errc::corruption || errc == Errc::io_error || errc == Errc::not_a_store ||
                              errc == Errc::unsupported_format || errc == Errc::poisoned || errc == Errc::no_space);
    if (!unborn && !named) wrong = fmt::format("the image cannot be opened: {}", life->open_error()->what());
  } else if (wrong.empty()) {
    const std::uint64_t must_before = judgement.prefix_is_enough ? 0 : image.must_before;
    wrong = parent.history().check_view(life->found(), must_before, image.at);
    if (wrong.empty() && image.phase == Phase::opening && parent.opened() && !judgement.damaged &&
        life->base() != parent.base()) {
      wrong = "recovery, cut off and begun again, found something else";
    }
  }
  if (!wrong.empty()) {
    wrong = fmt::format("image at event {} (phase {}, durable before {}): {}", image.at, static_cast<int>(image.phase),
                        image.must_before, wrong);
  }
  if (life_out != nullptr) *life_out = std::move(life);
  return wrong;
}

}  // namespace store::test
