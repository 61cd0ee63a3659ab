// Batches across shards. Two phases: every part but the coordinator's is made durable in its shard without being applied (prepared); then
// the coordinator's is applied, in one step with the decision that the batch is to be; then the others are, each in one step with forgetting
// that it was prepared; and when all of that is durable, the decision is forgotten. A crash before the decision leaves nothing of the batch,
// one after it leaves what recover() finishes: it takes what is prepared for decided if the coordinator says so, and else for never
// written.
//
// What is prepared and what is decided are entries of the shards like others, under keys of the store's own (docs/decisions.md), so that
// they are logged, merged, recycled and checked as all else. While a batch runs nobody else writes to its shards: its expectations hold from
// their check to the end, and nothing that is written after a part of it was seen comes before another part.
//
// Invariants:
//  * Nothing of a batch is applied before all parts are prepared durably.
//  * The decision stays until every part is applied durably.
//  * Who waits for `batches` holds no writes off, and all shards of a batch are held off in the order of their numbers before anything is
//    prepared: nobody waits in a circle.
//  * A shard with a part of which nobody knows whether it is decided serves nothing until it is reopened.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <numeric>
#include <set>
#include <store/error.hpp>
#include <utility>

#include "store/base/planted.hpp"
#include "store/base/units.hpp"
#include "store/sharded/shard_set.hpp"

namespace store::detail {
namespace {

using monterey::Task;

// --- entries of the store's own ---

constexpr char kPrepared = 'P';
constexpr char kDecided = 'D';

std::string own_key(char kind, BatchId id) {
  std::string key(own_prefix());
  key.push_back(kind);
  key.append(reinterpret_cast<const char*>(&id.run), sizeof id.run);
  key.append(reinterpret_cast<const char*>(&id.number), sizeof id.number);
  return key;
}

[[noreturn]] void throw_bad_own(const std::string& shard, const char* what) {
  throw Error(
      Errc::corruption,
      fmt::format("{}: what it keeps of a batch across shards is damaged: {}; restore from a backup", shard, what));
}

BatchId id_of(std::string_view key, const std::string& shard) {
  BatchId id;
  const std::size_t at = own_prefix().size() + 1;
  if (key.size() != at + sizeof id.run + sizeof id.number) throw_bad_own(shard, "the key has another length");
  std::memcpy(&id.run, key.data() + at, sizeof id.run);
  std::memcpy(&id.number, key.data() + at + sizeof id.run, sizeof id.number);
  return id;
}

// A prepared part: the coordinator, then the changes, each as kind, sizes, key and value.
enum class ChangeKind : std::uint8_t { erase, put, range, range_to_end };

template <class T>
void put_number(std::string& out, T number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

std::string encode_part(unsigned coordinator, const WriteBatch& part) {
  std::string out;
  put_number(out, std::uint32_t{coordinator});
  for (std::size_t i = 0; i < part.change_count(); ++i) {
    const WriteBatch::Change change = part.change(i);
    ChangeKind kind = change.value ? ChangeKind::put : ChangeKind::erase;
    if (change.is_range) kind = change.value ? ChangeKind::range : ChangeKind::range_to_end;
    put_number(out, kind);
    put_number(out, static_cast<std::uint32_t>(change.key.size()));
    put_number(out, static_cast<std::uint32_t>(change.value.value_or("").size()));
    out.append(change.key);
    out.append(change.value.value_or(""));
  }
  return out;
}

class PartReader {
 public:
  PartReader(std::string_view rest, const std::string& shard) : rest_(rest), shard_(shard) {}

  template <class T>
  T number() {
    T number;
    std::memcpy(&number, text(sizeof number).data(), sizeof number);
    return number;
  }
  std::string_view text(std::size_t bytes) {
    if (bytes > rest_.size()) throw_bad_own(shard_, "a prepared part ends early");
    const std::string_view front = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return front;
  }
  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
  const std::string& shard_;
};

unsigned coordinator_of(std::string_view text, const std::string& shard) {
  return PartReader(text, shard).number<std::uint32_t>();
}

void add_changes(std::string_view text, const std::string& shard, WriteBatch& batch) {
  PartReader reader(text, shard);
  static_cast<void>(reader.number<std::uint32_t>());
  while (!reader.at_end()) {
    const auto kind = reader.number<ChangeKind>();
    const auto key_bytes = reader.number<std::uint32_t>();
    const auto value_bytes = reader.number<std::uint32_t>();
    const std::string_view key = reader.text(key_bytes);
    const std::string_view value = reader.text(value_bytes);
    switch (kind) {
      case ChangeKind::erase: batch.erase(key); break;
      case ChangeKind::put: batch.put(key, value); break;
      case ChangeKind::range: batch.erase_range(key, value); break;
      case ChangeKind::range_to_end: batch.erase_range(key); break;
      default: throw_bad_own(shard, "a change of no kind");
    }
  }
}

}  // namespace

// --- the steps in a shard ---

Task<> Shard::prepare(BatchId id, unsigned coordinator, const WriteBatch& part) {
  // What finish() adds to it must fit a batch too.
  constexpr std::size_t kMore = 4096;
  const std::string text = encode_part(coordinator, part);
  if (text.size() + kMore > kMaxValueBytes) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: the part of a batch across shards has {} bytes: it may have a little less than 1 GiB",
                            name, text.size()));
  }
  WriteBatch prepared;
  for (std::size_t i = 0; i < part.expectation_count(); ++i) {
    const WriteBatch::Change expectation = part.expectation(i);
    prepared.expect(expectation.key, expectation.value);
  }
  prepared.put(own_key(kPrepared, id), text);
  const PendingSpace kept = co_await PartitionAccess::core(partition()).keep_space(part);
  kept_[id] = kept;
  std::exception_ptr error;
  try {
    co_await partition().write(std::move(prepared));
    if (!planted(Planted::decided_before_prepared)) co_await partition().sync();
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return;
  give_space(id);
  std::rethrow_exception(error);
}

