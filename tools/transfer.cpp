// load, dump and scan: records between text and the store.
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tools/commands.hpp"
#include "tools/formats/jsonl.hpp"
#include "tools/formats/mdb_dump.hpp"
#include "tools/formats/tsv.hpp"
#include "tools/input.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;
// The larger the buffer, the fewer times a page is rewritten by records in random order.
constexpr std::size_t kLoadBufferBytes = std::size_t{32} << 20;

std::unique_ptr<Reader> make_reader(Format format, Input& input) {
  ReadBytes read = [&input](std::span<char> into) { return input.read(into); };
  switch (format) {
    case Format::jsonl: return std::make_unique<JsonlReader>(std::move(read));
    case Format::mdb: return std::make_unique<MdbDumpReader>(std::move(read));
    case Format::tsv: break;
  }
  return std::make_unique<TsvReader>(std::move(read));
}

std::unique_ptr<Writer> make_writer(Format format, Output& output, const Stats& stats) {
  WriteBytes write = [&output](std::string_view bytes) { output.write(bytes); };
  switch (format) {
    case Format::jsonl: return std::make_unique<JsonlWriter>(std::move(write));
    case Format::mdb: {
      // The pages hold all bytes of the records and more.
      const std::uint64_t bytes = (stats.tree_pages + stats.overflow_blocks) * kBlockBytes;
      return std::make_unique<MdbDumpWriter>(
          std::move(write), MdbDumpOptions{.mapsize_bytes = MdbDumpWriter::mapsize_for(stats.entries, bytes)});
    }
    case Format::tsv: break;
  }
  return std::make_unique<TsvWriter>(std::move(write));
}

// One key a line; what `store scan --keys` prints.
class KeyWriter : public Writer {
 public:
  explicit KeyWriter(Output& output) : output_(output) {}

  void write(std::string_view key, std::string_view) override {
    line_.clear();
    append_escaped(line_, key);
    line_ += '\n';
    output_.write(line_);
  }

 private:
  Output& output_;
  std::string line_;
};

Error malformed(const Input& input, const FormatError& error) {
  return Error(Errc::invalid_argument, fmt::format("{}: {}", input.name(), error.what()));
}

// Reads all of the input for its errors alone, and leaves it at its start.
void check_input(Input& input, Format format) {
  Progress progress("check input", Unit::bytes, input.size());
  const std::unique_ptr<Reader> reader = make_reader(format, input);
  std::string key;
  std::string value;
  try {
    while (reader->next(key, value)) progress.at(input.position());
  } catch (const FormatError& error) {
    throw malformed(input, error);
  }
  input.rewind();
}

void print_loaded(const LoadCommand& command, std::uint64_t records, const Input& input) {
  if (!command.json) return;
  Output output;
  output.write(fmt::format("{{\"records\": {}, \"input_bytes\": {}}}\n", records, input.position()));
  output.finish();
}

template <class Db>
monterey::Task<ExitCode> load(const LoadCommand& command, Db& db, Input& input) {
  Progress progress("load", Unit::bytes, input.size());
  const std::unique_ptr<Reader> reader = make_reader(command.format, input);
  std::string key;
  std::string value;
  std::optional<Error> stopped;
  // Not one loop: what was read before the malformed line is to be committed, and nothing can be awaited in a handler.
  const auto next = [&] {
    try {
      return reader->next(key, value);
    } catch (const FormatError& error) {
      stopped = malformed(input, error);
      return false;
    }
  };
  std::uint64_t records = 0;
  while (next()) {
    co_await db.put(key, value);
    ++records;
    progress.at(input.position());
  }
  co_await db.flush();
  if (stopped) throw *stopped;
  progress.finish(input.position());
  print_loaded(command, records, input);
  co_return ExitCode::done;
}

std::string escaped(std::string_view key) {
  std::string text;
  append_escaped(text, key);
  return text;
}

// The records of an input whose keys ascend, for bulk_load(). Errors: a malformed record, or one out of order.
class SortedRecords {
 public:
  SortedRecords(Input& input, Format format, Progress& progress)
      : input_(input), progress_(progress), reader_(make_reader(format, input)) {}

