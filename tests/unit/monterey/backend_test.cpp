// The boundary between reactor and kernel, on each rung: operations end with the right results, one submission a
// turn or an eighth of what is in flight, no system call without need, the background budget, waits and wakes, and injected completions.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <numeric>
#include <thread>
#include <vector>

#include "io_rungs.hpp"
#include "monterey/io_injection.hpp"
#include "monterey/waker.hpp"
#include "support/allocations.hpp"
#include "support/seed.hpp"
#include "support/system_calls.hpp"

namespace monterey::test {
namespace {

using detail::IoBackend;
using detail::IoOp;
using detail::IoOpcode;
using detail::IoRung;
using namespace std::chrono_literals;

constexpr std::size_t kBlock = 4096;

// An operation that remembers the order in which it ended.
struct Op : IoOp {
  Op() {
    complete = [](IoOp& op) noexcept {
      auto& self = static_cast<Op&>(op);
      self.ended = true;
      if (self.order != nullptr) self.order->push_back(self.number);
    };
  }
  bool ended = false;
  std::size_t number = 0;
  std::vector<std::size_t>* order = nullptr;
};

class BackendTest : public RungTest {
 protected:
  // A file of `blocks` blocks, block i filled with byte i.
  int make_file(std::size_t blocks) {
    const int fd = ::open(directory_.file("data").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (std::size_t i = 0; i < blocks; ++i) {
      const std::string block(kBlock, static_cast<char>(i));
      EXPECT_EQ(::pwrite(fd, block.data(), kBlock, static_cast<off_t>(i * kBlock)), static_cast<ssize_t>(kBlock));
    }
    return fd;
  }

  void read_op(Op& op, int fd, std::size_t block, std::byte* into, IoClass io_class = IoClass::foreground) {
    op.opcode = IoOpcode::read;
    op.io_class = io_class;
    op.fd = fd;
    op.offset = block * kBlock;
    op.data = into;
    op.length = kBlock;
    op.bytes = kBlock;
  }

  // Turns until nothing is in flight; false if that takes more than ten seconds.
  bool drain() {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (backend_->in_flight() != 0) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      backend_->turn(deadline);
    }
    return true;
  }

