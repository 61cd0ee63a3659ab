// The module store._store: the classes of the Python package on the blocking store. What their methods do for a user is told by the
// docstrings; python/store/__init__.pyi has their types.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <store/error.hpp>
#include <store/metrics.hpp>

#include "errors.hpp"
#include "gil.hpp"
#include "objects.hpp"

namespace store::python {
namespace {

using py::arg;
using StoreClass = py::class_<OpenStore, std::shared_ptr<OpenStore>>;
using SnapshotClass = py::class_<OpenSnapshot>;

WalMode wal_mode_of(const std::string& name) {
  if (name == "none") return WalMode::none;
  if (name == "batched") return WalMode::batched;
  if (name == "per_op") return WalMode::per_op;
  throw py::value_error("wal is \"none\", \"batched\" or \"per_op\", not \"" + name + "\"");
}

std::shared_ptr<OpenStore> open(const std::string& path, std::uint64_t cache_bytes, const std::string& wal,
                                std::size_t write_buffer_bytes, std::uint64_t capacity_bytes, bool create,
                                bool read_only) {
  const StoreOptions options{.cache_bytes = cache_bytes,
                             .wal_mode = wal_mode_of(wal),
                             .write_buffer_bytes = write_buffer_bytes,
                             .capacity_bytes = capacity_bytes,
                             .create = create};
  return std::make_shared<OpenStore>(
      without_gil([&] { return read_only ? Store::open_read_only(path, options) : Store::open(path, options); }));
}

// --- reading, of a store and of a snapshot ---

// What keeps the engine's object during a call without the GIL: for a store the caller's argument does.
const Store* held_of(const OpenStore& store) { return &store.db; }
std::shared_ptr<const StoreSnapshot> held_of(const OpenSnapshot& snapshot) { return snapshot.get(); }

template <class Object>
py::list get_many(const Object& object, const py::iterable& keys) {
  const auto held = held_of(object);
  const py::tuple own(keys);  // holds the keys, whatever becomes of the caller's list
  std::vector<Bytes> bytes;
  std::vector<std::string_view> views;
  bytes.reserve(own.size());
  views.reserve(own.size());
  for (const py::handle key : own) views.push_back(bytes.emplace_back(key).view());
  const auto values = without_gil([&] { return held->get_many(views); });
  py::list result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = to_python(values[i]);
  return result;
}

template <class Object>
std::unique_ptr<Scan> scan_of(const Object& object, const std::shared_ptr<OpenStore>& store, const Range& range,
                              Scan::Yields yields) {
  const auto held = held_of(object);
  return std::make_unique<Scan>(store, without_gil([&] { return begin_scan(*held, range); }), yields);
}

template <class Object>
std::size_t count_entries(const Object& object) {
  const auto held = held_of(object);
  return without_gil([&] {
    std::size_t count = 0;
    for (StoreScan scan = held->scan(); scan.next();) ++count;
    return count;
  });
}

// What is not flushed yet may be new, or not: only then the entries have to be counted.
std::size_t count_of(const OpenStore& store) {
  const Stats stats = without_gil([&] { return store.db.stats(); });
  return stats.buffered_entries == 0 ? stats.entries : count_entries(store);
}

template <class Object>
bool has_entries(const Object& object) {
  const auto held = held_of(object);
  return without_gil([&] {
    StoreScan scan = held->scan({}, std::nullopt, {.limit = 1});
    return scan.next();
  });
}

std::optional<std::size_t> get_into(const OpenStore& store, py::handle key, py::handle buffer, std::uint64_t offset) {
  const Bytes bytes(key);
  const WritableBuffer into(buffer);
  return without_gil([&] { return store.db.get_into(bytes.view(), into.bytes(), {.offset = offset}); });
}

py::dict approximate_range(const OpenStore& store, py::handle start, py::handle stop) {
  const std::optional<Bytes> from = bytes_or_none(start);
  const std::optional<Bytes> to = bytes_or_none(stop);
  const RangeEstimate estimate =
      without_gil([&] { return store.db.approximate_range(view_of(from).value_or(std::string_view()), copy_of(to)); });
  return py::dict(arg("entries") = estimate.entries, arg("bytes") = estimate.bytes);
}

constexpr const char* kGetMany =
    "Return the values of keys, in their order, None for a key without one. Reads what is not in memory together: "
    "faster than single gets.";
constexpr const char* kScan =
    "Return an iterator of (key, value) in key order over [start, stop), or over the keys that begin with prefix, as "
    "of now: it does not see what "
    "is written later.\n\nNone leaves an end open. reverse walks from the end to the start; limit ends it after so "
    "many entries.";
constexpr const char* kBool = "Whether there is any entry. Does not count them.";

// --- writing ---

void put(OpenStore& store, py::handle key, py::handle value) {
  const Bytes key_bytes(key);
  const Bytes value_bytes(value);
  without_gil([&] { store.db.put(key_bytes.view(), value_bytes.view()); });
}

void erase(OpenStore& store, py::handle key) {
  const Bytes bytes(key);
  without_gil([&] { store.db.erase(bytes.view()); });
}

void delete_item(OpenStore& store, py::handle key) {
  const Bytes bytes(key);
  const bool there = without_gil([&] {
    if (!store.db.contains(bytes.view())) return false;
    store.db.erase(bytes.view());
    return true;
  });
  if (there) return;
  PyErr_SetObject(PyExc_KeyError, key.ptr());
  throw py::error_already_set();
}

bool compare_and_put(OpenStore& store, py::handle key, py::handle expected, py::handle desired) {
  const Bytes bytes(key);
  const std::optional<Bytes> before = bytes_or_none(expected);
  const std::optional<Bytes> after = bytes_or_none(desired);
  return without_gil([&] { return store.db.compare_and_put(bytes.view(), view_of(before), view_of(after)); });
}

void erase_range(OpenStore& store, py::handle start, py::handle stop) {
  const Bytes from(start);
  const std::optional<Bytes> to = bytes_or_none(stop);
  without_gil([&] { store.db.erase_range(from.view(), copy_of(to)); });
}

// Entries that are read by the store's own thread, which can wait for no code of Python: whoever holds the GIL may be waiting for that thread.
class Entries {
 public:
  void add(std::string_view key, std::string_view value) {
    bytes_.append(key).append(value);
    sizes_.emplace_back(key.size(), value.size());
  }

