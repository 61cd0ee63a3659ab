#include "support/sim_disk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <store/error.hpp>

namespace store::test {

namespace {

constexpr std::size_t kBlockBytes = sizeof(SimBlock);
constexpr SimBlock kZeros{};
constexpr std::uint64_t kSlowestPercent = 5000;  // of the typical latency
constexpr int kSyncLatencies = 3;                // a sync takes as long as so many other operations
constexpr unsigned kAllSectors = (1u << kSectorsPerBlock) - 1;

const SimBlock& contents_of(const SimBlockRef& block) { return block ? *block : kZeros; }

}  // namespace

std::span<const std::byte, 4096> SimImage::block(std::uint32_t page) const {
  return std::span<const std::byte, 4096>(contents_of(blocks.at(page)));
}

std::span<std::byte, 4096> SimImage::edit(std::uint32_t page) {
  auto copy = std::make_shared<SimBlock>(contents_of(blocks.at(page)));
  blocks[page] = copy;
  return std::span<std::byte, 4096>(*copy);
}

bool SimImage::operator==(const SimImage& other) const {
  return std::ranges::equal(blocks, other.blocks, [](const SimBlockRef& a, const SimBlockRef& b) {
    return a == b || contents_of(a) == contents_of(b);
  });
}

SimDisk::SimDisk(SimCluster& cluster, const Options& options, SimImage image)
    : cluster_(cluster), options_(options), random_(options.seed), view_(image.blocks), durable_(image.blocks) {}

// --- what is found after a power cut ---

void SimDisk::put_sectors(std::vector<SimBlockRef>& blocks, std::uint64_t page, const SimBlockRef& from,
                          unsigned sectors) {
  if (page >= blocks.size() || sectors == 0) return;
  if (sectors == kAllSectors) {
    blocks[page] = from;
    return;
  }
  auto merged = std::make_shared<SimBlock>(contents_of(blocks[page]));
  for (unsigned sector = 0; sector < kSectorsPerBlock; ++sector) {
    if ((sectors >> sector & 1) == 0) continue;
    std::memcpy(merged->data() + sector * kSectorBytes, contents_of(from).data() + sector * kSectorBytes, kSectorBytes);
  }
  blocks[page] = std::move(merged);
}

void SimDisk::apply(const Pending& pending, std::vector<SimBlockRef>& to) const {
  for (std::size_t i = 0; i < pending.blocks.size(); ++i) {
    put_sectors(to, pending.first.value + i, pending.blocks[i], kAllSectors);
  }
}

SimImage SimDisk::power_cut(SimRandom& random, Keep keep) const {
  SimImage image{durable_};
  const std::uint64_t now = view_.size();
  if (keep == Keep::any) {
    // The extension as a whole, a part of it, or nothing; in the same way what was given back.
    std::uint64_t size = durable_.size();
    if (now > size) size = random.one_in(4) ? random.between(size, now) : random.one_in(2) ? now : size;
    if (shrunk_to_ < size) size = random.one_in(2) ? std::max(shrunk_to_, now) : size;
    image.blocks.resize(size);
  }
  std::vector<PendingRef> writes = pending_;
  if (random.one_in(3)) {
    for (std::size_t i = writes.size(); i > 1; --i) std::swap(writes[i - 1], writes[random.below(i)]);
  }
  // Each way of choosing finds other mistakes: what is missing alone, what is there alone, a cut in time.
  const std::uint64_t way = random.below(9);
  const std::uint64_t chosen = writes.empty() ? 0 : random.below(writes.size());
  const std::uint64_t percent = random.pick<std::uint64_t>({2, 20, 50, 80, 98});
  for (std::size_t w = 0; w < writes.size(); ++w) {
    const Pending& write = *writes[w];
    const bool whole = random.percent(percent);
    const std::uint64_t block_chosen = random.below(write.blocks.size());
    for (std::size_t i = 0; i < write.blocks.size(); ++i) {
      unsigned sectors = 0;
      switch (way) {
        case 0: sectors = 0; break;
        case 1: sectors = kAllSectors; break;
        case 2: sectors = whole ? kAllSectors : 0; break;
        case 3: sectors = random.percent(percent) ? kAllSectors : 0; break;
        case 4:
          for (unsigned bit = 0; bit < kSectorsPerBlock; ++bit) {
            if (random.percent(percent)) sectors |= 1u << bit;
          }
          break;
        case 5: sectors = w == chosen ? 0 : kAllSectors; break;  // all but one write
        case 6: sectors = w == chosen ? kAllSectors : 0; break;  // one write alone
        case 7:                                                  // all but one sector
          sectors =
              w == chosen && i == block_chosen ? kAllSectors & ~(1u << random.below(kSectorsPerBlock)) : kAllSectors;
          break;
        default:  // up to a moment, and the write of that moment torn
          sectors = w < chosen || (w == chosen && i < block_chosen) ? kAllSectors : 0;
          if (w == chosen && i == block_chosen) sectors = (1u << random.below(kSectorsPerBlock)) - 1;
      }
      put_sectors(image.blocks, write.first.value + i, write.blocks[i], sectors);
    }
  }
  return image;
}

unsigned SimDisk::last_write_sectors() const {
  return last_write_ ? static_cast<unsigned>(last_write_->blocks.size()) * kSectorsPerBlock : 0;
}

SimImage SimDisk::torn(unsigned sectors, bool tail, bool keep_others) const {
  SimImage image{durable_};
  if (keep_others || last_write_->first.value + last_write_->blocks.size() > durable_.size()) {
    image.blocks.resize(std::max(view_.size(), durable_.size()));
  }
  for (const PendingRef& write : pending_) {
    if (keep_others && write != last_write_) apply(*write, image.blocks);
  }
  for (std::size_t i = 0; i < last_write_->blocks.size(); ++i) {
    unsigned kept = 0;
    for (unsigned bit = 0; bit < kSectorsPerBlock; ++bit) {
      const bool before = i * kSectorsPerBlock + bit < sectors;
      if (before != tail) kept |= 1u << bit;
    }
    put_sectors(image.blocks, last_write_->first.value + i, last_write_->blocks[i], kept);
  }
  return image;
}

// --- operations ---

const SimFault* SimDisk::fault_of(Operation& operation) {
  operation.number = counts_[static_cast<std::size_t>(operation.op)]++;
  const SimFault* found = nullptr;
  for (SimFault& fault : faults_) {
    if (fault.op != operation.op) continue;
    const bool strikes = operation.number == fault.number || (fault.for_good && operation.number > fault.number);
    if (strikes && found == nullptr) found = &fault;
  }
  return found;
}

void SimDisk::fail(const SimFault& fault, const Operation& operation) {
  ++struck_;
  if (!first_struck_at_) first_struck_at_ = cluster_.now();
  static constexpr const char* kNames[] = {"read", "write", "sync", "trim", "grow", "shrink"};
  const std::string what =
      fmt::format("simulated: injected failure of {} {} on block {}", kNames[static_cast<std::size_t>(operation.op)],
                  operation.number, operation.first.value);
  if (fault.errc == Errc::io_error) throw Error::from_errno(fault.os_error, what);
  throw Error(fault.errc, what);
}

void SimDisk::step(const Operation& operation, Step step) {
  cluster_.note(static_cast<std::uint64_t>(operation.op) | static_cast<std::uint64_t>(step) << 4 |
                operation.blocks << 8 | std::uint64_t{operation.first.value} << 32);
  cluster_.note(static_cast<std::uint64_t>(cluster_.now().count()));
  if (on_step) on_step(operation, step);
}

std::chrono::nanoseconds SimDisk::latency() {
  const auto base = std::chrono::nanoseconds(options_.latency);
  const std::uint64_t percent = random_.one_in(20) ? random_.between(100, kSlowestPercent) : random_.between(20, 200);
  return base * static_cast<std::int64_t>(percent) / 100;
}

std::chrono::nanoseconds SimDisk::slowest_sync() const {
  return std::chrono::nanoseconds(options_.latency) * kSyncLatencies * static_cast<std::int64_t>(kSlowestPercent) / 100;
}

monterey::Task<> SimDisk::read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) {
  Operation operation{DeviceOp::read, first, into.size() / kBlockBytes, io_class, 0};
  const SimFault* const struck = fault_of(operation);
  const std::optional<SimFault> fault = struck != nullptr ? std::optional(*struck) : std::nullopt;
  step(operation, Step::issued);
  co_await cluster_.delay(latency());
  step(operation, Step::completed);
  if (fault && fault->kind == SimFault::Kind::error) fail(*fault, operation);
  for (const PageNo page : unreadable_) {
    if (operation.covers(page)) fail(SimFault{}, operation);
  }
  std::uint64_t shift = 0;
  if (fault && fault->kind == SimFault::Kind::misdirected) shift = random_.between(1, view_.size());
  for (std::uint64_t page = first.value; !into.empty(); ++page, into = into.subspan(kBlockBytes)) {
    const std::uint64_t from = shift == 0 ? page : (page + shift) % view_.size();
    if (from < view_.size()) {
      std::memcpy(into.data(), contents_of(view_[from]).data(), kBlockBytes);
    } else {
      std::memset(into.data(), 0, kBlockBytes);
    }
  }
}

