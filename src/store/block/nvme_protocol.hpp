// What goes over the wire of NVMe: commands, the answers to identify, and statuses in words. Pure. Source: NVM Express Base
// Specification 2.0, sections 4.2 (status) and 5.17 (identify); NVM Command Set Specification 1.0, section 3.2 and 4.1.
#pragma once

#include <linux/nvme_ioctl.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <store/nvme_block_device.hpp>

namespace store::nvme {

inline constexpr std::size_t kIdentifyBytes = 4096;

enum class Opcode : std::uint8_t { flush = 0x00, write = 0x01, read = 0x02, dataset_management = 0x09 };
inline constexpr std::uint8_t kAdminIdentify = 0x06;
inline constexpr std::uint32_t kIdentifyNamespace = 0;
inline constexpr std::uint32_t kIdentifyController = 1;

// One range of a dataset management command.
struct DeallocateRange {
  std::uint32_t attributes = 0;
  std::uint32_t lbas = 0;
  std::uint64_t first = 0;
};
static_assert(sizeof(DeallocateRange) == 16);

// Fills in what identify says of the namespace and of its controller.
void read_namespace(std::span<const std::byte, kIdentifyBytes> answer, NvmeNamespace& space);
void read_controller(std::span<const std::byte, kIdentifyBytes> answer, NvmeNamespace& space);

// Of `lbas` logical blocks from `first`; `memory` has as many bytes.
nvme_uring_cmd transfer(Opcode opcode, std::uint32_t nsid, std::uint64_t first, std::uint32_t lbas,
                        std::span<const std::byte> memory);
nvme_uring_cmd flush(std::uint32_t nsid);
// Of one range, which stays until the command has ended.
nvme_uring_cmd deallocate(std::uint32_t nsid, const DeallocateRange& range);

// "write fault (0x280)".
std::string status_text(std::uint32_t status);
// Whether the same command may succeed when it is sent again.
bool is_transient(std::uint32_t status);
// Whether it says that there is no room.
bool is_capacity_exceeded(std::uint32_t status);

}  // namespace store::nvme
