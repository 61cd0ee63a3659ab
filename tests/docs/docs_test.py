"""Runs every block of the documents (blocks.py says what may stand in one), each page in a folder of its own, and looks up
what the text says of the commands."""
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import unittest

from blocks import KINDS, PAGES, TOP, cpp_blocks, read_blocks

TOOL = os.environ["STORE_TOOL"]
LIBRARY = os.path.dirname(os.environ["STORE_LIBRARY"])
PROGRAM = os.environ["DOCS_BLOCKS"]

# What is not run: page, words of the block, why. Blocks of C++ are compiled all the same.
NOT_RUN = [
    ("README.md", "./dev demo", "they are what builds and runs this"),
    ("docs/benchmarks.md", "./dev bench compare", "takes minutes to hours"),
    ("docs/c.md", "gcc -Iinclude c_api.c", "examples/c_api.c, which Capi.Example runs"),
    ("docs/c.md", "cmake --preset gcc", "builds this"),
    ("docs/getting-started.md", "sudo cmake --install", "builds and installs this; tests/install does so elsewhere"),
    ("docs/nvme.md", "/dev/ng0n1", "needs a namespace: ./dev nvme has one"),
    ("docs/probes.md", "bpftrace", "needs a process to trace, and a kernel that lets it"),
    ("docs/python.md", "cmake --preset gcc", "builds this"),
]


def reason_not_to_run(block):
    return next((why for page, words, why in NOT_RUN if page == block.page and words in block.text), None)


