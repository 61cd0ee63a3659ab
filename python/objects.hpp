// What the classes of the module hold. All members are guarded by the GIL; the engine's own objects are used without it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <store/blocking_store.hpp>
#include <store/write_batch.hpp>
#include <string>

#include "bytes.hpp"

namespace store::python {

// A store.Store.
class OpenStore {
 public:
  explicit OpenStore(Store opened) : db(std::move(opened)) {}
  OpenStore(const OpenStore&) = delete;
  OpenStore& operator=(const OpenStore&) = delete;
  // Closes it if nobody has; errors are not told.
  ~OpenStore();

  // Flushes and gives the file back, once. Errors: those of Store::close(); it is closed all the same, but in a child of fork().
  void close();
  // Errors: closed. For what goes on by itself without asking the engine.
  void require_open() const;

  Store db;

 private:
  bool closed_ = false;
};

// A store.Scan, and the iterators of mappings. Its store is kept.
class Scan {
 public:
  enum class Yields { entries, keys };

  Scan(std::shared_ptr<OpenStore> store, StoreScan scan, Yields yields);

  // Errors: StopIteration at the end; ValueError while another thread is in it; closed; those of StoreScan::next().
  py::object next();
  // Errors: as next().
  void seek(py::handle key);

 private:
  template <class Work>
  auto alone(Work work);

  std::shared_ptr<OpenStore> store_;
  StoreScan scan_;
  Yields yields_;
  bool busy_ = false;  // a thread is in scan_ without the GIL
};

// The arguments of scan().
struct Range {
  std::string from;
  std::optional<std::string> to;
  bool is_prefix = false;  // `from` is one
  ScanOptions options;
};
// Errors: ValueError, TypeError.
Range range_of(py::handle start, py::handle stop, py::handle prefix, bool reverse, py::handle limit);

// Begins a scan of a store or a snapshot, without the GIL.
template <class Source>
StoreScan begin_scan(const Source& source, const Range& range) {
  if (range.is_prefix) return source.scan_prefix(range.from, range.options);
  return source.scan(range.from, range.to, range.options);
}

// A store.Snapshot. Calls hold its engine's object, so that closing it while they run is harmless.
class OpenSnapshot {
 public:
  OpenSnapshot(std::shared_ptr<OpenStore> store, StoreSnapshot snapshot);

  // Errors: closed.
  std::shared_ptr<const StoreSnapshot> get() const;
  const std::shared_ptr<OpenStore>& store() const { return store_; }
  void close() { snapshot_.reset(); }

 private:
  std::shared_ptr<OpenStore> store_;
  std::shared_ptr<const StoreSnapshot> snapshot_;
};

// A store.Batch.
class Batch {
 public:
  explicit Batch(std::shared_ptr<OpenStore> store) : store_(std::move(store)) {}

  // Errors: RuntimeError when it is in a with block already.
  void enter();
  // Writes what was collected, or drops it. Errors: those of Store::write(); it is dropped then too.
  void exit(bool clean);
  // What takes changes. Errors: RuntimeError outside of a with block, where nobody would write them.
  WriteBatch& changes();
  std::size_t size() const { return changes_.size(); }

 private:
  std::shared_ptr<OpenStore> store_;
  WriteBatch changes_;
  bool entered_ = false;
};

// Adds the verbs that are called most, get, __getitem__ and __contains__, past pybind11's dispatcher.
void add_fast_methods(py::class_<OpenStore, std::shared_ptr<OpenStore>>& type);

}  // namespace store::python
