#include "objects.hpp"

#include <store/error.hpp>
#include <utility>

#include "gil.hpp"

namespace store::python {

// --- stores ---

OpenStore::~OpenStore() {
  if (closed_) return;
  try {
    close();
  } catch (const std::exception&) {
    // Nobody is told; in a child of fork() the store is the parent's.
  }
}

void OpenStore::close() {
  if (closed_) return;
  try {
    without_gil([this] { db.close(); });
  } catch (const Error& error) {
    // In a child of fork() it stays as it is: nothing there can close it.
    if (error.errc() != Errc::closed) closed_ = true;
    throw;
  }
  closed_ = true;
}

void OpenStore::require_open() const {
  if (closed_) throw Error(Errc::closed, "the store was closed");
}

// --- scans ---

Scan::Scan(std::shared_ptr<OpenStore> store, StoreScan scan, Yields yields)
    : store_(std::move(store)), scan_(std::move(scan)), yields_(yields) {}

// Runs `work` without the GIL, while no other thread may be in the scan.
template <class Work>
auto Scan::alone(Work work) {
  struct Busy {
    explicit Busy(bool& flag) : flag_(flag) { flag_ = true; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() { flag_ = false; }
    bool& flag_;
  };
  const Busy busy(busy_);
  return without_gil(std::move(work));
}

py::object Scan::next() {
  store_->require_open();
  if (busy_) throw py::value_error("another thread is in this scan");
  const bool there = scan_.is_ready() ? scan_.next() : alone([this] { return scan_.next(); });
  if (!there) throw py::stop_iteration();
  const StoreScan::Entry& entry = scan_.entry();
  if (yields_ == Yields::keys) return to_python(entry.key);
  return py::make_tuple(to_python(entry.key), to_python(entry.value));
}

void Scan::seek(py::handle key) {
  store_->require_open();
  if (busy_) throw py::value_error("another thread is in this scan");
  const Bytes to(key);
  alone([&] { scan_.seek(to.view()); });
}

Range range_of(py::handle start, py::handle stop, py::handle prefix, bool reverse, py::handle limit) {
  Range range;
  range.options.reverse = reverse;
  if (!limit.is_none()) {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(limit.ptr()));
    if (!number) throw py::error_already_set();
    if (number < py::int_(0)) throw py::value_error("limit must not be negative");
    // More than there can be entries is no limit.
    if (number < py::int_(range.options.limit)) range.options.limit = number.cast<std::uint64_t>();
  }
  if (!prefix.is_none()) {
    if (!start.is_none() || !stop.is_none()) throw py::value_error("a scan has a prefix, or start and stop, not both");
    range.is_prefix = true;
    range.from = Bytes(prefix).copy();
    return range;
  }
  if (!start.is_none()) range.from = Bytes(start).copy();
  range.to = copy_of(bytes_or_none(stop));
  return range;
}

// --- snapshots ---

OpenSnapshot::OpenSnapshot(std::shared_ptr<OpenStore> store, StoreSnapshot snapshot)
    : store_(std::move(store)), snapshot_(std::make_shared<StoreSnapshot>(std::move(snapshot))) {}

std::shared_ptr<const StoreSnapshot> OpenSnapshot::get() const {
  if (!snapshot_) throw Error(Errc::closed, "the snapshot was closed");
  return snapshot_;
}

// --- batches ---

void Batch::enter() {
  if (entered_) throw std::runtime_error("the batch is in a with block already");
  store_->require_open();
  entered_ = true;
}

void Batch::exit(bool clean) {
  WriteBatch batch = std::exchange(changes_, WriteBatch());
  entered_ = false;
  if (clean) without_gil([&] { store_->db.write(std::move(batch)); });
}

WriteBatch& Batch::changes() {
  if (!entered_) throw std::runtime_error("a batch takes changes only within its with block, which writes them");
  return changes_;
}

}  // namespace store::python
