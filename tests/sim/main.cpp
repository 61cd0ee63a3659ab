// store_sim: runs the fault programme and prints one line a fault; `store_sim --help` names the options. Exit status 1
// after a violation, which is printed with the command that replays it.
#include <fmt/format.h>

#include <unistd.h>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "sim/control.hpp"
#include "sim/faults.hpp"
#include "sim/shrink.hpp"

namespace store::test {
namespace {

struct Options {
  std::string fault;  // all if empty
  double seconds = 0;
  std::uint64_t images = 0;
  std::optional<std::uint64_t> seed;
  std::optional<WalMode> mode;  // each in turn if not said
  bool control = false;
  bool shrink = false;
  std::vector<char> only;  // operations, by number
  std::string bug;
  bool trace = false;
};

char g_replay[256];

// What the engine asserts on ends the process: say how to come back here.
void on_abort(int signal) {
  static_cast<void>(::write(1, g_replay, std::strlen(g_replay)));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

int run_fault(const FaultEntry& fault, const Options& options, monterey::FixedBufs& arena) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  FaultContext context{.arena = arena, .trace = options.trace};
  if (!options.only.empty()) context.only = &options.only;
  const std::uint64_t images = options.images != 0 ? options.images : options.seconds > 0 ? ~0ull : fault.images;
  std::uint64_t seeds = 0;
  int violations = 0;
  for (std::uint64_t seed = options.seed.value_or(1); violations == 0; ++seed) {
    context.mode = options.mode.value_or(mode_of(seed));
    std::snprintf(g_replay, sizeof g_replay,
                  "\nviolation: the process died; replay: store_sim --fault %s --wal %s --seed %llu\n", fault.name,
                  name_of(context.mode), static_cast<unsigned long long>(seed));
    std::string wrong;
    try {
      wrong = fault.run(context, seed);
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    ++seeds;
    if (!wrong.empty()) {
      ++violations;
      fmt::print("violation: {}\nreplay: store_sim --fault {} --wal {} --seed {}\n", wrong, fault.name,
                 name_of(context.mode), seed);
      if (options.shrink) {
        std::string numbers;
        const std::vector<char> left = shrink(fault, context, seed);
        for (std::size_t i = 0; i < left.size(); ++i) {
          if (left[i]) numbers += fmt::format("{}{}", numbers.empty() ? "" : ",", i);
        }
        fmt::print("shrunk: store_sim --fault {} --wal {} --seed {} --only {}\n", fault.name, name_of(context.mode),
                   seed, numbers);
      }
    }
    if (options.seed || context.images >= images) break;
    if (options.seconds > 0 && std::chrono::duration<double>(Clock::now() - begin).count() >= options.seconds) break;
  }
  fmt::print("fault={} seeds={} images={} violations={}\n", fault.name, seeds, context.images, violations);
  std::fflush(stdout);
  return violations;
}

int run(const Options& options) {
  if (options.control) return run_control(options.bug, options.seconds > 0 ? options.seconds : 60) ? 0 : 1;
  monterey::FixedBufs arena(Life::arena_bytes());
  int violations = 0;
  bool found = false;
  for (const FaultEntry& fault : all_faults()) {
    if (!options.fault.empty() && options.fault != fault.name) continue;
    found = true;
    violations += run_fault(fault, options, arena);
  }
  if (!found) {
    fmt::print(stderr, "store_sim: no such fault: {}\n", options.fault);
    return 2;
  }
  return violations == 0 ? 0 : 1;
}

[[noreturn]] void usage(int status) {
  std::fputs(
      "usage: store_sim [--fault NAME] [--seconds N] [--images N] [--seed N] [--wal none|batched|per_op]\n"
      "                 [--shrink] [--only NUMBERS] [--trace]\n"
      "       store_sim --control [--bug NAME] [--seconds N]\n"
      "Runs each fault, or the one named, for so many images or seconds; with a seed, that one alone. --shrink looks\n"
      "for the fewest operations that still show a violation, --only does no others, --trace prints all that happens.\n"
      "--control runs the planted bugs, each for so many seconds at most (60). The faults:\n",
      status == 0 ? stdout : stderr);
  for (const FaultEntry& fault : all_faults()) fmt::print("  {:16}{}\n", fault.name, fault.what);
  std::exit(status);
}

std::vector<char> parse_only(const char* text) {
  std::vector<char> only(kMostOperations);
  for (char* at = const_cast<char*>(text); *at != '\0'; at += *at == ',') {
    const unsigned long number = std::strtoul(at, &at, 10);
    if (number >= only.size() || (*at != ',' && *at != '\0')) usage(2);
    only[number] = 1;
  }
  return only;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--help") usage(0);
    if (name == "--trace") {
      options.trace = true;
      continue;
    }
    if (name == "--shrink") {
      options.shrink = true;
      continue;
    }
    if (name == "--control") {
      options.control = true;
      continue;
    }
    if (i + 1 == argc) usage(2);
    const char* value = argv[++i];
    if (name == "--fault") {
      options.fault = value;
    } else if (name == "--bug") {
      options.bug = value;
    } else if (name == "--only") {
      options.only = parse_only(value);
    } else if (name == "--seconds") {
      options.seconds = std::strtod(value, nullptr);
    } else if (name == "--images") {
      options.images = std::strtoull(value, nullptr, 0);
    } else if (name == "--seed") {
      options.seed = std::strtoull(value, nullptr, 0);
    } else if (name == "--wal" && std::string_view(value) == "batched") {
      options.mode = WalMode::batched;
    } else if (name == "--wal" && std::string_view(value) == "per_op") {
      options.mode = WalMode::per_op;
    } else if (name == "--wal" && std::string_view(value) == "none") {
      options.mode = WalMode::none;
    } else {
      usage(2);
    }
  }
  return options;
}

}  // namespace
}  // namespace store::test

int main(int argc, char** argv) {
  std::signal(SIGABRT, store::test::on_abort);
  std::signal(SIGSEGV, store::test::on_abort);
  return store::test::run(store::test::parse(argc, argv));
}