void Shard::give_space(BatchId id) {
  const auto kept = kept_.extract(id);
  if (!kept.empty() && is_open()) PartitionAccess::core(*partition_).give_space(kept.mapped());
}

namespace {

// Errors after which nothing of a write was applied; of all others nobody knows.
bool is_without_effect(Errc code) {
  return code == Errc::conflict || code == Errc::no_space || code == Errc::invalid_argument ||
         code == Errc::read_only || code == Errc::closed;
}

}  // namespace

Task<> Shard::decide(BatchId id, WriteBatch part, bool* in_doubt) {
  part.put(own_key(kDecided, id), "");
  *in_doubt = true;
  try {
    co_await partition().write(std::move(part));
  } catch (const Error& error) {
    *in_doubt = !is_without_effect(error.errc());
    throw;
  }
  co_await partition().sync();
}

Task<> Shard::finish(BatchId id, WriteBatch changes) {
  changes.erase(own_key(kPrepared, id));
  PartitionCore& behind = PartitionAccess::core(partition());
  give_space(id);
  co_await behind.write(std::move(changes), PartitionCore::Purpose::relief);
}

Task<> Shard::finish_decided(BatchId id, WriteBatch changes) {
  try {
    co_await finish(id, std::move(changes));
  } catch (const std::exception& error) {
    fail(
        fmt::format("a batch across shards is decided and could not be applied here ({}); reopen the store, which "
                    "applies it",
                    error.what()));
    const auto* const own = dynamic_cast<const Error*>(&error);
    if (own != nullptr && own->errc() == Errc::aborted) throw;
    throw Error(Errc::poisoned, failure_);
  }
}

// What is left of it when this fails is forgotten by recover().
Task<> Shard::forget_prepared(BatchId id) {
  try {
    give_space(id);
    const std::string key = own_key(kPrepared, id);
    co_await partition().erase(key);
  } catch (const Error&) {
    co_return;
  }
}

Task<> Shard::forget(BatchId id) {
  const std::string key = own_key(kDecided, id);
  co_await partition().erase(key);
}

