// CRC32C (Castagnoli), the checksum of every structure on the device. ISA-L chooses the instructions at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace store {

// The CRC32C of `bytes`, or of an earlier part and `bytes` when `previous` is the earlier part's result.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous = 0) noexcept;

}  // namespace store
