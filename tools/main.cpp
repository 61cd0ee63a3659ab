// The program `store`: its arguments, its help, its exit codes. What the commands do stands in commands.hpp.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <store/error.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tools/commands.hpp"
#include "tools/help.hpp"
#include "tools/manual.hpp"
#include "tools/output.hpp"

namespace store::tool {
namespace {

const std::map<std::string, Format> kFormatNames{{"tsv", Format::tsv}, {"jsonl", Format::jsonl}, {"mdb", Format::mdb}};

// What an option must begin with that is a number: else a conversion takes -1 for 2^64 - 1, and so what is too long.
// Returns what is wrong, and where the number ends.
std::string wrong_number(const std::string& text, std::size_t& end) {
  std::uint64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  end = static_cast<std::size_t>(stop - text.data());
  if (error == std::errc()) return {};
  return fmt::format("{} is no number from 0 to {}", text, std::numeric_limits<std::uint64_t>::max());
}

std::string check_count(const std::string& text) {
  std::size_t end = 0;
  std::string wrong = wrong_number(text, end);
  if (wrong.empty() && end < text.size()) wrong = fmt::format("{} is no whole number", text);
  return wrong;
}

void add_count(CLI::App& command, const char* name, std::uint64_t& count, const char* description) {
  command.add_option(name, count, description)->check(CLI::Validator(check_count, ""));
}

// A size with a unit, like 64M.
CLI::Option& add_size(CLI::App& command, const char* name, std::uint64_t& bytes, const char* description) {
  const auto check_size = [](const std::string& text) {
    std::size_t end = 0;
    return wrong_number(text, end);
  };
  CLI::Option& option = *command.add_option(name, bytes, description);
  option.transform(CLI::AsSizeValue(false));
  option.transform(CLI::Validator(check_size, ""));  // goes before the other
  return option;
}

const std::map<std::string, WalMode> kWalModes{
    {"none", WalMode::none}, {"batched", WalMode::batched}, {"per_op", WalMode::per_op}};

constexpr std::uint64_t kMostBenchRecords = 10'000'000'000;

void add_window(CLI::App& command, Window& window) {
  add_count(command, "--first-block", window.first_block,
            "Of a namespace: where the store begins, in blocks of 4096 bytes");
  add_count(command, "--blocks", window.blocks, "Of a namespace: how many blocks it has; to the end when left out");
}

// What a command does with the store it is given.
enum class Takes : std::uint8_t { device, reads, writes };

// Declares the options of all commands that do so.
void add_common(CLI::App& command, SessionOptions& options, Takes takes) {
  command
      .add_option("path", options.path,
                  "The store: a file, the directory of a sharded one, or the character device of an NVMe namespace")
      ->required();
  add_window(command, options.window);
  if (takes == Takes::device) return;
  add_size(command, "--cache", options.cache_bytes, "Memory for cached pages, of all shards together, like 64M")
      .default_str("16M");
  if (takes == Takes::reads) return;
  add_size(command, "--capacity", options.capacity_bytes,
           "Let this command grow the file it writes to this size at most, like 10G, each shard to its part of it; not "
           "remembered");
}

CLI::Option* add_json(CLI::App& command, bool& json, const char* description = "As one JSON object") {
  return command.add_flag("--json", json, description);
}

// Of --watch, which may stand alone. Errors: CLI::ValidationError.
double seconds_of(const std::string& text) {
  if (text.empty()) return 1;
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (!is_number || !(seconds >= 0.01 && seconds <= 86400)) {
    throw CLI::ValidationError("--watch", fmt::format("{} is no number of seconds from 0.01 to 86400", text));
  }
  return seconds;
}

CLI::Option* add_shards(CLI::App& command, std::optional<std::uint64_t>& shards) {
  return command.add_option("--shards", shards, "Make a sharded store, a directory with so many shards: 1 to 1024")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{kMaxShards}));
}

// Of commands that make stores.
void add_layout(CLI::App& command, LayoutOptions& layout) {
  add_shards(command, layout.shards);
  command
      .add_option("--split", layout.split,
                  "Make a sharded store whose shards have a range of keys each, of which this begins one more; in "
                  "ascending order")
      ->option_text("KEY ...")
      ->allow_extra_args(false);
  command.add_flag("--escaped", layout.escaped, "The keys of --split are escaped as in the tsv format");
}

