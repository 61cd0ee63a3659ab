#include "store/wal/log_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <monterey/preempt.hpp>
#include <new>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/planted.hpp"

namespace store {

namespace {

std::shared_ptr<std::byte[]> aligned_memory(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kPageBytes, bytes));
  if (memory == nullptr) throw std::bad_alloc();
  return std::shared_ptr<std::byte[]>(memory, [](std::byte* p) { std::free(p); });
}

}  // namespace

LogReader::LogReader(BlockDevice& device, const LogLayout& layout, const LogExpectation& expected)
    : device_(device),
      layout_(layout),
      expected_(expected),
      buffer_(aligned_memory(kReadBytes)),
      buffer_begin_(layout.begin.lsn),
      position_(layout.begin),
      group_begin_(layout.begin),
      records_begin_(layout.begin) {}

void LogReader::throw_damage(Lsn lsn, const std::string& what) const {
  std::string place = "at its end";
  if (left(lsn) > 0) place = fmt::format("in block {}", layout_.locate(lsn, 1).first.value);
  throw Error(Errc::corruption, fmt::format("{}: log at LSN {} ({}): {}; restore from a backup or salvage the store",
                                            device_.name(), lsn.value, place, what));
}

// Makes [lsn, lsn + bytes) readable in the buffer, and as much behind it as fits. Requires: within the layout.
monterey::Task<> LogReader::read_at(Lsn lsn, std::size_t bytes) {
  STORE_ASSERT(bytes <= kReadBytes && bytes <= left(lsn));
  if (lsn >= buffer_begin_ && lsn.value + bytes <= buffer_begin_.value + buffer_bytes_) co_return;
  buffer_begin_ = lsn;
  buffer_bytes_ = 0;
  const std::uint64_t wanted = std::min<std::uint64_t>(kReadBytes, left(lsn));
  for (std::uint64_t done = 0; done < wanted;) {
    const Extent piece = layout_.locate(Lsn(lsn.value + done), (wanted - done) / kPageBytes);
    const std::size_t piece_bytes = std::size_t{piece.count} * kPageBytes;
    co_await device_.read(piece.first, {buffer_.get() + done, piece_bytes}, monterey::IoClass::foreground);
    done += piece_bytes;
  }
  buffer_bytes_ = wanted;
}

// Reads what stands at `lsn`. Returns why it is no whole group of this store at this LSN, or nothing.
monterey::Task<std::string> LogReader::try_group(Lsn lsn, LogGroup& group) {
  if (left(lsn) == 0) co_return "the segments end";
  co_await read_at(lsn, kPageBytes);
  const auto header = decode_group(std::span<const std::byte, kPageBytes>(at(lsn), kPageBytes));
  if (!header) co_return "no group";
  group = *header;
  if (group.store_id != expected_.store_id) co_return "a group of another store";
  if (group.lsn != lsn) co_return fmt::format("a group of LSN {}", group.lsn.value);
  const std::uint64_t span = group_span_bytes(group.bytes);
  if (span > left(lsn)) co_return "a group that the segments cut off";
  co_await read_at(lsn, span);
  if (!group_crc_holds({at(lsn), group.bytes}, group.crc)) co_return "a group whose checksum does not hold";
  co_return std::string();
}

void LogReader::require_not_ahead(const LogGroup& group) const {
  if (group.durable_generation > expected_.generation || group.incarnation > expected_.incarnation) {
    throw_damage(group.lsn,
                 fmt::format("a group knows of generation {} and open {}, the newest good meta page of {} and "
                             "{}: a newer meta page was lost",
                             group.durable_generation.value, group.incarnation, expected_.generation.value,
                             expected_.incarnation));
  }
}

monterey::Task<bool> LogReader::next_group() {
  records_.clear();
  joined_.clear();
  LogGroup group;
  stop_ = co_await try_group(position_.lsn, group);
  const bool linked = group.previous_crc == position_.previous_crc || planted(Planted::log_accepted_past_tear);
  if (stop_.empty() && !linked) {
    stop_ = "a group that is not linked to the one before";
    // It was written when the one before was durable, and a later open than its own has not begun a group there.
    if (group.incarnation >= incarnation_) throw_damage(position_.lsn, stop_);
  }
  if (stop_.empty() && group.incarnation < incarnation_ && !planted(Planted::stale_incarnation_replayed)) {
    stop_ = "a group of an older open";
  }
  if (!stop_.empty()) {
    if (planted(Planted::fragments_without_last) && std::exchange(in_parts_, false)) {
      records_.emplace_back(joined_.emplace_back(std::move(parts_)));
      co_return true;
    }
    co_await look_behind_tail();
    co_return false;
  }
  require_not_ahead(group);
  group_ = group;
  incarnation_ = group.incarnation;
  group_begin_ = position_;
  position_ = {Lsn(group.lsn.value + group_span_bytes(group.bytes)), group.crc};
  take_fragments(group);
  co_return true;
}

// A group behind the tail that is whole and says that more was durable shows that the tail is damage.
monterey::Task<> LogReader::look_behind_tail() {
  const Lsn tail = position_.lsn;
  for (Lsn lsn = tail; left(lsn) > 0; lsn = Lsn(lsn.value + kPageBytes)) {
    co_await monterey::maybe_yield();
    LogGroup group;
    const std::string wrong = co_await try_group(lsn, group);
    if (!wrong.empty()) continue;
    require_not_ahead(group);
    if (group.durable_lsn > tail) {
      throw_damage(tail, fmt::format("{}, but the group at LSN {} shows that the log was durable up to {}", stop_,
                                     lsn.value, group.durable_lsn.value));
    }
  }
}

void LogReader::take_fragments(const LogGroup& group) {
  FragmentReader fragments({at(group.lsn), group.bytes});
  bool first_record = true;
  const auto give_out = [&](std::span<const std::byte> record, LogPosition begin) {
    if (std::exchange(first_record, false)) records_begin_ = begin;
    records_.push_back(record);
  };
  while (const auto fragment = fragments.next()) {
    const bool starts = fragment->kind == FragmentKind::whole || fragment->kind == FragmentKind::first;
    if (starts) {
      // Only a crash leaves a record without its end, and then another open goes on.
      if (in_parts_ && parts_incarnation_ == group.incarnation) throw_damage(group.lsn, "a record breaks off");
      in_parts_ = false;
      seen_start_ = true;
      if (fragment->kind == FragmentKind::whole) {
        give_out(fragment->payload, group_begin_);
        continue;
      }
      in_parts_ = true;
      parts_.assign(fragment->payload.begin(), fragment->payload.end());
      parts_incarnation_ = group.incarnation;
      parts_begin_ = group_begin_;
      continue;
    }
    if (!in_parts_) {
      if (seen_start_) throw_damage(group.lsn, "a part of a record that did not begin");
      continue;  // of a record that is merged already
    }
    if (parts_incarnation_ != group.incarnation) throw_damage(group.lsn, "a record goes on in another open");
    parts_.insert(parts_.end(), fragment->payload.begin(), fragment->payload.end());
    if (fragment->kind != FragmentKind::last) continue;
    if (crc32c(parts_) != fragment->record_crc) throw_damage(group.lsn, "the checksum of a record does not hold");
    in_parts_ = false;
    joined_.push_back(std::exchange(parts_, {}));
    give_out(joined_.back(), parts_begin_);
  }
  if (!fragments.error().empty()) throw_damage(group.lsn, fragments.error());
}

}  // namespace store
