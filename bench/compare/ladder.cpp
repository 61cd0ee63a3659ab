// What each step of the I/O path brings, without an engine: random reads of whole blocks of a file, by one rung of the ladder at a time.
// `bench_ladder --path FILE --rung RUNG --depth N --block BYTES --seconds S` prints one JSON object. Rungs: threads (one thread with
// pread for each read in flight), uring (plain io_uring), registered (and registered buffers and files), deferred (and SINGLE_ISSUER |
// DEFER_TASKRUN), passthrough (the same with NVMe commands to the namespace whose character device --path is). Of the rings one thread
// waits for a sixteenth of the depth at a time.
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <store/nvme_block_device.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "tools/measure/generators.hpp"
#include "tools/measure/histogram.hpp"
#include "usage.hpp"

namespace comparison {
namespace {

constexpr std::size_t kAlignment = 4096;
constexpr double kWarmUpSeconds = 0.5;

struct LadderOptions {
  std::string path;
  std::string rung = "deferred";
  unsigned depth = 128;
  unsigned block = 4096;
  double seconds = 5;
};

int must(int result, const char* what) {
  if (result < 0) throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(-result)));
  return result;
}

// Newer than Debian 12's headers: Linux 5.19.
#ifndef NVME_URING_CMD_IO
#define NVME_URING_CMD_IO _IOWR('N', 0x80, struct nvme_uring_cmd)
#endif
constexpr std::uint8_t kNvmeRead = 2;

// A file, or a namespace behind its character device.
class File {
 public:
  explicit File(const std::string& path) {
    if (store::is_nvme_path(path)) {
      for (store::NvmeNamespace& space : store::list_nvme_namespaces()) {
        if (space.path == path) space_ = std::move(space);
      }
      if (space_.bytes == 0) throw std::runtime_error(path + ": no namespace that this user may read");
    }
    fd_ = ::open(path.c_str(), (is_namespace() ? O_RDONLY : O_RDONLY | O_DIRECT) | O_CLOEXEC);
    struct stat status {};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0)
      throw std::runtime_error(fmt::format("{}: {}", path, std::strerror(errno)));
    bytes_ = is_namespace() ? space_.bytes : static_cast<std::uint64_t>(status.st_size);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(fd_); }
  int fd() const { return fd_; }
  std::uint64_t bytes() const { return bytes_; }
  bool is_namespace() const { return space_.bytes != 0; }
  const store::NvmeNamespace& space() const { return space_; }

 private:
  store::NvmeNamespace space_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0;
};

struct AlignedDelete {
  void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{kAlignment}); }
};
using Memory = std::unique_ptr<std::byte, AlignedDelete>;

Memory aligned(std::size_t bytes) {
  return Memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment})));
}

// The time that counts, and what was used in it.
struct Window {
  std::uint64_t from;
  std::uint64_t to;
  explicit Window(double seconds)
      : from(now_ns() + static_cast<std::uint64_t>(kWarmUpSeconds * 1e9)),
        to(from + static_cast<std::uint64_t>(seconds * 1e9)) {}
  bool counts(std::uint64_t now) const { return now >= from && now < to; }
};

