// An operation holds views of its arguments: awaiting it later than in the expression that made it must not compile.
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

monterey::Task<> use(store::Partition& db) {
#ifdef MISUSE
  auto&& operation = db.get(std::string("key"));
  static_cast<void>(co_await operation);
#else
  static_cast<void>(co_await db.get(std::string("key")));
#endif
}