Task<std::vector<Shard::Unfinished>> Shard::unfinished() {
  std::vector<Unfinished> found;
  Scan scan = co_await partition().scan_prefix(std::string(own_prefix()));
  for (;;) {
    const bool there = co_await scan.advance();
    if (!there) break;
    Unfinished one;
    one.id = id_of(scan.key(), name);
    const char kind = scan.key()[own_prefix().size()];
    if (kind != kPrepared && kind != kDecided) throw_bad_own(name, "an entry of no kind");
    one.is_decision = kind == kDecided;
    if (!one.is_decision) one.coordinator = coordinator_of(scan.value(), name);
    found.push_back(one);
  }
  std::ranges::sort(found, {}, &Unfinished::id);  // the order in which they began
  co_return found;
}

Task<> Shard::finish_prepared(BatchId id, bool apply) {
  WriteBatch changes;
  if (apply) {
    const std::string key = own_key(kPrepared, id);
    const std::optional<std::string> text = co_await partition().get(key);
    if (!text) throw_bad_own(name, "a prepared part is not there");
    add_changes(*text, name, changes);
  }
  co_await finish(id, std::move(changes));
}

// --- the whole ---

namespace {

// Whether it is only that the core stops.
bool is_abortion(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& thrown) {
    return thrown.errc() == Errc::aborted;
  } catch (...) {
    return false;
  }
}

Task<bool> is_failed(Shard& shard) { co_return shard.is_failed(); }

Task<std::vector<Shard::Unfinished>> look_for_unfinished(Shard& shard, unsigned shards) {
  std::vector<Shard::Unfinished> list;
  try {
    list = co_await shard.unfinished();
    for (const Shard::Unfinished& one : list) {
      if (!one.is_decision && one.coordinator >= shards)
        throw_bad_own(shard.name, "its coordinator is a shard that there is not");
    }
  } catch (const Error& error) {
    if (error.errc() == Errc::aborted) throw;
    shard.fail(
        fmt::format("whether batches across shards wait to be finished cannot be read ({}); restore or salvage "
                    "the store",
                    error.what()));
  }
  co_return list;
}

}  // namespace

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& thrown) {
    return thrown.what();
  } catch (...) {
    return "an error of no known kind";
  }
}

Task<> ShardSet::write(WriteBatch batch) {
  const auto self = shared_from_this();
  Parts parts;
  for (std::size_t i = 0; i < batch.change_count(); ++i) {
    const WriteBatch::Change change = batch.change(i);
    if (change.is_range) {
      std::optional<std::string> to;
      if (change.value) to = std::string(*change.value);
      const std::string end = end_of_users(std::move(to));
      if (change.key >= end) continue;
      const ShardRange range = routing_.shards_of(change.key, end);
      for (unsigned shard = range.first; shard < range.end; ++shard) parts[shard].erase_range(change.key, end);
      continue;
    }
    check_user_key(change.key);
    WriteBatch& part = parts[routing_.shard_of(change.key)];
    if (change.value) {
      part.put(change.key, *change.value);
    } else {
      part.erase(change.key);
    }
  }
  for (std::size_t i = 0; i < batch.expectation_count(); ++i) {
    const WriteBatch::Change expectation = batch.expectation(i);
    check_user_key(expectation.key);
    parts[routing_.shard_of(expectation.key)].expect(expectation.key, expectation.value);
  }
  if (parts.empty()) {
    co_await on_range(ShardRange{0, 1}, [](Shard& shard) { return shard.require_open(); });
    co_return;
  }
  Shard& first = shard(parts.begin()->first);
  if (parts.size() == 1) {
    WriteBatch& part = parts.begin()->second;
    auto write_there = [&first, &part] { return first.write(std::move(part)); };
    co_await monterey::call_on(first.core, write_there);
    co_return;
  }
  if (!has_log()) {
    throw Error(Errc::invalid_argument,
                fmt::format("a batch over {} shards needs a log to be whole after a crash, and this store was opened "
                            "without one; open it with WalMode::batched or per_op, or write a batch to each shard",
                            parts.size()));
  }
  auto run_there = [this, &parts] { return write_across(parts); };
  co_await monterey::call_on(first.core, run_there);
}

