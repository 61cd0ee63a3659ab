"""load and dump of the program `store`: every format there and back, LMDB's tools on the other side, malformed input."""
import json
import os
import pty
import random
import select
import subprocess
import time
import unittest

from harness import DONE, FAILED, SEED, TOOL, USAGE, Case, main, random_records


def hexlines(records):
    """The records as mdb_dump writes them without -p."""
    return b"".join(b" %s\n %s\n" % (key.hex().encode(), value.hex().encode()) for key, value in sorted(records.items()))


def mdb_text(records):
    # Pages of LMDB are half full at least, and a value on pages of its own fills the last one in part.
    mapsize = (1 << 20) + sum(4 * (len(key) + len(value) + 32) for key, value in records.items()) // 4096 * 4096
    return b"VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=%d\nHEADER=END\n" % mapsize + hexlines(records) + b"DATA=END\n"


class Formats(Case):
    def test_every_format_gives_the_same_store_back(self):
        records = random_records(random.Random(SEED), 2000)
        self.run_store("load", self.db, "--format", "mdb", stdin=mdb_text(records))
        self.check_clean()
        for form in ("tsv", "jsonl", "mdb"):
            dumped = self.run_store("dump", self.db, "--format", form)[0]
            other = os.path.join(self.folder, form)
            self.run_store("load", other, "--format", form, stdin=dumped)
            self.assertEqual(self.run_store("dump", other, "--format", form)[0], dumped, form)
            again = self.run_store("dump", other, "--format", "mdb")[0]
            self.assertEqual(again[again.index(b"HEADER=END\n") + 11:], hexlines(records) + b"DATA=END\n", form)
            self.assertEqual(self.run_store("scan", other, "--format", form)[0], dumped, form)

    def test_the_last_of_equal_keys_stays(self):
        self.run_store("load", self.db, stdin=b"a\t1\nb\t2\na\t3\n")
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t3\nb\t2\n")

    def test_a_load_adds_to_what_is_there_and_may_be_repeated(self):
        self.run_store("load", self.db, stdin=b"a\t1\nb\t2\n")
        for _ in range(2):
            self.run_store("load", self.db, stdin=b"b\t3\nc\t4\n")
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\nb\t3\nc\t4\n")

    def test_files_and_pipes(self):
        path = self.write("input", b"skipped\na\t1\nb\t2\n")
        with open(path, "rb") as file:  # standard input that is a file, half read
            file.seek(8)
            subprocess.run([TOOL, "load", self.db], stdin=file, check=True)
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\nb\t2\n")
        self.run_store("load", self.db, self.write("more", b"c\t3\n"))
        self.run_store("load", self.db, "-", stdin=b"d\t4")
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\nb\t2\nc\t3\nd\t4\n")
        self.assertEqual(sorted(os.listdir(self.folder)), ["input", "more", "test.store"])

    def test_nothing_is_written_before_a_pipe_has_ended(self):
        load = subprocess.Popen([TOOL, "load", self.db], stdin=subprocess.PIPE)
        load.stdin.write(b"a\t1\n" * 200000)
        load.stdin.flush()
        self.assertFalse(os.path.exists(self.db))
        load.stdin.close()
        self.assertEqual(load.wait(60), DONE)
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\n")

    def test_progress_on_a_terminal(self):
        terminal, stderr = pty.openpty()
        load = subprocess.Popen([TOOL, "load", self.db], stdin=subprocess.PIPE, stderr=stderr)
        os.close(stderr)
        shown = b""
        deadline = time.monotonic() + 60
        while b"/s" not in shown and time.monotonic() < deadline:
            load.stdin.write(b"a\t1\n")
            load.stdin.flush()
            if select.select([terminal], [], [], 0.002)[0]:
                shown += os.read(terminal, 4096)
        load.stdin.close()
        self.assertRegex(shown, rb"\rread: .*B/s")
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # how a terminal ends when the last program has closed it
            pass
        os.close(terminal)
        self.assertEqual(load.wait(60), DONE)
        self.assertRegex(shown, rb"load: .*/s in .* s\x1b\[K\r\n$")

    def test_sorted_input_makes_the_same_store(self):
        records = random_records(random.Random(SEED), 3000)
        self.run_store("load", self.db, "--format", "mdb", stdin=mdb_text(records))
        for form in ("tsv", "jsonl", "mdb"):
            dumped = self.run_store("dump", self.db, "--format", form)[0]
            for name, arguments, stdin in (("piped", [], dumped), ("read", [self.write("input", dumped)], b"")):
                other = os.path.join(self.folder, form + name)
                self.run_store("load", other, *arguments, "--format", form, "--sorted", stdin=stdin)
                self.assertEqual(self.run_store("dump", other, "--format", form)[0], dumped)
                self.assertTrue(self.run_store("check", other)[0].startswith(b"ok"))
        self.run_store("create", self.db, "--overwrite")  # one that is there, and empty
        self.run_store("load", self.db, "--sorted", stdin=b"a\t1\nb\t2\n")
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\nb\t2\n")
        self.run_store("load", os.path.join(self.folder, "none"), "--sorted", stdin=b"")

    def test_nothing_to_load(self):
        self.run_store("load", self.db, stdin=b"")
        self.assertEqual(self.run_store("dump", self.db)[0], b"")
        self.check_clean()


    def test_summary(self):
        for form in ([], ["--partial"], ["--sorted"]):
            target = os.path.join(self.folder, "-".join(["summary"] + form))
            out = json.loads(self.run_store("load", target, "--json", *form, stdin=b"a\t1\nb\t2\n")[0])
            self.assertEqual(out, {"records": 2, "input_bytes": 8})


