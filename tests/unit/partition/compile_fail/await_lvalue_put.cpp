// As await_lvalue.cpp, for a write.
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

monterey::Task<> use(store::Partition& db) {
#ifdef MISUSE
  auto&& operation = db.put(std::string("key"), std::string("value"));
  co_await operation;
#else
  co_await db.put(std::string("key"), std::string("value"));
#endif
}