void read_in_thread(const LadderOptions& options, const File& file, const Window& window, std::uint64_t seed,
                    measure::Histogram& latencies) {
  const Memory memory = aligned(options.block);
  measure::Random random(seed);
  for (std::uint64_t begin = now_ns(); begin < window.to;) {
    const std::uint64_t offset = random.below(file.bytes() / options.block) * options.block;
    if (::pread(file.fd(), memory.get(), options.block, static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(options.block)) {
      std::perror("pread");
      std::abort();
    }
    const std::uint64_t end = now_ns();
    if (window.counts(begin)) latencies.record(end - begin);
    begin = end;
  }
}

class Ring {
 public:
  Ring(const LadderOptions& options, const File& file)
      : options_(options),
        file_(file),
        memory_(aligned(std::size_t{options.depth} * options.block)),
        begun_(options.depth) {
    io_uring_params parameters{};
    const bool is_passthrough = options.rung == "passthrough";
    if (is_passthrough != file.is_namespace())
      throw std::runtime_error("passthrough takes a namespace, the other rungs a file");
    if (is_passthrough || options.rung == "deferred") {
      parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    }
    if (is_passthrough) parameters.flags |= IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
    must(io_uring_queue_init_params(options.depth, &ring_, &parameters), "io_uring_queue_init");
    if (options.rung == "uring") return;
    registered_ = true;
    const iovec whole{memory_.get(), std::size_t{options.depth} * options.block};
    must(io_uring_register_buffers(&ring_, &whole, 1), "io_uring_register_buffers");
    const int fd = file.fd();
    must(io_uring_register_files(&ring_, &fd, 1), "io_uring_register_files");
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() { io_uring_queue_exit(&ring_); }

  void read_all(const Window& window, measure::Histogram& latencies) {
    for (unsigned slot = 0; slot < options_.depth; ++slot) queue(slot);
    for (unsigned in_flight = options_.depth; in_flight > 0;) {
      must(io_uring_submit_and_wait(&ring_, std::min(in_flight, std::max(1u, options_.depth / 16))),
           "io_uring_submit_and_wait");
      const std::uint64_t now = now_ns();
      io_uring_cqe* cqe = nullptr;
      unsigned head = 0;
      unsigned reaped = 0;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        ++reaped;
        const int whole = file_.is_namespace() ? 0 : static_cast<int>(options_.block);
        if (must(cqe->res, "read") != whole) throw std::runtime_error("a read failed, or was short");
        const auto slot = static_cast<unsigned>(cqe->user_data);
        if (window.counts(begun_[slot])) latencies.record(now - begun_[slot]);
        done_.push_back(slot);
      }
      io_uring_cq_advance(&ring_, reaped);
      if (now < window.to) {
        for (const unsigned slot : done_) queue(slot);
      } else {
        in_flight -= reaped;
      }
      done_.clear();
    }
  }

 private:
  void queue(unsigned slot) {
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    std::byte* const into = memory_.get() + std::size_t{slot} * options_.block;
    const std::uint64_t offset = random_.below(file_.bytes() / options_.block) * options_.block;
    if (file_.is_namespace()) {
      command(sqe, into, offset);
    } else if (registered_) {
      io_uring_prep_read_fixed(sqe, 0, into, options_.block, offset, 0);
      sqe->flags |= IOSQE_FIXED_FILE;
    } else {
      io_uring_prep_read(sqe, file_.fd(), into, options_.block, offset);
    }
    sqe->user_data = slot;
    begun_[slot] = now_ns();
  }

  void command(io_uring_sqe* sqe, std::byte* into, std::uint64_t offset) {
    nvme_uring_cmd read{};
    read.opcode = kNvmeRead;
    read.nsid = file_.space().nsid;
    read.addr = reinterpret_cast<std::uintptr_t>(into);
    read.data_len = options_.block;
    const std::uint64_t lba = offset / file_.space().lba_bytes;
    read.cdw10 = static_cast<std::uint32_t>(lba);
    read.cdw11 = static_cast<std::uint32_t>(lba >> 32);
    read.cdw12 = options_.block / file_.space().lba_bytes - 1;
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, nullptr, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->cmd_op = NVME_URING_CMD_IO;
    sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
    sqe->buf_index = 0;
    std::memcpy(sqe->cmd, &read, sizeof read);
  }

  const LadderOptions& options_;
  const File& file_;
  Memory memory_;
  std::vector<std::uint64_t> begun_;
  std::vector<unsigned> done_;
  measure::Random random_{1};
  io_uring ring_{};
  bool registered_ = false;
};

measure::Histogram climb(const LadderOptions& options, const File& file, const Window& window) {
  measure::Histogram latencies;
  if (options.rung != "threads") {
    Ring(options, file).read_all(window, latencies);
    return latencies;
  }
  std::vector<measure::Histogram> each(options.depth);
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < options.depth; ++i) {
    threads.emplace_back([&, i] { read_in_thread(options, file, window, i, each[i]); });
  }
  threads.clear();
  for (const measure::Histogram& one : each) latencies.add(one);
  return latencies;
}

void print(const LadderOptions& options, const measure::Histogram& latencies, const Usage& usage) {
  const auto us = [&](double percent) { return static_cast<double>(latencies.percentile(percent)) / 1e3; };
  const auto count = static_cast<double>(latencies.count());
  // The warm-up's share of the CPU time is taken off in proportion.
  const double cpu = usage.cpu_seconds * options.seconds / (options.seconds + kWarmUpSeconds);
  fmt::print(
      R"({{"rate": {:.1f}, "cpu_us_per_operation": {:.4f}, "configuration": "{} at depth {}, {} bytes", )"
      R"("reads": {{"count": {}, "p50_us": {:.3f}, "p99_us": {:.3f}, "p99.9_us": {:.3f}, "p99.99_us": {:.3f}, "max_us": {:.3f}}}}})"
      "\n",
      count / options.seconds, cpu / count * 1e6, options.rung, options.depth, options.block, latencies.count(), us(50),
      us(99), us(99.9), us(99.99), static_cast<double>(latencies.max()) / 1e3);
}

}  // namespace
}  // namespace comparison

int main(int argc, char** argv) {
  comparison::LadderOptions options;
  CLI::App app("One rung of the ladder of I/O paths");
  app.add_option("--path", options.path, "The file that is read, or a namespace's character device")->required();
  app.add_option("--rung", options.rung)
      ->check(CLI::IsMember({"threads", "uring", "registered", "deferred", "passthrough"}));
  app.add_option("--depth", options.depth, "Reads in flight")->check(CLI::PositiveNumber);
  app.add_option("--block", options.block, "Bytes of a read, a multiple of 4096")->check(CLI::PositiveNumber);
  app.add_option("--seconds", options.seconds, "That count");
  CLI11_PARSE(app, argc, argv);
  try {
    const comparison::File file(options.path);
    const comparison::Window window(options.seconds);
    const measure::Histogram latencies = comparison::climb(options, file, window);
    comparison::print(options, latencies, comparison::Usage::now());
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_ladder: {}\n", error.what());
    return 1;
  }
}
