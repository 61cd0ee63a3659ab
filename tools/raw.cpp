#include "tools/raw.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "tools/input.hpp"

namespace store::tool {
namespace {

using Copies = std::array<std::byte, kMetaBlocks * kPageBytes>;

struct Reading {
  Copies bytes{};
  std::array<std::string, kMetaBlocks> failures;

  bool operator==(const Reading&) const = default;
};

monterey::Task<> read_copies(BlockDevice& device, Reading& reading) {
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
    const std::span<std::byte> into = std::span(reading.bytes).subspan(block * kPageBytes, kPageBytes);
    reading.failures[block].clear();
    std::ranges::fill(into, std::byte{0});
    if (block >= device.size_blocks()) {
      reading.failures[block] = fmt::format("the device ends after {} blocks", device.size_blocks());
      continue;
    }
    try {
      co_await device.read(PageNo(block), into, monterey::IoClass::foreground);
    } catch (const Error& error) {
      if (error.errc() != Errc::io_error) throw;
      reading.failures[block] = error.what();
    }
  }
}

MetaCopy judge(const BlockDevice& device, const Reading& reading, std::uint32_t block) {
  if (!reading.failures[block].empty()) return {MetaCopy::State::unreadable, reading.failures[block], {}};
  const ConstPageBytes page(reading.bytes.data() + block * kPageBytes, kPageBytes);
  DecodedMeta decoded = decode_meta(page, block / kMetaCopies);
  switch (decoded.state) {
    case MetaState::good: return {MetaCopy::State::good, {}, decoded.meta};
    case MetaState::newer_format:
      throw Error(Errc::unsupported_format,
                  fmt::format("{}: {}; use a newer version of this program", device.name(), decoded.reason));
    case MetaState::damaged: return {MetaCopy::State::damaged, std::move(decoded.reason), {}};
    case MetaState::not_a_store: break;
  }
  const bool zeros = std::ranges::all_of(page, [](std::byte b) { return b == std::byte{0}; });
  if (zeros) return {MetaCopy::State::zeros, "nothing but zeros", {}};
  return {MetaCopy::State::no_magic, std::move(decoded.reason), {}};
}

const char* name_of(MetaCopy::State state) {
  switch (state) {
    case MetaCopy::State::good: return "good";
    case MetaCopy::State::zeros: return "zeros";
    case MetaCopy::State::unreadable: return "unreadable";
    case MetaCopy::State::no_magic:
    case MetaCopy::State::damaged: break;
  }
  return "damaged";
}

// Reads with pread; everything else is refused.
class UnlockedFile final : public BlockDevice {
 public:
  UnlockedFile(FileDescriptor file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}

  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass) override {
    std::size_t done = 0;
    while (done < into.size()) {
      const auto at = static_cast<off_t>(std::uint64_t{first.value} * kPageBytes + done);
      const ssize_t n = ::pread(file_.get(), into.data() + done, into.size() - done, at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw Error::from_errno(errno, path_ + ": cannot be read");
      if (n == 0) throw Error(Errc::io_error, path_ + ": it became shorter while it was read");
      done += static_cast<std::size_t>(n);
    }
    co_return;
  }
  monterey::Task<> write(PageNo, std::span<const std::byte>, monterey::IoClass) override { return refuse(); }
  monterey::Task<> sync() override { return refuse(); }
  monterey::Task<> trim(Extent) override { return refuse(); }
  monterey::Task<> grow(std::uint64_t) override { return refuse(); }
  monterey::Task<> shrink(std::uint64_t) override { return refuse(); }
  // Asked anew each time: a writer may let it grow. Nothing when it cannot be had.
  std::uint64_t size_blocks() const override {
    const off_t bytes = ::lseek(file_.get(), 0, SEEK_END);
    return bytes < 0 ? 0 : static_cast<std::uint64_t>(bytes) / kPageBytes;
  }
  std::uint64_t capacity_blocks() const override { return size_blocks(); }
  bool read_only() const override { return true; }
  std::string name() const override { return path_; }

 private:
  monterey::Task<> refuse() {
    throw Error(Errc::read_only, path_ + ": opened for reading only");
    co_return;
  }

  FileDescriptor file_;
  std::string path_;
};

FileDescriptor open_to_read(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO has no writer to wait for
  if (file.get() < 0 && errno == ENOENT) throw Error(Errc::not_found, path + ": no such file");
  if (file.get() < 0) throw Error::from_errno(errno, path + ": cannot be opened");
  return file;
}

void require_single(const std::string& path) {
  if (!is_sharded(path, {})) return;
  throw Error(
      Errc::invalid_argument,
      fmt::format("{}: a directory; of a sharded store name one of its shards, like {}/shard-0000", path, path));
}

// Makes a device, inside of the cluster that runs the work.
using Opening = std::function<monterey::Task<std::unique_ptr<BlockDevice>>()>;

monterey::Task<> work_on(const Opening& open, const DeviceWork& work, ExitCode& result) {
  const std::unique_ptr<BlockDevice> device = co_await open();
  result = co_await work(*device);
}

ExitCode run_on(std::vector<std::string> paths, const Opening& open, const DeviceWork& work) {
  ExitCode result = ExitCode::failed;
  const auto start = [&] { monterey::spawn(work_on(open, work, result)); };
  cluster_for(paths).init(start).run();
  return result;
}

// A file opened for reading without a lock. Errors of a read: io_error. Errors: not_found, invalid_argument, io_error.
monterey::Task<std::unique_ptr<BlockDevice>> open_without_lock(std::string path) {
  FileDescriptor file = open_to_read(path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw Error::from_errno(errno, path + ": cannot be looked at");
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    throw Error(Errc::invalid_argument, path + ": neither a file nor a block device");
  }
  if (::lseek(file.get(), 0, SEEK_END) < 0) throw Error::from_errno(errno, path + ": its size cannot be had");
  co_return std::make_unique<UnlockedFile>(std::move(file), path);
}

monterey::Task<ExitCode> look_for_manifest(BlockDevice& device, std::optional<detail::Manifest>& manifest) {
  manifest = co_await detail::read_manifest(device);
  co_return ExitCode::done;
}

}  // namespace

