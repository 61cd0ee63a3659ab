// The engine: everything an application needs to use a store.
#pragma once

#include <monterey/monterey.hpp>
#include <store/async_store.hpp>
#include <store/block_device.hpp>
#include <store/blocking_store.hpp>
#include <store/config.hpp>
#include <store/error.hpp>
#include <store/metrics.hpp>
#include <store/nvme_block_device.hpp>
#include <store/partition.hpp>
#include <store/pinned_value.hpp>
#include <store/router.hpp>
#include <store/salvage.hpp>
#include <store/scan.hpp>
#include <store/sharded_store.hpp>
#include <store/snapshot.hpp>
#include <store/stats.hpp>
#include <store/write_batch.hpp>
