"""What the end-to-end tests share: the program under test, a folder of their own, random records.

The program is $STORE_TOOL. Each test runs in a fresh folder below the current one. Random tests print their seed when they fail;
STORE_SEED=N replays it.
"""
import os
import random
import shutil
import subprocess
import tempfile
import unittest

TOOL = os.environ["STORE_TOOL"]
SEED = int(os.environ.get("STORE_SEED") or random.SystemRandom().getrandbits(32))

DONE, NEGATIVE, USAGE, FAILED = 0, 1, 2, 3


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="e2e-", dir=".")
        self.addCleanup(shutil.rmtree, self.folder)
        self.db = os.path.join(self.folder, "test.store")

    def run_store(self, *arguments, stdin=b"", expect=DONE):
        """Runs the program and checks how it ended; returns (standard output, standard error)."""
        done = subprocess.run([TOOL, *arguments], input=stdin, capture_output=True, timeout=300)
        self.assertEqual(done.returncode, expect, f"store {arguments}: {done.stdout[:500]} {done.stderr[:2000]}")
        for line in done.stderr.splitlines():
            self.assertTrue(line.startswith(b"store: "), f"a message without the program's name: {line}")
        return done.stdout, done.stderr.decode(errors="replace")

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def check_clean(self):
        self.assertTrue(self.run_store("check", self.db)[0].startswith(b"ok"))


def random_records(generator, count):
    """Records of every kind: any byte in keys and values, empty values, values in overflow runs and with tables of CRCs."""
    records = {}
    while len(records) < count:
        key = generator.randbytes(generator.choice([1, 3, 8, 16, 40, 200]))
        kind = generator.random()
        if kind < 0.3:
            value = b"".join(generator.choice([b"a", b"\t", b"\n", b"\\", b"\r", b"\0", "é".encode(), b'"'])
                             for _ in range(generator.randrange(20)))
        elif kind < 0.9:
            value = generator.randbytes(generator.randrange(300))
        elif kind < 0.99:
            value = generator.randbytes(generator.randrange(1000, 9000))
        else:
            value = generator.randbytes(generator.randrange(65000, 200000))
        records[key] = value
    return records


def main():
    print(f"seed {SEED} (STORE_SEED={SEED} replays)", flush=True)
    unittest.main(verbosity=2)
