// put, get, del and scan.
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "tools/commands.hpp"
#include "tools/formats/tsv.hpp"
#include "tools/input.hpp"
#include "tools/output.hpp"

namespace store::tool {
namespace {

// A key or value as it was typed, or what it stands for when it is escaped.
std::string typed(const std::string& text, bool escaped) { return escaped ? unescape(text) : text; }

std::string read_all_of_standard_input() {
  Input input("-", "", Input::Passes::once);
  std::string all;
  std::array<char, 64 << 10> part;
  while (const std::size_t n = input.read(part)) all.append(part.data(), n);
  return all;
}

template <class Db>
monterey::Task<ExitCode> put(Db& db, std::string_view key, std::string_view value) {
  co_await db.put(key, value);
  co_return ExitCode::done;
}

template <class Db>
monterey::Task<ExitCode> get(Db& db, std::string_view key) {
  const std::optional<std::string> value = co_await db.get(key);
  if (!value) co_return ExitCode::negative;
  Output output;
  output.write(*value);
  if (isatty(STDOUT_FILENO) == 1) output.write("\n");
  output.finish();
  co_return ExitCode::done;
}

template <class Db>
monterey::Task<ExitCode> del(Db& db, std::string_view key) {
  const bool there = co_await db.contains(key);
  if (!there) co_return ExitCode::negative;
  co_await db.erase(key);
  co_return ExitCode::done;
}

template <class Db>
monterey::Task<ExitCode> del_range(Db& db, std::string from, std::optional<std::string> to) {
  co_await db.erase_range(std::move(from), std::move(to));
  co_return ExitCode::done;
}

}  // namespace

ExitCode run(const PutCommand& command) {
  const std::string key = typed(command.key, command.escaped);
  const std::string value = command.value ? typed(*command.value, command.escaped) : read_all_of_standard_input();
  const Work work = for_any([&](auto& db) { return put(db, key, value); });
  return with_store(command.session, Access::write, work);
}

ExitCode run(const GetCommand& command) {
  const std::string key = typed(command.key, command.escaped);
  const Work work = for_any([&](auto& db) { return get(db, key); });
  return with_store(command.session, Access::read, work);
}

ExitCode run(const DelCommand& command) {
  if (!command.range.empty()) {
    const std::string from = typed(command.range.front(), command.escaped);
    std::optional<std::string> to = typed(command.range.back(), command.escaped);
    if (to->empty()) to.reset();
    const Work work = for_any([&](auto& db) { return del_range(db, from, to); });
    return with_store(command.session, Access::write, work);
  }
  const std::string key = typed(command.key, command.escaped);
  const Work work = for_any([&](auto& db) { return del(db, key); });
  return with_store(command.session, Access::write, work);
}

}  // namespace store::tool