const Meta* MetaPages::newest() const {
  const Meta* newest = nullptr;
  for (const MetaCopy& copy : copies) {
    if (copy.state != MetaCopy::State::good) continue;
    if (newest == nullptr || copy.meta.generation > newest->generation) newest = &copy.meta;
  }
  return newest;
}

std::vector<std::string> MetaPages::damage() const {
  std::vector<std::string> lines;
  const Meta* const open = newest();
  const bool is_new = open != nullptr && open->generation == Generation(1);
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
    const MetaCopy& copy = copies[block];
    const MetaCopy& twin = copies[block ^ 1];
    if (copy.state == MetaCopy::State::zeros && twin.state == MetaCopy::State::zeros && is_new) continue;
    std::string wrong = copy.reason;
    const bool both_good = copy.state == MetaCopy::State::good && twin.state == MetaCopy::State::good;
    if (both_good && copy.meta.generation < twin.meta.generation) {
      wrong = fmt::format("of generation {}, but its twin is of {} (a lost write)", copy.meta.generation.value,
                          twin.meta.generation.value);
    }
    if (!wrong.empty()) lines.push_back(fmt::format("meta page {}: {}", block, wrong));
  }
  return lines;
}

std::vector<Fields> MetaPages::rows() const {
  std::vector<Fields> rows;
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
    const MetaCopy& copy = copies[block];
    Fields& row = rows.emplace_back();
    row.number("page", block);
    row.text("state", name_of(copy.state));
    if (copy.state == MetaCopy::State::good) row.number("generation", copy.meta.generation.value);
    row.text("wrong", copy.reason);
  }
  return rows;
}