  bool next(std::string_view& key, std::string_view& value) {
    if (at_ == sizes_.size()) return false;
    const auto [key_size, value_size] = sizes_[at_++];
    key = std::string_view(bytes_).substr(begin_, key_size);
    value = std::string_view(bytes_).substr(begin_ + key_size, value_size);
    begin_ += key_size + value_size;
    return true;
  }

 private:
  std::string bytes_;
  std::vector<std::pair<std::size_t, std::size_t>> sizes_;  // of a key and its value, one behind the other in bytes_
  std::size_t at_ = 0;
  std::size_t begin_ = 0;
};

std::uint64_t bulk_load(OpenStore& store, const py::iterable& from) {
  Entries entries;
  for (const py::handle entry : from) {
    const auto pair =
        py::reinterpret_steal<py::object>(PySequence_Fast(entry.ptr(), "bulk_load() takes pairs of a key and a value"));
    if (!pair) throw py::error_already_set();
    if (PySequence_Fast_GET_SIZE(pair.ptr()) != 2) {
      throw py::value_error("bulk_load() takes pairs of a key and a value");
    }
    PyObject* const* const items = PySequence_Fast_ITEMS(pair.ptr());
    entries.add(Bytes(items[0]).view(), Bytes(items[1]).view());
  }
  return without_gil([&] { return store.db.bulk_load(entries); });
}

// --- the whole store ---

std::string prometheus(const py::iterable& stores) {
  std::vector<MetricSource> sources;
  for (const py::handle item : stores) {
    const auto [name, store] = item.cast<std::pair<std::string, std::shared_ptr<OpenStore>>>();
    sources.push_back({metric_label("store", name), without_gil([&] { return store->db.stats(); })});
  }
  return prometheus_text(sources);
}

CompactReport compact(OpenStore& store, std::optional<std::uint64_t> max_bytes_moved) {
  CompactOptions options;
  if (max_bytes_moved) options.max_bytes_moved = *max_bytes_moved;
  return without_gil([&] { return store.db.compact(options); });
}

py::dict dict_of(const CompactReport& report) {
  return py::dict(arg("finished") = report.finished, arg("bytes_moved") = report.bytes_moved,
                  arg("bytes_freed") = report.bytes_freed);
}

py::dict dict_of(const BackupReport& report) {
  return py::dict(arg("generation") = report.generation, arg("blocks_written") = report.blocks_written,
                  arg("bytes") = report.bytes);
}

py::dict dict_of(const Stats& stats) {
  py::dict result;
  const auto set = [&result](const char* name, const auto& value) { result[name] = py::cast(value); };
  set("uuid", stats.uuid);
  result["origin"] = py::dict(arg("uuid") = stats.origin.uuid, arg("generation") = stats.origin.generation);
#define STORE_SET(name) set(#name, stats.name)
  STORE_SET(generation);
  STORE_SET(entries);
  STORE_SET(height);
  STORE_SET(tree_pages);
  STORE_SET(overflow_blocks);
  STORE_SET(allocator_pages);
  STORE_SET(high_water_blocks);
  STORE_SET(free_blocks);
  STORE_SET(held_blocks);
  STORE_SET(device_blocks);
  STORE_SET(capacity_blocks);
  STORE_SET(buffered_entries);
  STORE_SET(buffered_bytes);
  STORE_SET(last_sequence);
  STORE_SET(incarnation);
  STORE_SET(log_segments);
  STORE_SET(log_bytes);
  STORE_SET(log_used_bytes);
  STORE_SET(log_groups);
  STORE_SET(log_records);
  STORE_SET(log_bytes_written);
  STORE_SET(replayed_bytes);
  STORE_SET(replayed_records);
  STORE_SET(replayed_entries);
  STORE_SET(cache_frames);
  STORE_SET(cache_hits);
  STORE_SET(cache_misses);
  STORE_SET(cache_evictions);
  STORE_SET(cache_pinned);
  STORE_SET(gets);
  STORE_SET(puts);
  STORE_SET(flushes);
  STORE_SET(flush_pages_read);
  STORE_SET(flush_pages_written);
  STORE_SET(flush_writes);
  STORE_SET(open_notes);
  STORE_SET(poisoned);
#undef STORE_SET
  for (const LatencyFigure& figure : latency_figures()) set(figure.name, figure.value(stats.*figure.histogram));
  py::list snapshots;
  for (const SnapshotStats& snapshot : stats.snapshots) {
    snapshots.append(py::dict(arg("sequence") = snapshot.sequence, arg("age_ns") = snapshot.age.count(),
                              arg("held_blocks") = snapshot.held_blocks));
  }
  result["snapshots"] = snapshots;
  return result;
}

py::dict backup(const OpenStore& store, const std::string& path, bool incremental, bool overwrite) {
  BackupOptions options{.overwrite = overwrite};
  if (incremental) options.since = BackupOptions::kOfTarget;
  return dict_of(without_gil([&] { return store.db.backup(path, options); }));
}

// --- the classes ---

PyObject* refuse_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyErr_Format(PyExc_TypeError, "a %s is made by the calls of the package alone", type->tp_name);
  return nullptr;
}

// pybind11 makes objects without tp_new; what others would make by it is empty, which the methods do not expect.
template <class Type>
Type& made_here(Type& type) {
  reinterpret_cast<PyTypeObject*>(type.ptr())->tp_new = refuse_new;
  return type;
}

void add_store(py::module_& module) {
  StoreClass type(module, "Store", py::is_final(),
                  "A store that store.open() has opened: a mapping of bytes to bytes in key order.\n\nKeys are 1 to "
                  "1024 bytes, values 0 bytes to 1 GiB. Any "
                  "thread may call it; calls that wait let other threads run. As a context manager it closes at the "
                  "end of the block.");
  add_fast_methods(type);
  made_here(type)
      .def("put", put, arg("key"), arg("value"), "Set the value of key.")
      .def("__setitem__", put)
      .def("delete", erase, arg("key"), "Delete key; no error if it has no value.")
      .def("__delitem__", delete_item,
           "Delete key. Raises KeyError if it has no value: two calls of the engine, not one step.")
      .def("get_many", get_many<OpenStore>, arg("keys"), kGetMany)
      .def("get_into", get_into, arg("key"), arg("buffer"), arg("offset") = 0,
           "Copy the value of key, from its byte offset on, into a writable buffer, as much of it as fits. Return the "
           "length of the whole value, "
           "None if there is none. A big value is read in parts without being held as a whole.")
      .def("approximate_range", approximate_range, arg("start") = py::none(), arg("stop") = py::none(),
           "About how much [start, stop) holds as of the last flush, without reading it: \"entries\", and the "
           "\"bytes\" that they take in the file.")
      .def("_bulk_load", bulk_load)
      .def("compare_and_put", compare_and_put, arg("key"), arg("expected"), arg("desired"),
           "In one step, set key to desired (None: delete it) if its value is expected (None: if it has none). Return "
           "whether it was.")
      .def("delete_range", erase_range, arg("start"), arg("stop") = py::none(),
           "Delete all keys in [start, stop), without stop all from start on, in one step and at the cost of a put.")
      .def("__len__", count_of,
           "The number of entries, exactly. Known when nothing waits to be flushed; else all entries are read and "
           "counted. stats()[\"entries\"] is the "
           "number as of the last flush, at once.")
      .def("__bool__", has_entries<OpenStore>, kBool)
      .def("__iter__",
           [](const std::shared_ptr<OpenStore>& store) { return scan_of(*store, store, Range(), Scan::Yields::keys); })
      .def(
          "scan",
          [](const std::shared_ptr<OpenStore>& store, py::handle start, py::handle stop, py::handle prefix,
             bool reverse, py::handle limit) {
            return scan_of(*store, store, range_of(start, stop, prefix, reverse, limit), Scan::Yields::entries);
          },
          arg("start") = py::none(), arg("stop") = py::none(), py::kw_only(), arg("prefix") = py::none(),
          arg("reverse") = false, arg("limit") = py::none(), kScan)
      .def(
          "batch",
          [](const std::shared_ptr<OpenStore>& store) {
            store->require_open();
            return std::make_unique<Batch>(store);
          },
          "Return a Batch, whose changes are written as a whole or not at all at the end of its with block.")
      .def(
          "snapshot",
          [](const std::shared_ptr<OpenStore>& store) {
            return std::make_unique<OpenSnapshot>(store, without_gil([&] { return store->db.snapshot(); }));
          },
          "Return the store as of now, for reading. While it is open, blocks that only it can read are not used again.")
      .def(
          "sync", [](OpenStore& store) { without_gil([&] { store.db.sync(); }); },
          "Wait until everything written before is durable.")
      .def(
          "flush", [](OpenStore& store) { without_gil([&] { store.db.flush(); }); },
          "Merge the write buffer into the tree, and wait until that is durable.")
      .def(
          "compact",
          [](OpenStore& store, std::optional<std::uint64_t> max_bytes_moved) {
            return dict_of(compact(store, max_bytes_moved));
          },
          py::kw_only(), arg("max_bytes_moved") = py::none(),
          "Make the file small, while others read and write. Return \"finished\", \"bytes_moved\" and "
          "\"bytes_freed\".\n\nmax_bytes_moved: end behind the commit that has written so many bytes anew; another "
          "call goes on from there. \"finished\" is False when there is more to do: now, or "
          "when readers of older states are gone.")
      .def(
          "check",
          [](const OpenStore& store, std::size_t max_errors) {
            return without_gil([&] { return store.db.check({.max_errors = max_errors}); }).errors;
          },
          py::kw_only(), arg("max_errors") = CheckOptions().max_errors,
          "Verify every page of the last flush. Return the findings, at most max_errors, one text each; none when all "
          "is well.")
      .def("_backup", backup)
      .def(
          "stats", [](const OpenStore& store) { return dict_of(without_gil([&] { return store.db.stats(); })); },
          "Return what the store counts, by name: include/store/stats.hpp says what each is.")
      .def("close", &OpenStore::close,
           "Flush and give the file back. Every later call raises Error with code \"closed\", but another close(), "
           "which does nothing.")
      .def("__enter__",
           [](std::shared_ptr<OpenStore> store) {
             store->require_open();
             return store;
           })
      .def("__exit__", [](OpenStore& store, const py::args&) { store.close(); });
}

void add_snapshot(py::module_& module) {
  SnapshotClass type(
      module, "Snapshot", py::is_final(),
      "A store as of one moment: a mapping for reading. As a context manager it closes at the end of the block.");
  const auto value_of = [](const OpenSnapshot& snapshot, py::handle key) {
    const auto held = snapshot.get();
    const Bytes bytes(key);
    return without_gil([&] { return held->get(bytes.view()); });
  };
  made_here(type)
      .def(
          "get",
          [value_of](const OpenSnapshot& snapshot, py::handle key, py::object otherwise) {
            const auto value = value_of(snapshot, key);
            return value ? to_python(value) : otherwise;
          },
          arg("key"), arg("default") = py::none(), "Return the value of key, or default if there is none.")
      .def(
          "__getitem__",
          [value_of](const OpenSnapshot& snapshot, py::handle key) {
            const auto value = value_of(snapshot, key);
            if (value) return to_python(value);
            PyErr_SetObject(PyExc_KeyError, key.ptr());
            throw py::error_already_set();
          },
          "Return the value of key. Raises KeyError if there is none.")
      .def(
          "__contains__",
          [](const OpenSnapshot& snapshot, py::handle key) {
            const auto held = snapshot.get();
            const Bytes bytes(key);
            return without_gil([&] { return held->contains(bytes.view()); });
          },
          "Whether there is a value for key.")
      .def("get_many", get_many<OpenSnapshot>, arg("keys"), kGetMany)
      .def("__len__", count_entries<OpenSnapshot>, "The number of entries: reads them all.")
      .def("__bool__", has_entries<OpenSnapshot>, kBool)
      .def(
          "__iter__",
          [](const OpenSnapshot& snapshot) { return scan_of(snapshot, snapshot.store(), Range(), Scan::Yields::keys); })
      .def(
          "scan",
          [](const OpenSnapshot& snapshot, py::handle start, py::handle stop, py::handle prefix, bool reverse,
             py::handle limit) {
            return scan_of(snapshot, snapshot.store(), range_of(start, stop, prefix, reverse, limit),
                           Scan::Yields::entries);
          },
          arg("start") = py::none(), arg("stop") = py::none(), py::kw_only(), arg("prefix") = py::none(),
          arg("reverse") = false, arg("limit") = py::none(), kScan)
      .def("close", &OpenSnapshot::close,
           "Let go of the old state; every later call raises Error with code \"closed\".")
      .def("__enter__",
           [](py::object self) {
             static_cast<void>(self.cast<const OpenSnapshot&>().get());
             return self;
           })
      .def("__exit__", [](OpenSnapshot& snapshot, const py::args&) { snapshot.close(); });
}

void add_scan(py::module_& module) {
  py::class_<Scan> type(
      module, "Scan", py::is_final(),
      "An iterator over a range, as of when it was begun. Belongs to one thread at a time: in another it "
      "raises ValueError meanwhile.");
  made_here(type)
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &Scan::next)
      .def("seek", &Scan::seek, arg("key"),
           "Go on from the first entry at or after key (at or before it in reverse), within the range.");
}