  std::int64_t run(Op& op) {
    backend_->queue(op);
    EXPECT_TRUE(drain());
    EXPECT_TRUE(op.ended);
    return op.result;
  }
};

TEST_P(BackendTest, EveryOperationDoesWhatItsSystemCallDoes) {
  const std::string path = directory_.file("all");
  Op open;
  open.opcode = IoOpcode::openat;
  open.data = const_cast<char*>(path.c_str());
  open.flags = O_RDWR | O_CREAT | O_CLOEXEC;
  open.length = 0640;
  const auto fd = static_cast<int>(run(open));
  ASSERT_GE(fd, 0);

  FixedBuf memory = arena_->allocate(2 * kBlock);
  std::memset(memory.data(), 'w', memory.size());
  iovec pieces[2] = {{memory.data(), kBlock}, {memory.data() + kBlock, kBlock}};
  const auto transfer = [&](IoOpcode opcode, void* data, std::uint32_t length, std::uint64_t offset) {
    Op op;
    op.opcode = opcode;
    op.fd = fd;
    op.data = data;
    op.length = length;
    op.offset = offset;
    return run(op);
  };
  const auto control = [&](IoOpcode opcode, std::uint64_t offset, std::uint64_t bytes, int flags) {
    Op op;
    op.opcode = opcode;
    op.fd = fd;
    op.offset = offset;
    op.bytes = bytes;
    op.flags = static_cast<std::uint32_t>(flags);
    return run(op);
  };
  EXPECT_EQ(transfer(IoOpcode::write, memory.data(), kBlock, 0), 4096);
  EXPECT_EQ(transfer(IoOpcode::writev, pieces, 2, kBlock), 8192);
  EXPECT_EQ(control(IoOpcode::fdatasync, 0, 0, 0), 0);
  EXPECT_EQ(control(IoOpcode::fsync, 0, 0, 0), 0);
  if (arena_->index_of(memory.data(), kBlock)) {
    EXPECT_EQ(transfer(IoOpcode::write_fixed, memory.data(), kBlock, 3 * kBlock), 4096);
    std::memset(memory.data(), 0, memory.size());
    EXPECT_EQ(transfer(IoOpcode::read_fixed, memory.data(), kBlock, 3 * kBlock), 4096);
    EXPECT_EQ(memory.data()[17], std::byte{'w'});
  }
  std::memset(memory.data(), 0, memory.size());
  EXPECT_EQ(transfer(IoOpcode::readv, pieces, 2, kBlock), 8192);
  EXPECT_EQ(memory.data()[8191], std::byte{'w'});
  EXPECT_EQ(control(IoOpcode::fallocate, 0, 64 * kBlock, 0), 0);
  struct stat status {};
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, static_cast<off_t>(64 * kBlock));
  EXPECT_EQ(status.st_mode & 0777u, 0640u);
  EXPECT_EQ(control(IoOpcode::ftruncate, 5000, 0, 0), 0);
  EXPECT_EQ(transfer(IoOpcode::read, memory.data(), 8192, 0), 5000);
  EXPECT_EQ(transfer(IoOpcode::read, memory.data(), 8192, 5000), 0);
  EXPECT_EQ(control(IoOpcode::close, 0, 0, 0), 0);
  EXPECT_EQ(transfer(IoOpcode::read, memory.data(), 8192, 0), -EBADF);
}

TEST_P(BackendTest, SixtyFourReadsAreOneSystemCallAndAnIdleTurnIsNone) {
  const int fd = make_file(64);
  backend_.reset();
  std::vector<std::byte> memory(64 * kBlock);
  const auto calls = store::test::count_system_calls([&](const store::test::SystemCallWindow& window) -> std::string {
    backend_ = detail::make_backend(Backend::automatic, GetParam(), *arena_, found_);
    std::deque<Op> ops(64);
    for (std::size_t i = 0; i < ops.size(); ++i) {
      read_op(ops[i], fd, i, memory.data() + i * kBlock);
      backend_->queue(ops[i]);
    }
    if (on_ring()) window.open();  // worker threads make a call for every operation
    backend_->turn(std::nullopt);
    window.close();
    if (!drain()) return "the reads did not end";
    window.open();
    for (int i = 0; i < 1000; ++i) {
      backend_->turn(std::nullopt);
      backend_->wake();
      if (backend_->completions_pending()) return "completions out of nothing";
    }
    window.close();
    for (std::size_t i = 0; i < ops.size(); ++i) {
      if (ops[i].result != kBlock || memory[i * kBlock] != static_cast<std::byte>(i)) return "a read failed";
    }
    return "";
  });
  ASSERT_TRUE(calls.counted) << calls.failure;
  EXPECT_EQ(calls.total(), on_ring() ? 1u : 0u);
  EXPECT_EQ(calls.of(SYS_io_uring_enter), on_ring() ? 1u : 0u);
  ::close(fd);
}

// Reads of it stay in flight until they are fed.
class EmptyPipe {
 public:
  EmptyPipe() { EXPECT_EQ(::pipe(ends_), 0); }
  EmptyPipe(const EmptyPipe&) = delete;
  EmptyPipe& operator=(const EmptyPipe&) = delete;
  ~EmptyPipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  int fd() const { return ends_[0]; }
  void feed(std::size_t bytes) {
    const std::string text(bytes, 'x');
    EXPECT_EQ(::write(ends_[1], text.data(), bytes), static_cast<ssize_t>(bytes));
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST_P(BackendTest, AnEighthOfWhatIsInFlightIsNotHeldBackUntilTheTurn) {
  backend_.reset();
  constexpr std::size_t kInFlight = 24;
  constexpr std::size_t kEighth = kInFlight / 8;
  std::vector<std::uint64_t> calls_of_each;
  for (std::size_t waiting = 1; waiting <= kEighth; ++waiting) {
    const auto calls = store::test::count_system_calls([&](const store::test::SystemCallWindow& window) -> std::string {
      EmptyPipe pipe;
      backend_ = detail::make_backend(Backend::automatic, GetParam(), *arena_, found_);
      std::deque<Op> ops(kInFlight + kEighth);
      std::array<std::byte, kInFlight + kEighth> memory{};
      for (std::size_t i = 0; i < ops.size(); ++i) {
        read_op(ops[i], pipe.fd(), 0, &memory[i]);
        ops[i].length = 1;
      }
      for (std::size_t i = 0; i < kInFlight; ++i) backend_->queue(ops[i]);
      backend_->turn(std::nullopt);
      if (on_ring()) window.open();  // worker threads make a call for every operation
      for (std::size_t i = 0; i < waiting; ++i) backend_->queue(ops[kInFlight + i]);
      window.close();
      for (std::size_t i = waiting; i < kEighth; ++i) backend_->queue(ops[kInFlight + i]);
      pipe.feed(memory.size());
      if (!drain()) return "the reads did not end";
      return "";
    });
    ASSERT_TRUE(calls.counted) << calls.failure;
    EXPECT_EQ(calls.total(), calls.of(SYS_io_uring_enter));
    calls_of_each.push_back(calls.total());
  }
  EXPECT_THAT(calls_of_each, testing::ElementsAre(0, 0, on_ring() ? 1 : 0));
}

// Reads of what the kernel's page cache holds end as soon as they are submitted, all in one look.
TEST_P(BackendTest, AnEighthOfWhatJustEndedTogetherIsNotHeldBackEither) {
  backend_.reset();
  constexpr std::size_t kTogether = 24;
  constexpr std::size_t kEighth = kTogether / 8;
  const int fd = make_file(kTogether);
  const auto calls = store::test::count_system_calls([&](const store::test::SystemCallWindow& window) -> std::string {
    backend_ = detail::make_backend(Backend::automatic, GetParam(), *arena_, found_);
    std::deque<Op> ops(kTogether + kEighth);
    std::vector<std::byte> memory(ops.size() * kBlock);
    for (std::size_t i = 0; i < ops.size(); ++i) read_op(ops[i], fd, i % kTogether, memory.data() + i * kBlock);
    for (std::size_t i = 0; i < kTogether; ++i) backend_->queue(ops[i]);
    if (!drain()) return "the reads did not end";
    if (on_ring()) window.open();
    for (std::size_t i = 0; i < kEighth; ++i) backend_->queue(ops[kTogether + i]);
    window.close();
    return drain() ? "" : "the reads did not end";
  });
  ::close(fd);
  ASSERT_TRUE(calls.counted) << calls.failure;
  EXPECT_EQ(calls.total(), on_ring() ? 1u : 0u);
}

// Reads of a flush in flight do not raise the bar for a lone read; it goes before background tasks have their slice.
TEST_P(BackendTest, AForegroundReadBesideBackgroundReadsGoesWhenAsked) {
  backend_.reset();
  const auto calls = store::test::count_system_calls([&](const store::test::SystemCallWindow& window) -> std::string {
    EmptyPipe pipe;
    backend_ = detail::make_backend(Backend::automatic, GetParam(), *arena_, found_);
    std::deque<Op> ops(9);
    std::array<std::byte, 9> memory{};
    for (std::size_t i = 0; i < ops.size(); ++i) {
      read_op(ops[i], pipe.fd(), 0, &memory[i], i == 8 ? IoClass::foreground : IoClass::background);
      ops[i].length = 1;
    }
    for (std::size_t i = 0; i < 8; ++i) backend_->queue(ops[i]);
    backend_->turn(std::nullopt);
    if (on_ring()) window.open();
    backend_->submit_foreground();  // there is none
    backend_->queue(ops[8]);
    backend_->submit_foreground();
    backend_->submit_foreground();
    window.close();
    pipe.feed(memory.size());
    if (!drain()) return "the reads did not end";
    return "";
  });
  ASSERT_TRUE(calls.counted) << calls.failure;
  EXPECT_EQ(calls.total(), on_ring() ? 1u : 0u);
}

TEST_P(BackendTest, MoreOperationsThanTheRingTakesAllEnd) {
  const int fd = make_file(16);
  std::deque<Op> ops(6000);
  std::vector<std::byte> memory(ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    read_op(ops[i], fd, i % 16, memory.data() + i);
    ops[i].length = 1;
    backend_->queue(ops[i]);
  }
  EXPECT_EQ(backend_->in_flight(), ops.size());
  ASSERT_TRUE(drain());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    ASSERT_EQ(ops[i].result, 1);
    ASSERT_EQ(memory[i], static_cast<std::byte>(i % 16));
  }
  ::close(fd);
}

TEST_P(BackendTest, BackgroundOperationsKeepToTheirBudgetOfATurn) {
  const int fd = make_file(100);
  std::vector<std::byte> memory(101 * kBlock);
  std::deque<Op> ops(100);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    read_op(ops[i], fd, i, memory.data() + i * kBlock, IoClass::background);
    backend_->queue(ops[i]);
  }
  Op urgent;
  read_op(urgent, fd, 50, memory.data() + 100 * kBlock);
  backend_->queue(urgent);
  const auto ended = [&] { return std::count_if(ops.begin(), ops.end(), [](const Op& op) { return op.ended; }); };
  for (long turn = 1; turn <= 6; ++turn) {
    backend_->turn(std::nullopt);
    EXPECT_LE(ended(), turn * static_cast<long>(kBackgroundEntriesPerTurn));
  }
  ASSERT_TRUE(drain());
  EXPECT_EQ(ended(), 100);
  EXPECT_TRUE(urgent.ended);
  ::close(fd);
}

TEST(BackgroundBudget, CountsEntriesAndBytesAndLetsALargeOneGoAlone) {
  detail::BackgroundBudget entries;
  IoOp small;
  small.bytes = 512;
  for (std::size_t i = 0; i < kBackgroundEntriesPerTurn; ++i) {
    EXPECT_TRUE(entries.admits(small));
    entries.charge(small);
  }
  EXPECT_FALSE(entries.admits(small));

  detail::BackgroundBudget bytes;
  IoOp half;
  half.bytes = kBackgroundBytesPerTurn / 2;
  bytes.charge(half);
  EXPECT_TRUE(bytes.admits(half));
  bytes.charge(half);
  EXPECT_FALSE(bytes.admits(small));

  detail::BackgroundBudget large;
  IoOp huge;
  huge.bytes = 4 * kBackgroundBytesPerTurn;
  EXPECT_TRUE(large.admits(huge));
  large.charge(huge);
  EXPECT_FALSE(large.admits(small));
}

TEST_P(BackendTest, AWaitEndsAtItsTimeWithACompletionOrByAWake) {
  const auto start = std::chrono::steady_clock::now();
  backend_->turn(start + 20ms);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);