monterey::Task<MetaPages> read_meta_pages(BlockDevice& device) {
  constexpr int kMostReadings = 100;  // a writer that commits without a pause is slower than this
  auto last = std::make_unique<Reading>();
  auto reading = std::make_unique<Reading>();
  co_await read_copies(device, *reading);
  for (int i = 1; i < kMostReadings && (i == 1 || *last != *reading); ++i) {
    std::swap(last, reading);
    co_await read_copies(device, *reading);
  }
  MetaPages pages;
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) pages.copies[block] = judge(device, *reading, block);
  const auto is_foreign = [](const MetaCopy& copy) {
    return copy.state == MetaCopy::State::no_magic || copy.state == MetaCopy::State::zeros ||
           (copy.state == MetaCopy::State::unreadable && copy.reason.starts_with("the device ends"));
  };
  if (std::ranges::all_of(pages.copies, is_foreign)) {
    throw Error(Errc::not_a_store,
                fmt::format("{}: not a store: no meta page carries the magic; check the path", device.name()));
  }
  co_return std::move(pages);
}

Fields fields_of(const Meta& meta) {
  Fields fields;
  fields.number("format_version", kFormatVersion);
  fields.text("uuid", uuid_text(meta.uuid));
  fields.number("generation", meta.generation.value);
  fields.number("entries", meta.entries);
  fields.number("height", meta.tree_height);
  fields.number("tree_pages", meta.tree_pages);
  fields.number("overflow_blocks", meta.overflow_blocks);
  fields.number("high_water_blocks", meta.high_water);
  fields.number("last_sequence", meta.last_merged.value);
  fields.number("incarnation", meta.incarnation);
  fields.number("lineage", meta.lineage);
  fields.text("copy_of", meta.origin.is_set() ? uuid_text(meta.origin.uuid) : std::string());
  fields.number("copy_of_generation", meta.origin.generation.value);
  std::uint64_t log_blocks = 0;
  for (std::uint32_t i = 0; i < meta.log_segment_count; ++i) log_blocks += meta.log_segments[i].count;
  const bool own_device = (meta.features & kFeatureLogDevice) != 0;
  fields.text("log", own_device ? "on a device of its own" : (log_blocks > 0 ? "in the store" : "none"));
  fields.number("log_segments", meta.log_segment_count);
  fields.number("log_bytes", log_blocks * kPageBytes);
  fields.number("log_lsn", meta.log_lsn);
  return fields;
}

std::string users_of(const std::string& path) {
  const FileDescriptor file = open_to_read(path);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_OFD_GETLK, &lock) != 0) return {};  // the file system has no locks
  if (lock.l_type == F_UNLCK) return "nobody";
  return lock.l_type == F_WRLCK ? "a writer" : "readers";
}

ExitCode with_device(const SessionOptions& options, const DeviceWork& work) {
  require_single(options.path);
  const FileBlockDeviceOptions how{.create = false, .read_only = true};
  std::vector<std::string> paths = options.others;
  paths.push_back(options.path);
  return run_on(
      std::move(paths), [&] { return open_device(options.path, how, options.window); }, work);
}

ExitCode with_meta_device(const SessionOptions& options, const DeviceWork& work) {
  require_single(options.path);
  if (is_nvme_path(options.path)) return with_device(options, work);
  require_present_device(options.path);
  require_no_window(options.path, options.window);
  return run_on(
      {options.path}, [&] { return open_without_lock(options.path); }, work);
}

detail::Manifest manifest_of(const std::string& directory) {
  const std::string path = directory + "/manifest";
  std::optional<detail::Manifest> manifest;
  run_on(
      {path}, [&] { return open_without_lock(path); },
      [&](BlockDevice& device) { return look_for_manifest(device, manifest); });
  if (!manifest) throw Error(Errc::not_a_store, directory + ": its manifest is blank: the making of it was cut off");
  return std::move(*manifest);
}

}  // namespace store::tool
