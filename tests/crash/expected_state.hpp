// The file beside the store that says what was done to it: for every key what was verified last, and a record of every change
// since, written before the operation starts and again when it is acknowledged. It is mapped and shared, so a store to it is
// the kernel's as soon as it is made, and outlives a SIGKILL (not a power cut, which this test does not make).
//
// Layout: Header, Held[keys], Record[records]. One process at a time has it open, and one thread of it writes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "crash/history.hpp"

namespace store::crash {

class ExpectedState {
 public:
  static constexpr std::uint32_t kKeys = 4096;
  static constexpr std::uint64_t kRecords = 1u << 20;

  // Opens the file, or makes one that expects an empty store.
  explicit ExpectedState(const std::string& path);
  ExpectedState(const ExpectedState&) = delete;
  ExpectedState& operator=(const ExpectedState&) = delete;
  ~ExpectedState();

  // The number of the next operation, by which its values are named.
  std::uint64_t next_operation() const { return header_->operations + 1; }
  // Whether there is room for one more operation of so many changes.
  bool has_room(std::size_t changes) const { return header_->records + changes <= kRecords; }

  // Says that an operation begins; returns what acknowledge() wants. Requires: room.
  std::uint64_t begin(std::span<const Change> changes);
  enum class Promise { applied, durable };
  void acknowledge(std::uint64_t ticket, Promise promise);
  // Around a sync or flush: what completed before the first call is durable after the second.
  std::uint64_t now() { return tick(); }
  void acknowledge_sync(std::uint64_t began);
  void acknowledge_close() { acknowledge_sync(tick()); }

  History history() const;
  // Starts a new history from a verified state.
  void restart(const std::vector<Held>& found);

 private:
  struct Header {
    std::uint64_t magic;
    std::uint64_t clock;
    std::uint64_t operations;      // begun, in the life of the file
    std::uint64_t records;         // used since the last verification
    std::uint64_t durable_before;  // what completed before this moment is durable
  };
  // One change. The first of an operation stands for the operation.
  struct Record {
    std::uint64_t operation;
    std::uint64_t began;  // written last; 0: the process was killed before the operation was handed to the store
    std::uint64_t completed;
    std::uint64_t durable;
    std::uint64_t bytes;
    std::uint32_t key;
    std::uint32_t changes;  // of the operation; 0 in all but the first
  };
  static constexpr std::uint64_t kMagic = 0x3130'5453'4853'5243;
  static constexpr std::size_t kFileBytes = sizeof(Header) + kKeys * sizeof(Held) + kRecords * sizeof(Record);

  std::uint64_t tick();
  void map();

  std::string path_;
  int fd_ = -1;
  Header* header_ = nullptr;
  Held* before_ = nullptr;
  Record* records_ = nullptr;
};

}  // namespace store::crash