// What is volatile still may be written back at any time, but not over this: it is as new as this where they meet.
void SimDisk::make_durable(const Pending& pending) {
  durable_.resize(
      std::max<std::size_t>(durable_.size(), std::min(pending.first.value + pending.blocks.size(), view_.size())));
  apply(pending, durable_);
  for (const PendingRef& other : pending_) {
    if (other->completed == 0) continue;
    for (std::size_t i = 0; i < other->blocks.size(); ++i) {
      const std::uint64_t page = other->first.value + i;
      if (page < pending.first.value || page >= pending.first.value + pending.blocks.size()) continue;
      other->blocks[i] = pending.blocks[page - pending.first.value];
    }
  }
}

monterey::Task<> SimDisk::write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class,
                                Durability durability) {
  Operation operation{DeviceOp::write, first, from.size() / kBlockBytes, io_class, 0};
  const SimFault* const struck = fault_of(operation);
  const std::optional<SimFault> fault = struck != nullptr ? std::optional(*struck) : std::nullopt;
  const auto pending = std::make_shared<Pending>();
  pending->first = first;
  for (std::size_t at = 0; at < from.size(); at += kBlockBytes) {
    auto block = std::make_shared<SimBlock>();
    std::memcpy(block->data(), from.data() + at, kBlockBytes);
    pending->blocks.push_back(std::move(block));
  }
  if (fault && fault->kind == SimFault::Kind::misdirected) {
    const std::uint64_t room = view_.size() - pending->blocks.size();
    pending->first = PageNo(static_cast<std::uint32_t>(random_.between(0, room)));
  }
  if (fault && fault->kind != SimFault::Kind::error) {
    const auto count = static_cast<std::uint32_t>(pending->blocks.size());
    lied_about_.push_back({first, count});
    lied_about_.push_back({pending->first, count});
  }
  const bool is_lost = fault && fault->kind == SimFault::Kind::lost;
  if (!is_lost) {
    pending_.push_back(pending);
    last_write_ = pending;
  }
  step(operation, Step::issued);
  co_await cluster_.delay(latency());
  for (std::size_t i = 0; i < pending->blocks.size() && complaint_.empty(); ++i) {
    if (std::memcmp(pending->blocks[i]->data(), from.data() + i * kBlockBytes, kBlockBytes) != 0) {
      complaint_ = fmt::format("the memory of the write of block {} changed before it completed", first.value + i);
    }
  }
  if (fault && fault->kind == SimFault::Kind::error) {
    // Any part of it, a sector at a time; the rest never was.
    const std::uint64_t percent = random_.pick<std::uint64_t>({0, 50, 100});
    for (std::size_t i = 0; i < pending->blocks.size(); ++i) {
      unsigned sectors = 0;
      for (unsigned bit = 0; bit < kSectorsPerBlock; ++bit) sectors |= random_.percent(percent) ? 1u << bit : 0u;
      std::vector<SimBlockRef> merged{first.value + i < view_.size() ? view_[first.value + i] : nullptr};
      put_sectors(merged, 0, pending->blocks[i], sectors);
      pending->blocks[i] = merged.front();
    }
  }
  if (!is_lost) {
    apply(*pending, view_);
    std::erase_if(unreadable_, [&operation](PageNo page) { return operation.covers(page); });
    pending->completed = ++completions_;
    std::erase(pending_, pending);
    const auto in_flight =
        std::ranges::find(pending_, std::uint64_t{0}, [](const PendingRef& p) { return p->completed; });
    pending_.insert(in_flight, pending);
    if (durability == Durability::on_completion && !(fault && fault->kind == SimFault::Kind::error)) {
      std::erase(pending_, pending);
      make_durable(*pending);
    }
  }
  step(operation, Step::completed);
  if (fault && fault->kind == SimFault::Kind::error) fail(*fault, operation);
}

