// Loading an empty store in bulk: entries in ascending order are given to the shards that they belong to, each of which loads what it gets
// beside the others.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <monterey/spawn.hpp>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/sharded/shard_set.hpp"

namespace store::detail {

// Entries on their way into one shard. Belongs to the shard's core.
class BulkFeed final : public AnyBulkSource {
 public:
  // Takes the next entries, in a piece that ends with `last` or an error; waits while the shard has enough to do. Returns whether the shard
  // still takes any.
  monterey::Task<bool> push(EntryPiece piece);
  // Nothing is taken any more.
  void close() noexcept;

  bool next(std::string_view& key, std::string_view& value) override;
  monterey::Task<bool> more() override;

 private:
  static constexpr std::size_t kPieces = 4;  // that may wait

  std::deque<EntryPiece> pieces_;
  EntryPiece current_;
  std::size_t at_ = 0;  // in it
  bool closed_ = false;
  monterey::Event changed_;
};

// Belongs to the core that makes it, which has the source. Requires: finish() is awaited.
class BulkLoad {
 public:
  // Begins to load all shards, which are to be empty.
  explicit BulkLoad(ShardSet& set);
  BulkLoad(const BulkLoad&) = delete;
  BulkLoad& operator=(const BulkLoad&) = delete;

  // Gives all entries of a source to the shards, or stops when one of them has failed. Errors: those of the source; invalid_argument for
  // keys out of order.
  monterey::Task<> take_all(AnyBulkSource& source);
  // Waits for all shards. Without an error each has committed what it was given; with one those have not that had not yet. Returns the number
  // of entries. Errors: the one given; that of the shard that has failed first, else that of the first one.
  monterey::Task<std::uint64_t> finish(std::exception_ptr error);

 private:
  struct Part {
    Shard* shard = nullptr;
    std::shared_ptr<BulkFeed> feed;
    EntryPiece piece;  // not sent yet
    monterey::JoinHandle<std::uint64_t> loading;
  };

  monterey::Task<bool> send(Part& part);

  ShardSet& set_;
  std::vector<Part> parts_;
  Part* refused_ = nullptr;  // by a shard that has failed
};

}  // namespace store::detail
