#include "store/partition/meta_io.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <store/error.hpp>

#include "store/base/planted.hpp"
#include "store/tree/overflow_io.hpp"
#include "store/tree/root.hpp"

namespace store {

namespace {

constexpr std::size_t kMetaBytes = kMetaBlocks * kPageBytes;

std::string name_of(std::uint32_t slot, std::uint32_t copy) {
  return fmt::format("meta page {} (slot {}, copy {})", meta_block(slot, copy).value, slot, copy);
}

template <class T>
T random_value() {
  T value{};
  if (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
    throw Error::from_errno(errno, "getrandom for the name of a store");
  }
  return value;
}

// Some file systems leave the first blocks of a disk alone and begin at 32 or 64 KiB. In front of that is what a create() that was cut
// off may have written.
monterey::Task<> require_nothing_behind(BlockDevice& device) {
  constexpr std::uint64_t kFirst = 8;
  constexpr std::uint64_t kEnd = 32;
  const std::uint64_t end = std::min(kEnd, device.size_blocks());
  if (end <= kFirst) co_return;
  const std::size_t bytes = (end - kFirst) * kPageBytes;
  const auto memory = allocate_aligned(bytes);
  bool is_read = true;
  try {
    co_await device.read(PageNo(kFirst), std::span<std::byte>(memory.get(), bytes), monterey::IoClass::foreground);
  } catch (const Error& error) {
    if (error.errc() != Errc::io_error) throw;
    is_read = false;  // nobody knows that it is empty; salvage goes on past it
  }
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  if (is_read && std::all_of(memory.get(), memory.get() + bytes, is_zero)) co_return;
  throw Error(
      Errc::not_a_store,
      fmt::format(
          "{}: not a store: no meta page is there, but something lies behind, or cannot be read, "
          "perhaps a file system, or a store whose replacement was cut off; check the path, or create with overwrite",
          device.name()));
}

}  // namespace

monterey::Task<MetaSlots> read_meta_slots(BlockDevice& device) {
  MetaSlots slots;
  if (device.size_blocks() == 0) {
    slots.blank = true;
    co_return std::move(slots);
  }
  const auto memory = allocate_aligned(kMetaBytes);
  std::memset(memory.get(), 0, kMetaBytes);
  const std::size_t there = std::min<std::size_t>(kMetaBytes, device.size_blocks() * kPageBytes);
  std::array<std::string, kMetaBlocks> unreadable;
  for (std::size_t at = 0; at < there; at += kPageBytes) {
    try {
      co_await device.read(PageNo(static_cast<std::uint32_t>(at / kPageBytes)),
                           std::span<std::byte>(memory.get() + at, kPageBytes), monterey::IoClass::foreground);
    } catch (const Error& error) {
      if (error.errc() != Errc::io_error) throw;
      unreadable[at / kPageBytes] = error.what();
    }
  }
  const bool all_read = std::ranges::all_of(unreadable, [](const std::string& what) { return what.empty(); });
  if (all_read && there == kMetaBytes &&
      std::all_of(memory.get(), memory.get() + kMetaBytes, [](std::byte b) { return b == std::byte{0}; })) {
    co_await require_nothing_behind(device);
    slots.blank = true;
    co_return std::move(slots);
  }

  std::string newer;
  std::vector<std::string> damage;
  std::vector<std::string> blank_slots;  // what there is to say of them
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    std::optional<Meta> good;
    std::vector<std::string> bad;
    std::string lost;
    const std::byte* const slot_bytes = memory.get() + std::size_t{meta_block(slot, 0).value} * kPageBytes;
    const bool blank =
        std::all_of(slot_bytes, slot_bytes + kMetaCopies * kPageBytes, [](std::byte b) { return b == std::byte{0}; });
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      const std::string& failure = unreadable[meta_block(slot, copy).value];
      if (!failure.empty()) {
        bad.push_back(fmt::format("{}: {}", name_of(slot, copy), failure));
        damage.push_back(bad.back());
        lost = bad.back();
        continue;
      }
      const std::byte* bytes = memory.get() + std::size_t{meta_block(slot, copy).value} * kPageBytes;
      const DecodedMeta decoded = decode_meta(ConstPageBytes(bytes, kPageBytes), slot);
      if (decoded.state == MetaState::good) {
        if (good && decoded.meta != *good) {
          const bool is_newer = decoded.meta.generation > good->generation;
          bad.push_back(fmt::format("{}: of generation {}, but its twin is of {} (a lost write)",
                                    name_of(slot, is_newer ? copy - 1 : copy),
                                    std::min(decoded.meta.generation, good->generation).value,
                                    std::max(decoded.meta.generation, good->generation).value));
          if (!is_newer) continue;
        }
        good = decoded.meta;
        continue;
      }
      if (decoded.state == MetaState::newer_format) newer = decoded.reason;
      bad.push_back(fmt::format("{}: {}", name_of(slot, copy), decoded.reason));
      if (decoded.state == MetaState::damaged) damage.push_back(bad.back());
    }
    if (good) {
      slots.candidates.push_back(MetaCandidate{*good, slot});
      if (!bad.empty()) slots.to_mend.push_back(slots.candidates.back());
    }
    if (!good && !lost.empty() && !planted(Planted::unreadable_slot_ignored)) slots.unreadable = lost;
    std::vector<std::string>& notes = blank && lost.empty() ? blank_slots : slots.notes;
    notes.insert(notes.end(), bad.begin(), bad.end());
  }
  // The first commit of a store leaves the other slot as create() made it.
  const bool is_new = slots.candidates.size() == 1 && slots.candidates[0].meta.generation == Generation(1);
  slots.one_lost = slots.candidates.size() < kMetaSlots && !(is_new && !blank_slots.empty());
  if (!is_new) slots.notes.insert(slots.notes.end(), blank_slots.begin(), blank_slots.end());
  if (!newer.empty()) {
    throw Error(Errc::unsupported_format,
                fmt::format("{}: {}; use a newer version of this program", device.name(), newer));
  }
  if (slots.candidates.empty()) {
    if (damage.empty()) {
      throw Error(Errc::not_a_store,
                  fmt::format("{}: not a store: no meta page carries the magic; check the path", device.name()));
    }
    std::string all;
    for (const std::string& text : damage) all += (all.empty() ? "" : "; ") + text;
    throw Error(
        Errc::corruption,
        fmt::format("{}: no meta page is good: {}; restore from a backup or salvage the store", device.name(), all));
  }
  std::ranges::sort(slots.candidates, [](const MetaCandidate& a, const MetaCandidate& b) {
    return a.meta.generation > b.meta.generation;
  });
  co_return std::move(slots);
}

