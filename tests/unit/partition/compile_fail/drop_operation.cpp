// An operation that nobody awaits does nothing, so the compiler must say that it was dropped.
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

monterey::Task<> use(store::Partition& db) {
#ifdef MISUSE
  db.put("key", "value");
  co_return;
#else
  co_await db.put("key", "value");
#endif
}