monterey::Task<> SimDisk::sync() {
  Operation operation{DeviceOp::sync, PageNo(), 0, monterey::IoClass::foreground, 0};
  const SimFault* const struck = fault_of(operation);
  const std::optional<SimFault> fault = struck != nullptr ? std::optional(*struck) : std::nullopt;
  const std::uint64_t mark = completions_;
  const std::uint64_t size = view_.size();
  step(operation, Step::issued);
  co_await cluster_.delay(latency() * kSyncLatencies);
  const auto is_covered = [mark](const PendingRef& write) { return write->completed != 0 && write->completed <= mark; };
  if (!fault) {
    // Syncs may overlap: one that began earlier and ends later takes nothing back.
    const std::uint64_t now = std::min<std::uint64_t>(size, view_.size());
    if (now > durable_.size() || shrunk_to_ <= now) durable_.resize(now);
    for (const PendingRef& write : pending_) {
      if (is_covered(write)) apply(*write, durable_);
    }
    std::erase_if(pending_, is_covered);
    shrunk_to_ = ~0ull;
    step(operation, Step::completed);
    co_return;
  }
  const std::uint64_t percent = random_.pick<std::uint64_t>({0, 50, 95});
  if (random_.one_in(2) && size > durable_.size()) durable_.resize(std::min<std::uint64_t>(size, view_.size()));
  for (const PendingRef& write : pending_) {
    if (!is_covered(write)) continue;
    for (std::size_t i = 0; i < write->blocks.size(); ++i) {
      unsigned sectors = 0;
      for (unsigned bit = 0; bit < kSectorsPerBlock; ++bit) sectors |= random_.percent(percent) ? 1u << bit : 0u;
      put_sectors(durable_, write->first.value + i, write->blocks[i], sectors);
    }
  }
  if (!fault->keeps_data) std::erase_if(pending_, is_covered);
  step(operation, Step::completed);
  fail(*fault, operation);
}

