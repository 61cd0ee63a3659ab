#include "io_suite.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <monterey/file.hpp>
#include <monterey/spawn.hpp>
#include <random>
#include <store/error.hpp>

#include "monterey/detail/reactor.hpp"
#include "store/base/crc32c.hpp"

namespace monterey::test {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kModelBytes = 192 * 1024;

std::string checksum(std::span<const std::byte> bytes) { return std::to_string(store::crc32c(bytes)); }

class Suite {
 public:
  Suite(FixedBufs& arena, std::string directory, std::uint64_t seed)
      : memory_(arena.allocate(2 * kModelBytes)), directory_(std::move(directory)), random_(seed) {}

  Task<> run() {
    co_await opening();
    co_await random_transfers();
    co_await direct_transfers();
    co_await many_at_once();
    co_await ending();
  }
  std::vector<std::string> take_lines() { return std::move(lines_); }

 private:
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  void note(std::string line) {
    for (std::size_t at; (at = line.find(directory_)) != std::string::npos;) line.replace(at, directory_.size(), "DIR");
    lines_.push_back(std::move(line));
  }

  // Notes how `task` ends.
  template <class T>
  Task<> outcome(std::string what, Task<T> task) {
    try {
      co_await std::move(task);
      note(what + ": done");
    } catch (const store::Error& error) {
      note(what + ": " + error.code().message() + ", errno " + std::to_string(error.os_error()) + ", " + error.what());
    }
  }