// Runs on the core of the first part's shard, the coordinator.
Task<> ShardSet::write_across(Parts& parts) {
  monterey::Gate::Holder inside = shard(parts.begin()->first).background.hold();
  WritesHeldOff held;
  std::exception_ptr error;
  try {
    std::vector<unsigned> indices;
    for (const auto& [index, part] : parts) indices.push_back(index);
    co_await hold_batches_off(1, held);
    co_await hold_writes_off(std::move(indices), held);
    co_await write_in_two_phases(parts, std::move(inside));
  } catch (...) {
    error = std::current_exception();
  }
  co_await let_writes_in(held);
  if (error) std::rethrow_exception(error);
}

Task<> ShardSet::hold_batches_off(std::size_t units, WritesHeldOff& held) {
  auto hold_off = [this, units, &held]() -> Task<> {
    held.inside = shards_[0]->background.hold();
    co_await batches.acquire(units);
    held.batches = units;
  };
  co_await monterey::call_on(shards_[0]->core, hold_off);
}

// In the order of the shards, so that no two batches wait for each other. From here on nobody else writes to these shards: all see
// batches in one order, that of their numbers, and what is written behind a part that was seen comes behind all of them.
Task<> ShardSet::hold_writes_off(std::vector<unsigned> indices, WritesHeldOff& held) {
  held.shards.reserve(indices.size());
  for (const unsigned index : indices) {
    auto hold_off = [&shard = *shards_[index]]() -> Task<> { co_await shard.writes.acquire(Shard::kAllWrites); };
    co_await monterey::call_on(shards_[index]->core, hold_off);
    held.shards.push_back(index);
  }
}

Task<> ShardSet::hold_all_off(WritesHeldOff& held) {
  std::vector<unsigned> all(size());
  std::iota(all.begin(), all.end(), 0u);
  co_await hold_batches_off(Shard::kAllWrites, held);
  co_await hold_writes_off(std::move(all), held);
}

Task<> ShardSet::let_writes_in(WritesHeldOff& held) {
  for (const unsigned index : held.shards) {
    auto let_in = [&shard = *shards_[index]]() -> Task<> {
      shard.writes.release(Shard::kAllWrites);
      co_return;
    };
    co_await monterey::call_on(shards_[index]->core, let_in);
  }
  auto end = [this, &held]() -> Task<> {
    if (held.batches > 0) batches.release(held.batches);
    held.inside.reset();
    co_return;
  };
  co_await monterey::call_on(shards_[0]->core, end);
}

Task<> ShardSet::write_in_two_phases(Parts& parts, monterey::Gate::Holder inside) {
  const BatchId id{run_, next_number()};
  const unsigned first = parts.begin()->first;
  Shard& coordinator = shard(first);
  // All that needs memory here is made before anything is decided.
  std::vector<Task<>> prepares;
  std::vector<Task<>> applies;
  std::vector<unsigned> others;
  for (auto& [index, part] : parts) {
    if (index == first) continue;
    Shard& other = shard(index);
    auto prepare = [&other, id, first, &part] { return other.prepare(id, first, part); };
    prepares.push_back(monterey::call_on(other.core, prepare));
    auto apply = [&other, id, &part] { return other.finish_decided(id, std::move(part)); };
    applies.push_back(monterey::call_on(other.core, apply));
    others.push_back(index);
  }
  Task<> apply_all = monterey::when_all(std::move(applies));
  Task<> clean = clean_up(shared_from_this(), std::move(inside), id, first, std::move(others));

  std::exception_ptr error;
  bool in_doubt = false;
  try {
    co_await monterey::when_all(std::move(prepares));
    co_await coordinator.decide(id, std::move(parts.begin()->second), &in_doubt);
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) {
    co_await std::move(apply_all);
    try {
      monterey::spawn(std::move(clean));
    } catch (const std::bad_alloc&) {
      co_return;  // recover() makes up for it
    }
    co_return;
  }
  // What is prepared would be applied over what is written from now on, if it turns out to be decided.
  const std::string why = fmt::format(
      "whether a batch over {} shards is written is unknown after a failure ({}); reopen "
      "the store to recover",
      parts.size(), text_of(error));
  std::vector<Task<>> ends;
  for (const auto& [index, part] : parts) {
    Shard& one = shard(index);
    if (in_doubt) {
      auto fail = [&one, &why]() -> Task<> {
        one.fail(why);
        co_return;
      };
      ends.push_back(monterey::call_on(one.core, fail));
    } else if (index != first) {
      auto forget = [&one, id] { return one.forget_prepared(id); };
      ends.push_back(monterey::call_on(one.core, forget));
    }
  }
  co_await monterey::when_all(std::move(ends));
  if (in_doubt && !is_abortion(error)) throw Error(Errc::poisoned, why);
  std::rethrow_exception(error);
}

