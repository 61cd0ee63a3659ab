// Most entries of a leaf one after the other, at the least cost: a handful of loads and a short copy a step, no call. The few that it
// does not take (values in overflow runs, keys at the very end of the page) are left to LeafView. Refers to the page's bytes,
// which must stay. Requires what LeafView does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "store/base/assert.hpp"
#include "store/page/leaf.hpp"

namespace store {

class LeafSteps {
 public:
  // Suffixes are copied in pieces of so many bytes, so that a step writes up to so many behind the suffix.
  static constexpr std::size_t kSlackBytes = 16;

  LeafSteps() = default;
  // Begins beside `slot`, towards higher slots (+1) or lower ones (-1), and takes `most` steps. Requires: so many entries lie there.
  LeafSteps(const LeafView& leaf, std::uint32_t slot, int direction, std::uint32_t most) noexcept
      : page_(leaf.page()),
        offset_(leaf.offset_place(slot)),
        stride_(direction * static_cast<std::ptrdiff_t>(detail::kOffsetBytes)),
        begun_(most),
        left_(most) {
    STORE_ASSERT(direction > 0 ? most < leaf.count() - slot : most <= slot);
  }

  // Goes to the next entry, copies its suffix to `suffix`, which has room for it and for kSlackBytes more, and sets the others.
  // False, and nothing has moved, where no step is left or it does not take the next entry.
  bool step(char* suffix, std::size_t& suffix_bytes, std::string_view& value) noexcept {
    if (left_ == 0) return false;
    const std::byte* const offset = offset_ + stride_;
    const std::size_t begin = load<std::uint16_t>(offset);
    const std::size_t end = load<std::uint16_t>(offset + detail::kOffsetBytes);
    const std::byte* const text = page_ + begin + detail::kLeafCellBytes;
    const std::size_t bytes = load<std::uint16_t>(page_ + begin);
    static_assert(detail::kCellIsRun > kPageBytes);  // a run ends here, too
    if (begin + bytes > kPageBytes - detail::kLeafCellBytes - kSlackBytes) [[unlikely]]
      return false;
    std::memcpy(suffix, text, kSlackBytes);
    for (std::size_t at = kSlackBytes; at < bytes; at += kSlackBytes) {
      std::memcpy(suffix + at, text + at, kSlackBytes);
    }
    suffix_bytes = bytes;
    value = text_at(text + bytes, end - begin - detail::kLeafCellBytes - bytes);
    offset_ = offset;
    --left_;
    return true;
  }

  // Steps taken since the last call.
  std::uint32_t take_taken() noexcept { return std::exchange(begun_, left_) - left_; }
  // No more steps.
  void stop() noexcept { begun_ = left_ = 0; }

 private:
  const std::byte* page_ = nullptr;
  const std::byte* offset_ = nullptr;  // of the entry that it stands at
  std::ptrdiff_t stride_ = 0;
  std::uint32_t begun_ = 0;  // steps left when those taken were last asked for
  std::uint32_t left_ = 0;
};

}  // namespace store
