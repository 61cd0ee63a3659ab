// The runtime: cores, tasks, timers, primitives, files and buffers.
#pragma once

#include <monterey/capabilities.hpp>
#include <monterey/cluster.hpp>
#include <monterey/file.hpp>
#include <monterey/fixed_bufs.hpp>
#include <monterey/io_class.hpp>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <monterey/task_class.hpp>
#include <monterey/time.hpp>
#include <monterey/when_all.hpp>