// Forgets a decision when nobody needs it any more. What fails here is made up for by recover().
Task<> ShardSet::clean_up(std::shared_ptr<ShardSet> self, monterey::Gate::Holder inside, BatchId id, unsigned first,
                          std::vector<unsigned> others) {
  try {
    std::vector<Task<>> syncs;
    for (const unsigned index : others) {
      auto sync = [&shard = self->shard(index)]() -> Task<> { co_await shard.partition().sync(); };
      syncs.push_back(monterey::call_on(self->shard(index).core, sync));
    }
    if (!planted(Planted::decision_forgotten_early)) co_await monterey::when_all(std::move(syncs));
    co_await self->shard(first).forget(id);
  } catch (const std::exception&) {
    // made up for by recover()
  }
  inside.reset();  // before `self` goes, and with it perhaps the gate
}

// A shard that cannot be finished fails alone. It is as it was then, and so are the decisions that it may wait for: the next open tries again.
Task<> ShardSet::recover(bool read_only) {
  auto look = [count = size()](Shard& shard) { return look_for_unfinished(shard, count); };
  const auto lists = co_await on_all(look);
  const std::vector<bool> failed_to_look = co_await on_all(is_failed);
  std::vector<std::set<BatchId>> decided(size());
  bool any = false;
  for (unsigned index = 0; index < size(); ++index) {
    for (const Shard::Unfinished& one : lists[index]) {
      any = true;
      if (one.is_decision) decided[index].insert(one.id);
    }
  }
  if (!any) co_return;
  auto must_finish = [&](const Shard::Unfinished& one) {
    return !one.is_decision && (failed_to_look[one.coordinator] || decided[one.coordinator].contains(one.id));
  };
  if (read_only) {
    for (const auto& list : lists) {
      if (std::ranges::none_of(list, must_finish)) continue;
      throw Error(Errc::read_only,
                  fmt::format("{}: batches across shards wait to be finished since a crash; open the store for writing "
                              "once",
                              shards_[0]->name));
    }
    co_return;
  }
  auto finish = [this, &lists, &decided, &failed_to_look](Shard& shard) {
    return finish_unfinished(shard, lists[shard.index], decided, failed_to_look);
  };
  co_await on_all(finish);
  const std::vector<bool> failed = co_await on_all(is_failed);
  if (std::ranges::find(failed, true) != failed.end()) co_return;
  auto forget = [&decided](Shard& shard) -> Task<> {
    for (const BatchId& id : decided[shard.index]) co_await shard.forget(id);
  };
  co_await on_all(forget);
}

Task<> ShardSet::finish_unfinished(Shard& shard, const std::vector<Shard::Unfinished>& list,
                                   const std::vector<std::set<BatchId>>& decided,
                                   const std::vector<bool>& failed_to_look) {
  std::string why;
  try {
    for (const Shard::Unfinished& one : list) {
      if (one.is_decision) continue;
      if (failed_to_look[one.coordinator]) {
        why = "whether one is to be applied is written in " + shards_[one.coordinator]->name + ", which fails";
        break;
      }
      co_await shard.finish_prepared(one.id, decided[one.coordinator].contains(one.id));
    }
    if (!list.empty() && why.empty()) co_await shard.partition().sync();
  } catch (const Error& error) {
    if (error.errc() == Errc::aborted) throw;
    why = error.what();
  }
  if (!why.empty()) {
    shard.fail(
        fmt::format("batches across shards wait to be finished since a crash, and could not be ({}); mend that, "
                    "and reopen the store",
                    why));
  }
}

}  // namespace store::detail
