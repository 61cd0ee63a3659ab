// An operation stays where it was made: another object of its type cannot be made from it.
#include <utility>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

void use(store::Partition& db) {
  auto operation = db.get("key");
#ifdef MISUSE
  auto moved = std::move(operation);
  static_cast<void>(moved);
#else
  static_cast<void>(operation);
#endif
}
