// stat --watch: the figures of the meta pages, again and again. They are read without a lock, so that the process that has the
// store open goes on with it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "store/base/units.hpp"
#include "tools/commands.hpp"
#include "tools/output.hpp"
#include "tools/raw.hpp"

namespace store::tool {
namespace {

// Of all shards together, as of their newest commits; of generations the largest.
struct Sample {
  std::uint64_t generation = 0;
  std::uint64_t entries = 0;
  std::uint64_t data_blocks = 0;  // of tree and values
  std::uint64_t device_blocks = 0;
  std::uint64_t writes = 0;   // merged since the store was made
  std::uint64_t commits = 0;  // the generations of all shards
};

monterey::Task<ExitCode> add_to(BlockDevice& device, Sample& sample) {
  const MetaPages pages = co_await read_meta_pages(device);
  const Meta* const meta = pages.newest();
  if (meta == nullptr) throw Error(Errc::corruption, device.name() + ": no meta page is good; `store info` says more");
  sample.generation = std::max(sample.generation, meta->generation.value);
  sample.entries += meta->entries;
  sample.data_blocks += meta->tree_pages + meta->overflow_blocks;
  sample.device_blocks += device.size_blocks();
  sample.writes += meta->last_merged.value;
  sample.commits += meta->generation.value;
  co_return ExitCode::done;
}

Sample take_of(const SessionOptions& session, const std::vector<std::string>& files) {
  Sample sample;
  SessionOptions one = session;
  for (const std::string& file : files) {
    one.path = file;
    with_meta_device(one, [&](BlockDevice& device) { return add_to(device, sample); });
  }
  return sample;
}

std::vector<std::string> files_of(const SessionOptions& session) {
  if (!is_sharded(session.path, {})) return {session.path};
  require_no_window(session.path, session.window);
  require_room_for_shards(session.path);
  const detail::Manifest manifest = manifest_of(session.path);
  std::vector<std::string> files;
  for (unsigned i = 0; i < manifest.shards.size(); ++i) {
    files.push_back(session.path + '/' + detail::shard_file_name(i, manifest.epoch));
  }
  return files;
}

// `store reshard` may put other files in the place of these meanwhile: then the manifest names them.
Sample take(const SessionOptions& session) {
  const std::vector<std::string> files = files_of(session);
  try {
    return take_of(session, files);
  } catch (const Error& error) {
    if (error.errc() != Errc::not_found) throw;
  }
  return take_of(session, files_of(session));
}

struct Rates {
  double writes = 0;
  double generations = 0;
};

// A store that was replaced meanwhile counts from the start again.
double per_second(std::uint64_t before, std::uint64_t now, double seconds) {
  return now <= before || seconds <= 0 ? 0 : static_cast<double>(now - before) / seconds;
}

std::string as_text(const Sample& sample, const Rates& rates) {
  return fmt::format("{:>12} {:>14} {:>16} {:>16} {:>12.1f} {:>14.1f}\n", sample.generation, sample.entries,
                     sample.data_blocks * kPageBytes, sample.device_blocks * kPageBytes, rates.writes,
                     rates.generations);
}

std::string heading() {
  return fmt::format("{:>12} {:>14} {:>16} {:>16} {:>12} {:>14}\n", "generation", "entries", "data_bytes",
                     "device_bytes", "writes/s", "generations/s");
}

std::string as_json(const Sample& sample, const Rates& rates) {
  return fmt::format(
      "{{\"generation\": {}, \"entries\": {}, \"data_bytes\": {}, \"device_bytes\": {}, \"writes_per_second\": {:.1f}, "
      "\"generations_per_second\": {:.1f}}}\n",
      sample.generation, sample.entries, sample.data_blocks * kPageBytes, sample.device_blocks * kPageBytes,
      rates.writes, rates.generations);
}

// Nothing is held that must be given back, and output may be waiting for its reader: so the command ends where it is.
void end_when_told() {
  for (const int signal : {SIGINT, SIGTERM})
    std::signal(signal, [](int) { ::_exit(static_cast<int>(ExitCode::done)); });
}

void watch_until_told(const StatCommand& command, Output& output) {
  using Clock = std::chrono::steady_clock;
  end_when_told();
  Sample before;
  Clock::time_point taken;
  for (std::uint64_t i = 0; i < command.count; ++i) {
    const bool is_first = i == 0;
    if (!is_first) std::this_thread::sleep_for(std::chrono::duration<double>(*command.watch_seconds));
    const Sample sample = take(command.session);
    const Clock::time_point now = Clock::now();
    Rates rates;
    if (!is_first) {
      const double seconds = std::chrono::duration<double>(now - taken).count();
      rates.writes = per_second(before.writes, sample.writes, seconds);
      rates.generations = per_second(before.commits, sample.commits, seconds);
    }
    if (is_first && !command.json) output.write(heading());
    output.write(command.json ? as_json(sample, rates) : as_text(sample, rates));
    output.finish();
    before = sample;
    taken = now;
  }
}

}  // namespace

ExitCode watch(const StatCommand& command) {
  Output output;
  try {
    watch_until_told(command, output);
  } catch (const Error& error) {
    if (error.os_error() != EPIPE) throw;  // whoever read the figures has had enough
  }
  return ExitCode::done;
}

}  // namespace store::tool
