// The log: its decoders on any bytes, and replay of real logs whose groups were changed, cut, moved and forged, with their
// checksums and links written anew. A store whose log is refused must not be opened; one that opens must be whole.
#include <algorithm>
#include <memory>
#include <store/partition.hpp>
#include <store/write_batch.hpp>
#include <string>
#include <vector>

#include "fuzz/core.hpp"
#include "fuzz/exercise.hpp"
#include "fuzz/input.hpp"
#include "fuzz/mend.hpp"
#include "fuzz/targets.hpp"
#include "store/base/crc32c.hpp"
#include "store/page/meta.hpp"
#include "store/wal/log_format.hpp"
#include "store/wal/log_space.hpp"

namespace store::fuzz {
namespace {

using Disk = std::shared_ptr<test::MemDisk>;

// --- the decoders ---

void use_record(std::span<const std::byte> bytes) {
  RecordDecoder decoder(bytes);
  std::vector<LogEntry> entries;
  while (const auto entry = decoder.next()) {
    require((entry->is_range || !entry->key.empty()) && !(entry->value && entry->run),
            "an entry of the log that cannot be");
    entries.push_back(*entry);
  }
  if (!decoder.error().empty()) return;
  require(entries.size() == decoder.entries(), "a record without an error lacks entries");
  require(record_bytes(entries) == bytes.size(), "a record is measured wrongly");
  std::vector<std::byte> again(bytes.size());
  RecordEncoder encoder(decoder.first_seq(), entries);
  encoder.fill(again);
  RecordDecoder copy(again);
  for (const LogEntry& entry : entries) {
    const auto found = copy.next();
    require(found && found->key == entry.key && found->value == entry.value && found->run == entry.run &&
                found->is_range == entry.is_range,
            "an entry changes when it is encoded again");
  }
}

void use_group(Input& input) {
  LogGroup group;
  group.lsn = Lsn(input.number<std::uint64_t>());
  const auto content = input.take(input.left());
  group.bytes = static_cast<std::uint32_t>(kGroupHeaderBytes + content.size());
  // Exactly as long as the group, for AddressSanitizer.
  const auto memory = std::make_unique<std::byte[]>(group_span_bytes(group.bytes));
  std::ranges::transform(content, memory.get() + kGroupHeaderBytes, [](std::uint8_t b) { return std::byte{b}; });
  const std::uint32_t crc = seal_group(memory.get(), group);
  const auto decoded = decode_group(std::span<const std::byte, kPageBytes>(memory.get(), kPageBytes));
  require(decoded && decoded->crc == crc && decoded->bytes == group.bytes && decoded->lsn == group.lsn,
          "a group changes when it is decoded");
  const auto exact = std::make_unique<std::byte[]>(group.bytes);
  std::copy_n(memory.get(), group.bytes, exact.get());
  const std::span<const std::byte> bytes(exact.get(), group.bytes);
  require(group_crc_holds(bytes, crc), "the checksum of a sealed group does not hold");
  FragmentReader fragments(bytes);
  while (const auto fragment = fragments.next()) use_record(fragment->payload);
}

void use_block(Input& input) {
  std::array<std::byte, kPageBytes> block{};
  const auto content = input.take(kPageBytes);
  std::ranges::transform(content, block.begin(), [](std::uint8_t b) { return std::byte{b}; });
  static_cast<void>(decode_group(block));
}

// --- real logs ---

monterey::Task<Partition> open(Disk disk, WalMode mode) {
  PartitionConfig config = small_config({.wal_mode = mode});
  config.write_buffer_bytes = 1u << 20;  // larger than the batch, which would be flushed else
  return Partition::open_or_create(std::make_unique<test::MemBlockDevice>(disk), config);
}

// A store that was never closed since it was last written to.
monterey::Task<> make_logged_store(Disk disk, Disk* crashed) {
  {
    Partition db = co_await open(disk, WalMode::per_op);
    for (int i = 0; i < 12; ++i) co_await db.put("early" + std::to_string(i), std::string(300, 'e'));
    co_await db.close();
  }
  Partition db = co_await open(disk, WalMode::per_op);
  for (const char* key : {"a", "key000003", "m", "z"}) co_await db.put(key, "value");
  co_await db.erase("early3");
  co_await db.erase_range("early5", "early7");
  const std::string long_value(kMaxBufferedValueBytes + 3000, 'l');
  co_await db.put("long", long_value);
  WriteBatch batch;  // more than a group holds
  for (int i = 0; i < 6; ++i) batch.put("part" + std::to_string(i), std::string(60'000, 'p'));
  co_await db.write(std::move(batch));
  co_await db.put("last", "value");
  *crashed = disk->copy();
  co_await db.close();
}

struct LoggedStore {
  Disk disk;
  Meta meta;
  std::uint32_t slot = 0;
  LogLayout layout;
  std::vector<Lsn> groups;  // where they begin
};

const std::byte* block_at(test::MemDisk& disk, const LogLayout& layout, Lsn lsn) {
  return disk.block(layout.locate(lsn, 1).first).data();
}

// The group that begins at `lsn`, if one does, as far as its bytes are there.
std::optional<LogGroup> group_at(test::MemDisk& disk, const LogLayout& layout, Lsn lsn, std::vector<std::byte>& bytes) {
  if (lsn < layout.begin.lsn || lsn >= layout.end()) return std::nullopt;
  const auto group = decode_group(std::span<const std::byte, kPageBytes>(block_at(disk, layout, lsn), kPageBytes));
  if (!group || group_span_bytes(group->bytes) > layout.end().value - lsn.value) return std::nullopt;
  bytes.clear();
  for (std::uint64_t at = 0; at < group_span_bytes(group->bytes); at += kPageBytes) {
    const std::byte* const block = block_at(disk, layout, Lsn(lsn.value + at));
    bytes.insert(bytes.end(), block, block + kPageBytes);
  }
  return group;
}

void write_at(test::MemDisk& disk, const LogLayout& layout, Lsn lsn, std::span<const std::byte> bytes) {
  for (std::size_t at = 0; at + kPageBytes <= bytes.size(); at += kPageBytes) {
    const Lsn here(lsn.value + at);
    if (here < layout.begin.lsn || here >= layout.end()) return;
    std::copy_n(bytes.data() + at, kPageBytes, disk.block(layout.locate(here, 1).first).data());
  }
}

LoggedStore make_store() {
  LoggedStore store;
  run_on_core(make_logged_store(std::make_shared<test::MemDisk>(), &store.disk));
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    const DecodedMeta decoded = decode_meta(store.disk->block(meta_block(slot, 0)), slot);
    if (decoded.state != MetaState::good || decoded.meta.generation < store.meta.generation) continue;
    store.meta = decoded.meta;
    store.slot = slot;
  }
  store.layout = layout_of(store.meta);
  std::vector<std::byte> bytes;
  for (Lsn lsn = store.layout.begin.lsn;;) {
    const auto group = group_at(*store.disk, store.layout, lsn, bytes);
    if (!group || group->lsn != lsn) break;
    store.groups.push_back(lsn);
    lsn = Lsn(lsn.value + group_span_bytes(group->bytes));
  }
  require(store.groups.size() >= 8, "the log of the image is shorter than it should be");
  store.disk->set_capacity_blocks(store.disk->size_blocks() + 512);
  return store;
}

const LoggedStore& logged_store() {
  static const LoggedStore store = make_store();
  return store;
}

// Writes the checksums and links of the log's groups anew, from its begin to where there is no group, and those of records in
// parts.
class LogMender {
 public:
  LogMender(test::MemDisk& disk, const LogLayout& layout) : disk_(disk), layout_(layout) {}

  void mend() {
    std::uint32_t previous = layout_.begin.previous_crc;
    std::vector<std::byte> bytes;
    for (Lsn lsn = layout_.begin.lsn;;) {
      auto group = group_at(disk_, layout_, lsn, bytes);
      if (!group) return;
      mend_parts(bytes, group->bytes);
      group->previous_crc = previous;
      group->lsn = lsn;
      previous = seal_group(bytes.data(), *group);
      write_at(disk_, layout_, lsn, bytes);
      lsn = Lsn(lsn.value + group_span_bytes(group->bytes));
    }
  }

 private:
  void mend_parts(std::vector<std::byte>& group, std::size_t bytes) {
    FragmentReader fragments(std::span<const std::byte>(group).first(bytes));
    while (const auto fragment = fragments.next()) {
      if (fragment->kind == FragmentKind::first) record_.clear();
      record_.insert(record_.end(), fragment->payload.begin(), fragment->payload.end());
      if (fragment->kind != FragmentKind::last) continue;
      const auto header = static_cast<std::size_t>(fragment->payload.data() - group.data()) - kFragmentHeaderBytes;
      put_fragment_header(group.data() + header, static_cast<std::uint32_t>(fragment->payload.size()), fragment->kind,
                          crc32c(record_));
    }
  }

  test::MemDisk& disk_;
  const LogLayout& layout_;
  std::vector<std::byte> record_;
};

class LogDamage {
 public:
  LogDamage(test::MemDisk& disk, const LoggedStore& store, Input& input) : disk_(disk), store_(store), input_(input) {}

  void change() {
    switch (input_.byte() % 6) {
      case 0: poke(); break;
      case 1: put_number(); break;
      case 2: move_group(); break;
      case 3: forge_group(); break;
      case 4: clear_block(); break;
      default: change_meta(); break;
    }
  }

 private:
  Lsn any_group() { return store_.groups[input_.choice(store_.groups.size())]; }
  Lsn any_place() {
    const std::uint64_t blocks =
        std::min<std::uint64_t>((store_.groups.back().value - store_.groups[0].value) / kPageBytes + 8,
                                store_.layout.total_bytes() / kPageBytes);
    return Lsn(store_.layout.begin.lsn.value + input_.choice(blocks) * kPageBytes);
  }
  std::byte* block(Lsn lsn) { return disk_.block(store_.layout.locate(lsn, 1).first).data(); }

  void poke() {
    std::byte* const group = block(any_group());
    const std::size_t at = input_.choice(512);
    const auto bytes = input_.take(1 + input_.byte() % 8);
    std::ranges::transform(bytes, group + at, [](std::uint8_t b) { return std::byte{b}; });
  }

  // A number of a header, mostly: those of the group, the fragment, the record and the first entry lie at its begin.
  void put_number() {
    std::byte* const group = block(any_group());
    const std::size_t at = input_.choice(256);
    const std::size_t width = input_.one_of<std::size_t>({1, 2, 4, 8});
    const std::uint64_t value = input_.hostile_number();
    std::memcpy(group + at, &value, width);
  }

  void move_group() {
    std::vector<std::byte> bytes;
    if (!group_at(disk_, store_.layout, any_group(), bytes)) return;
    write_at(disk_, store_.layout, any_place(), bytes);
  }

  // A group of fragments that the input gives, behind the last one or over another.
  void forge_group() {
    const Lsn lsn = input_.byte() % 2 == 0 ? any_place() : any_group();
    LogGroup group;
    group.lsn = lsn;
    group.incarnation = input_.byte() % 4 == 0 ? input_.hostile_number() : store_.meta.incarnation;
    group.durable_lsn = input_.byte() % 4 == 0 ? Lsn(input_.hostile_number()) : store_.layout.begin.lsn;
    group.durable_generation = input_.byte() % 4 == 0 ? Generation(input_.hostile_number()) : store_.meta.generation;
    std::memcpy(&group.store_id, store_.meta.uuid.data(), sizeof group.store_id);
    std::vector<std::byte> bytes(kGroupHeaderBytes);
    for (std::size_t fragments = 1 + input_.byte() % 4; fragments > 0; --fragments) append_fragment(bytes);
    group.bytes = static_cast<std::uint32_t>(bytes.size());
    bytes.resize(group_span_bytes(bytes.size()));
    seal_group(bytes.data(), group);
    write_at(disk_, store_.layout, lsn, bytes);
  }

  void append_fragment(std::vector<std::byte>& group) {
    const auto kind = static_cast<FragmentKind>(1 + input_.byte() % 4);
    std::vector<std::string> texts;
    std::vector<LogEntry> entries(input_.byte() % 4);
    texts.reserve(2 * entries.size());
    for (LogEntry& entry : entries) {
      entry.key = texts.emplace_back(input_.text().substr(0, 100) + "k");
      const std::uint8_t what = input_.byte() % 4;
      if (what == 0) entry.value = texts.emplace_back(input_.text());
      if (what == 1) entry.run = any_run();
      if (what == 2) entry.is_range = true;
      if (what == 2 && input_.byte() % 2 == 0) entry.value = texts.emplace_back(input_.text());
    }
    const SeqNo seq(input_.byte() % 2 == 0 ? store_.meta.last_merged.value + input_.byte() : input_.hostile_number());
    std::vector<std::byte> record(record_bytes(entries));
    RecordEncoder(seq, entries).fill(record);
    const std::size_t begin = group.size();
    group.resize(begin + kFragmentHeaderBytes);
    put_fragment_header(group.data() + begin, static_cast<std::uint32_t>(record.size()), kind, crc32c(record));
    group.insert(group.end(), record.begin(), record.end());
  }

  OverflowRef any_run() {
    OverflowRef run;
    run.first = PageNo(input_.byte() % 4 == 0 ? static_cast<std::uint32_t>(input_.hostile_number())
                                              : input_.number<std::uint16_t>());
    run.length =
        input_.byte() % 2 == 0 ? kMaxBufferedValueBytes + 1 + input_.byte() : input_.hostile_number() & kMask48;
    run.birth = Generation(input_.byte() % 2 == 0 ? store_.meta.generation.value : input_.hostile_number() & kMask48);
    run.crc = input_.number<std::uint32_t>();
    return run;
  }

  void clear_block() { std::fill_n(block(any_place()), kPageBytes, std::byte{0}); }

  void change_meta() {
    const auto page =
        disk_.block(meta_block(input_.byte() % 4 == 0 ? 1 - store_.slot : store_.slot, input_.byte() % kMetaCopies));
    const std::size_t at = input_.byte() % 2 == 0 ? 96 + input_.choice(96) : 1024 + input_.choice(64);
    const std::size_t width = input_.one_of<std::size_t>({1, 2, 4, 8});
    const std::uint64_t value = input_.hostile_number();
    std::memcpy(page.data() + at, &value, width);
  }

  test::MemDisk& disk_;
  const LoggedStore& store_;
  Input& input_;
};

void use_store(Input& input) {
  constexpr int kMostChanges = 16;
  const LoggedStore& store = logged_store();
  const HowToOpen how = how_to_open(input.byte());
  const std::uint8_t left = input.byte();
  const Disk disk = store.disk->copy();
  LogDamage damage(*disk, store, input);
  for (int i = 0; i < kMostChanges && !input.empty(); ++i) damage.change();
  if ((left & 1) == 0) LogMender(*disk, store.layout).mend();
  if ((left & 2) == 0) Mender(*disk, {}).mend_all();
  run_on_core(exercise(disk, how));
}

}  // namespace

void run_log(Bytes bytes) {
  Input input(bytes);
  switch (input.byte() % 8) {
    case 0: use_group(input); break;
    case 1: use_block(input); break;
    case 2: {
      const auto content = input.take(input.left());
      const auto exact = std::make_unique<std::byte[]>(content.size());
      std::ranges::transform(content, exact.get(), [](std::uint8_t b) { return std::byte{b}; });
      use_record({exact.get(), content.size()});
      break;
    }
    default: use_store(input); break;
  }
}

}  // namespace store::fuzz