  const int fd = make_file(1);
  std::vector<std::byte> memory(kBlock);
  Op op;
  read_op(op, fd, 0, memory.data());
  backend_->queue(op);
  while (!op.ended) backend_->turn(IoBackend::TimePoint::max());
  EXPECT_EQ(op.result, 4096);
  ::close(fd);

  backend_->wake();
  backend_->turn(IoBackend::TimePoint::max());  // a wake before the wait counts

  std::atomic<bool> woken{false};
  std::thread other([&] {
    woken = true;
    backend_->wake();
  });
  while (!woken) backend_->turn(IoBackend::TimePoint::max());
  other.join();
}

void expect_nothing_slept_over(IoBackend& backend) {
  constexpr int kMessages = 20'000;
  std::atomic<int> published{0};
  std::atomic<int> seen{0};
  std::thread other([&] {
    for (int i = 1; i <= kMessages; ++i) {
      published.store(i, std::memory_order_relaxed);  // the wake orders it
      backend.wake();
      // Half of the time let the core catch up and go to sleep again.
      while (i % 2 == 0 && seen.load(std::memory_order_relaxed) < i) std::this_thread::yield();
    }
  });
  auto deadline = std::chrono::steady_clock::now() + 60s;
  while (seen < kMessages) {
    if (seen != published) deadline = std::chrono::steady_clock::now() + 60s;
    seen.store(published.load(std::memory_order_relaxed), std::memory_order_relaxed);
    if (seen == kMessages) break;
    backend.turn(deadline);
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "slept over message " << published << ", saw " << seen;
  }
  other.join();
}

