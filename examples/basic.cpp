#include <cstdio>
#include <store/store.hpp>

monterey::Task<> quick_start(store::PartitionConfig config) {
  auto device = co_await store::FileBlockDevice::open("/tmp/mydb", {.capacity_blocks = 16 * 1024});
  auto db = co_await store::Partition::open_or_create(std::move(device), config);

  co_await db.put("hello", "world");
  co_await db.flush();

  std::optional<std::string> value = co_await db.get("hello");   // "world"

  auto scan = co_await db.scan("a", "z");                         // [a, z): zero-copy, streaming
  while (co_await scan.advance())
    std::printf("%.*s = %.*s\n", int(scan.key().size()), scan.key().data(),
                int(scan.value().size()), scan.value().data());

  co_await db.close();
}

int main() {
  store::PartitionConfig config{.cache_pages = 1024, .wal_mode = store::WalMode::none};
  monterey::Cluster::builder()
      .cores(1)
      .buffers(config.buffer_config())
      .init([config] { monterey::spawn(quick_start(config)); })   // once on every core
      .run();                                                     // until all tasks end or request_shutdown()
}
