// The program that the crash test starts and kills: `crash_worker load|recover|verify --store FILE --state FILE --mode MODE
// --seed N [--operations N]`. Exit codes: 0 done, 1 violations (printed), 3 an error (printed).
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <map>

#include "crash/worker.hpp"

namespace store::crash {

void announce(Phase phase) {
  const char letter = static_cast<char>(phase);
  if (::write(STDOUT_FILENO, &letter, 1) != 1) ::_exit(3);  // nobody is there to be told
}

}  // namespace store::crash

int main(int argc, char** argv) {
  using namespace store::crash;
  const std::map<std::string, store::WalMode> modes{
      {"none", store::WalMode::none}, {"batched", store::WalMode::batched}, {"per_op", store::WalMode::per_op}};
  Settings settings;
  CLI::App app("A process of the crash test");
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* what) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("--store", settings.store, "The store, a file")->required();
    command->add_option("--state", settings.state, "What is expected of it, a file")->required();
    command->add_option("--mode", settings.mode, "none, batched or per_op")->transform(CLI::Transformer(modes));
    command->add_option("--seed", settings.seed, "Chooses load and configuration");
    return command;
  };
  CLI::App* load = add("load", "Writes until it is killed");
  load->add_option("--operations", settings.operations, "Closes the store after so many");
  const CLI::App* recover = add("recover", "Opens, changes nothing");
  add("verify", "Opens, and holds what is found against what is expected");
  CLI11_PARSE(app, argc, argv);
  try {
    if (load->parsed()) {
      run_load(settings);
    } else if (recover->parsed()) {
      run_recovery(settings);
    } else {
      return run_verification(settings) == 0 ? 0 : 1;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "crash_worker: {}\n", error.what());
    return 3;
  }
  return 0;
}
