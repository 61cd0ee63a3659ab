// Files: the I/O suite gives the same trace on every rung and under injected completions; which operation a transfer
// becomes; what a cancelled one looks like.
#include <gtest/gtest.h>

#include <cerrno>
#include <monterey/file.hpp>
#include <monterey/spawn.hpp>

#include "io_rungs.hpp"
#include "io_suite.hpp"
#include "monterey/detail/reactor.hpp"
#include "monterey/io_injection.hpp"
#include "support/seed.hpp"

namespace monterey::test {
namespace {

using detail::IoOp;
using detail::IoOpcode;
using detail::IoRung;

// Passes everything on and remembers what was queued.
class Recorder final : public detail::IoBackend {
 public:
  explicit Recorder(IoBackend& inner) : inner_(inner) {}

  void queue(IoOp& op) noexcept override {
    queued.push_back(op);
    inner_.queue(op);
  }
  void turn(std::optional<TimePoint> wait_until) override { inner_.turn(wait_until); }
  bool completions_pending() const noexcept override { return inner_.completions_pending(); }
  std::size_t in_flight() const noexcept override { return inner_.in_flight(); }
  void wake() noexcept override { inner_.wake(); }
  bool wake_from(IoBackend& by) noexcept override { return inner_.wake_from(by); }
  int register_file(int fd) noexcept override { return inner_.register_file(fd); }
  void unregister_file(int slot) noexcept override { inner_.unregister_file(slot); }

  std::vector<IoOp> queued;

 private:
  IoBackend& inner_;
};

class FileTest : public RungTest {
 protected:
  // Runs `task` on the rung's backend, seen through `recorder_`.
  void run(Task<> task) {
    Recorder recorder(*backend_);
    detail::Reactor reactor(recorder);
    FixedBufs::set_current(arena_.get());
    {
      const detail::Reactor::Activation active(reactor);
      recorder_ = &recorder;
      spawn(std::move(task));
    }
    reactor.run();
    FixedBufs::set_current(nullptr);
  }
  std::vector<IoOp> take_queued() { return std::exchange(recorder_->queued, {}); }

  Task<> check_operations(std::string path) {
    OpenOptions options{.access = FileAccess::read_write, .create = true};
    File file = co_await File::open(path, options);
    const FixedBuf fixed = FixedBufs::current().allocate(8192);
    std::vector<std::byte> heap(8192);
    recorder_->queued.clear();
    co_await file.write(0, fixed.span());
    co_await file.write(0, heap);
    co_await file.read(0, fixed.span());
    co_await file.read(0, heap);
    co_await file.read_fixed(0, fixed.span());
    co_await file.write_fixed(0, fixed.span());
    const bool registered = found_.registered_buffers;
    const IoOpcode read = registered ? IoOpcode::read_fixed : IoOpcode::read;
    const IoOpcode write = registered ? IoOpcode::write_fixed : IoOpcode::write;
    const IoOpcode wanted[] = {write, IoOpcode::write, read, IoOpcode::read, read, write};
    const std::vector<IoOp> queued = take_queued();
    EXPECT_EQ(queued.size(), 6u);
    for (std::size_t i = 0; i < queued.size(); ++i) EXPECT_EQ(queued[i].opcode, wanted[i]) << i;
    EXPECT_EQ(queued[0].file_slot >= 0, found_.registered_files);
    bool refused = false;
    try {
      co_await file.read_fixed(0, heap);
    } catch (const store::Error& error) {
      refused = error.errc() == store::Errc::invalid_argument;
    }
    EXPECT_TRUE(refused);
  }
  Task<> check_pieces(std::string path) {
    OpenOptions options{.access = FileAccess::read_write, .create = true};
    File file = co_await File::open(path, options);
    std::vector<std::byte> heap(kBackgroundBytesPerTurn * 2 + 100);
    const iovec pieces[] = {{heap.data(), 100}, {heap.data() + 100, heap.size() - 100}};
    recorder_->queued.clear();
    co_await file.write(0, heap, IoClass::background);
    co_await file.readv(0, pieces, IoClass::background);
    const std::vector<IoOp> queued = take_queued();
    EXPECT_EQ(queued.size(), 6u);
    for (const IoOp& op : queued) EXPECT_LE(op.bytes, kBackgroundBytesPerTurn);
    co_await file.write(0, heap);
    EXPECT_EQ(take_queued().size(), 1u);
  }

  Recorder* recorder_ = nullptr;
};

TEST_P(FileTest, TheSuiteGivesTheTraceOfThreads) {
  const std::uint64_t seed = store::test::requested_seed().value_or(1);
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  FixedBufs arena(std::size_t{1} << 20);
  Capabilities found;
  const auto threads = detail::make_backend(Backend::threads, arena, found);
  const auto expected = io_trace(*threads, arena, directory_.path(), seed);
  EXPECT_GT(expected.size(), 200u);
  EXPECT_EQ(first_difference(expected, io_trace(*backend_, *arena_, directory_.path(), seed)), "");
}

TEST_P(FileTest, InjectedCompletionsDoNotShow) {
  const std::uint64_t first_seed = store::test::requested_seed().value_or(7);
  for (std::uint64_t seed = first_seed; seed < first_seed + 2; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    const auto expected = io_trace(*backend_, *arena_, directory_.path(), seed);
    detail::IoInjection injection(seed, {.short_count = 300, .eintr = 100, .eagain = 100, .reorder = 300});
    backend_->set_injection(&injection);
    EXPECT_EQ(first_difference(expected, io_trace(*backend_, *arena_, directory_.path(), seed)), "");
    backend_->set_injection(nullptr);
    EXPECT_GT(injection.counts().short_count, 50u);
    EXPECT_GT(injection.counts().eintr, 20u);
    EXPECT_GT(injection.counts().eagain, 20u);
    EXPECT_GT(injection.counts().held, 50u);
  }
}

Task<> expect_cancelled(Task<> task) {
  try {
    co_await std::move(task);
    ADD_FAILURE() << "a cancelled operation succeeded";
  } catch (const store::Error& error) {
    EXPECT_EQ(error.errc(), store::Errc::io_error);
    EXPECT_EQ(error.os_error(), ECANCELED);
  }
}

Task<> cancel_all(detail::IoBackend& backend, std::string path) {
  OpenOptions options{.access = FileAccess::read_write, .create = true};
  File file = co_await File::open(path, options);
  detail::IoInjection injection(1, {.ecanceled = 1000});
  backend.set_injection(&injection);
  const std::vector<std::byte> memory(100);
  co_await expect_cancelled(file.write(0, memory));
  co_await expect_cancelled(file.datasync());
  co_await expect_cancelled(file.truncate(0));
  EXPECT_EQ(injection.counts().ecanceled, 3u);
  backend.set_injection(nullptr);
  co_await file.write(0, memory);
}

TEST_P(FileTest, ACancelledOperationIsAnErrorAndNotRepeated) { run(cancel_all(*backend_, directory_.file("data"))); }

TEST_P(FileTest, ATransferTakesTheRegisteredPathWhereItCan) { run(check_operations(directory_.file("data"))); }

TEST_P(FileTest, BackgroundTransfersGoInPiecesOfTheTurnsBudget) { run(check_pieces(directory_.file("data"))); }

INSTANTIATE_TEST_SUITE_P(Rungs, FileTest, testing::ValuesIn(kAllRungs),
                         [](const auto& rung) { return rung_name(rung.param); });

}  // namespace
}  // namespace monterey::test