class Malformed(Case):
    # Format, input, the line at fault and a word of what was expected there.
    INPUTS = [
        ("tsv", b"a\t1\nno tab here\nb\t2\n", 2, "tab"),
        ("tsv", b"a\t1\nb\tbad \\q escape\nc\t3\n", 2, "backslash"),
        ("tsv", b"a\t1\nb\ttoo\tmany\n", 2, "tab"),
        ("tsv", b"a\t1\n\tvalue without key\n", 2, "key"),
        ("tsv", b"a\t1\n" + b"k" * 1025 + b"\tvalue\n", 2, "1024"),
        ("jsonl", b'{"key": "a", "value": "1"}\n{"key": "b"}\n', 2, "value"),
        ("jsonl", b'{"key": "a", "value": "1"}\n{"key": "b", "value": "2"\n', 2, ""),
        ("jsonl", b'{"key": "a", "value": "1"}\n[]\n', 2, ""),
        ("jsonl", b'{"key": "a", "value": "1"}\n{"key": "", "value": "2"}\n', 2, "key"),
        ("mdb", b"VERSION=3\nformat=bytevalue\nHEADER=END\n 61\n 31\n 6x\n 32\nDATA=END\n", 6, "hex"),
        ("mdb", b"VERSION=3\nformat=bytevalue\nHEADER=END\n 61\n 31\n 62\nDATA=END\n", 7, ""),
        ("mdb", b"VERSION=3\nformat=bytevalue\nHEADER=END\n 61\n 31\n", 6, "DATA=END"),
        ("mdb", b"VERSION=7\nformat=bytevalue\nHEADER=END\nDATA=END\n", 1, "VERSION"),
    ]

    def test_nothing_is_half_loaded(self):
        self.run_store("load", self.db, stdin=b"old\tstays\n")
        for form, content, line, word in self.INPUTS:
            with self.subTest(form=form, content=content):
                for arguments, stdin in (([self.write("bad", content)], b""), ([], content)):
                    _, message = self.run_store("load", self.db, *arguments, "--format", form, stdin=stdin, expect=FAILED)
                    self.assertRegex(message, rf"line {line}\b")
                    self.assertIn(word, message)
                self.assertEqual(self.run_store("dump", self.db)[0], b"old\tstays\n")

    def test_no_store_is_made(self):
        self.run_store("load", self.db, stdin=b"malformed\n", expect=FAILED)
        self.assertFalse(os.path.exists(self.db))

    def test_partial_stores_what_stands_before_the_malformed_line(self):
        _, message = self.run_store("load", self.db, "--partial", stdin=b"a\t1\nb\t2\nbad\nc\t3\n", expect=FAILED)
        self.assertRegex(message, r"line 3\b")
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\nb\t2\n")
        self.check_clean()

    def test_sorted_input_that_is_not_is_refused_whole(self):
        for rows, words in ((b"a\t1\nc\t2\nb\\x01\t3\nd\t4\n", ["line 3", "key b\\x01 follows c", "sort"]),
                            (b"a\t1\nb\t2\nb\t3\n", ["line 3", "key b repeats b"]),
                            (b"b\t" + b"v" * 300000 + b"\na\t1\n", ["line 2", "key a follows b"]),
                            (b"a\t1\nmalformed\n", ["line 2", "tab"])):
            message = self.run_store("load", self.db, "--sorted", stdin=rows, expect=FAILED)[1]
            for word in words:
                self.assertIn(word, message)
            self.assertFalse(os.path.exists(self.db))
            self.run_store("create", self.db)
            self.run_store("load", self.db, "--sorted", stdin=rows, expect=FAILED)
            self.assertEqual(self.run_store("dump", self.db)[0], b"")
            self.check_clean()
            os.remove(self.db)

    def test_sorted_input_is_for_an_empty_store(self):
        self.run_store("put", self.db, "old", "stays", expect=FAILED)
        self.run_store("create", self.db)
        self.run_store("put", self.db, "old", "stays")
        message = self.run_store("load", self.db, "--sorted", stdin=b"a\t1\n", expect=FAILED)[1]
        self.assertIn("an empty store, this one has 1 entries", message)
        self.assertEqual(self.run_store("dump", self.db)[0], b"old\tstays\n")
        self.run_store("load", self.db, "--sorted", "--partial", stdin=b"a\t1\n", expect=USAGE)
        self.assertIn("nowhere", self.run_store("load", self.db, "nowhere", "--sorted", expect=FAILED)[1])

    def test_missing_input(self):
        self.assertIn("nowhere", self.run_store("load", self.db, "nowhere", expect=FAILED)[1])
        self.assertFalse(os.path.exists(self.db))


