#include "tools/fields.hpp"

#include <fmt/format.h>

#include <utility>

#include "store/base/units.hpp"
#include "tools/json.hpp"
#include "tools/progress.hpp"

namespace store::tool {
void Fields::number(std::string name, std::uint64_t value) {
  fields_.push_back({std::move(name), Kind::number, value, {}});
}

void Fields::text(std::string name, std::string_view value) {
  fields_.push_back({std::move(name), Kind::text, 0, std::string(value)});
}

void Fields::json(std::string name, std::string value) {
  fields_.push_back({std::move(name), Kind::json, 0, std::move(value)});
}

void Fields::append(const Fields& others) {
  fields_.insert(fields_.end(), others.fields_.begin(), others.fields_.end());
}

// Nothing: the field is not shown to people.
std::string Fields::Field::shown() const {
  if (kind == Kind::json) return {};
  return kind == Kind::number ? std::to_string(number) : text;
}

std::string Fields::as_lines() const {
  std::string lines;
  for (const Field& field : fields_) {
    const std::string value = field.shown();
    if (value.empty()) continue;
    lines += fmt::format("{:<19}{}", field.name, value);
    if (field.kind == Kind::number && field.name.ends_with("_blocks")) {
      lines += fmt::format("  ({})", human_bytes(static_cast<double>(field.number * kPageBytes)));
    }
    lines += '\n';
  }
  return lines;
}

std::string Fields::as_row() const {
  std::string row;
  for (const Field& field : fields_) {
    const std::string value = field.shown();
    if (!value.empty()) row += fmt::format("{}{} {}", row.empty() ? "" : "  ", field.name, value);
  }
  return row;
}

std::string Fields::as_json() const {
  std::string object = "{";
  for (const Field& field : fields_) {
    if (object.size() > 1) object += ", ";
    object += json_string(field.name) + ": ";
    switch (field.kind) {
      case Kind::number: object += std::to_string(field.number); break;
      case Kind::text: object += json_string(field.text); break;
      case Kind::json: object += field.text; break;
    }
  }
  return object + '}';
}

std::string as_json(const std::vector<Fields>& rows) {
  std::string array = "[";
  for (const Fields& row : rows) array += (array.size() > 1 ? ",\n " : "") + row.as_json();
  return array + ']';
}

}  // namespace store::tool
