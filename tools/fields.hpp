// What a command reports: named values in their order, shown as lines for people or as one JSON object. The names are the same in
// both, and stable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace store::tool {

class Fields {
 public:
  void number(std::string name, std::uint64_t value);
  // Lines leave out an empty text.
  void text(std::string name, std::string_view value);
  // JSON as it stands, which only as_json() shows.
  void json(std::string name, std::string value);
  void append(const Fields& others);

  // A line each, the values in one column; what is counted in blocks also in bytes.
  std::string as_lines() const;
  // "name value  name value".
  std::string as_row() const;
  // {"name": value, ...}
  std::string as_json() const;

 private:
  enum class Kind : std::uint8_t { number, text, json };
  struct Field {
    std::string name;
    Kind kind;
    std::uint64_t number = 0;
    std::string text;

    std::string shown() const;
  };

  std::vector<Field> fields_;
};

// A JSON array of objects.
std::string as_json(const std::vector<Fields>& rows);

}  // namespace store::tool