TEST_P(BackendTest, NothingPublishedBeforeAWakeIsSleptOver) { expect_nothing_slept_over(*backend_); }

TEST_P(BackendTest, AWaitThatPollsEndsLikeAnyOther) {
  if (!on_ring()) return;  // worker threads never poll
  EmptyPipe pipe;
  std::byte byte{};
  Op op;
  read_op(op, pipe.fd(), 0, &byte);
  op.length = 1;
  backend_->poll_for(60s);
  backend_->queue(op);
  const auto start = std::chrono::steady_clock::now();
  backend_->turn(start + 20ms);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);
  EXPECT_FALSE(op.ended);
  backend_->wake();
  backend_->turn(IoBackend::TimePoint::max());
  const auto again = std::chrono::steady_clock::now();
  backend_->turn(again + 20ms);
  EXPECT_GE(std::chrono::steady_clock::now() - again, 20ms) << "one wake ends one wait";
  expect_nothing_slept_over(*backend_);
  backend_->poll_for(20us);
  expect_nothing_slept_over(*backend_);
  backend_->poll_for(60s);
  std::thread other([&pipe] { pipe.feed(1); });
  while (!op.ended) backend_->turn(IoBackend::TimePoint::max());
  other.join();
  EXPECT_EQ(op.result, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 50s);
}