  Task<> opening() {
    ::unlink(path("data").c_str());
    co_await outcome("open of nothing", File::open(path("data")));
    OpenOptions create{.access = FileAccess::read_write, .create = true, .exclusive = true};
    File file = co_await File::open(path("data"), create);
    co_await outcome("open of what is there", File::open(path("data"), create));
    co_await outcome("open below a file", File::open(path("data/below")));
    note("size " + std::to_string(co_await file.size()));
    co_await outcome("write nothing", file.write(0, std::span<const std::byte>{}));
    co_await outcome("allocate", file.allocate(0, 100'000));
    note("size " + std::to_string(co_await file.size()));
    co_await outcome("truncate", file.truncate(7));
    note("size " + std::to_string(co_await file.size()));
    co_await outcome("allocate too much", file.allocate(1, ~std::uint64_t{0}));
    co_await outcome("allocate nothing", file.allocate(0, 0));
    co_await outcome("close", file.close());
    co_await outcome("sync when closed", file.sync());
    co_await outcome("close again", file.close());
    File empty;
    co_await outcome("size of no file", empty.size());
    File read_only = co_await File::open(path("data"));
    co_await outcome("write to a file opened for reading", read_only.write(0, memory_.span().first(10)));
    note("read " + std::to_string(co_await read_only.read(0, memory_.span().first(100))));
    note("read at the end " + std::to_string(co_await read_only.read(7, memory_.span().first(100))));
    co_await read_only.close();
  }

  // A span of memory, in the arena or not.
  std::span<std::byte> some_memory(std::size_t bytes) {
    if (random_() % 2 == 0) return memory_.span().subspan(random_() % kModelBytes, bytes);
    heap_.resize(2 * kModelBytes);
    return std::span(heap_).subspan(random_() % kModelBytes, bytes);
  }

  // `memory` in up to six pieces, empty ones among them.
  std::vector<iovec> cut(std::span<std::byte> memory) {
    std::vector<iovec> pieces;
    while (pieces.size() < 5) {
      const std::size_t bytes = random_() % (memory.size() + 1);
      pieces.push_back({memory.data(), bytes});
      memory = memory.subspan(bytes);
    }
    pieces.push_back({memory.data(), memory.size()});
    return pieces;
  }

  void compare(const std::string& what, std::size_t offset, std::span<const std::byte> read) {
    const std::size_t expected = offset < model_.size() ? std::min(wanted_, model_.size() - offset) : 0;
    const bool same =
        read.size() == expected && std::equal(read.begin(), read.end(), model_.begin() + offset_in(offset));
    std::string line = what + " at " + std::to_string(offset) + ": " + std::to_string(read.size()) + " bytes, ";
    line += checksum(read);
    note(same ? line : "WRONG: " + line);
  }
  std::ptrdiff_t offset_in(std::size_t offset) const {
    return static_cast<std::ptrdiff_t>(std::min(offset, model_.size()));
  }

  void model_write(std::size_t offset, std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    model_.resize(std::max(model_.size(), offset + bytes.size()));
    std::copy(bytes.begin(), bytes.end(), model_.begin() + offset_in(offset));
  }

  Task<> random_step(File& file) {
    const std::size_t offset = random_() % kModelBytes;
    const std::size_t length = random_() % (random_() % 4 == 0 ? kModelBytes : 3 * kBlock);
    const IoClass io_class = random_() % 4 == 0 ? IoClass::background : IoClass::foreground;
    const std::uint64_t action = random_() % 12;
    wanted_ = length;
    if (action < 8) {
      const std::span<std::byte> memory = some_memory(length);
      const std::vector<iovec> pieces = cut(memory);
      if (action < 4) {
        for (std::byte& b : memory) b = static_cast<std::byte>(random_());
        if (action == 0) {
          co_await file.write_durably(offset, memory, io_class);
        } else if (action == 1) {
          co_await file.write(offset, memory, io_class);
        } else {
          co_await file.writev(offset, pieces, io_class);
        }
        model_write(offset, memory);
      } else {
        std::fill(memory.begin(), memory.end(), std::byte{0xA5});
        std::size_t got = 0;
        if (action < 6) {
          got = co_await file.read(offset, memory, io_class);
        } else {
          got = co_await file.readv(offset, pieces, io_class);
        }
        compare("read", offset, memory.first(got));
      }
    } else if (action == 8) {
      co_await file.truncate(offset);
      model_.resize(offset);
    } else if (action == 9 && length != 0) {
      co_await file.allocate(offset, length);
      model_.resize(std::max(model_.size(), offset + length));
    } else if (action == 10 && length != 0) {
      co_await file.punch_hole(offset, length);
      const std::size_t end = std::min(model_.size(), offset + length);
      for (std::size_t i = offset; i < end; ++i) model_[i] = std::byte{0};
    } else if (action == 11 && length % 4 == 0) {
      co_await file.datasync();
    }
  }

  Task<> random_transfers() {
    OpenOptions options{.access = FileAccess::read_write, .create = true, .truncate = true};
    File file = co_await File::open(path("data"), options);
    model_.clear();
    for (int step = 0; step < 300; ++step) co_await random_step(file);
    wanted_ = 2 * kModelBytes;
    const std::size_t got = co_await file.read(0, memory_.span());
    compare("all", 0, memory_.span().first(got));
    note("size " + std::to_string(co_await file.size()));
    co_await file.sync();
    co_await file.close();
  }

  // Direct I/O goes on after a short count only at an aligned place; the file's end need not be one.
  Task<> direct_transfers() {
    OpenOptions options{.access = FileAccess::read_write, .create = true, .truncate = true, .direct = true};
    ::unlink(path("data").c_str());
    File file;
    try {
      file = co_await File::open(path("data"), options);
    } catch (const store::Error& error) {
      note("direct I/O refused with errno " + std::to_string(error.os_error()));
      co_return;
    }
    const std::span<std::byte> memory = memory_.span().first(16 * kBlock);
    model_.assign(memory.size(), std::byte{});
    for (std::byte& b : model_) b = static_cast<std::byte>(random_());
    std::copy(model_.begin(), model_.end(), memory.begin());
    co_await file.write(0, memory);
    co_await file.truncate(10 * kBlock + 1000);
    model_.resize(10 * kBlock + 1000);
    for (std::size_t block = 0; block < 12; ++block) {
      for (const std::size_t blocks : {1, 3, 4}) {
        wanted_ = blocks * kBlock;
        const std::size_t got = co_await file.read(block * kBlock, memory.first(blocks * kBlock));
        compare("direct read", block * kBlock, memory.first(got));
      }
    }
    co_await file.close();
  }

  Task<std::string> own_block(File& file, std::size_t number) {
    std::byte* const data = memory_.data() + number * kBlock;
    std::string sums;
    for (std::size_t round = 0; round < 4; ++round) {
      std::memset(data, static_cast<int>(number * 4 + round), kBlock);
      co_await file.write(number * kBlock, {data, kBlock});
      std::memset(data, 0, kBlock);
      const std::size_t got = co_await file.read(number * kBlock, {data, kBlock});
      sums += checksum({data, got}) + ' ';
    }
    co_return sums;
  }

  Task<> many_at_once() {
    OpenOptions options{.access = FileAccess::read_write, .create = true, .truncate = true};
    File file = co_await File::open(path("data"), options);
    std::vector<JoinHandle<std::string>> tasks;
    for (std::size_t number = 0; number < 64; ++number) tasks.push_back(spawn(own_block(file, number)));
    for (JoinHandle<std::string>& task : tasks) note("blocks " + co_await task);
    co_await file.close();
  }

  Task<std::string> read_block(File& file, std::size_t number) {
    std::byte* const data = memory_.data() + number * kBlock;
    const std::size_t got = co_await file.read(number * kBlock, {data, kBlock});
    co_return checksum({data, got});
  }

  // A File is closed, moved and dropped while operations are in flight.
  Task<> ending() {
    File file = co_await File::open(path("data"));
    std::vector<JoinHandle<std::string>> tasks;
    for (std::size_t number = 0; number < 8; ++number) tasks.push_back(spawn(read_block(file, number)));
    co_await yield();
    co_await file.close();
    for (JoinHandle<std::string>& task : tasks) {
      const bool ended = task.ended();
      const std::string sum = co_await task;
      note((ended ? "ended before close: " : "WRONG: close did not wait for ") + sum);
    }
    tasks.clear();
    file = co_await File::open(path("data"));
    for (std::size_t number = 0; number < 8; ++number) tasks.push_back(spawn(read_block(file, number)));
    co_await yield();
    file = File();
    for (JoinHandle<std::string>& task : tasks) note("of a dropped file: " + co_await task);
  }

  FixedBuf memory_;
  const std::string directory_;
  std::mt19937_64 random_;
  std::vector<std::byte> heap_;
  std::vector<std::byte> model_;
  std::size_t wanted_ = 0;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> io_trace(detail::IoBackend& backend, FixedBufs& arena, const std::string& directory,
                                  std::uint64_t seed) {
  Suite suite(arena, directory, seed);
  detail::Reactor reactor(backend);
  FixedBufs* const before = FixedBufs::current_if_any();
  FixedBufs::set_current(&arena);
  {
    const detail::Reactor::Activation active(reactor);
    spawn(suite.run());
  }
  reactor.run();
  FixedBufs::set_current(before);
  return suite.take_lines();
}

std::string first_difference(const std::vector<std::string>& expected, const std::vector<std::string>& actual) {
  for (std::size_t i = 0; i < std::max(expected.size(), actual.size()); ++i) {
    const std::string want = i < expected.size() ? expected[i] : "(the end)";
    const std::string got = i < actual.size() ? actual[i] : "(the end)";
    if (want != got) return "line " + std::to_string(i) + ": expected '" + want + "', got '" + got + "'";
  }
  for (const std::string& line : actual) {
    if (line.starts_with("WRONG")) return line;
  }
  return "";
}

}  // namespace monterey::test