void add_format(CLI::App& command, Format& format) {
  const auto choose = [&format](const std::string& name) {
    const auto found = kFormatNames.find(name);
    if (found == kFormatNames.end()) {
      throw CLI::ValidationError("--format", fmt::format("{} is no format; it is tsv, jsonl or mdb", name));
    }
    format = found->second;
  };
  command.add_option_function<std::string>("--format", choose, "tsv, jsonl or mdb")
      ->option_text("tsv|jsonl|mdb")
      ->default_str("tsv");
}

void add_escaped(CLI::App& command, bool& escaped) {
  command.add_flag("--escaped", escaped, "Keys and values on the command line are escaped as in the tsv format");
}

// `--device PATH` says where the store is, wherever it stands, as a command's first argument does.
std::vector<std::string> with_device_first(int argc, char** argv) {
  constexpr std::string_view kDevice = "--device";
  std::vector<std::string> arguments;
  std::optional<std::string> device;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") {
      arguments.insert(arguments.end(), argv + i, argv + argc);
      break;
    }
    if (argument == kDevice && i + 1 < argc) {
      device = argv[++i];
    } else if (argument.starts_with("--device=")) {
      device = argument.substr(kDevice.size() + 1);
    } else {
      arguments.emplace_back(argument);
    }
  }
  if (device) arguments.insert(arguments.begin() + (arguments.empty() ? 0 : 1), *device);
  return arguments;
}

class Program {
 public:
  Program() {
    app_.require_subcommand(1);
    app_.footer(kFooter);
    app_.set_help_flag("-h,--help", "Print this help");
    app_.set_version_flag("--version", "store " STORE_VERSION, "Print the version");
    app_.failure_message([](const CLI::App*, const CLI::Error& error) {
      return fmt::format("store: {}\nstore: `store --help` shows how it is used\n", error.what());
    });
    declare_create();
    declare_records();
    declare_scan();
    declare_transfer();
    declare_inspect();
    declare_pages();
    declare_copies();
    declare_devices();
    declare_bench();
    declare_manual();
  }

  ExitCode run(int argc, char** argv) {
    try {
      const std::vector<std::string> arguments = with_device_first(argc, argv);
      app_.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // it takes the last one first
    } catch (const CLI::ParseError& error) {
      std::ostringstream asked;  // help, or the version
      if (app_.exit(error, asked) != 0) return ExitCode::usage;
      return print(asked.str());
    }
    return chosen_();
  }

 private:
  // Adds a subcommand that runs `options` when it is chosen.
  template <class Command>
  CLI::App& add(const char* name, const char* description, Command& options, Takes takes) {
    CLI::App& command = *app_.add_subcommand(name, description);
    add_common(command, options.session, takes);
    command.callback([this, &options] { chosen_ = [&options] { return tool::run(options); }; });
    return command;
  }

  void declare_create() {
    CLI::App& command = add("create", "Make an empty store", create_, Takes::writes);
    command.add_flag("--overwrite", create_.overwrite,
                     "Replace what the file holds, a store included, or a sharded store");
    add_layout(command, create_.session.layout);
    command.footer(kCreateFooter);
  }

  void declare_records() {
    CLI::App& put = add("put", "Store a value under a key", put_, Takes::writes);
    put.add_option("key", put_.key, "1 to 1024 bytes")->required();
    put.add_option("value", put_.value, "Up to 1 GiB; read from standard input when left out");
    add_escaped(put, put_.escaped);
    put.footer("Examples:\n  store put app.db greeting hello\n  store put app.db logo < logo.png");

    CLI::App& get = add("get", "Print the value of a key, its bytes and nothing else", get_, Takes::reads);
    get.add_option("key", get_.key)->required();
    add_escaped(get, get_.escaped);
    get.footer(
        "On a terminal a newline follows. Ends with 1 when the key is not there.\n\nExample:\n"
        "  store get app.db logo > logo.png");

    CLI::App& del = add("del", "Remove a key, or all keys of a range", del_, Takes::writes);
    CLI::Option* key = del.add_option("key", del_.key);
    CLI::Option* range =
        del.add_option("--range", del_.range, "All keys from FROM on that are before TO; an empty TO is no end");
    range->expected(2)->option_text("FROM TO")->excludes(key);
    del.parse_complete_callback([key, range] {
      if (key->empty() && range->empty()) throw CLI::RequiredError("key or --range");
    });
    add_escaped(del, del_.escaped);
    del.footer(
        "Ends with 1 when the key is not there. A range is removed in one step, whatever it holds; of a sharded "
        "store shard after shard.\n\n"
        "Examples:\n  store del app.db greeting\n  store del app.db --range user:1000 user:2000");
  }

