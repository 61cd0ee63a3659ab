#!/usr/bin/env python3
"""The fenced blocks of the documents, and those of C++ as one program, which the build compiles.

The first word behind a fence is the language, the second one, which readers do not see, says what a block is part of:

  cpp                 a whole program that ends with main(); it is also one of examples/, where it is compiled by itself
  cpp partition       a part of a coroutine with store::Partition& db and store::PartitionConfig config
  cpp task            a part of a coroutine
  cpp store           a part of a function with store::Store& db
  c, python, sh       a program; a page's blocks of Python are one program, in their order between the others
  console             commands behind "$ ", each followed by what it prints; "..." stands for anything
  cmake               the CMakeLists.txt of an outside project: tests/install runs it
  text                no code; "text output" is what the block before it prints

Usage: blocks.py OUTPUT writes the program.
"""
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in [TOP / "README.md", TOP / "CHANGELOG.md", *(TOP / "docs").glob("*.md")] if path.exists())
KINDS = {"cpp", "cpp partition", "cpp task", "cpp store", "c", "python", "sh", "console", "cmake", "text", "text output"}


class Block(NamedTuple):
    page: str  # its path from the top
    line: int  # of the first line within
    kind: str  # what stands behind the fence
    text: str

    @property
    def place(self):
        return f"{self.page}:{self.line}"


def read_blocks():
    """{page: blocks in their order}."""
    pages = {}
    for path in PAGES:
        text = path.read_text()
        found = re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.S | re.M)
        pages[str(path.relative_to(TOP))] = [
            Block(str(path.relative_to(TOP)), text.count("\n", 0, match.start(2)) + 1, match[1], match[2]) for match in found]
    return pages


def cpp_blocks():
    return [block for blocks in read_blocks().values() for block in blocks if block.kind in KINDS and block.kind.startswith("cpp")]


# How each kind of part begins and ends, and what runs it. The braces let a part name its own `db`.
PARTS = {
    "cpp partition": ("monterey::Task<> run([[maybe_unused]] store::Partition& db, "
                      "[[maybe_unused]] store::PartitionConfig config) {", "co_return; }", "on_partition"),
    "cpp task": ("monterey::Task<> run() {", "co_return; }", "on_core"),
    "cpp store": ("void run(store::Store& db) {", "}", "on_store"),
}


def program_of(blocks):
    """One program of all blocks, each in a namespace; its argument is the place of the one to run."""
    includes = {include for block in blocks for include in re.findall(r"(?m)^#include .*$", block.text)}
    parts = ["// Written by tests/docs/blocks.py.", *sorted(includes), '#include "tests/docs/run_block.hpp"']
    cases = []
    for index, block in enumerate(blocks):
        text = re.sub(r"(?m)^#include .*$", "", block.text)
        place = f"#line {block.line} {json.dumps(block.page)}"
        if block.kind == "cpp":
            text = text.replace("/tmp/", "./").replace("int main(", "int run(").rstrip().removesuffix("}") + "return 0; }\n"
            parts.append(f"namespace block_{index} {{\n{place}\n{text}}}")
            call = f"return block_{index}::run();"
        else:
            head, tail, runner = PARTS[block.kind]
            parts.append(f"namespace block_{index} {{\n{head} {{\n{place}\n{text}}}\n{tail}\n}}")
            call = f"return docs::{runner}(block_{index}::run), 0;"
        cases.append(f"  if (place == {json.dumps(block.place)}) {call}\n")
    parts.append(f"int main(int, char** argv) {{\n  const std::string place = argv[1];\n{''.join(cases)}"
                 '  std::fprintf(stderr, "%s: no such block: build docs_blocks anew\\n", argv[1]);\n  return 1;\n}')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(program_of(cpp_blocks()))
