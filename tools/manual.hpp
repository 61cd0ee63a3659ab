// Man pages and shell completions, made from the declarations of the commands: the one place that knows them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace store::tool {

// The page of the program, or, if it is not null, of `command`, in the roff of man(7).
std::string man_page(const CLI::App& program, const CLI::App* command, const std::string& version);

// The names of the commands, a line each.
std::string command_list(const CLI::App& program);

std::string bash_completion(const CLI::App& program);
std::string zsh_completion(const CLI::App& program);
std::string fish_completion(const CLI::App& program);

}  // namespace store::tool
