// snapshots: those of a store, which are a process's own.
#include "tools/commands.hpp"
#include "tools/output.hpp"

namespace store::tool {
namespace {

// The store opens, so that no other process has it open for writing. Those that read it may have snapshots, which keep nothing that a
// writer would use again: there is none.
monterey::Task<ExitCode> tell(const SnapshotsCommand& command) {
  Output output;
  output.write(
      command.json
          ? "[]\n"
          : "none that keeps blocks: a snapshot lives in the process that has the store open, and ends with it\n");
  output.finish();
  co_return ExitCode::done;
}

}  // namespace

ExitCode run(const SnapshotsCommand& command) {
  return with_store(command.session, Access::read, for_any([&](auto&) { return tell(command); }));
}

}  // namespace store::tool
