// Damage to the log of a store that was not closed: what a later group attests is missed and refused, what nothing attests is
// a shorter log, and groups that do not belong there are not taken for its own.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "sim/fault_entries.hpp"
#include "store/page/meta.hpp"
#include "store/wal/log_format.hpp"
#include "store/wal/log_space.hpp"

namespace store::test {

namespace {

struct FoundGroup {
  LogGroup header;
  std::vector<std::byte> bytes;  // whole blocks
};

Meta newest_meta_of(const SimImage& image, std::uint32_t& slot) {
  Meta newest;
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
    const DecodedMeta decoded = decode_meta(image.block(block), block / kMetaCopies);
    if (decoded.state != MetaState::good || decoded.meta.generation <= newest.generation) continue;
    newest = decoded.meta;
    slot = block / kMetaCopies;
  }
  return newest;
}

std::vector<std::byte> read_log(const SimImage& image, const LogLayout& layout, Lsn lsn, std::uint64_t blocks) {
  std::vector<std::byte> bytes;
  while (blocks > 0 && lsn < layout.end()) {
    const Extent piece = layout.locate(lsn, blocks);
    for (std::uint32_t i = 0; i < piece.count; ++i) {
      const auto block = image.block(piece.first.value + i);
      bytes.insert(bytes.end(), block.begin(), block.end());
    }
    blocks -= piece.count;
    lsn = Lsn(lsn.value + std::uint64_t{piece.count} * kPageBytes);
  }
  return bytes;
}

void write_log(SimImage& image, const LogLayout& layout, Lsn lsn, std::span<const std::byte> bytes) {
  for (; !bytes.empty(); bytes = bytes.subspan(kPageBytes), lsn = Lsn(lsn.value + kPageBytes)) {
    const auto block = image.edit(layout.locate(lsn, 1).first.value);
    std::ranges::copy(bytes.first(kPageBytes), block.begin());
  }
}

std::optional<FoundGroup> group_at(const SimImage& image, const LogLayout& layout, Lsn lsn) {
  if (lsn >= layout.end()) return std::nullopt;
  const std::vector<std::byte> first = read_log(image, layout, lsn, 1);
  const auto header = decode_group(std::span<const std::byte, kPageBytes>(first.data(), kPageBytes));
  if (!header || header->lsn != lsn) return std::nullopt;
  FoundGroup group{*header, read_log(image, layout, lsn, blocks_for(header->bytes))};
  if (group.bytes.size() < header->bytes) return std::nullopt;
  if (!group_crc_holds(std::span(group.bytes).first(header->bytes), header->crc)) return std::nullopt;
  return group;
}

Lsn behind(const LogGroup& group) { return Lsn(group.lsn.value + group_span_bytes(group.bytes)); }

// The log as the newest meta page of an image gives it.
struct LogOf {
  std::uint32_t slot = 0;
  Meta meta;
  LogLayout layout;
  std::vector<FoundGroup> groups;

  LogOf() = default;
  explicit LogOf(const SimImage& contents) : meta(newest_meta_of(contents, slot)), layout(layout_of(meta)) {
    Lsn lsn = layout.begin.lsn;
    while (std::optional<FoundGroup> group = group_at(contents, layout, lsn)) {
      lsn = behind(group->header);
      groups.push_back(std::move(*group));
    }
  }
  bool attested(Lsn lsn) const {
    return std::ranges::any_of(groups, [lsn](const FoundGroup& group) { return group.header.durable_lsn > lsn; });
  }
  bool knows(Generation generation) const {
    return std::ranges::any_of(groups,
                               [&](const FoundGroup& group) { return group.header.durable_generation >= generation; });
  }
};

// A store that lost power, with all that it ever wrote on the device.
struct CrashedStore {
  LifePlan plan;
  KeySpace keys;
  std::unique_ptr<Life> life;
  CrashImage image;
  LogOf log;
  std::string wrong;

  CrashedStore(FaultContext& context, std::uint64_t seed) : plan(plan_of(context, seed)), keys(plan.keys) {
    if (plan.mode == WalMode::none) plan.mode = WalMode::per_op;
    const Beginning beginning = begin_store(context, plan, keys, wrong);
    if (!wrong.empty()) return;
    plan.operations = 4;
    plan.end = LifePlan::End::drop;
    life = std::make_unique<Life>(plan, beginning.image, beginning.next_op, keys);
    life->run(context.arena);
    wrong = life->judge();
    if (wrong.empty() && life->open_error()) wrong = life->open_error()->what();
    if (!wrong.empty()) return;
    image = life->image_of(life->disk().contents());
    plan.only = nullptr;
    log = LogOf(image.contents);
  }
};

// Opens a damaged image. If `refused`, it must be refused as corruption and left as it is; else what is found is right.
std::string expect(FaultContext& context, const CrashedStore& store, CrashImage image, SimRandom& random, bool refused,
                   const Judgement& judgement) {
  LifePlan next = store.plan;
  next.seed = random.next();
  std::unique_ptr<Life> life;
  std::string wrong = judge_image(context, *store.life, image, store.keys, next, judgement, &life);
  if (!wrong.empty() || !refused) return wrong;
  if (!life->open_error()) return "it was opened, although something attests what is missing";
  if (life->open_error()->errc() != Errc::corruption) return life->open_error()->what();
  if (!(life->disk().contents() == image.contents)) return "it was refused, but changed";
  return {};
}

std::string damage_groups(FaultContext& context, const CrashedStore& store, SimRandom& random) {
  for (const FoundGroup& group : store.log.groups) {
    for (int kind = 0; kind < 3; ++kind) {
      CrashImage image = store.image;
      std::vector<std::byte> bytes = group.bytes;
      const std::size_t in_use = group.header.bytes;
      if (kind == 0) std::ranges::fill(bytes, std::byte{0});
      if (kind == 1) bytes[random.below(in_use)] ^= static_cast<std::byte>(1u << random.below(8));
      if (kind == 2) std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(random.below(in_use)), 1, std::byte{0x5a});
      if (bytes == group.bytes) continue;
      write_log(image.contents, store.log.layout, group.header.lsn, bytes);
      const std::string wrong = expect(context, store, image, random, store.log.attested(group.header.lsn),
                                       {.damaged = true, .prefix_is_enough = true});
      if (!wrong.empty()) return fmt::format("group at LSN {}, damage {}: {}", group.header.lsn.value, kind, wrong);
    }
  }
  return {};
}