  void declare_scan() {
    CLI::App& command = add("scan", "Print the entries of a range in key order", scan_, Takes::reads);
    CLI::Option* from = command.add_option("--from", scan_.from, "First key of the range");
    CLI::Option* to = command.add_option("--to", scan_.to, "First key after the range");
    command.add_option("--prefix", scan_.prefix, "Only keys that begin so")->excludes(from)->excludes(to);
    add_count(command, "--limit", scan_.limit, "Stop after so many entries");
    command.add_flag("--keys", scan_.keys_only, "Print keys without values, a line each, escaped as in the tsv format");
    add_escaped(command, scan_.escaped);
    add_format(command, scan_.format);
    command.footer(std::string("Examples:\n  store scan app.db --from a --to b\n"
                               "  store scan app.db --prefix user: --limit 10 --keys\n") +
                   kFormats);
  }

  void declare_transfer() {
    CLI::App& load =
        add("load", "Put all records of a file or pipe; makes the store if there is none", load_, Takes::writes);
    load.add_option("input", load_.input, "The file; standard input when left out or -");
    CLI::Option* partial =
        load.add_flag("--partial", load_.partial, "Store while reading; what stands before a malformed line stays");
    load.add_flag("--sorted", load_.sorted,
                  "The keys ascend, each once, and the store is empty: all or nothing, in one pass")
        ->excludes(partial);
    add_layout(load, load_.session.layout);
    add_format(load, load_.format);
    add_json(load, load_.json, "Say how much was loaded, as one JSON object");
    load.footer(std::string(kLoadFooter) + kFormats);

    CLI::App& dump = add("dump", "Print all entries in key order, for `store load` or mdb_load", dump_, Takes::reads);
    add_format(dump, dump_.format);
    dump.footer(std::string("Examples:\n  store dump app.db > app.tsv\n"
                            "  store dump app.db --format mdb | mdb_load new.lmdb\n") +
                kFormats);
  }

  void declare_inspect() {
    CLI::App& stat = add("stat", "Print what the store holds and uses", stat_, Takes::reads);
    CLI::Option* json = add_json(stat, stat_.json);
    stat.add_flag("--prometheus", stat_.prometheus, "As the text that Prometheus reads, of each shard")->excludes(json);
    const auto watch = [this](const std::string& text) { stat_.watch_seconds = seconds_of(text); };
    CLI::Option* interval =
        stat.add_option_function<std::string>("--watch", watch, "Again and again, every second or every SECONDS")
            ->expected(0, 1)
            ->option_text("[SECONDS]");
    stat.get_option("--prometheus")->excludes(interval);
    add_count(stat, "--count", stat_.count, "Of --watch: stop after so many lines");
    stat.get_option("--count")->needs(interval);
    stat.footer(kStatFooter);

    CLI::App& snapshots = add("snapshots", "Tell which snapshots of the store there are", snapshots_, Takes::reads);
    add_json(snapshots, snapshots_.json, "As a JSON array");
    snapshots.footer(kSnapshotsFooter);

    CLI::App& check = add("check", "Verify every page, every checksum and the free space", check_, Takes::reads);
    add_json(check, check_.json);
    add_count(check, "--max-errors", check_.max_errors, "Stop after so many findings");
    check.footer(
        "Findings go to standard error, a line each, which begins with the shard's name if there are several. Ends "
        "with "
        "1 when there are any.\n\nExample:\n"
        "  store check app.db");

    CLI::App& compact = add("compact", "Make the file, or the files of all shards, as small as what they hold",
                            compact_, Takes::writes);
    add_json(compact, compact_.json);
    add_size(compact, "--max-bytes", compact_.max_bytes, "Stop when about so much was moved, like 100M");
    compact.footer(
        "Works by small commits and may be stopped at any time; another run goes on.\n\nExamples:\n"
        "  store compact app.db\n  store compact app.db --max-bytes 100M");
  }

