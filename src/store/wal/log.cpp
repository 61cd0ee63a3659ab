#include "store/wal/log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <monterey/task_class.hpp>
#include <monterey/time.hpp>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/planted.hpp"

namespace store {

Log::Log(BlockDevice& log_device, BlockDevice& data_device, monterey::FixedBuf staging, const Options& options,
         LogLayout layout, LogPosition tail)
    : log_device_(log_device),
      data_device_(data_device),
      staging_(std::move(staging)),
      options_(options),
      layout_(std::move(layout)),
      end_(layout_.end()),
      generation_(options.generation),
      position_(tail),
      durable_(tail.lsn) {
  STORE_ASSERT(staging_.span().size() >= kStagingBytes);
  for (std::size_t i = 0; i < kChunks; ++i) chunks_[i].data = staging_.span().data() + i * kMaxGroupBytes;
}

void Log::start(std::weak_ptr<void> owner, std::function<void(const std::string&)> on_failure) {
  owner_ = std::move(owner);
  on_failure_ = std::move(on_failure);
  monterey::detail::spawn_background(run(shared_from_this()));
}

monterey::Task<> Log::stop() {
  const auto self = shared_from_this();
  stopped_ = true;
  work_.set();
  while (writing_) co_await idle_.wait();
  staging_.reset();
}

void Log::abandon() noexcept {
  STORE_ASSERT(!writing_);
  stopped_ = true;
  work_.set();
  staging_.reset();
}

void Log::fail(std::string_view why) noexcept {
  if (!failure_.empty()) return;
  try {
    failure_ = why;
  } catch (const std::bad_alloc&) {
    failure_ = "out of memory";  // short enough to need none
  }
  for (Chunk& chunk : chunks_) chunk.done.pulse();
  room_.pulse();
}

void Log::require_good() const {
  if (failure_.empty()) return;
  throw Error(Errc::poisoned,
              fmt::format("{}: whether this write is durable is unknown after a failure ({}); reopen the "
                          "store to recover",
                          log_device_.name(), failure_));
}

// --- appending ---

std::uint64_t Log::left_bytes() const noexcept {
  const std::uint64_t used = gathered() ? group_span_bytes(chunks_[gather_].used) : 0;
  return end_.value - std::min(end_.value, position_.lsn.value + used);
}

bool Log::has_room(std::size_t bytes) const noexcept {
  const std::size_t used = chunks_[gather_].used + kFragmentHeaderBytes + bytes;
  return used <= kMaxGroupBytes && position_.lsn.value + group_span_bytes(used) <= end_.value && !stopped_;
}

bool Log::fits(std::size_t bytes) const noexcept {
  if (has_room(bytes)) return true;
  // The group that gathers may end early; then each part fills a group, but for the last.
  constexpr std::size_t kOverhead = kGroupHeaderBytes + kFragmentHeaderBytes + kPageBytes;
  const std::uint64_t parts = bytes / kMaxFragmentBytes + 2;
  return bytes + parts * kOverhead <= left_bytes();
}

std::span<std::byte> Log::add_fragment(std::size_t bytes, FragmentKind kind, std::uint32_t record_crc) noexcept {
  Chunk& chunk = chunks_[gather_];
  STORE_ASSERT(chunk.used + kFragmentHeaderBytes + bytes <= kMaxGroupBytes);
  put_fragment_header(chunk.data + chunk.used, static_cast<std::uint32_t>(bytes), kind, record_crc);
  chunk.used += kFragmentHeaderBytes;
  const std::span<std::byte> payload(chunk.data + chunk.used, bytes);
  chunk.used += bytes;
  if (!work_.is_set()) work_.set();
  return payload;
}

LogTicket Log::append(SeqNo first_seq, std::span<const LogEntry> entries, std::size_t bytes) noexcept {
  STORE_ASSERT(has_room(bytes));
  RecordEncoder encoder(first_seq, entries);
  encoder.fill(add_fragment(bytes, FragmentKind::whole, 0));
  for (const LogEntry& entry : entries) chunks_[gather_].names_runs |= entry.run.has_value();
  ++counters_.records;
  return ticket();
}

monterey::Task<LogTicket> Log::append_in_parts(SeqNo first_seq, std::span<const LogEntry> entries, std::size_t bytes) {
  STORE_ASSERT(fits(bytes));
  RecordEncoder encoder(first_seq, entries);
  const bool names_runs = std::ranges::any_of(entries, [](const LogEntry& entry) { return entry.run.has_value(); });
  std::uint32_t crc = 0;
  std::size_t left = bytes;
  while (left > 0) {
    if (chunk_room() <= kFragmentHeaderBytes) co_await make_room();
    const std::size_t part = std::min(left, chunk_room() - kFragmentHeaderBytes);
    FragmentKind kind = FragmentKind::middle;
    if (left == bytes) kind = part == left ? FragmentKind::whole : FragmentKind::first;
    if (left != bytes && part == left) kind = FragmentKind::last;
    const std::span<std::byte> payload = add_fragment(part, kind, 0);
    encoder.fill(payload);
    crc = crc32c(payload, crc);
    if (kind == FragmentKind::last) {
      put_fragment_header(payload.data() - kFragmentHeaderBytes, static_cast<std::uint32_t>(part), kind, crc);
    }
    chunks_[gather_].names_runs |= names_runs;
    left -= part;
  }
  ++counters_.records;
  co_return ticket();
}

monterey::Task<> Log::make_room() {
  require_good();
  if (writing_) {
    co_await room_.wait();
  } else {
    co_await write_gathered();
  }
  require_good();
}

// --- waiting ---

monterey::Task<> Log::durable(LogTicket ticket) {
  while (!is_durable(ticket)) co_await group_ended(ticket).wait();
}

monterey::Task<> Log::sync() {
  require_good();
  const Lsn target = gathered() ? Lsn(position_.lsn.value + 1) : position_.lsn;
  const std::uint32_t last = gathered() ? gather_ : 1 - gather_;
  if (!writing_) co_await write_gathered();
  while (durable_ < target) {
    require_good();
    co_await chunks_[last].done.wait();
  }
  require_good();
}

// --- writing ---

monterey::Task<> Log::run(std::shared_ptr<Log> self) {
  try {
    for (;;) {
      co_await self->work_.wait();
      if (self->stopped_) co_return;
      self->work_.reset();
      if (self->options_.interval.count() > 0) co_await monterey::sleep_for(self->options_.interval);
      co_await self->write_gathered();
    }
  } catch (const Error& error) {
    if (error.errc() != Errc::aborted) throw;  // the cluster stops: as in a crash
  } catch (const std::bad_alloc& error) {
    self->give_up(error.what());  // for want of a frame: who waits must not do so for ever
  }
}

void Log::give_up(const char* why) {
  const auto owner = owner_.lock();
  if (!owner || !failure_.empty()) return;
  fail(why);
  on_failure_(failure_);
}

// Writes groups until nothing is gathered; does nothing if somebody else does.
monterey::Task<> Log::write_gathered() {
  // Whoever comes first writes for all that wait, and may be in the background himself.
  const monterey::TaskClassScope scope(monterey::TaskClass::foreground);
  const auto self = shared_from_this();
  const auto owner = owner_.lock();
  if (!owner || writing_) co_return;
  writing_ = true;
  try {
    while (gathered() && failure_.empty() && !stopped_) {
      co_await write_group();
      co_await monterey::yield();  // behind the writers that this group let go
    }
  } catch (const std::exception& error) {
    give_up(error.what());
  }
  writing_ = false;
  idle_.pulse();
}

monterey::Task<> Log::write_group() {
  Chunk& chunk = chunks_[gather_];
  const auto bytes = static_cast<std::uint32_t>(chunk.used);
  const Lsn begin = position_.lsn;
  LogGroup group;
  group.bytes = bytes;
  group.previous_crc = position_.previous_crc;
  group.lsn = begin;
  group.durable_lsn = durable_;
  group.durable_generation = generation_;
  group.incarnation = options_.incarnation;
  group.store_id = options_.store_id;
  const std::uint32_t crc = seal_group(chunk.data, group);

  // Where it goes is settled now: a commit may move the segments on while this waits.
  const std::uint64_t span = group_span_bytes(bytes);
  std::array<Extent, kMaxGroupBytes / kPageBytes> pieces;
  std::size_t count = 0;
  for (std::uint64_t done = 0; done < span; done += std::uint64_t{pieces[count++].count} * kPageBytes) {
    pieces[count] = layout_.locate(Lsn(begin.value + done), (span - done) / kPageBytes);
  }
  const bool names_runs = std::exchange(chunk.names_runs, false);
  position_ = {Lsn(begin.value + span), crc};
  gather_ = 1 - gather_;
  chunks_[gather_].used = kGroupHeaderBytes;
  room_.pulse();

  if (names_runs) co_await data_device_.sync();
  require_good();  // as below: what it should have made durable may be lost
  const std::byte* from = chunk.data;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t piece = std::size_t{pieces[i].count} * kPageBytes;
    if (planted(Planted::log_acknowledged_before_sync)) {
      co_await log_device_.write(pieces[i].first, {from, piece}, monterey::IoClass::foreground);
    } else {
      co_await log_device_.write_durably(pieces[i].first, {from, piece}, monterey::IoClass::foreground);
    }
    from += piece;
  }
  // What failed elsewhere meanwhile may have taken the error that was this group's to report.
  require_good();
  durable_ = Lsn(begin.value + span);
  ++counters_.groups;
  counters_.bytes += span;
  chunk.done.pulse();
}

void Log::recycle(LogLayout layout, Generation generation) noexcept {
  STORE_ASSERT(layout.begin.lsn >= layout_.begin.lsn && layout.begin.lsn <= position_.lsn);
  const bool holds_nothing = !gathered() && durable_ == position_.lsn;
  STORE_ASSERT(layout.end() >= end_ || (layout.begin.lsn == position_.lsn && holds_nothing));
  layout_ = std::move(layout);
  end_ = layout_.end();
  generation_ = generation;
}

}  // namespace store
