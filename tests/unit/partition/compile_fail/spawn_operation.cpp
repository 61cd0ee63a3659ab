// A spawned operation would outlive the arguments that it views.
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

void use(store::Partition& db) {
#ifdef MISUSE
  monterey::spawn(db.get("key"));
#else
  monterey::spawn(db.flush());
#endif
}
