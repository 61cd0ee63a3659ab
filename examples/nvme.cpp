// The quick start on an NVMe namespace: examples/basic.cpp with another device. Usage: nvme_quick_start /dev/ng0n1
#include <cstdio>
#include <store/store.hpp>
#include <string>

monterey::Task<> quick_start(std::string path, store::PartitionConfig config) {
  auto device = co_await store::NvmeBlockDevice::open(path);
  auto db = co_await store::Partition::open_or_create(std::move(device), config);

  co_await db.put("hello", "world");
  co_await db.flush();

  auto scan = co_await db.scan("a", "z");
  while (co_await scan.advance())
    std::printf("%.*s = %.*s\n", int(scan.key().size()), scan.key().data(), int(scan.value().size()), scan.value().data());

  co_await db.close();
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  store::PartitionConfig config{.cache_pages = 1024, .wal_mode = store::WalMode::batched};
  monterey::Cluster::builder()
      .cores(1)
      .buffers(config.buffer_config())
      .device_commands(true)
      .init([config, argv] { monterey::spawn(quick_start(argv[1], config)); })
      .run();
}
