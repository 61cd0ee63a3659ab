// The workloads, apart from the engines: a Client says what to do next, one operation after the other, and times it. An adapter performs
// the operation and tells the client what it found. Clients of one run share a Run; each belongs to one task or thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"
#include "records.hpp"
#include "tools/measure/generators.hpp"
#include "tools/measure/histogram.hpp"
#include "usage.hpp"

namespace comparison {

enum class Verb : std::uint8_t {
  get,                // the value of key(), copied
  get_into,           // copied into memory of the client's; the same as get where an engine has no other way
  get_pinned,         // looked at where it lies
  get_many,           // the values of keys(), copied
  put,                // value() under key()
  scan,               // count() entries from key() on
  read_modify_write,  // get, then put
  flush,              // everything put before is in the store's tables when it ends
  rest,               // nothing, for kRestMs
};

inline constexpr unsigned kRestMs = 200;

// Shares of the operations, of 1 together, and how their records are chosen.
struct Mix {
  enum class Choice : std::uint8_t { uniform, zipfian, latest, absent };
  Verb read = Verb::get;
  double reads = 1;
  double updates = 0;
  double inserts = 0;
  double scans = 0;
  double read_modify_writes = 0;
  Choice choice = Choice::uniform;
  bool flushing = false;  // client 0 reads; client 1 puts, flushes and rests, in turn

  bool writes() const { return updates + inserts + read_modify_writes > 0 || flushing; }
};

// Errors: runtime_error for a name that is none.
Mix mix_of(const std::string& workload);

class Run {
 public:
  explicit Run(const Options& options);

  const Options& options() const { return options_; }
  const Mix& mix() const { return mix_; }
  const Values& values() const { return values_; }
  // Indexes below can be read.
  std::uint64_t records() const { return records_; }
  // The time in which operations count begins here, behind the warm-up.
  void start();

 private:
  friend class Client;
  // Called with the time by clients whenever they look at it.
  bool over(std::uint64_t now);
  std::uint64_t next_insert() { return next_insert_.fetch_add(1); }
  void inserted(std::uint64_t index);

  const Options options_;
  const Mix mix_;
  const Values values_;
  const measure::ScrambledZipfian zipfian_;
  std::optional<measure::Latest> latest_;  // that clients begin with

  std::uint64_t from_ = 0;
  std::uint64_t to_ = 0;
  std::once_flag begun_;
  std::once_flag ended_;

  // Indexes below records_ can be read; those up to next_insert_ are being inserted, and those of them that are done out of turn noted.
  std::atomic<std::uint64_t> records_;
  std::atomic<std::uint64_t> next_insert_;
  std::mutex insert_mutex_;
  std::vector<std::uint64_t> done_early_;

  std::atomic<Verb> beside_ = Verb::rest;  // what client 1 of a flushing mix does

 public:
  // What was used when the time began, and when it ended.
  Usage before;
  Usage after;
};

class Client {
 public:
  Client(Run& run, unsigned number);
  Client(Client&&) = default;

  // Makes the next operation; false when the time is over. Each is followed by done().
  bool next();
  Verb verb() const { return verb_; }
  std::string_view key() const { return keys_.front(); }
  std::span<const std::string_view> keys() const { return keys_; }
  std::string_view value() const { return value_; }
  std::uint64_t count() const { return count_; }
  // The i-th key's value is this, or it has none. Errors: runtime_error when that is wrong.
  void found(std::size_t i, std::string_view value);
  void absent(std::size_t i) const;
  // An entry of a scan. Returns whether more are wanted.
  bool entry(std::string_view key, std::string_view value);
  void done();

  // Counted in the time that counts: operations, keys of a get_many one by one, entries of a scan together.
  std::uint64_t operations() const { return operations_; }
  std::uint64_t puts_ever() const { return puts_; }
  const std::vector<std::uint64_t>& each_second() const { return each_second_; }
  // Latencies in ns; those at rest are the reads beside no flush of a flushing mix.
  const measure::Histogram& reads() const { return reads_; }
  const measure::Histogram& writes() const { return writes_; }
  const measure::Histogram& at_rest() const { return at_rest_; }
  std::uint64_t longest_write_ever() const { return longest_write_; }
  std::uint64_t checked() const { return checked_; }

 private:
  void choose_mixed();
  void choose_flushing();
  std::uint64_t choose_record();
  void set_key(std::size_t i, std::uint64_t index);
  void set_value();
  void record_latency(std::uint64_t ns);

  Run* run_;
  unsigned number_;
  measure::Random random_;
  std::optional<measure::Latest> latest_;
  std::uint64_t version_;

  Verb verb_ = Verb::get;
  std::vector<std::uint64_t> indexes_;
  std::vector<Key> key_texts_;
  std::vector<std::string_view> keys_;
  std::string value_;
  std::uint64_t count_ = 1;
  std::uint64_t entries_ = 0;
  bool inserting_ = false;
  std::string last_key_;

  unsigned until_sample_ = 0;
  bool sampled_ = false;
  bool counts_ = false;
  Verb began_beside_ = Verb::rest;
  std::uint64_t begin_ = 0;
  std::uint64_t turn_ = 0;

  std::uint64_t operations_ = 0;
  std::uint64_t puts_ = 0;
  std::uint64_t checked_ = 0;
  std::uint64_t longest_write_ = 0;
  std::vector<std::uint64_t> each_second_;
  measure::Histogram reads_;
  measure::Histogram writes_;
  measure::Histogram at_rest_;
};

}  // namespace comparison