  void declare_pages() {
    CLI::App& info = add("info", "Print what the store is, without opening it", info_, Takes::device);
    add_json(info, info_.json);
    info.footer(kInfoFooter);

    CLI::App& pages = add("pages", "Count the pages of each kind, and how full they are", pages_, Takes::device);
    pages.add_flag("--list", pages_.list, "Each page, too");
    add_json(pages, pages_.json);
    pages.footer(kPagesFooter);

    CLI::App& page = add("page", "Print one page, decoded", page_, Takes::device);
    page.add_option("number", page_.page, "Of the page: a block of 4096 bytes, from 0")
        ->required()
        ->check(CLI::Validator(check_count, ""));
    add_json(page, page_.json);
    page.footer(kPageFooter);

    CLI::App& wal = add("wal", "Print what the log holds", wal_, Takes::device);
    wal.add_flag("--list", wal_.list, "Each change, too");
    wal.add_option("--log", wal_.log, "The log device of a store that has one")->option_text("FILE");
    add_json(wal, wal_.json);
    wal.footer(kWalFooter);
  }

  void declare_copies() {
    CLI::App& backup = add("backup", "Copy a store into another file, or directory, packed", backup_, Takes::reads);
    backup.add_option("target", backup_.target, "The file, or directory, of the copy, or a namespace, all of it")
        ->required();
    CLI::Option* overwrite =
        backup.add_flag("--overwrite", backup_.overwrite, "Replace what that file holds, a store included");
    CLI::Option* since =
        backup.add_option("--since", backup_.since, "Bring the copy there, which is of this generation, up to date");
    since->excludes(overwrite);
    backup.add_flag("--incremental", backup_.incremental, "The same, of whichever generation it is")
        ->excludes(overwrite)
        ->excludes(since);
    add_json(backup, backup_.json);
    backup.footer(kBackupFooter);

    CLI::App& salvage =
        add("salvage", "Put what can be read of a damaged store into a new one", salvage_, Takes::writes);
    salvage
        .add_option("target", salvage_.target, "The file, or directory, of the new store, or a namespace, all of it")
        ->required();
    salvage.add_flag("--overwrite", salvage_.overwrite, "Replace what that file holds, a store included");
    salvage.add_option("--log", salvage_.log, "The log device of a store that has one")->option_text("FILE");
    add_json(salvage, salvage_.json);
    salvage.footer(kSalvageFooter);

    CLI::App& reshard = add("reshard", "Divide a sharded store anew", reshard_, Takes::reads);
    add_layout(reshard, reshard_.session.layout);
    add_json(reshard, reshard_.json);
    reshard.footer(kReshardFooter);
  }

  void declare_devices() {
    CLI::App& command = *app_.add_subcommand("devices", "List the NVMe namespaces of this machine and what is on them");
    add_json(command, devices_.json, "As a JSON array of objects");
    command.callback([this] { chosen_ = [this] { return tool::run(devices_); }; });
    command.footer("Example:\n  store devices");
  }

