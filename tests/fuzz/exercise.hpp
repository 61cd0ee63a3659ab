// Everything that is done to a hostile image: open, check, scan both ways, look up, write, flush, check again. An error with
// one of the codes for damage is fine. What ends the process:
//  * any other exception, code or lack of text;
//  * a scan that does not ascend (or descend): it might never end;
//  * a store that check() found right and that then fails to be read, or to be written for another reason than room, or
//    that is wrong after a flush.
#pragma once

#include <cstdint>
#include <memory>
#include <monterey/task.hpp>
#include <store/config.hpp>
#include <store/stats.hpp>

#include "support/mem_block_device.hpp"

namespace store::fuzz {

struct HowToOpen {
  bool read_only = false;
  bool allow_rollback = false;
  bool small_cache = false;
  WalMode wal_mode = WalMode::none;
};

// From the lowest five bits.
HowToOpen how_to_open(std::uint8_t options);
PartitionConfig small_config(HowToOpen how = {});

// Opens the store for reading and checks it. Errors: those of the engine.
monterey::Task<> check(std::shared_ptr<test::MemDisk> disk, CheckReport* report);

monterey::Task<> exercise(std::shared_ptr<test::MemDisk> disk, HowToOpen how);

}  // namespace store::fuzz
