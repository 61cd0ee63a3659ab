"""create, put, get, del, scan, stat and check of the program `store`, and how they fail."""
import ctypes
import json
import os
import resource
import subprocess

from harness import DONE, FAILED, NEGATIVE, TOOL, USAGE, Case, main


def without_override():
    """Of root: leaves it the rights that the modes of its files give, when the next program starts."""
    if os.geteuid() == 0:
        capbset_drop, dac_override, dac_read_search = 24, 1, 2
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (dac_override, dac_read_search):
            if libc.prctl(capbset_drop, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


class Records(Case):
    def setUp(self):
        super().setUp()
        self.run_store("create", self.db)

    def test_put_get_del(self):
        self.run_store("put", self.db, "greeting", "hello, world")
        self.assertEqual(self.run_store("get", self.db, "greeting")[0], b"hello, world")
        self.run_store("put", self.db, "greeting", "again")
        self.assertEqual(self.run_store("get", self.db, "greeting")[0], b"again")
        self.run_store("del", self.db, "greeting")
        out, message = self.run_store("get", self.db, "greeting", expect=NEGATIVE)
        self.assertEqual((out, message), (b"", ""))
        self.run_store("del", self.db, "greeting", expect=NEGATIVE)
        self.check_clean()

    def test_values_from_standard_input_of_every_size(self):
        for size in (0, 1, 1023, 1024, 1025, 4096, 65535, 65536, 65537, 3_000_000):
            value = os.urandom(size)
            self.run_store("put", self.db, f"of {size}", stdin=value)
            self.assertEqual(self.run_store("get", self.db, f"of {size}")[0], value)
        self.check_clean()

    def test_arguments_that_look_like_something_else(self):
        for value in ("", "-", "--limit", "[a,b]", "{}", "%%", "a=b", " ", "\n"):
            self.run_store("put", self.db, "--", "key", value)
            self.assertEqual(self.run_store("get", self.db, "key")[0], value.encode())
        self.run_store("put", self.db, "--", "-k", "dashed")
        self.assertEqual(self.run_store("get", self.db, "--", "-k")[0], b"dashed")

    def test_escaped_keys_and_values(self):
        self.run_store("put", self.db, "--escaped", r"a\x00\tb", r"\\\n\xff")
        self.assertEqual(self.run_store("get", self.db, "--escaped", r"a\x00\tb")[0], b"\\\n\xff")
        self.assertIn("backslash", self.run_store("get", self.db, "--escaped", "a\\q", expect=FAILED)[1])

    def test_key_limits(self):
        self.run_store("put", self.db, "k" * 1024, "longest")
        self.assertEqual(self.run_store("get", self.db, "k" * 1024)[0], b"longest")
        self.assertIn("1024", self.run_store("put", self.db, "k" * 1025, "v", expect=FAILED)[1])
        self.assertIn("1024", self.run_store("put", self.db, "", "v", expect=FAILED)[1])
        self.assertIn("1024", self.run_store("get", self.db, "k" * 1025, expect=FAILED)[1])

    def test_scan(self):
        keys = [f"k{i:03}" for i in range(40)] + ["l", "m\tx"]
        rows = "".join(f"{key.replace(chr(9), chr(92) + 't')}\tv-{i}\n" for i, key in enumerate(keys))
        self.run_store("load", self.db, stdin=rows.encode())
        self.assertEqual(self.run_store("scan", self.db)[0], rows.encode())

        def scanned(*options):
            return self.run_store("scan", self.db, "--keys", *options)[0].decode().splitlines()
        self.assertEqual(scanned("--from", "k010", "--to", "k013"), ["k010", "k011", "k012"])
        self.assertEqual(scanned("--from", "k038"), ["k038", "k039", "l", "m\\tx"])
        self.assertEqual(scanned("--to", "k002"), ["k000", "k001"])
        self.assertEqual(scanned("--prefix", "k03"), keys[30:40])
        self.assertEqual(scanned("--prefix", "k", "--limit", "3"), keys[:3])
        self.assertEqual(scanned("--limit", "0"), [])
        self.assertEqual(scanned("--from", "z"), [])
        self.assertEqual(scanned("--from", "b", "--to", "a"), [])
        self.assertEqual(scanned("--escaped", "--from", r"m\tx"), ["m\\tx"])
        line = self.run_store("scan", self.db, "--from", "m", "--format", "jsonl")[0]
        self.assertEqual(json.loads(line), {"key": "m\tx", "value": "v-41"})

    def test_del_range(self):
        keys = [f"k{i:03}" for i in range(40)] + ["l", "m\tx"]
        self.run_store("load", self.db, "--format", "jsonl",
                       stdin="".join(json.dumps({"key": key, "value": "v" * 3000}) + "\n" for key in keys).encode())

        def left():
            return self.run_store("scan", self.db, "--keys")[0].decode().splitlines()
        self.run_store("del", self.db, "--range", "k010", "k030")
        self.assertEqual(left(), keys[:10] + keys[30:41] + ["m\\tx"])
        self.run_store("del", self.db, "--range", "k010", "k030")
        self.run_store("del", self.db, "--range", "z", "a")
        self.run_store("del", "--escaped", "--range", "l", r"m\tx", self.db)
        self.assertEqual(left(), keys[:10] + keys[30:40] + ["m\\tx"])
        self.run_store("del", self.db, "--range", "k035", "")
        self.assertEqual(left(), keys[:10] + keys[30:35])
        self.run_store("del", self.db, "--range", "", "")
        self.assertEqual(left(), [])
        self.assertEqual(json.loads(self.run_store("stat", self.db, "--json")[0])["overflow_blocks"], 0)
        self.check_clean()
        self.run_store("del", self.db, expect=USAGE)
        self.run_store("del", self.db, "--range", "a", expect=USAGE)
        self.run_store("del", self.db, "a", "--range", "a", "b", expect=USAGE)

    def test_stat_and_check(self):
        self.run_store("load", self.db, stdin=b"".join(b"%d\t%s\n" % (i, b"v" * i) for i in range(2000)))
        stat = json.loads(self.run_store("stat", self.db, "--json")[0])
        self.assertEqual(stat["entries"], 2000)
        self.assertGreater(stat["overflow_blocks"], 0)
        self.assertEqual(stat["notes"], [])
        self.assertIn(b"entries            2000\n", self.run_store("stat", self.db)[0])
        self.assertRegex(self.run_store("--version")[0], rb"^store [0-9]+[.][0-9]+[.][0-9]+\n$")
        metrics = self.run_store("stat", self.db, "--prometheus")[0].decode()
        self.assertIn(f'store_entries{{store="{self.db}"}} 2000\n', metrics)
        self.run_store("stat", self.db, "--prometheus", "--json", expect=USAGE)
        report = json.loads(self.run_store("check", self.db, "--json")[0])
        self.assertEqual((report["ok"], report["entries"], report["errors"]), (True, 2000, []))

    def test_compact(self):
        rows = b"".join(b"%06d\t%s\n" % (i, os.urandom(50).hex().encode()) for i in range(20000))
        self.run_store("load", self.db, stdin=rows)
        whole = os.path.getsize(self.db)
        self.assertTrue(self.run_store("compact", self.db)[0].startswith(b"done: "))
        full = os.path.getsize(self.db)
        self.assertLessEqual(full, whole)
        self.assertEqual(self.run_store("dump", self.db)[0], rows)
        self.run_store("create", self.db, "--overwrite")
        self.run_store("load", self.db, stdin=rows[:len(rows) // 10])
        part = json.loads(self.run_store("compact", self.db, "--json", "--max-bytes", "64K")[0])
        self.assertLessEqual(part["bytes_moved"], 1 << 19)
        runs = 0
        while not part["finished"]:
            part = json.loads(self.run_store("compact", self.db, "--json", "--max-bytes", "256K")[0])
            runs += 1
            self.assertLess(runs, 100)
        self.assertEqual(part["file_bytes"], os.path.getsize(self.db))
        self.assertLess(os.path.getsize(self.db), full / 5)
        self.assertEqual(self.run_store("dump", self.db)[0], rows[:len(rows) // 10])
        self.check_clean()

    def test_create_refuses_a_store(self):
        self.run_store("put", self.db, "a", "1")
        self.run_store("create", self.db, expect=FAILED)
        self.assertEqual(self.run_store("get", self.db, "a")[0], b"1")
        self.run_store("create", self.db, "--overwrite")
        self.run_store("get", self.db, "a", expect=NEGATIVE)

    def test_file_is_private(self):
        self.assertEqual(os.stat(self.db).st_mode & 0o777, 0o600)


class Failures(Case):
    def test_usage(self):
        self.assertIn("store: ", self.run_store(expect=USAGE)[1])
        self.run_store("nonsense", expect=USAGE)
        self.run_store("get", self.db, expect=USAGE)
        self.run_store("scan", self.db, "--limit", "many", expect=USAGE)
        self.run_store("dump", self.db, "--format", "xml", expect=USAGE)
        self.run_store("scan", self.db, "--prefix", "a", "--from", "b", expect=USAGE)

    def test_numbers_that_are_none(self):
        self.run_store("create", self.db)
        for option in (["scan", "--limit"], ["check", "--max-errors"], ["compact", "--max-bytes"], ["scan", "--cache"],
                       ["put", "--capacity"]):
            command, name = option
            arguments = ["a", "b"] if command == "put" else []
            for number in ("-1", "many", "99999999999999999999999", ""):
                message = self.run_store(command, self.db, *arguments, f"{name}={number}", expect=USAGE)[1]
                if number:
                    self.assertIn(f"{name}: {number} is no number from 0", message)
        self.assertIn("no whole number", self.run_store("scan", self.db, "--limit", "1.5", expect=USAGE)[1])
        self.run_store("scan", self.db, "--limit", "18446744073709551615", "--cache", "8M")

    def test_a_format_that_is_none(self):
        for name in ("xml", "1"):
            message = self.run_store("dump", self.db, "--format=" + name, expect=USAGE)[1]
            self.assertIn("tsv, jsonl or mdb", message)
            self.assertNotIn("->", message)

    def test_help(self):
        out = self.run_store("--help")[0].decode()
        self.assertIn("Exit codes:", out)
        commands = self.run_store("manual", "list")[0].decode().split()
        self.assertTrue({"info", "pages", "page", "wal", "snapshots", "stat"} <= set(commands))
        for command in commands:
            self.assertIn(command, out)
            self.assertIn("Example", self.run_store(command, "--help")[0].decode())

    def test_missing_file(self):
        for command in (["get", self.db, "a"], ["put", self.db, "a", "b"], ["dump", self.db], ["check", self.db]):
            self.assertIn(self.db, self.run_store(*command, expect=FAILED)[1])
            self.assertFalse(os.path.exists(self.db))

    def test_not_a_store(self):
        path = self.write("other", b"just some text\n" * 4000)
        for command in (["get", path, "a"], ["put", path, "a", "b"], ["create", path]):
            self.run_store(*command, expect=FAILED)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"just some text\n" * 4000)

    def test_damage_is_found(self):
        self.run_store("load", self.db, stdin=b"".join(b"%06d\tvalue\n" % i for i in range(20000)))
        self.check_clean()
        with open(self.db, "r+b") as file:
            content = file.read()
            at = content.index(b"010000") if b"010000" in content else content.rindex(b"value")
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
        out, message = self.run_store("check", self.db, expect=NEGATIVE)
        self.assertTrue(out.startswith(b"damaged"))
        self.assertIn("page", message)

    def test_locked_by_another_process(self):
        self.run_store("create", self.db)
        holder = subprocess.Popen([TOOL, "load", self.db, "--partial"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            holder.stdin.write(b"a\t1\n" * 100000)
            holder.stdin.flush()
            _, message = self.run_store("put", self.db, "b", "2", expect=FAILED)
            self.assertIn(self.db, message)
        finally:
            holder.communicate(timeout=60)
        self.assertEqual(holder.returncode, DONE)
        self.run_store("put", self.db, "b", "2")

    def refused(self, word, *arguments, **how):
        """Runs the program with `preexec_fn` and the like; it must say a word of why not."""
        done = subprocess.run([TOOL, *arguments], capture_output=True, timeout=60, **how)
        self.assertEqual(done.returncode, FAILED, f"{arguments}: {done.stderr}")
        self.assertTrue(done.stderr.startswith(b"store: "), done.stderr)
        self.assertIn(word.encode(), done.stderr, arguments)

    def test_missing_rights(self):
        self.run_store("load", self.db, stdin=b"a\t1\n")
        rows = self.write("rows", b"b\t2\n")
        plain = {"preexec_fn": without_override}
        os.chmod(self.db, 0o400)
        self.assertEqual(subprocess.run([TOOL, "get", self.db, "a"], capture_output=True, **plain).stdout, b"1")
        for command in (["put", self.db, "a", "2"], ["compact", self.db], ["load", self.db, rows], ["create", self.db, "--overwrite"]):
            self.refused("may only be read", *command, **plain)
        os.chmod(self.db, 0)
        for command in (["get", self.db, "a"], ["put", self.db, "a", "2"], ["info", self.db], ["page", self.db, "0"],
                        ["stat", self.db, "--watch"], ["salvage", self.db, self.db + "2"]):
            self.refused("Permission denied", *command, **plain)
        os.chmod(self.db, 0o600)
        os.chmod(rows, 0)
        self.refused("Permission denied", "load", self.db, rows, **plain)
        os.chmod(self.folder, 0o500)
        try:
            for command in (["create", self.db + "2"], ["backup", self.db, self.db + "2"], ["create", self.db + "2", "--shards", "2"]):
                self.refused("Permission denied", *command, **plain)
            self.refused("temporary file", "load", self.db, **plain, input=b"b\t2\n")
        finally:
            os.chmod(self.folder, 0o700)
        self.assertEqual(sorted(os.listdir(self.folder)), ["rows", "test.store"])
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\n")
        self.check_clean()

    def test_a_limit_on_the_size_of_files(self):
        """What ulimit -f does, which is a signal unless a program says otherwise."""
        self.run_store("load", self.db, stdin=b"kept\tyes\n")
        limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))}
        rows = self.write("rows", b"".join(b"%06d\t%s\n" % (i, b"v" * 500) for i in range(20000)))
        self.refused("no space left", "load", self.db, rows, **limited)
        self.refused("File too large", "load", self.db + "2", rows, "--sorted", **limited)
        self.assertEqual(sorted(os.listdir(self.folder)), ["rows", "test.store"])
        with open(rows, "r+b") as output:
            output.seek(0, os.SEEK_END)
            done = subprocess.run([TOOL, "dump", self.db], stdout=output, stderr=subprocess.PIPE, **limited)
        self.assertEqual((done.returncode, done.stderr), (FAILED, b"store: cannot write to standard output: File too large\n"))
        self.assertEqual(self.run_store("get", self.db, "kept")[0], b"yes")
        self.check_clean()

    def test_paths_that_are_something_else(self):
        self.run_store("load", self.db, stdin=b"a\t1\n")
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        loop = os.path.join(self.folder, "loop")
        os.symlink("loop", loop)
        empty = self.write("empty", b"")
        for path, word in ((pipe, "neither a"), (loop, "symbolic link"), (self.folder, "a directory"), (self.db + "/x", "Not a directory"),
                           ("n" * 5000, "name too long"), ("", "is empty|no such file"), (self.folder + "/none/x", "no such file"),
                           ("/dev/null", "not a namespace"), (empty, "")):
            for command in (["get", path, "a"], ["put", path, "a", "1"], ["info", path], ["pages", path], ["page", path, "0"], ["wal", path],
                            ["stat", path], ["check", path], ["dump", path], ["compact", path], ["snapshots", path],
                            ["backup", path, self.db + "2"], ["salvage", path, self.db + "2"], ["reshard", path, "--shards", "2"]):
                message = self.run_store(*command, expect=FAILED)[1]
                if command[0] in ("get", "info", "page"):
                    self.assertRegex(message, f"(?i){word}", command)
        for target in (self.folder, pipe, self.db + "/x", self.folder + "/none/x"):
            self.run_store("backup", self.db, target, expect=FAILED)
            self.run_store("create", target, expect=FAILED)
        self.assertIn("Is a directory", self.run_store("load", self.db, self.folder, expect=FAILED)[1])
        self.assertEqual(sorted(os.listdir(self.folder)), ["empty", "loop", "pipe", "test.store"])
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\n")

    def test_full(self):
        self.run_store("create", self.db)
        self.run_store("put", self.db, "kept", "yes", "--capacity", "8M")
        rows = b"".join(b"%06d\t%s\n" % (i, os.urandom(500).hex().encode()) for i in range(12000))
        _, message = self.run_store("load", self.db, "--capacity", "8M", stdin=rows, expect=FAILED)
        self.assertIn("space", message)
        self.assertEqual(self.run_store("get", self.db, "kept")[0], b"yes")
        self.check_clean()
        self.assertLessEqual(os.path.getsize(self.db), 8 << 20)

    def test_output_that_cannot_be_written(self):
        self.run_store("load", self.db, stdin=b"a\t1\n")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([TOOL, "dump", self.db], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(b"No space left", done.stderr)
        for arguments in (["--help"], ["--version"], ["get", "--help"], ["manual", "man"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([TOOL, *arguments], stdout=full, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, FAILED, arguments)
            self.assertIn(b"No space left", done.stderr)

    def run_without(self, streams, *arguments):
        """Runs the program with some of its standard streams closed; returns how it ended and what it said on the others."""
        def close():
            for number in streams:
                os.close(number)
        done = subprocess.run([TOOL, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=close,
                              timeout=60)
        return done.returncode, done.stdout, done.stderr.decode()

    def test_closed_streams(self):
        """A file that is opened gets the lowest free number: the store must not get that of a stream that is written to."""
        self.run_store("load", self.db, stdin=b"a\t1\n")
        for command in (["compact"], ["stat"], ["dump"], ["check"], ["info"]):
            for streams in ((1,), (0, 1)):
                code, _, message = self.run_without(streams, command[0], self.db)
                self.assertEqual(code, FAILED, command)
                self.assertIn("store: cannot write to standard output: Bad file descriptor", message)
            self.assertEqual(self.run_without((0, 1, 2), command[0], self.db)[0], FAILED)
        self.assertEqual(self.run_without((0, 1, 2), "put", self.db, "b", "2")[0], DONE)
        self.assertEqual(self.run_without((2,), "put", self.db, "k" * 2000, "2")[0], FAILED)
        code, _, message = self.run_without((0,), "load", self.db)
        self.assertEqual(code, FAILED)
        self.assertIn("standard input", message)
        self.assertEqual(self.run_store("dump", self.db)[0], b"a\t1\nb\t2\n")
        self.check_clean()

    def test_a_pipe_that_nobody_reads(self):
        self.run_store("load", self.db, stdin=b"a\t1\n")
        for command in ("dump", "stat", "check", "compact"):
            reading, writing = os.pipe()
            os.close(reading)
            done = subprocess.run([TOOL, command, self.db], stdout=writing, stderr=subprocess.PIPE, timeout=60)
            os.close(writing)
            self.assertEqual(done.returncode, FAILED, command)
            self.assertIn(b"store: cannot write to standard output: Broken pipe", done.stderr)
        self.check_clean()

    def test_silent_in_a_pipe(self):
        out, message = self.run_store("load", self.db, stdin=b"a\t1\n" * 1000)
        self.assertEqual((out, message), (b"", ""))


if __name__ == "__main__":
    main()