  bool next(std::string_view& key, std::string_view& value) {
    std::swap(key_, last_);
    try {
      if (!reader_->next(key_, value_)) return false;
      if (is_first_ || key_ > last_) {
        is_first_ = false;
      } else {
        throw FormatError(reader_->line(),
                          fmt::format("key {} {} {}; with --sorted keys ascend as unsigned bytes, each once: sort "
                                      "the input, or load it without --sorted",
                                      escaped(key_), key_ == last_ ? "repeats" : "follows", escaped(last_)));
      }
    } catch (const FormatError& error) {
      throw malformed(input_, error);
    }
    progress_.at(input_.position());
    key = key_;
    value = value_;
    return true;
  }

 private:
  Input& input_;
  Progress& progress_;
  std::unique_ptr<Reader> reader_;
  std::string key_;
  std::string last_;
  std::string value_;
  bool is_first_ = true;
};

template <class Db>
monterey::Task<ExitCode> load_sorted(const LoadCommand& command, Db& db, Input& input) {
  const Stats stats = co_await total_stats(db);
  if (stats.entries > 0) {
    throw Error(
        Errc::invalid_argument,
        fmt::format("{}: --sorted fills an empty store, this one has {} entries; load without it to add to them",
                    command.session.path, stats.entries));
  }
  Progress progress("load", Unit::bytes, input.size());
  SortedRecords records(input, command.format, progress);
  const std::uint64_t loaded = co_await db.bulk_load(records);
  progress.finish(input.position());
  print_loaded(command, loaded, input);
  co_return ExitCode::done;
}

template <class Scan>
monterey::Task<> write_all(Scan& scan, Writer& writer, Progress* progress) {
  std::uint64_t entries = 0;
  while (co_await scan.advance()) {
    writer.write(scan.key(), scan.value());
    if (progress != nullptr) progress->at(++entries);
  }
  writer.finish();
}

template <class Db>
monterey::Task<ExitCode> dump(Db& db, Format format) {
  const Stats stats = co_await total_stats(db);
  Output output;
  const std::unique_ptr<Writer> writer = make_writer(format, output, stats);
  std::optional<Progress> progress;
  if (isatty(STDOUT_FILENO) == 0) progress.emplace("dump", Unit::entries, stats.entries);
  auto scan = co_await db.scan(std::string());
  co_await write_all(scan, *writer, progress ? &*progress : nullptr);
  output.finish();
  co_return ExitCode::done;
}

template <class Db>
monterey::Task<ExitCode> scan(Db& db, const ScanCommand& command) {
  const auto typed = [&](const std::string& text) { return command.escaped ? unescape(text) : text; };
  Output output;
  std::unique_ptr<Writer> writer;
  if (command.keys_only) {
    writer = std::make_unique<KeyWriter>(output);
  } else {
    const Stats stats = co_await total_stats(db);
    writer = make_writer(command.format, output, stats);
  }
  const ScanOptions options{.limit = command.limit};
  std::optional<std::string> to;
  if (command.to) to = typed(*command.to);
  auto opening = command.prefix ? db.scan_prefix(typed(*command.prefix), options)
                                : db.scan(typed(command.from.value_or("")), to, options);
  auto range = co_await std::move(opening);
  co_await write_all(range, *writer, nullptr);
  output.finish();
  co_return ExitCode::done;
}

}  // namespace

ExitCode run(const ScanCommand& command) {
  const Work work = for_any([&](auto& db) { return scan(db, command); });
  return with_store(command.session, Access::read, work);
}

namespace {

ExitCode run_sorted(const LoadCommand& command) {
  Input input(command.input, command.session.path, Input::Passes::once);
  const bool was_there = std::filesystem::exists(command.session.path);
  const Work work = for_any([&](auto& db) { return load_sorted(command, db, input); });
  try {
    return with_store(command.session, Access::open_or_create, work);
  } catch (...) {
    if (!was_there) remove_unless_taken(command.session.path);
    throw;
  }
}

}  // namespace

ExitCode run(const LoadCommand& command) {
  if (command.sorted) return run_sorted(command);
  Input input(command.input, command.session.path, command.partial ? Input::Passes::once : Input::Passes::twice);
  if (!command.partial) check_input(input, command.format);
  const Work work = for_any([&](auto& db) { return load(command, db, input); });
  SessionOptions session = command.session;
  session.write_buffer_bytes = kLoadBufferBytes;
  return with_store(session, Access::open_or_create, work);
}

ExitCode run(const DumpCommand& command) {
  const Work work = for_any([&](auto& db) { return dump(db, command.format); });
  return with_store(command.session, Access::read, work);
}

}  // namespace store::tool