// The newest meta page is gone: the log may know of it.
std::string damage_newest_meta(FaultContext& context, const CrashedStore& store, SimRandom& random) {
  CrashImage image = store.image;
  for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
    const auto block = image.contents.edit(meta_block(store.log.slot, copy).value);
    block[200 + random.below(3000)] ^= std::byte{1};
  }
  const LogOf older(image.contents);
  const bool refused = !older.groups.empty() && older.knows(store.log.meta.generation);
  const std::string wrong = expect(context, store, image, random, refused, {.damaged = true, .prefix_is_enough = true});
  return wrong.empty() ? wrong : "both copies of the newest meta page: " + wrong;
}

// A group that an older open left behind, where it could go on: it is not this log's.
std::string forge_stale_group(FaultContext& context, const CrashedStore& store, SimRandom& random) {
  if (store.log.groups.empty() || store.log.groups.back().header.incarnation < 2) return {};
  const LogGroup& last = store.log.groups.back().header;
  const Lsn tail = behind(last);
  if (tail >= store.log.layout.end()) return {};
  std::uint64_t seq = store.log.meta.last_merged.value;
  for (const FoundGroup& group : store.log.groups) {
    FragmentReader fragments(std::span(group.bytes).first(group.header.bytes));
    while (const auto fragment = fragments.next()) {
      if (fragment->kind != FragmentKind::whole) return {};
      RecordDecoder record(fragment->payload);
      seq = std::max<std::uint64_t>(seq, record.first_seq().value + record.entries() - 1);
    }
  }
  const std::array<LogEntry, 1> entry{LogEntry{store.keys.text(0), "forged value", std::nullopt}};
  const std::size_t bytes = record_bytes(entry);
  std::vector<std::byte> memory(group_span_bytes(kGroupHeaderBytes + kFragmentHeaderBytes + bytes));
  const auto payload = std::span(memory).subspan(kGroupHeaderBytes + kFragmentHeaderBytes, bytes);
  RecordEncoder(SeqNo(seq + 1), entry).fill(payload);
  put_fragment_header(memory.data() + kGroupHeaderBytes, static_cast<std::uint32_t>(bytes), FragmentKind::whole, 0);
  LogGroup group = last;
  group.bytes = static_cast<std::uint32_t>(kGroupHeaderBytes + kFragmentHeaderBytes + bytes);
  group.previous_crc = last.crc;
  group.lsn = tail;
  group.durable_lsn = tail;
  group.incarnation = last.incarnation - 1;
  seal_group(memory.data(), group);
  CrashImage image = store.image;
  write_log(image.contents, store.log.layout, tail, memory);
  const std::string wrong = expect(context, store, image, random, false, {});
  return wrong.empty() ? wrong : "a group of an older open at the tail: " + wrong;
}

// A group that is whole, of this store and at its place, but not the one that was written there, as another life that went on
// from the same crash would have left it. The next one is not linked to it.
std::string forge_unlinked_group(FaultContext& context, const CrashedStore& store, SimRandom& random) {
  for (const FoundGroup& found : store.log.groups) {
    if (&found == &store.log.groups.back()) continue;  // nothing tells
    std::vector<std::byte> bytes = found.bytes;
    bytes[found.header.bytes - 1] ^= std::byte{1};  // of the last value
    seal_group(bytes.data(), found.header);
    CrashImage image = store.image;
    write_log(image.contents, store.log.layout, found.header.lsn, bytes);
    const std::string wrong = expect(context, store, image, random, true, {.damaged = true, .prefix_is_enough = true});
    if (!wrong.empty()) return fmt::format("a foreign group at LSN {}: {}", found.header.lsn.value, wrong);
  }
  return {};
}

}  // namespace

std::string run_log_damage(FaultContext& context, std::uint64_t seed) {
  const CrashedStore store(context, seed);
  if (!store.wrong.empty()) return store.wrong;
  SimRandom random = SimRandom(seed).child(30);
  for (const auto damage : {damage_groups, damage_newest_meta, forge_stale_group, forge_unlinked_group}) {
    if (std::string wrong = damage(context, store, random); !wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace store::test