monterey::Task<> require_replaceable(BlockDevice& device, CreateOptions options) {
  if (device.read_only()) {
    throw Error(Errc::read_only,
                fmt::format("{}: opened for reading only; a store cannot be created there", device.name()));
  }
  if (!options.overwrite) {
    bool holds_a_store = false;
    std::string other;
    try {
      holds_a_store = !(co_await read_meta_slots(device)).blank;
    } catch (const Error& error) {
      if (error.errc() == Errc::io_error || error.errc() == Errc::aborted) throw;
      holds_a_store = error.errc() != Errc::not_a_store;
      if (!holds_a_store) other = error.what();
    }
    if (holds_a_store) {
      throw Error(Errc::already_exists, fmt::format("{}: holds a store already; open it, or create with overwrite to "
                                                    "replace it",
                                                    device.name()));
    }
    if (!other.empty()) {
      throw Error(Errc::not_a_store, fmt::format("{}: holds something that is not a store; create with overwrite to "
                                                 "replace it",
                                                 device.name()));
    }
  }
}

Uuid random_uuid() {
  Uuid uuid = random_value<Uuid>();
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x40);  // RFC 4122, version 4
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

std::uint64_t random_lineage() { return random_value<std::uint64_t>(); }

void require_fitting(const BlockDevice& device, const Meta& meta) {
  if (meta.high_water > device.size_blocks()) {
    throw Error(Errc::corruption,
                fmt::format("{}: truncated: the device has {} blocks, the store uses {}; restore from a backup or "
                            "salvage the store",
                            device.name(), device.size_blocks(), meta.high_water));
  }
  if (meta.tree_height > kMaxHeight) {
    throw Error(Errc::corruption, fmt::format("{}: the meta page names a tree of {} levels, no tree has more than {}; "
                                              "restore from a backup or salvage the store",
                                              device.name(), meta.tree_height, kMaxHeight));
  }
}

