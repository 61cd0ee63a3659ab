#include "crash/expected_state.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace store::crash {

namespace {

void must(bool ok, const std::string& what) {
  if (!ok) throw std::system_error(errno, std::generic_category(), what);
}

// The killed process is seen as of some instruction: what must be seen in order is stored in order.
void publish(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref<std::uint64_t>(word).store(value, std::memory_order_release);
}

}  // namespace

ExpectedState::ExpectedState(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  must(fd_ >= 0, path);
  must(::ftruncate(fd_, kFileBytes) == 0, path);
  map();
  if (header_->magic == 0) publish(header_->magic, kMagic);
  if (header_->magic != kMagic) throw std::runtime_error(path + ": not a file of expected state");
}

ExpectedState::~ExpectedState() {
  if (header_ != nullptr) ::munmap(header_, kFileBytes);
  ::close(fd_);
}

void ExpectedState::map() {
  void* memory = ::mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  must(memory != MAP_FAILED, path_);
  header_ = static_cast<Header*>(memory);
  before_ = reinterpret_cast<Held*>(header_ + 1);
  records_ = reinterpret_cast<Record*>(before_ + kKeys);
}

std::uint64_t ExpectedState::tick() {
  publish(header_->clock, header_->clock + 1);
  return header_->clock;
}

std::uint64_t ExpectedState::begin(std::span<const Change> changes) {
  const std::uint64_t ticket = header_->records;
  const std::uint64_t number = next_operation();
  for (std::size_t i = changes.size(); i-- > 0;) {
    Record& record = records_[ticket + i];
    record.operation = number;
    record.key = changes[i].key;
    record.bytes = changes[i].bytes;
  }
  records_[ticket].changes = static_cast<std::uint32_t>(changes.size());
  publish(header_->operations, number);
  publish(header_->records, ticket + changes.size());
  publish(records_[ticket].began, tick());
  return ticket;
}

void ExpectedState::acknowledge(std::uint64_t ticket, Promise promise) {
  Record& record = records_[ticket];
  record.durable = promise == Promise::durable ? 1 : 0;
  publish(record.completed, tick());
}

void ExpectedState::acknowledge_sync(std::uint64_t began) {
  if (began > header_->durable_before) publish(header_->durable_before, began);
}

History ExpectedState::history() const {
  History history;
  history.before.assign(before_, before_ + kKeys);
  for (std::uint64_t i = 0; i < header_->records;) {
    const Record& first = records_[i];
    const std::uint64_t count = std::max<std::uint64_t>(first.changes, 1);
    if (first.began != 0) {
      Operation operation;
      operation.number = first.operation;
      operation.began = first.began;
      operation.completed = first.completed;
      operation.durable = first.completed != 0 && (first.durable != 0 || first.completed < header_->durable_before);
      for (std::uint64_t j = 0; j < count; ++j)
        operation.changes.push_back({records_[i + j].key, records_[i + j].bytes});
      history.operations.push_back(std::move(operation));
    }
    i += count;
  }
  return history;
}

void ExpectedState::restart(const std::vector<Held>& found) {
  std::ranges::copy(found, before_);
  const Header old = *header_;
  ::munmap(header_, kFileBytes);
  header_ = nullptr;
  // A hole reads as zeros: no record is left.
  must(::ftruncate(fd_, sizeof(Header) + kKeys * sizeof(Held)) == 0 && ::ftruncate(fd_, kFileBytes) == 0, path_);
  map();
  *header_ =
      Header{.magic = old.magic, .clock = old.clock, .operations = old.operations, .records = 0, .durable_before = 0};
}

}  // namespace store::crash