  void declare_bench() {
    CLI::App& command = *app_.add_subcommand("bench", "Measure workloads of RocksDB's db_bench on a store made for it");
    command
        .add_option("path", bench_.path,
                    "The file of the store, or its directory; made, and removed afterwards. Or a namespace, with "
                    "--existing")
        ->required();
    add_window(command, bench_.window);
    CLI::Option* shards = add_shards(command, bench_.shards);
    command
        .add_option("--cores", bench_.cores,
                    "Of a sharded store: how many cores it is on; one for each shard, or, if they are fewer, CPU")
        ->check(CLI::Range(1u, kMaxShards));
    add_size(command, "--cache", bench_.cache_bytes, "Memory for cached pages, of all shards together, like 64M")
        .default_str("256M");
    const auto check_name = [](const std::string& name) {
      return is_bench_workload(name) ? std::string() : name + " is no workload";
    };
    command.add_option("--benchmarks", bench_.workloads, "Which, in this order, divided by commas; all when left out")
        ->delimiter(',')
        ->check(CLI::Validator(check_name, "NAME,..."));
    const auto add_number = [&command](const char* name, std::uint64_t& number, const char* description) {
      command.add_option(name, number, description)->check(CLI::Range(std::uint64_t{1}, kMostBenchRecords));
    };
    add_number("--num", bench_.num, "Records, and operations of each workload");
    command.add_option("--value-size", bench_.value_bytes, "Bytes of a value");
    add_number("--batch", bench_.batch, "Puts of one write, which is atomic");
    add_number("--read-batch", bench_.read_batch, "Keys that multireadrandom reads at a time");
    add_number("--depth", bench_.depth,
               "Tasks that share the operations, all on one core, or on those of a sharded store");
    command.add_option("--seed", bench_.seed, "Chooses keys and values");
    command.add_option("--wal", bench_.wal_mode, "Of all but fillsync: none, batched or per_op")
        ->transform(CLI::CheckedTransformer(kWalModes))
        ->option_text("none|batched|per_op")
        ->default_str("batched");
    command
        .add_flag("--existing", bench_.existing,
                  "Use the store that is in the file or directory already, and write to it; it stays")
        ->excludes(shards);
    command.add_flag("--keep", bench_.keep, "Leave the store");
    add_json(command, bench_.json, "As a JSON array of objects");
    command.callback([this] { chosen_ = [this] { return tool::run(bench_); }; });
    command.footer(kBenchFooter);
  }

  // For the build, which installs what it prints; not shown.
  void declare_manual() {
    CLI::App& command = *app_.add_subcommand("manual", "Print man pages and shell completions");
    command.group("");
    command.add_option("kind", manual_kind_, "list, man, bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"list", "man", "bash", "zsh", "fish"}));
    command.add_option("command", manual_command_, "Whose man page; that of all when left out");
    command.callback([this] { chosen_ = [this] { return print_manual(); }; });
  }

  ExitCode print_manual() const {
    std::string text;
    if (manual_kind_ == "man") {
      const CLI::App* const command = manual_command_.empty() ? nullptr : app_.get_subcommand(manual_command_);
      text = man_page(app_, command, STORE_VERSION);
    } else if (manual_kind_ == "bash") {
      text = bash_completion(app_);
    } else if (manual_kind_ == "zsh") {
      text = zsh_completion(app_);
    } else if (manual_kind_ == "fish") {
      text = fish_completion(app_);
    } else {
      text = command_list(app_);
    }
    return print(text);
  }

  static ExitCode print(const std::string& text) {
    Output output;
    output.write(text);
    output.finish();
    return ExitCode::done;
  }

  CLI::App app_{"An embedded key/value store: create, read, write, load, dump, check, compact and back up a store",
                "store"};
  std::function<ExitCode()> chosen_;
  CreateCommand create_;
  PutCommand put_;
  GetCommand get_;
  DelCommand del_;
  ScanCommand scan_;
  LoadCommand load_;
  DumpCommand dump_;
  InfoCommand info_;
  StatCommand stat_;
  SnapshotsCommand snapshots_;
  PagesCommand pages_;
  PageCommand page_;
  WalCommand wal_;
  CheckCommand check_;
  BackupCommand backup_;
  SalvageCommand salvage_;
  ReshardCommand reshard_;
  CompactCommand compact_;
  DevicesCommand devices_;
  BenchCommand bench_;
  std::string manual_kind_;
  std::string manual_command_;
};

}  // namespace
}  // namespace store::tool

int main(int argc, char** argv) {
  using store::tool::ExitCode;
  store::tool::guard_standard_streams();
  try {
    return static_cast<int>(store::tool::Program().run(argc, argv));
  } catch (const std::exception& error) {
    store::tool::print_message(error.what());
    return static_cast<int>(ExitCode::failed);
  }
}
