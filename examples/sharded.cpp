// One store on two cores: each key belongs to a shard, each shard to a core, and every core may use all of it.
#include <cstdio>
#include <string>
#include <store/store.hpp>

monterey::Task<int> count(store::ShardedStore db, std::string prefix) {
  int entries = 0;
  auto scan = co_await db.scan_prefix(prefix);                     // in the order of the keys, over all shards
  while (co_await scan.advance()) ++entries;
  co_return entries;
}

monterey::Task<> work(store::ShardedOptions options) {
  auto db = co_await store::ShardedStore::open_or_create("/tmp/sharded", options);

  store::WriteBatch batch;
  batch.put("user:1", "Ada");
  batch.put("user:2", "Grace");
  co_await db.write(std::move(batch));                             // all or nothing, on several shards too

  const auto on_another_core = [db] { return count(db, "user:"); };
  const int users = co_await monterey::spawn_on(1, on_another_core);
  std::printf("%d users\n", users);

  co_await db.close();
}

int main() {
  const store::ShardedOptions options{.shards = 2, .partition = {.cache_pages = 1024}, .router = {}};
  monterey::Cluster::builder()
      .cores(2)
      .buffers(options.buffer_config(2))
      .init([options] {
        if (monterey::current_core() == 0) monterey::spawn(work(options));
      })
      .run();
}
