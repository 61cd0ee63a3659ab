#include "tools/manual.hpp"

#include <fmt/format.h>

#include <cctype>

#include <string_view>
#include <vector>

namespace store::tool {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& program) {
  // A command in a group without a name is not shown.
  return program.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

bool is_positional(const CLI::Option& option) { return option.get_positional(); }

// The long name, or the short one.
std::string flag_of(const CLI::Option& option) {
  if (!option.get_lnames().empty()) return "--" + option.get_lnames().front();
  return "-" + option.get_snames().front();
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<const CLI::Option*> flags_of(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return !is_positional(*option); });
}

std::vector<const CLI::Option*> arguments_of(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return is_positional(*option); });
}

std::string joined_flags(const CLI::App& command) {
  std::string flags;
  for (const CLI::Option* option : flags_of(command)) flags += (flags.empty() ? "" : " ") + flag_of(*option);
  return flags;
}

// What stands for the value of an option.
std::string value_name(const CLI::Option& option) {
  const std::string text = option.get_option_text();
  return text.empty() ? "VALUE" : text;
}

// Text as it stands, in roff: no line may be taken for a request, and no hyphen for a soft one.
std::string roff(std::string_view text) {
  std::string out;
  bool starts = true;
  for (const char c : text) {
    if (starts && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    starts = c == '\n';
  }
  return out;
}

std::string roff_upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return roff(text);
}

void append_options(std::string& page, const CLI::App& command) {
  page += ".SH OPTIONS\n";
  for (const CLI::Option* option : arguments_of(command)) {
    page += fmt::format(".TP\n\\fI{}\\fR\n{}\n", roff(option->get_name(true)), roff(option->get_description()));
  }
  for (const CLI::Option* option : flags_of(command)) {
    const std::string value = takes_value(*option) ? fmt::format(" \\fI{}\\fR", roff(value_name(*option))) : "";
    page += fmt::format(".TP\n\\fB{}\\fR{}\n{}\n", roff(flag_of(*option)), value, roff(option->get_description()));
  }
}

// For a word in single quotes of a shell.
std::string in_quotes(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out;
}

// For a description within zsh's [ ].
std::string zsh_quoted(std::string_view text) {
  std::string out;
  for (const char c : in_quotes(text)) {
    if (c == '[' || c == ']' || c == ':') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string man_page(const CLI::App& program, const CLI::App* command, const std::string& version) {
  const CLI::App& shown = command != nullptr ? *command : program;
  const std::string name = command != nullptr ? "store-" + command->get_name() : "store";
  std::string page = fmt::format(".TH {} 1 \"\" \"store {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n\\fBstore\\fR",
                                 roff_upper(name), version, roff(name), roff(shown.get_description()));
  if (command == nullptr) {
    page += " \\fICOMMAND\\fR \\fIPATH\\fR [\\fIOPTIONS\\fR]\n";
  } else {
    page += fmt::format(" \\fB{}\\fR", roff(command->get_name()));
    for (const CLI::Option* option : arguments_of(*command)) {
      const std::string argument = roff(option->get_name(true));
      page += option->get_required() ? fmt::format(" \\fI{}\\fR", argument) : fmt::format(" [\\fI{}\\fR]", argument);
    }
    page += " [\\fIOPTIONS\\fR]\n";
  }
  if (command == nullptr) {
    page += ".SH COMMANDS\n";
    for (const CLI::App* one : commands_of(program)) {
      page += fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(one->get_name()), roff(one->get_description()));
    }
  } else {
    append_options(page, *command);
  }
  page += fmt::format(".SH NOTES\n.nf\n{}\n.fi\n", roff(shown.get_footer()));
  if (command != nullptr) page += ".SH SEE ALSO\n\\fBstore\\fR(1)\n";
  return page;
}

std::string command_list(const CLI::App& program) {
  std::string names;
  for (const CLI::App* command : commands_of(program)) names += command->get_name() + '\n';
  return names;
}

std::string bash_completion(const CLI::App& program) {
  std::string names;
  std::string cases;
  for (const CLI::App* command : commands_of(program)) {
    names += (names.empty() ? "" : " ") + command->get_name();
    cases += fmt::format("    {}) flags='{}' ;;\n", command->get_name(), joined_flags(*command));
  }
  return fmt::format(R"(_store() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} flags=''
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{} {}' -- "$word"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{}  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _store store
)",
                     names, joined_flags(program), cases);
}

std::string zsh_completion(const CLI::App& program) {
  std::string names;
  std::string cases;
  for (const CLI::App* command : commands_of(program)) {
    names += fmt::format("    '{}:{}'\n", command->get_name(), in_quotes(command->get_description()));
    cases += fmt::format("    {}) _arguments -s", command->get_name());
    for (const CLI::Option* option : flags_of(*command)) {
      const std::string value = takes_value(*option) ? fmt::format(":{}:", zsh_quoted(value_name(*option))) : "";
      cases += fmt::format(" \\\n      '{}[{}]{}'", flag_of(*option), zsh_quoted(option->get_description()), value);
    }
    cases += " \\\n      '*:file:_files' ;;\n";
  }
  return fmt::format(R"(#compdef store
_store() {{
  local -a commands=(
{}  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
{}  esac
}}
_store "$@"
)",
                     names, cases);
}

std::string fish_completion(const CLI::App& program) {
  std::string text;
  for (const CLI::App* command : commands_of(program)) {
    text += fmt::format("complete -c store -n __fish_use_subcommand -f -a {} -d '{}'\n", command->get_name(),
                        in_quotes(command->get_description()));
    for (const CLI::Option* option : flags_of(*command)) {
      const bool is_long = !option->get_lnames().empty();
      text +=
          fmt::format("complete -c store -n '__fish_seen_subcommand_from {}' {} {}{} -d '{}'\n", command->get_name(),
                      is_long ? "-l" : "-s", is_long ? option->get_lnames().front() : option->get_snames().front(),
                      takes_value(*option) ? " -r" : "", in_quotes(option->get_description()));
    }
  }
  return text;
}

}  // namespace store::tool