def lmdb_records(count):
    """Records that LMDB takes, too: any byte, keys of 1 to 511 bytes, values from none to some on pages of their own."""
    generator = random.Random(SEED)
    records = {}
    while len(records) < count:
        key = generator.randbytes(generator.choice((1, 3, 8, 8, 16, 16, 16, 40, 200, 511)))
        kind = generator.random()
        bytes_most = 0 if kind < 0.1 else 120 if kind < 0.98 else 9000 if kind < 0.9998 else 200000
        records[key] = generator.randbytes(generator.randint(0, bytes_most))
    return records


class Lmdb(Case):
    def lmdb(self, name, text, *flags):
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        with open(text, "rb") as file:
            subprocess.run(["mdb_load", *flags, path], stdin=file, check=True, stderr=subprocess.DEVNULL)
        return path

    def written(self, name, *command):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            subprocess.run(command, check=True, stdout=file)
        return path

    def same_data(self, one, other):
        """Whether two dumps are the same behind their headers; returns the lines."""
        lines = 0
        with open(one, "rb") as a, open(other, "rb") as b:
            for file in (a, b):
                while file.readline() != b"HEADER=END\n":
                    pass
            for line in a:
                self.assertEqual(line, b.readline())
                lines += 1
            self.assertEqual(b.readline(), b"")
        return lines

    def there_and_back(self, records, *flags):
        """LMDB, a store, LMDB, and a store again: what each dumps is the same."""
        first = self.lmdb("first", self.write("text", mdb_text(records)))
        dumped = self.written("first.txt", "mdb_dump", *flags, first)
        self.run_store("load", self.db, dumped, "--format", "mdb")
        self.check_clean()
        stored = self.written("stored.txt", TOOL, "dump", self.db, "--format", "mdb")
        second = self.lmdb("second", stored)
        again = self.written("second.txt", "mdb_dump", *flags, second)
        self.assertEqual(self.same_data(dumped, again), 2 * len(records) + 1)
        other = os.path.join(self.folder, "other.store")
        self.run_store("load", other, again, "--format", "mdb", "--sorted")
        self.same_data(stored, self.written("other.txt", TOOL, "dump", other, "--format", "mdb"))
        if not flags:
            self.same_data(dumped, stored)

    def test_hex(self):
        self.there_and_back(lmdb_records(int(os.environ.get("STORE_TRANSFER_RECORDS") or 50000)))

    def test_what_a_store_cannot_keep(self):
        """Databases of LMDB's own, as its tools dump them."""
        header = b"VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=1048576\n"
        data = b"HEADER=END\n 61\n 31\n 61\n 32\nDATA=END\n"
        several = self.lmdb("several", self.write("text", header + b"dupsort=1\n" + data))
        named = self.lmdb("named", self.write("text", header + data.replace(b" 61\n 31\n", b"")), "-s", "plain")
        for path, flags, words in ((several, [], ["DUPSORT", "duplicates=1"]), (named, ["-a"], ["named database", "database=plain"]),
                                   (named, ["-s", "plain"], ["named database", "database=plain"])):
            dumped = subprocess.run(["mdb_dump", *flags, path], check=True, capture_output=True).stdout
            for form in ([], ["--partial"], ["--sorted"]):
                message = self.run_store("load", self.db, "--format", "mdb", *form, stdin=dumped, expect=FAILED)[1]
                self.assertRegex(message, r"line [0-9]+\b")
                for word in words:
                    self.assertIn(word, message)
        self.run_store("load", self.db, stdin=b"old\tstays\n")
        self.run_store("load", self.db, "--format", "mdb", stdin=dumped, expect=FAILED)
        self.assertEqual(self.run_store("dump", self.db)[0], b"old\tstays\n")

    def test_print(self):
        # mdb_dump -p of LMDB 0.9 does not escape backslashes, so that its output says nothing sure about them.
        self.there_and_back({key.replace(b"\\", b"/"): value.replace(b"\\", b"/")
                             for key, value in random_records(random.Random(SEED), 1000).items() if len(key) <= 511},
                            "-p")


if __name__ == "__main__":
    main()
