// A strict reader of Prometheus' text exposition format, version 0.0.4: throws at anything that a scraper might refuse or take amiss.
#pragma once

#include <cmath>
#include <limits>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace store::test {

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};
struct Family {
  std::string type;
  bool has_help = false;
  std::vector<Sample> samples;
};

class ExpositionReader {
 public:
  static std::map<std::string, Family> read(const std::string& text) {
    ExpositionReader reader;
    if (text.empty() || text.back() != '\n') throw std::runtime_error("the last line has no end");
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      try {
        reader.read_line(line);
      } catch (const std::exception& error) {
        throw std::runtime_error(line + ": " + error.what());
      }
    }
    return std::move(reader.families_);
  }

 private:
  static constexpr const char* kName = "[a-zA-Z_:][a-zA-Z0-9_:]*";

  static void require(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(what);
  }

  void read_line(const std::string& line) {
    static const std::regex head(std::string("# (HELP|TYPE) (") + kName + ") (.+)");
    static const std::regex sample(std::string("(") + kName + R"re()(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+))re");
    std::smatch match;
    if (std::regex_match(line, match, head)) return read_head(match[1], match[2], match[3]);
    require(std::regex_match(line, match, sample), "neither a head nor a sample");
    read_sample({match[1], labels_of(match[2]), value_of(match[3])});
  }

  void read_head(const std::string& kind, const std::string& name, const std::string& rest) {
    if (name != family_) require(!families_.contains(name), "a metric in two places");
    family_ = name;
    Family& family = families_[name];
    require(family.samples.empty(), "a head behind samples");
    if (kind == "HELP") {
      require(!family.has_help, "a second HELP");
      family.has_help = true;
      return;
    }
    require(family.type.empty(), "a second TYPE");
    require(rest == "counter" || rest == "gauge" || rest == "histogram", "no such type");
    family.type = rest;
  }

  void read_sample(Sample sample) {
    require(!family_.empty(), "a sample before any head");
    Family& family = families_[family_];
    std::string suffix = sample.name.starts_with(family_) ? sample.name.substr(family_.size()) : "?";
    const bool histogram = family.type == "histogram";
    require(histogram ? suffix == "_bucket" || suffix == "_sum" || suffix == "_count" : suffix.empty(),
            "a sample of another metric");
    require(sample.labels.contains("le") == (suffix == "_bucket"), "le belongs to buckets");
    for (const Sample& other : family.samples) {
      require(other.name != sample.name || other.labels != sample.labels, "the same series again");
    }
    family.samples.push_back(std::move(sample));
  }

  static std::map<std::string, std::string> labels_of(const std::string& text) {
    static const std::regex label(R"re(([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$))re");
    std::map<std::string, std::string> labels;
    auto at = text.cbegin();
    for (std::smatch match; at != text.cend(); at = match.suffix().first) {
      require(std::regex_search(at, text.cend(), match, label, std::regex_constants::match_continuous), "a bad label");
      require(labels.emplace(match[1], match[2]).second, "a label twice");
    }
    return labels;
  }

  static double value_of(const std::string& text) {
    if (text == "+Inf") return std::numeric_limits<double>::infinity();
    std::size_t end = 0;
    const double value = std::stod(text, &end);
    require(end == text.size() && std::isfinite(value), "not a number");
    return value;
  }

  std::map<std::string, Family> families_;
  std::string family_;
};

}  // namespace store::test