def run(command, folder, text=None):
    """Output and errors together, and how it ended."""
    done = subprocess.run(command, cwd=folder, input=text or "", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.stdout, done.returncode


def as_pattern(expected):
    return ".*".join(map(re.escape, expected.split("...")))


class Page:
    """Runs the blocks of a page, one after the other, in one folder."""

    def __init__(self, test, folder):
        self.test, self.folder = test, folder
        self.names = {"__name__": "docs"}  # of its Python
        os.makedirs(os.path.join(folder, ".bin"))
        os.symlink(sys.executable, os.path.join(folder, ".bin", "python3"))
        os.environ["PATH"] = f"{folder}/.bin:{os.path.dirname(TOOL)}:{Page.path}"

    path = os.environ["PATH"]

    def run(self, block):
        return getattr(self, "run_" + block.kind.split()[0])(block)

    def succeed(self, command, text=None):
        output, status = run(command, self.folder, text)
        self.test.assertEqual(status, 0, output)
        return output

    def run_cpp(self, block):
        return self.succeed([PROGRAM, block.place])

    def run_c(self, block):
        program = os.path.join(self.folder, "program")
        self.succeed(["gcc", "-std=c99", "-Wall", "-Werror", f"-I{TOP}/include", "-x", "c", "-", "-o", program, f"-L{LIBRARY}", "-lstore",
                      f"-Wl,-rpath,{LIBRARY}"], block.text.replace("/tmp/", "./"))
        return self.succeed([program])

    def run_python(self, block):
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                # Its lines have the numbers of the page.
                exec(compile("\n" * (block.line - 1) + block.text, str(TOP / block.page), "exec"), self.names)
        finally:
            os.chdir(before)
        return output.getvalue()

    def run_sh(self, block):
        return self.succeed(["bash", "-euo", "pipefail", "-c", block.text])

    def run_console(self, block):
        """One shell for all commands; a mark divides what they print."""
        parts = re.split(r"(?m)^\$ ((?:.*\\\n)*.*)\n", block.text)
        self.test.assertEqual(parts[0], "", "the block does not begin with a command")
        mark = "=== the next command ==="
        script = "".join(f"{command}\nstatus=$?; echo '{mark}'; (exit $status)\n" for command in parts[1::2])
        output, _ = run(["bash", "-c", script], self.folder)
        for command, expected, found in zip(parts[1::2], parts[2::2], output.split(mark + "\n"), strict=False):
            found += "" if found.endswith("\n") or not found else "\n"  # as `store get` does on a terminal
            self.test.assertTrue(re.fullmatch(as_pattern(expected), found, re.S), f"$ {command}\n{found}instead of\n{expected}")
        return output

    def run_cmake(self, block):
        self.test.assertEqual(block.page, "docs/getting-started.md", "tests/install takes it from there")

    def run_text(self, block):
        pass


class Blocks(unittest.TestCase):
    def test_every_block_says_what_it_is(self):
        for page, blocks in read_blocks().items():
            fences = len(re.findall(r"(?m)^\s*(?:```|~~~)", (TOP / page).read_text()))
            self.assertEqual(fences, 2 * len(blocks), f"{page}: a block that is indented, within another or not closed")
            for block in blocks:
                self.assertIn(block.kind, KINDS, f"{block.place}: no such kind of block")

    def test_every_exception_is_needed(self):
        blocks = [block for page in read_blocks().values() for block in page]
        for page, words, _ in NOT_RUN:
            self.assertTrue(any(block.page == page and words in block.text for block in blocks), f"{page} has no block with {words}")

    def test_whole_programs_are_examples(self):
        examples = {path.read_text() for path in (TOP / "examples").iterdir()}
        for block in cpp_blocks():
            if block.kind == "cpp":
                self.assertTrue(block.text in examples, f"{block.place}: not the text of a file in examples/")

    def test_every_block_runs(self):
        for blocks in read_blocks().values():
            with tempfile.TemporaryDirectory() as folder:
                page = Page(self, folder)
                output = None
                for block in blocks:
                    with self.subTest(block.place):
                        if block.kind == "text output":
                            self.assertTrue(re.fullmatch(as_pattern(block.text), output, re.S), f"{output}instead of\n{block.text}")
                        elif reason_not_to_run(block) is None:
                            output = page.run(block)


class Words(unittest.TestCase):
    """Commands within the text: that there are such, with such options."""

    def spans(self):
        for path in PAGES:
            text = re.sub(r"(?ms)^```.*?^```$", lambda block: "\n" * block[0].count("\n"), path.read_text())
            for span in re.finditer(r"`([^`\n]+)`", text):
                yield f"{path.name}:{text.count(chr(10), 0, span.start()) + 1}", span[1].split()

    def test_verbs_of_dev(self):
        help_text, _ = run([str(TOP / "dev"), "help"], TOP)
        verbs = re.findall(r"(?m)^  (\w+)", help_text)
        found = [(place, words) for place, words in self.spans() if words[0] == "./dev" and len(words) > 1]
        self.assertGreater(len(found), 10)
        for place, words in found:
            self.assertIn(words[1], [*verbs, "…", "VERB"], place)
            for option in re.findall(r"--[\w-]+", " ".join(words)):
                self.assertTrue(option in help_text or words[1] in ("sim", "bench"), f"{place}: ./dev {words[1]} has no {option}")

    def test_commands_of_the_tool(self):
        commands = run([TOOL, "manual", "list"], TOP)[0].split()
        found = [(place, words) for place, words in self.spans() if words[0] == "store" and len(words) > 1]
        self.assertGreater(len(found), 5)
        for place, words in found:
            rest = [word for word in words[1:] if not word.startswith("/") and word != "--device"]
            self.assertIn(rest[0], [*commands, "COMMAND", "--help", "--version"], place)
            help_text = run([TOOL, *rest[:1], "--help"], TOP)[0] if rest[0] in commands else "--help --version"
            for option in re.findall(r"(?<!\w)--[\w-]+", " ".join(rest[1:])):
                self.assertRegex(help_text, re.escape(option) + r"(?![\w-])", place)

    def test_metrics_and_calls_of_c(self):
        with tempfile.TemporaryDirectory() as folder:
            output, status = run(["bash", "-c", f"{TOOL} create a.db && {TOOL} stat a.db --prometheus"], folder)
        self.assertEqual(status, 0, output)
        known = set(re.findall(r"\bstore_\w+", output + (TOP / "include/store/store.h").read_text()))
        for place, words in self.spans():
            if place.startswith(("operations.md", "tuning.md", "c.md")):
                for name in re.findall(r"\bstore_\w+", " ".join(words)):
                    self.assertTrue(name in known, f"{place}: there is no {name}")


if __name__ == "__main__":
    unittest.main()
