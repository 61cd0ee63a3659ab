// A log device of its own: its first block names the store that it belongs to, segments follow. Segments are listed in the
// store's meta page, which has kFeatureLogDevice set.
#pragma once

#include <cstdint>
#include <monterey/task.hpp>
#include <store/block_device.hpp>

#include "store/page/meta.hpp"

namespace store {

// Refuses a device that is not blank. Errors: already_exists when it is a log device, not_a_store when it holds something
// else; io_error.
monterey::Task<> require_blank_log_device(BlockDevice& device);

// Makes `device` the log device of the store, durably. Errors: no_space, io_error.
monterey::Task<> create_log_device(BlockDevice& device, Uuid store);

// Errors: not_a_store when `device` is no log device, invalid_argument when it is that of another store, corruption.
// Returns whether it is blank, which the caller judges.
monterey::Task<bool> require_log_device_of(BlockDevice& device, Uuid store);

}  // namespace store