monterey::Task<> mend_meta_slots(BlockDevice& device, const MetaSlots& slots) {
  for (const MetaCandidate& bad : slots.to_mend) co_await write_meta_slot(device, bad.meta, bad.slot);
  if (!slots.to_mend.empty()) co_await device.sync();
}

monterey::Task<std::vector<std::string>> check_meta_slots(BlockDevice& device, Meta open, std::uint32_t open_slot,
                                                          Generation youngest) {
  std::vector<std::string> findings;
  const auto memory = allocate_aligned(kMetaCopies * kPageBytes);
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    std::array<std::optional<Meta>, kMetaCopies> good;
    std::array<std::string, kMetaCopies> wrong;
    bool blank = true;
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      const std::span<std::byte, kPageBytes> bytes(memory.get() + copy * kPageBytes, kPageBytes);
      try {
        co_await device.read(meta_block(slot, copy), bytes, monterey::IoClass::background);
      } catch (const Error& error) {
        if (error.errc() != Errc::io_error) throw;
        wrong[copy] = error.what();
        blank = false;
        continue;
      }
      blank = blank && std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
      const DecodedMeta decoded = decode_meta(bytes, slot);
      wrong[copy] = decoded.reason;
      if (decoded.state == MetaState::good) good[copy] = decoded.meta;
    }
    // The first commit of a store leaves the other slot as create() made it.
    if (slot != open_slot && blank && open.generation == Generation(1)) continue;
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      if (!good[copy]) {
        findings.push_back(fmt::format("{}: {}", name_of(slot, copy), wrong[copy]));
      } else if (slot == open_slot ? *good[copy] != open : good[copy]->generation > youngest) {
        findings.push_back(fmt::format("{}: a state of generation {}, but the store is open in generation {}",
                                       name_of(slot, copy), good[copy]->generation.value, open.generation.value));
      } else if (slot != open_slot && copy == 0 && good[1] && *good[0] != *good[1]) {
        findings.push_back(fmt::format("{}: it differs from its twin", name_of(slot, copy)));
      }
    }
  }
  co_return std::move(findings);
}

monterey::Task<> write_meta_slot(BlockDevice& device, Meta meta, std::uint32_t slot) {
  const auto memory = allocate_aligned(kMetaCopies * kPageBytes);
  for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
    encode_meta(meta, slot, PageBytes(memory.get() + copy * kPageBytes, kPageBytes));
  }
  std::exception_ptr error;
  try {
    co_await device.write(meta_block(slot, 0), std::span<const std::byte>(memory.get(), kMetaCopies * kPageBytes),
                          monterey::IoClass::foreground);
  } catch (...) {
    error = std::current_exception();
  }
  if (error && !planted(Planted::meta_write_error_ignored)) std::rethrow_exception(error);
}

monterey::Task<> sync_device(BlockDevice& device) {
  std::exception_ptr error;
  try {
    co_await device.sync();
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return;
  if (!planted(Planted::sync_error_retried)) std::rethrow_exception(error);
  co_await device.sync();
}

monterey::Task<> clear_meta_slots(BlockDevice& device) {
  const auto memory = allocate_aligned(kMetaBytes);
  std::memset(memory.get(), 0, kMetaBytes);
  co_await device.write(PageNo(0), std::span<const std::byte>(memory.get(), kMetaBytes), monterey::IoClass::foreground);
}

}  // namespace store
