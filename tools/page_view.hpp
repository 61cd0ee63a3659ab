// One block of a store's device as fields and rows: what it says of itself, what is wrong with that, and what is in it. A page that fails
// its checksum is shown as far as its structure holds; nothing is read that the engine's own checks have not passed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/page/header.hpp"
#include "store/wal/log_format.hpp"
#include "tools/fields.hpp"

namespace store::tool {

struct PageView {
  Fields fields;
  std::vector<std::string> wrong;  // empty: nothing is
  std::string rows_name;           // what the rows are; empty: there are none
  std::vector<Fields> rows;
};

// `block` is where the page was read.
PageView view_page(PageNo block, ConstPageBytes page);

// Whether the log behind the newest commit has a group where it was read, so that `group` is all of its blocks.
enum class GroupPlace : std::uint8_t { in_log, unknown };

// A group of the log. Requires: `group` has the bytes that its header says, or, where that is not known, fewer or others.
PageView view_group(PageNo block, std::span<const std::byte> group, GroupPlace place);

// What an entry of a log record does.
Fields fields_of(const LogEntry& entry);
// The name of that: put, put_run, erase or erase_range.
const char* operation_of(const LogEntry& entry);

// A key or value as the tsv format has it.
std::string escaped(std::string_view bytes);

}  // namespace store::tool
