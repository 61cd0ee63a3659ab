#include "sim/control.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "sim/faults.hpp"
#include "store/base/planted.hpp"

namespace store::test {

#ifdef STORE_PLANT

namespace {

struct PlantedBug {
  const char* name;
  Planted bug;
};

constexpr PlantedBug kBugs[] = {
#define STORE_SIM_BUG(name, text) {#name, Planted::name},
    STORE_PLANTED_BUGS(STORE_SIM_BUG)
#undef STORE_SIM_BUG
};

// The entries that a seed runs, the likely ones for the bug first. Others follow, so that no bug depends on the table.
std::vector<const FaultEntry*> entries_for(std::string_view bug) {
  struct Hint {
    std::string_view bug;
    std::string_view fault;
  };
  static constexpr Hint kHints[] = {
      {"page_crc_skipped", "bit_rot"},
      {"run_crc_skipped", "bit_rot"},
      {"birth_not_checked", "lying_device"},
      {"meta_write_error_ignored", "write_error"},
      {"sync_error_retried", "sync_error"},
      {"poison_ignored", "sync_error"},
      {"damage_rolled_back", "refused"},
      {"unreadable_slot_ignored", "refused"},
      {"recovery_not_idempotent", "crash_chain"},
      {"log_accepted_past_tear", "log_damage"},
      {"stale_incarnation_replayed", "log_damage"},
      {"inherited_range_not_rewritten", "increment"},
      {"decided_before_prepared", "shards"},
      {"decision_forgotten_early", "shards"},
      {"acknowledged_during_snapshot", "shards"},
  };
  std::vector<const FaultEntry*> entries;
  for (const Hint& hint : kHints) {
    for (const FaultEntry& entry : all_faults()) {
      if (hint.bug == bug && hint.fault == entry.name) entries.push_back(&entry);
    }
  }
  if (entries.empty()) entries.push_back(&all_faults().front());
  for (const FaultEntry& entry : all_faults()) {
    if (entry.has_lives && &entry != entries.front()) entries.push_back(&entry);
  }
  return entries;
}

struct Report {
  char fault[32];
  std::uint64_t seed;
  WalMode mode;
  char what[400];
};

// Tells the parent what it is about to run, so that it knows also when this process dies; returns when a violation is found.
void hunt(const PlantedBug& bug, int to_parent) {
  monterey::FixedBufs arena(Life::arena_bytes());
  plant(bug.bug);
  const auto entries = entries_for(bug.name);
  for (std::uint64_t seed = 1;; ++seed) {
    // The likely entry every time, and one of the others.
    const FaultEntry* const turn[] = {entries[0], entries[1 + seed % (entries.size() - 1)]};
    for (const FaultEntry* entry : turn) {
      FaultContext context{.arena = arena, .mode = mode_of(seed), .most_images = 60};
      Report report{};
      std::snprintf(report.fault, sizeof report.fault, "%s", entry->name);
      report.seed = seed;
      report.mode = context.mode;
      static_cast<void>(::write(to_parent, &report, sizeof report));
      std::string wrong;
      try {
        wrong = entry->run(context, seed);
      } catch (const std::exception& error) {
        wrong = error.what();
      }
      if (wrong.empty()) continue;
      std::snprintf(report.what, sizeof report.what, "%s", wrong.c_str());
      static_cast<void>(::write(to_parent, &report, sizeof report));
      return;
    }
  }
}

bool is_caught(const PlantedBug& bug, double seconds) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe() failed");
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork() failed");
  if (child == 0) {
    ::close(ends[0]);
    // Its assertions are an expected end, and no news.
    if (std::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(3);
    for (const int signal : {SIGABRT, SIGSEGV}) std::signal(signal, SIG_DFL);
    ::alarm(static_cast<unsigned>(seconds));
    hunt(bug, ends[1]);
    ::_exit(1);
  }
  ::close(ends[1]);
  Report last{};
  for (Report report{}; ::read(ends[0], &report, sizeof report) == static_cast<ssize_t>(sizeof report);) last = report;
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  const bool timed_out = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
  if (timed_out) {
    fmt::print("planted={} caught=no seeds={}\n", bug.name, last.seed);
  } else {
    fmt::print("planted={} caught=yes fault={} seeds={} wal={}: {}\n", bug.name, last.fault, last.seed,
               name_of(last.mode), last.what[0] != '\0' ? last.what : "the process died on an assertion");
  }
  std::fflush(stdout);
  return !timed_out;
}

}  // namespace

bool run_control(const std::string& only, double seconds_each) {
  int planted = 0;
  int caught = 0;
  for (const PlantedBug& bug : kBugs) {
    if (!only.empty() && only != bug.name) continue;
    ++planted;
    caught += is_caught(bug, seconds_each);
  }
  fmt::print("planted={} caught={}\n", planted, caught);
  return planted > 0 && planted == caught;
}

#else

bool run_control(const std::string&, double) {
  fmt::print(stderr, "store_sim: this build has no planted bugs; configure with STORE_PLANT=ON (./dev sim does)\n");
  return false;
}

#endif

}  // namespace store::test
