"""Runs the blocks of Python of docs/python.md, one after the other in one program, in a folder of its own."""
import os
import re
import tempfile
import unittest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


class Docs(unittest.TestCase):
    def test_the_blocks_run(self):
        text = PAGE.read_text()
        blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.S | re.M))
        self.assertGreater(len(blocks), 3)
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            self.addCleanup(os.chdir, before)
            names = {"__name__": "docs"}
            for block in blocks:
                line = text[:block.start(1)].count("\n")
                exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)  # its lines have the numbers of the page
            os.chdir(before)


if __name__ == "__main__":
    unittest.main()
