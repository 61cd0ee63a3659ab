#!/usr/bin/env python3
"""Turns the comments of a public header into those that Doxygen reads; docs/Doxyfile runs it on each.

A comment that has lines of its own describes what follows, one behind code that code. The first one of a file describes the file, and
the class that the file is named for, if that has none. What would be a command, a tag or a link to Doxygen is text here.
"""
import re
import sys
from itertools import takewhile
from pathlib import Path


def escape(text):
    """All but code: spans of it, and lines that are indented."""
    if text.startswith("     "):
        return text
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[\\@<>#]|(?<!\w)::", r"\\\g<0>", part) for part in parts)


def is_named_for(name, line):
    match = re.match(r"class (?:\[\[nodiscard\]\] )?(\w+)[^;]*$", line)
    snake = match and re.sub(r"(?<!^)(?=[A-Z])", "_", match[1]).lower()
    return match and f"_{Path(name).stem}".endswith(f"_{snake}")


def of_cpp(name, text):
    text = re.sub(r"(?ms)^template <[^\n]*>\nstruct std::.*?};\n", "", text)  # Doxygen stumbles over such
    lines = text.splitlines()
    for number, line in enumerate(lines):
        templated = line.startswith("template") and number + 1 < len(lines)
        if is_named_for(name, lines[number + 1] if templated else line) and lines[number - 1] == "":
            yield from (f"///{escape(head[2:])}" for head in takewhile(lambda head: head.startswith("//"), lines))
        match = re.match(r"(\s*)//(?!/)(.*)$", line)
        if match:
            head = " @file\n///" if number == 0 else ""
            yield f"{match[1]}///{head}{escape(match[2])}"
        elif "  // " in line and not line.startswith("}"):
            code, _, comment = line.partition("  // ")
            yield f"{code}  ///< {escape(comment)}"
        else:
            yield line


def of_c(text):
    def convert(match):
        before, comment = match[1], match[2]
        if match.start() == 0:
            comment = " @file\n *" + escape(comment)
        elif comment.startswith(" ---"):
            return match[0]
        else:
            comment = escape(comment)
        return f"{before}/**{'<' if before.strip() else ''}{comment}*/"

    return re.sub(r"(?m)(^[^\n]*?)/\*(.*?)\*/", convert, text, flags=re.S)


def main():
    with open(sys.argv[1]) as file:
        text = file.read()
    print(of_c(text) if sys.argv[1].endswith(".h") else "\n".join(of_cpp(sys.argv[1], text)))


if __name__ == "__main__":
    main()
