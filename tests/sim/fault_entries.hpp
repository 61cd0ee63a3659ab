// The functions behind all_faults(), each in the file of its kind.
#pragma once

#include "sim/faults.hpp"

namespace store::test {

std::string run_power_cut(FaultContext& context, std::uint64_t seed);
std::string run_torn_write(FaultContext& context, std::uint64_t seed);
std::string run_crash_chain(FaultContext& context, std::uint64_t seed);
std::string run_extension_lost(FaultContext& context, std::uint64_t seed);
std::string run_write_error(FaultContext& context, std::uint64_t seed);
std::string run_sync_error(FaultContext& context, std::uint64_t seed);
std::string run_read_error(FaultContext& context, std::uint64_t seed);
std::string run_lying_device(FaultContext& context, std::uint64_t seed);
std::string run_bit_rot(FaultContext& context, std::uint64_t seed);
std::string run_every_bit(FaultContext& context, std::uint64_t seed);
std::string run_meta_block(FaultContext& context, std::uint64_t seed);
std::string run_refused(FaultContext& context, std::uint64_t seed);
std::string run_short_io(FaultContext& context, std::uint64_t seed);
std::string run_log_damage(FaultContext& context, std::uint64_t seed);
std::string run_increment(FaultContext& context, std::uint64_t seed);
std::string run_shards(FaultContext& context, std::uint64_t seed);
std::string run_two_faults(FaultContext& context, std::uint64_t seed);

}  // namespace store::test