// One call submits; then the core looks by itself, and takes what it saw by another.
TEST_P(BackendTest, AWaitThatPollsMakesNoCallMeanwhile) {
  backend_.reset();
  const auto calls = store::test::count_system_calls([&](const store::test::SystemCallWindow& window) -> std::string {
    EmptyPipe pipe;
    backend_ = detail::make_backend(Backend::automatic, GetParam(), *arena_, found_);
    backend_->poll_for(60s);
    std::byte byte{};
    Op op;
    read_op(op, pipe.fd(), 0, &byte);
    op.length = 1;
    backend_->queue(op);
    if (on_ring()) window.open();
    backend_->turn(std::chrono::steady_clock::now() + 5ms);
    window.close();
    pipe.feed(1);
    return drain() ? "" : "the read did not end";
  });
  ASSERT_TRUE(calls.counted) << calls.failure;
  EXPECT_EQ(calls.total(), on_ring() ? 1u : 0u);
}

TEST_P(BackendTest, EndingAnOperationAllocatesNothing) {
  const int fd = make_file(64);
  std::vector<std::byte> memory(64 * kBlock);
  std::deque<Op> ops(64);
  const auto read_all = [&] {
    for (std::size_t i = 0; i < ops.size(); ++i) {
      read_op(ops[i], fd, i, memory.data() + i * kBlock, i % 2 == 0 ? IoClass::foreground : IoClass::background);
      backend_->queue(ops[i]);
    }
    return drain();
  };
  ASSERT_TRUE(read_all());  // starts the worker threads, where there are any
  const auto before = store::test::allocations();
  ASSERT_TRUE(read_all());
  EXPECT_EQ(store::test::allocations(), before);
  ::close(fd);
}

TEST_P(BackendTest, FilesOfTheTableAreReadThroughTheirSlot) {
  const int fd = make_file(4);
  const int slot = backend_->register_file(fd);
  EXPECT_EQ(slot >= 0, found_.registered_files);
  if (slot < 0) return;
  ::close(fd);  // the table holds the file
  std::vector<std::byte> memory(kBlock);
  Op op;
  read_op(op, -1, 3, memory.data());
  op.file_slot = slot;
  EXPECT_EQ(run(op), 4096);
  EXPECT_EQ(memory[0], std::byte{3});

  const int other = ::open(directory_.file("data").c_str(), O_RDONLY | O_CLOEXEC);
  std::vector<int> slots;
  for (int next; (next = backend_->register_file(other)) >= 0;) slots.push_back(next);
  EXPECT_EQ(slots.size(), 63u);
  backend_->unregister_file(slot);
  EXPECT_EQ(backend_->register_file(other), slot);
  ::close(other);
}

