// devices: the namespaces of this machine, and what is on them.
#include <fmt/format.h>

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"

namespace store::tool {
namespace {

struct Listed {
  NvmeNamespace space;
  std::string holds;  // in words
};

// What stands in the first blocks of the whole namespace; a store in a window further on is not seen.
monterey::Task<std::string> contents_of(std::string path) {
  try {
    const NvmeBlockDeviceOptions how{.read_only = true};
    auto device = co_await NvmeBlockDevice::open(path, how);
    const OpenOptions open{.read_only = true};
    Partition db = co_await Partition::open(std::move(device), PartitionConfig{.cache_pages = 64}, open);
    std::string holds = fmt::format("a store of {} entries", db.stats().entries);
    co_await db.close();
    co_return holds;
  } catch (const Error& error) {
    if (error.errc() == Errc::not_a_store) co_return "no store at its first block";
    co_return fmt::format("unknown: {}", error.what());
  }
}

monterey::Task<> look_at(std::vector<Listed>& listed) {
  for (Listed& one : listed) one.holds = co_await contents_of(one.space.path);
}

std::string as_json(const Listed& one) {
  const NvmeNamespace& space = one.space;
  return fmt::format(
      "{{\"path\": {}, \"model\": {}, \"serial\": {}, \"nsid\": {}, \"bytes\": {}, \"lba_bytes\": {}, "
      "\"metadata_bytes\": {}, \"holds\": {}}}",
      json_string(space.path), json_string(space.model), json_string(space.serial), space.nsid, space.bytes,
      space.lba_bytes, space.metadata_bytes, json_string(one.holds));
}

}  // namespace

ExitCode run(const DevicesCommand& command) {
  std::vector<Listed> listed;
  std::vector<std::string> paths;
  for (NvmeNamespace& space : list_nvme_namespaces()) {
    paths.push_back(space.path);
    listed.push_back({std::move(space), {}});
  }
  if (!listed.empty()) {
    const auto start = [&] { monterey::spawn(look_at(listed)); };
    cluster_for(paths).buffers(PartitionConfig{.cache_pages = 64}.buffer_config()).init(start).run();
  }
  Output output;
  std::string separator = "[";
  for (const Listed& one : listed) {
    const std::string identity = one.space.bytes == 0 ? "not readable by this user" : describe(one.space);
    output.write(command.json ? std::exchange(separator, ",\n ") + as_json(one)
                              : fmt::format("{}  {}: {}\n", one.space.path, identity, one.holds));
  }
  if (command.json) output.write(listed.empty() ? "[]\n" : "]\n");
  if (!command.json && listed.empty()) output.write("no NVMe namespaces\n");
  output.finish();
  return ExitCode::done;
}

}  // namespace store::tool
