// Makes a store with a log, which no command of `store` does: STORE [LOG], with LOG on a device of its own. Leaves it as a crash would,
// with key0 to key9 in its last commit, and key10 to key19 in its log alone; with key2 erased there, and a range that has nothing.
#include <fmt/format.h>

#include <exception>
#include <memory>
#include <store/store.hpp>
#include <string>
#include <utility>

namespace {

monterey::Task<store::Partition> create(std::unique_ptr<store::BlockDevice> device,
                                        std::unique_ptr<store::BlockDevice> log, store::PartitionConfig config) {
  if (!log) co_return co_await store::Partition::create(std::move(device), config);
  co_return co_await store::Partition::create(std::move(device), std::move(log), config);
}

monterey::Task<> make(std::string path, std::string log_path, store::PartitionConfig config) {
  auto device = co_await store::FileBlockDevice::open(std::move(path));
  std::unique_ptr<store::BlockDevice> log_device;
  if (!log_path.empty()) log_device = co_await store::FileBlockDevice::open(std::move(log_path));
  auto db = co_await create(std::move(device), std::move(log_device), config);
  for (int i = 0; i < 20; ++i) {
    if (i == 10) co_await db.flush();
    const std::string key = fmt::format("key{}", i);
    co_await db.put(key, "value");
  }
  co_await db.erase("key2");
  co_await db.erase_range("x", "y");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return 2;
  const std::string path = argv[1];
  const std::string log_path = argc == 3 ? argv[2] : "";
  const store::PartitionConfig config{.cache_pages = 64, .wal_mode = store::WalMode::per_op};
  const auto start = [&] { monterey::spawn(make(path, log_path, config)); };
  try {
    monterey::Cluster::builder().cores(1).buffers(config.buffer_config()).init(start).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
