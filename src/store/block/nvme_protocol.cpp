#include "store/block/nvme_protocol.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>

namespace store::nvme {
namespace {

// Places in the answers to identify, and what stands there.
constexpr std::size_t kNamespaceSize = 0;      // u64, logical blocks
constexpr std::size_t kFormattedLbaSize = 26;  // u8: bits 0 to 3, and 5 to 6 above them, the format in use
constexpr std::size_t kLbaFormats = 128;       // of 4 bytes: metadata u16, log2 of the data size u8
constexpr std::size_t kLbaFormatBytes = 4;
constexpr std::size_t kSerial = 4;
constexpr std::size_t kSerialBytes = 20;
constexpr std::size_t kModel = 24;
constexpr std::size_t kModelBytes = 40;
constexpr std::size_t kMaxTransfer = 77;        // u8: log2 in units of the smallest page; 0: no limit
constexpr std::size_t kOptionalCommands = 520;  // u16
constexpr std::uint16_t kHasDatasetManagement = 1u << 2;
constexpr std::size_t kVolatileWriteCache = 525;  // u8, bit 0
constexpr std::uint64_t kSmallestPage = 4096;     // of every controller whose pages Linux on x86-64 and arm64 can use
constexpr std::uint32_t kAttributeDeallocate = 1u << 2;

template <class Number>
Number number_at(std::span<const std::byte, kIdentifyBytes> answer, std::size_t at) {
  Number number;
  std::memcpy(&number, answer.data() + at, sizeof number);
  return number;
}

// Padded with spaces.
std::string text_at(std::span<const std::byte, kIdentifyBytes> answer, std::size_t at, std::size_t bytes) {
  std::string text(reinterpret_cast<const char*>(answer.data() + at), bytes);
  text.erase(text.find_last_not_of(std::string(" \0", 2)) + 1);
  return text;
}

struct StatusName {
  std::uint32_t status;  // type and code
  const char* name;
};

constexpr std::array kStatusNames{
    StatusName{0x001, "invalid opcode"},
    StatusName{0x002, "invalid field in the command"},
    StatusName{0x004, "data transfer error"},
    StatusName{0x005, "aborted: power loss"},
    StatusName{0x006, "internal error of the device"},
    StatusName{0x007, "aborted"},
    StatusName{0x00b, "invalid namespace or format"},
    StatusName{0x020, "the namespace is write protected"},
    StatusName{0x080, "LBA out of range"},
    StatusName{0x081, "capacity exceeded"},
    StatusName{0x082, "namespace not ready"},
    StatusName{0x083, "reservation conflict"},
    StatusName{0x084, "format in progress"},
    StatusName{0x182, "write to a read-only range"},
    StatusName{0x280, "write fault"},
    StatusName{0x281, "unrecovered read error"},
    StatusName{0x282, "end-to-end guard check error"},
    StatusName{0x285, "compare failure"},
    StatusName{0x286, "access denied"},
    StatusName{0x287, "deallocated or unwritten logical block"},
    StatusName{0x300, "internal path error"},
    StatusName{0x370, "aborted by the host's path"},
    StatusName{0x371, "aborted by the host"},
};
constexpr std::uint32_t kTypeAndCode = 0x7ff;
// Data transfer error, internal error, aborted with its queue, command interrupted, namespace not ready.
constexpr std::array<std::uint32_t, 5> kTransient{0x004, 0x006, 0x008, 0x021, 0x082};
constexpr std::uint32_t kDoNotRetry = 0x4000;
constexpr std::uint32_t kCapacityExceeded = 0x081;

nvme_uring_cmd command(Opcode opcode, std::uint32_t nsid) {
  nvme_uring_cmd command{};
  command.opcode = static_cast<std::uint8_t>(opcode);
  command.nsid = nsid;
  return command;
}

}  // namespace

void read_namespace(std::span<const std::byte, kIdentifyBytes> answer, NvmeNamespace& space) {
  const auto flags = number_at<std::uint8_t>(answer, kFormattedLbaSize);
  const std::size_t format = (flags & 0x0fu) | ((flags >> 5 & 3u) << 4);
  const std::size_t at = kLbaFormats + format * kLbaFormatBytes;
  space.metadata_bytes = number_at<std::uint16_t>(answer, at);
  const auto shift = number_at<std::uint8_t>(answer, at + 2);
  space.lba_bytes = shift < 32 ? std::uint32_t{1} << shift : 0;
  space.bytes = number_at<std::uint64_t>(answer, kNamespaceSize) * space.lba_bytes;
}

void read_controller(std::span<const std::byte, kIdentifyBytes> answer, NvmeNamespace& space) {
  space.serial = text_at(answer, kSerial, kSerialBytes);
  space.model = text_at(answer, kModel, kModelBytes);
  const auto pages = number_at<std::uint8_t>(answer, kMaxTransfer);
  space.max_transfer_bytes = pages == 0 || pages > 20 ? 0 : kSmallestPage << pages;
  space.deallocates = (number_at<std::uint16_t>(answer, kOptionalCommands) & kHasDatasetManagement) != 0;
  space.volatile_write_cache = (number_at<std::uint8_t>(answer, kVolatileWriteCache) & 1u) != 0;
}

nvme_uring_cmd transfer(Opcode opcode, std::uint32_t nsid, std::uint64_t first, std::uint32_t lbas,
                        std::span<const std::byte> memory) {
  nvme_uring_cmd io = command(opcode, nsid);
  io.addr = reinterpret_cast<std::uintptr_t>(memory.data());
  io.data_len = static_cast<std::uint32_t>(memory.size());
  io.cdw10 = static_cast<std::uint32_t>(first);
  io.cdw11 = static_cast<std::uint32_t>(first >> 32);
  io.cdw12 = lbas - 1;
  return io;
}

nvme_uring_cmd flush(std::uint32_t nsid) { return command(Opcode::flush, nsid); }

nvme_uring_cmd deallocate(std::uint32_t nsid, const DeallocateRange& range) {
  nvme_uring_cmd io = command(Opcode::dataset_management, nsid);
  io.addr = reinterpret_cast<std::uintptr_t>(&range);
  io.data_len = sizeof range;
  io.cdw10 = 0;  // one range
  io.cdw11 = kAttributeDeallocate;
  return io;
}

std::string status_text(std::uint32_t status) {
  for (const StatusName& known : kStatusNames) {
    if (known.status == (status & kTypeAndCode)) return fmt::format("{} ({:#x})", known.name, status & kTypeAndCode);
  }
  return fmt::format("NVMe status {:#x}", status & kTypeAndCode);
}

bool is_transient(std::uint32_t status) {
  const std::uint32_t what = status & kTypeAndCode;
  const bool is_of_path = what >= 0x300 && what < 0x400;
  return (status & kDoNotRetry) == 0 && (is_of_path || std::ranges::find(kTransient, what) != kTransient.end());
}

bool is_capacity_exceeded(std::uint32_t status) { return (status & kTypeAndCode) == kCapacityExceeded; }

}  // namespace store::nvme