void add_batch(py::module_& module) {
  py::class_<Batch> type(
      module, "Batch", py::is_final(),
      "Changes that are written as a whole or not at all at the end of the with block, and dropped when "
      "that ends with an exception. At "
      "most 1 GiB. Raises Conflict, and changes nothing, if an expectation does not hold. May be used "
      "for one block after another.");
  made_here(type)
      .def(
          "put",
          [](Batch& batch, py::handle key, py::handle value) {
            batch.changes().put(Bytes(key).view(), Bytes(value).view());
          },
          arg("key"), arg("value"), "Set the value of key. Of two changes to one key the later counts.")
      .def(
          "delete", [](Batch& batch, py::handle key) { batch.changes().erase(Bytes(key).view()); }, arg("key"),
          "Delete key; no error if it has no value.")
      .def(
          "delete_range",
          [](Batch& batch, py::handle start, py::handle stop) {
            const std::optional<Bytes> to = bytes_or_none(stop);
            batch.changes().erase_range(Bytes(start).view(), view_of(to));
          },
          arg("start"), arg("stop") = py::none(),
          "Delete all keys in [start, stop) that are there before this change. At most 64 ranges in a batch.")
      .def(
          "expect",
          [](Batch& batch, py::handle key, py::handle value) {
            const std::optional<Bytes> expected = bytes_or_none(value);
            batch.changes().expect(Bytes(key).view(), view_of(expected));
          },
          arg("key"), arg("value"), "Write the batch only if the value of key then is value (None: if it has none).")
      .def("__len__", &Batch::size, "The number of changes and expectations.")
      .def("__enter__",
           [](py::object self) {
             self.cast<Batch&>().enter();
             return self;
           })
      .def("__exit__",
           [](Batch& batch, py::handle exception, py::handle, py::handle) { batch.exit(exception.is_none()); });
}

}  // namespace
}  // namespace store::python

PYBIND11_MODULE(_store, module) {
  using namespace store::python;
  module.attr("__version__") = STORE_VERSION;
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const store::Error& error) {
      set_error(error);
    }
  });
  py::options options;
  options.disable_function_signatures();  // their types are the engine's; __init__.pyi has those of Python
  module.def("open", open);
  module.def("prometheus", prometheus);
  add_store(module);
  add_snapshot(module);
  add_scan(module);
  add_batch(module);
}
