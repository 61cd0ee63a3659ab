#include "store/tree/leaf_reader.hpp"

#include <fmt/format.h>

#include <cstring>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/page/header.hpp"

namespace store {

LeafReader::LeafReader(BlockDevice& device, PageCache& cache, std::span<std::byte> slots, monterey::IoClass io_class)
    : device_(device), cache_(cache), memory_(slots), io_class_(io_class), slots_(slots.size() / kPageBytes) {
  STORE_ASSERT(slots_.size() >= 2);
  for (std::size_t i = slots_.size(); i-- > 0;) free_.push_back(i);
}

LeafReader::~LeafReader() {
  for (const Slot& slot : slots_) STORE_ASSERT(!slot.reading);
}

monterey::Task<> LeafReader::read_slot(LeafReader* self, std::size_t index) {
  Slot& slot = self->slots_[index];
  try {
    std::string damage;
    if (slot.pointer.page.value >= self->device_.size_blocks()) {
      damage = fmt::format("it lies beyond the device's {} blocks", self->device_.size_blocks());
    } else {
      co_await self->device_.read(slot.pointer.page, self->bytes_of(index), self->io_class_);
      damage = verify(self->bytes_of(index), slot.pointer);
    }
    if (damage.empty() && page_type(self->bytes_of(index)) != PageType::leaf) damage = "a leaf was expected";
    if (!damage.empty()) {
      throw Error(Errc::corruption, fmt::format("{}: page {}: {}; restore from a backup or salvage the store",
                                                self->device_.name(), slot.pointer.page.value, damage));
    }
  } catch (...) {
    slot.error = std::current_exception();
  }
}

void LeafReader::start(const PagePointer& pointer) {
  STORE_ASSERT(!full());
  const std::size_t index = free_.back();
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.pointer = pointer;
  slot.error = nullptr;
  queue_.push_back(index);
  if (const std::byte* resident = cache_.peek(pointer); resident != nullptr && page_type(resident) == PageType::leaf) {
    std::memcpy(bytes_of(index).data(), resident, kPageBytes);
    return;
  }
  ++pages_read_;
  slot.read = monterey::spawn(read_slot(this, index));
  slot.reading = true;  // behind what may throw: drain() waits for it
}

monterey::Task<LeafReader::Leaf> LeafReader::take() {
  STORE_ASSERT(!queue_.empty());
  if (taken_ != kNone) free_.push_back(taken_);
  taken_ = queue_.front();
  queue_.pop_front();
  Slot& slot = slots_[taken_];
  const bool was_resident = !slot.reading;
  if (slot.reading) {
    co_await slot.read;
    slot.reading = false;
  }
  if (slot.error) std::rethrow_exception(slot.error);
  co_return Leaf{bytes_of(taken_).data(), was_resident};
}

monterey::Task<> LeafReader::drain() {
  for (Slot& slot : slots_) {
    if (!slot.reading) continue;
    co_await slot.read;
    slot.reading = false;
  }
  queue_.clear();
}

}  // namespace store
