#include "workload.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>

namespace comparison {
namespace {

// YCSB's as its files workloads/workloada to workloadf define them.
const std::map<std::string, Mix> kMixes{
    {"get", {.read = Verb::get}},
    {"get_into", {.read = Verb::get_into}},
    {"get_pinned", {.read = Verb::get_pinned}},
    {"get_many", {.read = Verb::get_many}},
    {"get_absent", {.choice = Mix::Choice::absent}},
    {"get_beside_flush", {.flushing = true}},
    {"update", {.reads = 0, .updates = 1}},
    {"mixed", {.reads = 0.5, .updates = 0.5, .choice = Mix::Choice::zipfian}},
    {"ycsb_a", {.reads = 0.5, .updates = 0.5, .choice = Mix::Choice::zipfian}},
    {"ycsb_b", {.reads = 0.95, .updates = 0.05, .choice = Mix::Choice::zipfian}},
    {"ycsb_c", {.reads = 1, .choice = Mix::Choice::zipfian}},
    {"ycsb_d", {.reads = 0.95, .inserts = 0.05, .choice = Mix::Choice::latest}},
    {"ycsb_e", {.reads = 0, .inserts = 0.05, .scans = 0.95, .choice = Mix::Choice::zipfian}},
    {"ycsb_f", {.reads = 0.5, .read_modify_writes = 0.5, .choice = Mix::Choice::zipfian}},
};

constexpr std::uint64_t kLongestScan = 100;
constexpr std::uint64_t kPutsBetweenFlushes = 100'000;
constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t ns_of(double seconds) { return static_cast<std::uint64_t>(seconds * static_cast<double>(kSecond)); }

}  // namespace

Mix mix_of(const std::string& workload) {
  const auto found = kMixes.find(workload);
  if (found == kMixes.end()) throw std::runtime_error("no such workload: " + workload);
  return found->second;
}

Run::Run(const Options& options)
    : options_(options),
      mix_(mix_of(options.workload)),
      values_(options.value_bytes),
      records_(options.keys),
      next_insert_(options.keys) {
  if (mix_.choice == Mix::Choice::latest) latest_.emplace(options.keys);
}

void Run::start() {
  from_ = now_ns() + ns_of(options_.warm_up);
  to_ = from_ + ns_of(options_.seconds);
}

bool Run::over(std::uint64_t now) {
  if (now >= from_) std::call_once(begun_, [this] { before = Usage::now(); });
  if (now >= to_) std::call_once(ended_, [this] { after = Usage::now(); });
  return now >= to_;
}

void Run::inserted(std::uint64_t index) {
  const std::lock_guard lock(insert_mutex_);
  done_early_.push_back(index);
  for (bool more = true; more;) {
    const auto next = std::ranges::find(done_early_, records_.load());
    more = next != done_early_.end();
    if (!more) break;
    done_early_.erase(next);
    records_.fetch_add(1);
  }
}

Client::Client(Run& run, unsigned number)
    : run_(&run),
      number_(number),
      random_(run.options_.seed * 1'000'003 + number),
      latest_(run.latest_),
      version_((run.options_.seed << 44) + (std::uint64_t{number} << 32)),
      value_(run.mix_.writes() ? run.values_.bytes() : 0, '\0') {
  const std::size_t batch = run.mix_.read == Verb::get_many ? run.options_.batch : 1;
  indexes_.resize(batch);
  key_texts_.resize(batch, Key(0));
  for (const Key& text : key_texts_) keys_.push_back(text.view());
  until_sample_ = static_cast<unsigned>(random_.below(run.options_.sample));
}

bool Client::next() {
  inserting_ = false;
  if (run_->mix_.flushing && number_ == 1) {
    choose_flushing();
  } else {
    choose_mixed();
  }
  sampled_ = until_sample_ == 0;
  if (!sampled_) {
    --until_sample_;
    return true;
  }
  until_sample_ = run_->options_.sample - 1;
  began_beside_ = run_->beside_.load(std::memory_order_relaxed);
  begin_ = now_ns();
  counts_ = begin_ >= run_->from_;
  return !run_->over(begin_);
}

void Client::choose_mixed() {
  const Mix& mix = run_->mix_;
  double dice = mix.reads == 1 ? 0 : random_.fraction();
  if (dice < mix.reads) {
    verb_ = mix.read;
    for (std::size_t i = 0; i < keys_.size(); ++i) set_key(i, choose_record());
    return;
  }
  dice -= mix.reads;
  inserting_ = dice < mix.inserts;
  set_key(0, inserting_ ? run_->next_insert() : choose_record());
  dice -= mix.inserts;
  if (!inserting_ && dice < mix.scans) {
    verb_ = Verb::scan;
    count_ = 1 + random_.below(kLongestScan);
    entries_ = 0;
    return;
  }
  verb_ = !inserting_ && dice >= mix.scans + mix.updates ? Verb::read_modify_write : Verb::put;
  set_value();
}

void Client::choose_flushing() {
  const std::uint64_t turn = turn_++ % (kPutsBetweenFlushes + 2);
  verb_ = turn == kPutsBetweenFlushes ? Verb::flush : turn > kPutsBetweenFlushes ? Verb::rest : Verb::put;
  run_->beside_ = verb_;
  if (verb_ != Verb::put) return;
  set_key(0, choose_record());
  set_value();
}

std::uint64_t Client::choose_record() {
  const std::uint64_t records = run_->records_.load(std::memory_order_relaxed);
  switch (run_->mix_.choice) {
    case Mix::Choice::zipfian: return run_->zipfian_.next(random_, records);
    case Mix::Choice::latest: return latest_->next(random_, records);
    case Mix::Choice::absent: return records + random_.below(records);
    case Mix::Choice::uniform: break;
  }
  return random_.below(records);
}

void Client::set_key(std::size_t i, std::uint64_t index) {
  indexes_[i] = index;
  key_texts_[i] = Key(index);
}

void Client::set_value() {
  run_->values_.write(indexes_.front(), ++version_, value_.data());
  ++puts_;
}

void Client::found(std::size_t i, std::string_view value) {
  if (run_->mix_.choice == Mix::Choice::absent) throw std::runtime_error("an absent key was found");
  if (run_->values_.check(value) != indexes_[i]) throw std::runtime_error("the value of another key was read");
  ++checked_;
}

void Client::absent(std::size_t i) const {
  if (run_->mix_.choice != Mix::Choice::absent) {
    throw std::runtime_error(fmt::format("key {} (index {}) is missing", keys_[i], indexes_[i]));
  }
}

bool Client::entry(std::string_view key, std::string_view value) {
  if (Key(run_->values_.check(value)).view() != key) throw std::runtime_error("the value of another key was scanned");
  if (key < (entries_ == 0 ? keys_.front() : std::string_view(last_key_)))
    throw std::runtime_error("a scan does not ascend");
  last_key_ = key;
  ++checked_;
  return ++entries_ < count_;
}

void Client::done() {
  if (inserting_) run_->inserted(indexes_.front());
  const bool counted = !run_->mix_.flushing || number_ == 0;
  if (counted && counts_) operations_ += verb_ == Verb::get_many ? keys_.size() : 1;
  if (verb_ == Verb::flush) run_->beside_ = Verb::rest;
  if (!sampled_) return;
  const std::uint64_t end = now_ns();
  const std::uint64_t ns = end - begin_;
  if (verb_ == Verb::put) longest_write_ = std::max(longest_write_, ns);
  if (!counts_) return;
  record_latency(ns);
  const std::uint64_t second = (begin_ - run_->from_) / kSecond;
  if (each_second_.size() <= second) each_second_.resize(second + 1);
  if (counted) each_second_[second] += keys_.size() * run_->options_.sample;
}

void Client::record_latency(std::uint64_t ns) {
  const bool writing = verb_ == Verb::put || verb_ == Verb::read_modify_write;
  if (!run_->mix_.flushing) {
    (writing ? writes_ : reads_).record(ns);
    return;
  }
  const Verb beside = run_->beside_.load(std::memory_order_relaxed);
  if (number_ != 0 || beside != began_beside_) return;
  if (beside == Verb::flush) reads_.record(ns);
  if (beside == Verb::rest) at_rest_.record(ns);
}

}  // namespace comparison
