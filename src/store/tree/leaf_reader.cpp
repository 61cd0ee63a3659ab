#include "store/tree/leaf_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/page/header.hpp"

namespace store {

namespace {
constexpr std::size_t kMostPagesARead = 64;
}

LeafReader::LeafReader(BlockDevice& device, PageCache& cache, std::span<std::byte> slots, monterey::IoClass io_class)
    : device_(device),
      cache_(cache),
      memory_(slots),
      io_class_(io_class),
      most_together_(std::clamp<std::size_t>(slots.size() / kPageBytes / 4, 1, kMostPagesARead)),
      slots_(slots.size() / kPageBytes) {
  STORE_ASSERT(slots_.size() >= 2);
}

LeafReader::~LeafReader() {
  for (const Read& read : reads_) STORE_ASSERT(read.state != Read::State::reading);
}

void LeafReader::throw_damaged(const PagePointer& pointer, std::string_view damage) const {
  throw Error(Errc::corruption, fmt::format("{}: page {}: {}; restore from a backup or salvage the store",
                                            device_.name(), pointer.page.value, damage));
}

monterey::Task<> LeafReader::perform(LeafReader* self, Read* read) {
  try {
    const PageNo first = self->slots_[read->slot].pointer.page;
    co_await self->device_.read(first, self->bytes_of(read->slot, read->count), self->io_class_);
  } catch (...) {
    read->error = std::current_exception();
  }
}

void LeafReader::submit(Read& read) {
  if (read.state != Read::State::growing) return;
  read.task = monterey::spawn(perform(this, &read));
  read.state = Read::State::reading;  // behind what may throw: drain() waits for it
}

bool LeafReader::joins_last(std::size_t slot, const PagePointer& pointer) const {
  if (reads_.empty()) return false;
  const Read& last = reads_.back();
  return last.state == Read::State::growing && last.count < most_together_ && last.slot + last.count == slot &&
         slots_[last.slot].pointer.page.value + last.count == pointer.page.value;
}

void LeafReader::start(const PagePointer& pointer) {
  STORE_ASSERT(!full());
  const std::size_t index = (first_ + queued_) % slots_.size();
  Slot& slot = slots_[index];
  slot.pointer = pointer;
  slot.read = nullptr;
  if (const std::byte* resident = cache_.peek(pointer); resident != nullptr && page_type(resident) == PageType::leaf) {
    std::memcpy(bytes_of(index, 1).data(), resident, kPageBytes);
    no_more();  // the slot behind it is taken
    ++queued_;
    return;
  }
  if (pointer.page.value >= device_.size_blocks()) {
    throw_damaged(pointer, fmt::format("it lies beyond the device's {} blocks", device_.size_blocks()));
  }
  if (joins_last(index, pointer)) {
    ++reads_.back().count;
  } else {
    if (!reads_.empty()) submit(reads_.back());
    reads_.emplace_back().slot = index;
  }
  slot.read = &reads_.back();
  ++queued_;
  ++pages_read_;
  if (reads_.back().count == most_together_) submit(reads_.back());
}

monterey::Task<LeafReader::Leaf> LeafReader::take() {
  STORE_ASSERT(queued_ > 0);
  const std::size_t index = first_;
  const Slot& slot = slots_[index];
  first_ = next(first_);
  --queued_;
  holds_taken_ = true;
  const std::span<std::byte, kPageBytes> bytes(bytes_of(index, 1));
  if (slot.read == nullptr) co_return Leaf{bytes.data(), true};
  while (&reads_.front() != slot.read) reads_.pop_front();  // all of it was taken
  Read& read = *slot.read;
  submit(read);
  if (read.state == Read::State::reading) co_await read.task;
  read.state = Read::State::ended;
  if (read.error) std::rethrow_exception(read.error);
  std::string damage = verify(bytes, slot.pointer);
  if (damage.empty() && page_type(bytes) != PageType::leaf) damage = "a leaf was expected";
  if (!damage.empty()) throw_damaged(slot.pointer, damage);
  co_return Leaf{bytes.data(), false};
}

monterey::Task<> LeafReader::drain() {
  for (Read& read : reads_) {
    if (read.state == Read::State::reading) co_await read.task;
    read.state = Read::State::ended;
  }
  queued_ = 0;
}

}  // namespace store
