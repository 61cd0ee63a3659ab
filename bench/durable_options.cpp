#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "durable.hpp"

namespace bench {

bool parse_durable_options(int argc, char** argv, DurableOptions& options) {
  CLI::App app("One side of the durable benchmark");
  app.require_subcommand(1);
  CLI::App* fill = app.add_subcommand("fill", "Make a store with all keys in it");
  for (CLI::App* command : {fill, app.add_subcommand("run", "Put for a while and print the rate")}) {
    command->add_option("--path", options.path, "The store")->required();
    command->add_option("--keys", options.keys, "How many");
    command->add_option("--writers", options.writers, "Tasks or threads");
    command->add_option("--seconds", options.seconds, "How long to count");
    command->add_option("--warm-up", options.warm_up, "How long not to count before");
    command->add_option("--seed", options.seed, "Chooses keys and values");
    command->add_option("--mode", options.mode, "per_op, batched or none")
        ->check(CLI::IsMember({"per_op", "batched", "none"}));
    command->add_flag("--pipelined,!--not-pipelined", options.pipelined, "RocksDB: enable_pipelined_write");
    command->add_flag("--recycled,!--not-recycled", options.recycled, "RocksDB: log files are used again");
    command->add_flag("--yielding,!--not-yielding", options.yielding, "RocksDB: enable_write_thread_adaptive_yield");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return fill->parsed();
}

void print_rate(const DurableOptions& options, std::uint64_t puts) {
  fmt::print("rate={:.1f}\n", static_cast<double>(puts) / options.seconds);
}

}  // namespace bench
