#!/usr/bin/env python3
"""Turns the comments of a public header into those that Doxygen reads; docs/Doxyfile runs it on each.

A comment that has lines of its own describes what follows, the first one of a file the file, one behind code that code. What
would be a command, a tag or a link to Doxygen is text here.
"""
import re
import sys


def escape(text):
    """All but code: spans of it, and lines that are indented."""
    if text.startswith("     "):
        return text
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[\\@<>#]|(?<!\w)::", r"\\\g<0>", part) for part in parts)


def of_cpp(text):
    text = re.sub(r"(?ms)^template <[^\n]*>\nstruct std::.*?};\n", "", text)  # Doxygen stumbles over such
    for number, line in enumerate(text.splitlines()):
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
    print(of_c(text) if sys.argv[1].endswith(".h") else "\n".join(of_cpp(text)))


if __name__ == "__main__":
    main()