monterey::Task<> SimDisk::resize(DeviceOp op, std::uint64_t blocks) {
  Operation operation{op, PageNo(), blocks, monterey::IoClass::foreground, 0};
  const SimFault* const struck = fault_of(operation);
  const std::optional<SimFault> fault = struck != nullptr ? std::optional(*struck) : std::nullopt;
  step(operation, Step::issued);
  if (op == DeviceOp::shrink) {
    shrunk_to_ = std::min(shrunk_to_, blocks);
    view_.resize(blocks);
  }
  co_await cluster_.delay(latency());
  if (fault && fault->kind == SimFault::Kind::error) fail(*fault, operation);
  if (op == DeviceOp::grow && blocks > options_.capacity_blocks) {
    throw Error(Errc::no_space, fmt::format("simulated: cannot grow to {} blocks; its capacity is {}", blocks,
                                            options_.capacity_blocks));
  }
  if (op == DeviceOp::grow && blocks > view_.size()) view_.resize(blocks);
  step(operation, Step::completed);
}

// --- the device ---

namespace {

void require_range(const SimDisk& disk, PageNo first, std::uint64_t bytes) {
  if (bytes % kBlockBytes == 0 && first.value + bytes / kBlockBytes <= disk.size_blocks()) return;
  throw Error(Errc::invalid_argument, fmt::format("simulated: {} bytes from block {}; it has {} blocks of {}", bytes,
                                                  first.value, disk.size_blocks(), kBlockBytes));
}

}  // namespace

void SimBlockDevice::require_writable() const {
  if (read_only_) throw Error(Errc::read_only, "simulated: it was opened for reading");
}

monterey::Task<> SimBlockDevice::read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) {
  require_range(disk_, first, into.size());
  co_await disk_.read(first, into, io_class);
}

monterey::Task<> SimBlockDevice::write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) {
  require_writable();
  require_range(disk_, first, from.size());
  co_await disk_.write(first, from, io_class);
}

monterey::Task<> SimBlockDevice::write_durably(PageNo first, std::span<const std::byte> from,
                                               monterey::IoClass io_class) {
  if (!disk_.options_.durable_writes) {
    co_await BlockDevice::write_durably(first, from, io_class);
    co_return;
  }
  require_writable();
  require_range(disk_, first, from.size());
  co_await disk_.write(first, from, io_class, SimDisk::Durability::on_completion);
}

monterey::Task<> SimBlockDevice::sync() { return disk_.sync(); }

monterey::Task<> SimBlockDevice::trim(Extent blocks) {
  require_writable();
  require_range(disk_, blocks.first, std::uint64_t{blocks.count} * kBlockBytes);
  if (blocks.count == 0) co_return;
  // Reads as anything afterwards: a write of rubbish, that may survive or not like every other.
  const std::vector<std::byte> rubbish(std::size_t{blocks.count} * kBlockBytes, std::byte{0xee});
  co_await disk_.write(blocks.first, rubbish, monterey::IoClass::background);
}

monterey::Task<> SimBlockDevice::grow(std::uint64_t blocks) {
  if (blocks <= disk_.size_blocks()) co_return;
  require_writable();
  co_await disk_.resize(DeviceOp::grow, blocks);
}

monterey::Task<> SimBlockDevice::shrink(std::uint64_t blocks) {
  require_writable();
  if (blocks < disk_.size_blocks()) co_await disk_.resize(DeviceOp::shrink, blocks);
}

}  // namespace store::test
