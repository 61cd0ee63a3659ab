"""The static probes of the command, as `readelf -n` shows them, against the list in docs/probes.md."""
import os
import re
import subprocess
import unittest
from pathlib import Path

from harness import TOOL

DOCUMENT = Path(__file__).parents[2] / "docs" / "probes.md"
ROW = re.compile(r"(?m)^\| `(\w+)` \| ([^|]*) \|")
NOTE = re.compile(r"Provider: (\S+)\s+Name: (\S+)\s+Location: 0x\w+, Base: 0x\w+, Semaphore: (0x\w+)\s+Arguments: ?(.*)")


class Probes(unittest.TestCase):
    def test_the_binary_has_those_of_the_document(self):
        listed = {name: len(arguments.split(", ")) for name, arguments in ROW.findall(DOCUMENT.read_text())}
        output = subprocess.run(["readelf", "-nW", TOOL], env={**os.environ, "LC_ALL": "C"}, check=True, capture_output=True, text=True).stdout
        found = {}
        for provider, name, semaphore, arguments in NOTE.findall(output):
            if provider != "store":
                continue  # of a library
            self.assertEqual(int(semaphore, 16), 0, "a probe that nobody traces does nothing")
            # Of the many places that an inlined probe may have, each has all arguments.
            self.assertEqual(found.setdefault(name, len(arguments.split())), len(arguments.split()), name)
        self.assertEqual(found, listed)


if __name__ == "__main__":
    unittest.main()