TEST_P(BackendTest, InjectedCompletionsAreShortFailedAndReordered) {
  const std::uint64_t seed = store::test::requested_seed().value_or(20'260'101);
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  const int fd = make_file(64);
  std::vector<std::byte> memory(64 * kBlock);
  const auto read_all = [&](detail::IoInjection::Rates rates, detail::IoInjection::Counts& counts) {
    detail::IoInjection injection(seed, rates);
    backend_->set_injection(&injection);
    std::deque<Op> ops(64);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < ops.size(); ++i) {
      ops[i].number = i;
      ops[i].order = &order;
      read_op(ops[i], fd, i, memory.data() + i * kBlock);
      backend_->queue(ops[i]);
    }
    EXPECT_TRUE(drain());
    backend_->set_injection(nullptr);
    counts = injection.counts();
    EXPECT_EQ(order.size(), 64u);
    std::vector<std::int64_t> results;
    for (const Op& op : ops) results.push_back(op.result);
    results.push_back(std::is_sorted(order.begin(), order.end()) ? 1 : 0);
    return results;
  };
  detail::IoInjection::Counts counts;
  const auto all_are = [](const std::vector<std::int64_t>& results, std::int64_t wanted) {
    return std::all_of(results.begin(), results.end() - 1, [&](std::int64_t result) { return result == wanted; });
  };
  EXPECT_TRUE(all_are(read_all({.eintr = 1000}, counts), -EINTR));
  EXPECT_TRUE(all_are(read_all({.eagain = 1000}, counts), -EAGAIN));
  EXPECT_TRUE(all_are(read_all({.ecanceled = 1000}, counts), -ECANCELED));
  for (const std::int64_t result : read_all({.short_count = 1000}, counts)) EXPECT_LT(result, 4096);
  EXPECT_EQ(counts.short_count, 64u);
  const auto reordered = read_all({.reorder = 1000}, counts);
  EXPECT_TRUE(all_are(reordered, 4096));
  EXPECT_GE(counts.held, 64u);
  EXPECT_EQ(reordered.back(), 0) << "64 completions came in order";
  ::close(fd);
}

TEST_P(BackendTest, CapabilitiesSayWhatIsOnAndWhyTheRestIsOff) {
  SCOPED_TRACE(found_.reason);
  if (!on_ring()) {
    EXPECT_EQ(found_.backend, Backend::threads);
    EXPECT_NE(found_.reason.find("STORE_IO=threads"), std::string::npos);
    EXPECT_FALSE(found_.registered_buffers || found_.registered_files || found_.single_issuer || found_.defer_taskrun);
    return;
  }
  EXPECT_EQ(found_.backend, Backend::io_uring);
  if (GetParam() != IoRung::full) {
    EXPECT_FALSE(found_.registered_buffers);
  }
  if (GetParam() == IoRung::plain) {
    EXPECT_FALSE(found_.single_issuer || found_.defer_taskrun || found_.registered_files);
  }
  const auto explained = [&](bool on, const char* name) {
    EXPECT_TRUE(on || found_.reason.find(name) != std::string::npos) << name;
  };
  explained(found_.registered_buffers, "registered buffers");
  explained(found_.registered_files, "registered files");
  explained(found_.single_issuer, "SINGLE_ISSUER");
  explained(found_.defer_taskrun, "DEFER_TASKRUN");
}

INSTANTIATE_TEST_SUITE_P(Rungs, BackendTest, testing::ValuesIn(kAllRungs),
                         [](const auto& rung) { return rung_name(rung.param); });

TEST(MakeBackend, TakesTheLowerOfTheProgramAndTheEnvironment) {
  FixedBufs none(0);
  Capabilities found;
  detail::make_backend(Backend::threads, IoRung::full, none, found);
  EXPECT_EQ(found.backend, Backend::threads);
  detail::make_backend(Backend::io_uring, IoRung::threads, none, found);
  EXPECT_EQ(found.backend, Backend::threads);
}

TEST(MakeBackend, RefusesAnUnknownRungByName) {
  const char* before = std::getenv("STORE_IO");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("STORE_IO", "nobufs", 1);
  EXPECT_EQ(detail::rung_from_environment(), IoRung::nobufs);
  ::setenv("STORE_IO", "fast", 1);
  try {
    detail::rung_from_environment();
    ADD_FAILURE() << "not refused";
  } catch (const store::Error& error) {
    EXPECT_EQ(error.errc(), store::Errc::invalid_argument);
    EXPECT_STREQ(error.what(), "STORE_IO is 'fast'; it takes full, nobufs, plain or threads");
  }
  ::setenv("STORE_IO", saved.c_str(), 1);
}

}  // namespace
}  // namespace monterey::test
