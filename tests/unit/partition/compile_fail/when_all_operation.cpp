// when_all() keeps what it is given beyond the expression of each argument.
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

monterey::Task<> use(store::Partition& db) {
#ifdef MISUSE
  co_await monterey::when_all(db.put("a", "1"), db.put("b", "2"));
#else
  co_await monterey::when_all(db.sync(), db.flush());
#endif
}
