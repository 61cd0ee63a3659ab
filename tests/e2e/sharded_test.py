"""The program `store` on sharded stores: every verb on a directory, how one is made, and what goes wrong with it."""
import base64
import json
import os
import random
import shutil
import subprocess

from harness import DONE, FAILED, NEGATIVE, SEED, TOOL, USAGE, Case, main, random_records

TOTALS = ["entries", "tree_pages", "overflow_blocks", "allocator_pages", "high_water_blocks", "free_blocks", "device_blocks"]


def rows(count, value=b"value"):
    return b"".join(b"%06d\t%s\n" % (i, value) for i in range(count))


class ShardedCase(Case):
    def setUp(self):
        super().setUp()
        self.file = os.path.join(self.folder, "single.store")

    def shard(self, number):
        return os.path.join(self.db, f"shard-{number:04}")

    def stat(self):
        return json.loads(self.run_store("stat", self.db, "--json")[0])

    def keys(self, *options):
        return self.run_store("scan", self.db, "--keys", *options)[0].decode().split()

    def refused(self, word, *arguments, expect=FAILED, stdin=b""):
        message = self.run_store(*arguments, stdin=stdin, expect=expect)[1]
        self.assertIn(word, message)
        return message


class Verbs(ShardedCase):
    """Of stores routed by hash and by ranges."""

    LAYOUTS = (["--shards", "4"], ["--shards", "1"], ["--split", "000500", "--split", "001500"])

    def test_put_get_del(self):
        for layout in self.LAYOUTS:
            self.run_store("create", self.db, "--overwrite", *layout)
            for i in range(20):
                self.run_store("put", self.db, f"{i * 100:06}", f"value {i}")
            for i in range(20):
                self.assertEqual(self.run_store("get", self.db, f"{i * 100:06}")[0], f"value {i}".encode())
            self.run_store("del", self.db, "000700")
            self.run_store("get", self.db, "000700", expect=NEGATIVE)
            self.run_store("del", self.db, "000700", expect=NEGATIVE)
            self.assertEqual(len(self.keys()), 19)
            self.run_store("put", self.db, "--escaped", r"\x00\xff", stdin=b"v" * 3_000_000)
            self.assertEqual(self.run_store("get", self.db, "--escaped", r"\x00\xff")[0], b"v" * 3_000_000)
            self.check_clean()

    def test_scan_and_del_range(self):
        for layout in self.LAYOUTS:
            self.run_store("create", self.db, "--overwrite", *layout)
            self.run_store("load", self.db, stdin=rows(2000))
            every = [f"{i:06}" for i in range(2000)]
            self.assertEqual(self.keys(), every)
            self.assertEqual(self.keys("--from", "000480", "--to", "001600"), every[480:1600])
            self.assertEqual(self.keys("--prefix", "0014", "--limit", "150"), every[1400:1500])
            self.assertEqual(self.keys("--limit", "3"), every[:3])
            self.run_store("del", self.db, "--range", "000100", "001700")
            self.assertEqual(self.keys(), every[:100] + every[1700:])
            self.run_store("del", self.db, "--range", "001900", "")
            self.assertEqual(self.keys(), every[:100] + every[1700:1900])
            self.check_clean()

    def test_a_dump_is_that_of_a_file(self):
        records = random_records(random.Random(SEED), 3000)
        content = "".join(json.dumps({"key_base64": base64.b64encode(key).decode(),
                                      "value_base64": base64.b64encode(value).decode()}) + "\n"
                          for key, value in records.items()).encode()
        self.run_store("load", self.file, "--format", "jsonl", stdin=content)
        middle = [r"\x%02x" % (256 * i // 5) for i in range(1, 5)]
        split = [argument for key in middle for argument in ("--split", key)]
        for name, layout in (("hash", ["--shards", "5"]), ("ranges", ["--escaped", *split])):
            self.db = os.path.join(self.folder, name)
            self.run_store("load", self.db, "--format", "jsonl", *layout, stdin=content)
            self.check_clean()
            self.assertEqual([shard["entries"] > 0 for shard in self.stat()["shards"]], 5 * [True])
            for form in ("tsv", "jsonl"):
                dumped = self.run_store("dump", self.db, "--format", form)[0]
                self.assertEqual(dumped, self.run_store("dump", self.file, "--format", form)[0])
                again = os.path.join(self.folder, name + form)
                self.run_store("load", again, "--format", form, "--shards", "3", stdin=dumped)
                self.assertEqual(self.run_store("dump", again, "--format", form)[0], dumped)
            dumped = self.run_store("dump", self.db, "--format", "mdb")[0]
            back = os.path.join(self.folder, name + "back")
            self.run_store("load", back, "--format", "mdb", stdin=dumped)
            self.assertEqual(self.run_store("dump", back)[0], self.run_store("dump", self.file)[0])

    def test_stat(self):
        self.run_store("load", self.db, "--shards", "4", stdin=rows(3000, b"v" * 2000))
        stat = self.stat()
        self.run_store("load", self.file, stdin=rows(3000, b"v" * 2000))
        of_file = json.loads(self.run_store("stat", self.file, "--json")[0])
        self.assertEqual(set(stat) - set(of_file), {"routing", "shards"})
        self.assertEqual(set(of_file) - set(stat), set())
        self.assertEqual((stat["entries"], stat["routing"], len(stat["shards"])), (3000, "hash", 4))
        self.assertEqual(sum(shard["entries"] for shard in stat["shards"]), 3000)
        self.assertEqual([shard["name"] for shard in stat["shards"]], [self.shard(i) for i in range(4)])
        self.assertEqual(len({shard["uuid"] for shard in stat["shards"]}), 4)
        cores = [shard["core"] for shard in stat["shards"]]
        self.assertEqual(cores, [i % (max(cores) + 1) for i in range(4)])
        self.assertEqual([shard["failure"] for shard in stat["shards"]], 4 * [""])
        self.assertEqual(stat["generation"], max(shard["generation"] for shard in stat["shards"]))
        self.assertEqual(stat["device_blocks"] * 4096, sum(os.path.getsize(self.shard(i)) for i in range(4)))
        # Each shard by itself is a store of one file.
        each = [json.loads(self.run_store("stat", self.shard(i), "--json")[0]) for i in range(4)]
        for name in TOTALS:
            self.assertEqual(stat[name], sum(one[name] for one in each), name)
        self.assertEqual(stat["height"], max(one["height"] for one in each))
        metrics = self.run_store("stat", self.db, "--prometheus")[0].decode()
        for i, one in enumerate(each):
            self.assertIn(f'store_entries{{store="{self.db}",shard="{i}"}} {one["entries"]}\n', metrics)
        text = self.run_store("stat", self.db)[0].decode()
        for line in ("entries            3000", "shards             4", "routing            hash",
                     f"{self.shard(3)}: core {stat['shards'][3]['core']}, {stat['shards'][3]['entries']} entries, "
                     f"generation {stat['shards'][3]['generation']}"):
            self.assertIn(line + "\n", text)

    def test_check_names_the_damaged_shard(self):
        self.run_store("load", self.db, "--split", "010000", stdin=rows(20000))
        report = json.loads(self.run_store("check", self.db, "--json")[0])
        self.assertEqual((report["ok"], report["entries"], report["errors"]), (True, 20000, []))
        self.assertRegex(self.run_store("check", self.db)[0], rb"^ok: \d+ pages, 20000 entries\n$")
        with open(self.shard(1), "r+b") as file:
            content = file.read()
            at = content.index(b"value", content.index(b"value") + 5 * 4096)  # not in the last leaf, which opening reads
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
        out, message = self.run_store("check", self.db, expect=NEGATIVE)
        self.assertTrue(out.startswith(b"damaged: "))
        self.assertTrue(message.startswith(f"store: {self.shard(1)}: page"), message)
        report = json.loads(self.run_store("check", self.db, "--json", expect=NEGATIVE)[0])
        self.assertFalse(report["ok"])
        self.assertTrue(report["errors"][0].startswith(self.shard(1) + ": "))
        self.run_store("check", self.db, "--max-errors", "1", expect=NEGATIVE)

    def test_compact(self):
        self.run_store("load", self.db, "--shards", "3", stdin=rows(20000, b"v" * 100))
        self.run_store("del", self.db, "--range", "001000", "")
        before = sum(os.path.getsize(self.shard(i)) for i in range(3))
        part = json.loads(self.run_store("compact", self.db, "--json", "--max-bytes", "64K")[0])
        runs = 0
        while not part["finished"]:
            part = json.loads(self.run_store("compact", self.db, "--json")[0])
            runs += 1
            self.assertLess(runs, 100)
        after = sum(os.path.getsize(self.shard(i)) for i in range(3))
        self.assertEqual(part["file_bytes"], after)
        self.assertLess(after, before / 5)
        self.assertTrue(self.run_store("compact", self.db)[0].startswith(b"done: "))
        self.assertEqual(len(self.keys()), 1000)
        self.check_clean()


class Making(ShardedCase):
    def test_create(self):
        self.run_store("create", self.db, "--shards", "3")
        self.assertEqual(sorted(os.listdir(self.db)), ["manifest"] + [f"shard-{i:04}" for i in range(3)])
        self.assertEqual(os.stat(self.db).st_mode & 0o777, 0o700)
        self.assertEqual(self.stat()["routing"], "hash")
        self.run_store("put", self.db, "a", "1")
        for again in (["--shards", "3"], ["--shards", "2"], ["--split", "m"], []):
            self.refused("holds a sharded store already", "create", self.db, *again)
        self.assertEqual(self.run_store("get", self.db, "a")[0], b"1")

    def test_overwrite(self):
        self.run_store("load", self.db, "--shards", "5", stdin=rows(100))
        self.run_store("create", self.db, "--overwrite")  # made up as before
        self.assertEqual((len(self.stat()["shards"]), self.keys()), (5, []))
        self.run_store("create", self.db, "--overwrite", "--split", "b")
        self.assertEqual(sorted(os.listdir(self.db)), ["manifest", "shard-0000", "shard-0001"])
        self.assertEqual(self.stat()["routing"], "ranges")
        self.run_store("create", self.db, "--overwrite", "--shards", "4")
        self.assertEqual(len(self.stat()["shards"]), 4)
        self.check_clean()

    def test_split(self):
        self.run_store("create", "--split", "[a,b]", "--split", "b", self.db, "--shards", "3")
        for key in ("Z", "[a,b", "[a,b]", "a", "b", "z"):
            self.run_store("put", self.db, "--", key, "v")
        self.assertEqual([shard["entries"] for shard in self.stat()["shards"]], [2, 2, 2])
        self.run_store("create", self.db, "--overwrite", "--escaped", "--split", r"\x01", "--split=-k")
        for key in (r"\x00", r"\x01", "-j", "-k"):
            self.run_store("put", self.db, "--escaped", "--", key, "v")
        self.assertEqual([shard["entries"] for shard in self.stat()["shards"]], [1, 2, 1])

    def test_slashes_and_directories_that_are_there(self):
        os.mkdir(self.db)
        for command in (["create"], ["create", "--overwrite"], ["load"], ["get", "a"], ["check"], ["stat"]):
            self.refused("without the manifest", command[0], self.db, *command[1:])
        self.assertEqual(os.listdir(self.db), [])
        self.run_store("create", self.db + "/", "--shards", "2")
        self.run_store("load", self.db + "/", stdin=rows(10))
        self.assertEqual(self.run_store("get", self.db + "//", "000003")[0], b"value")
        other = os.path.join(self.folder, "other")
        self.run_store("load", other + "/", "--shards", "2", stdin=rows(10))
        self.assertEqual(self.run_store("dump", other)[0], rows(10))
        self.assertEqual(sorted(os.listdir(self.folder)), ["other", "test.store"])

    def test_what_is_in_the_way_stays(self):
        os.mkdir(self.db)
        with open(os.path.join(self.db, "mine"), "w") as file:
            file.write("text")
        for options in ([], ["--overwrite"]):
            self.refused("something else", "create", self.db, "--shards", "2", *options)
        self.refused("something else", "load", self.db, "--shards", "2", stdin=rows(10))
        self.assertEqual(os.listdir(self.db), ["mine"])
        os.rename(os.path.join(self.db, "mine"), os.path.join(self.db, "manifest"))
        self.refused("not a store", "create", self.db, "--shards", "2")
        self.run_store("create", self.file)
        for options in ([], ["--overwrite"]):
            self.refused("not a directory", "create", self.file, "--shards", "2", *options)

    def test_load_makes_it_or_wants_it_so(self):
        self.run_store("load", self.db, "--split", "000005", stdin=rows(10))
        self.assertEqual([shard["entries"] for shard in self.stat()["shards"]], [5, 5])
        self.run_store("load", self.db, "--split", "000005", stdin=b"x\t1\n")
        self.run_store("load", self.db, stdin=b"y\t2\n")
        for other in (["--shards", "2"], ["--shards", "3"], ["--split", "000006"]):
            self.refused("2 shards by ranges", "load", self.db, *other, stdin=b"z\t3\n")
        self.assertEqual(len(self.keys()), 12)
        none = os.path.join(self.folder, "none")
        self.run_store("load", none, "--shards", "2", stdin=b"malformed\n", expect=FAILED)
        self.assertFalse(os.path.exists(none))

    def test_wrong_numbers(self):
        for number in ("0", "1025", "-1", "many", "99999999999999999999"):
            self.refused("--shards", "create", self.db, f"--shards={number}", expect=USAGE)
        self.refused("--shards 4 does not fit", "create", self.db, "--shards", "4", "--split", "b")
        self.refused("1025 shards", "create", self.db, *[f"--split={i:04}" for i in range(1024)])
        self.refused("ascend", "create", self.db, "--split", "b", "--split", "a")
        self.refused("ascend", "create", self.db, "--split", "b", "--split", "b")
        self.refused("split point 1", "create", self.db, "--split", "")
        self.refused("backslash", "create", self.db, "--escaped", "--split", r"\q")
        self.assertFalse(os.path.exists(self.db))
        self.run_store("create", self.db, "--shards", "2")
        for window in ("--first-block", "--blocks"):
            self.refused("window", "get", self.db, "a", window, "8")

    def test_no_room(self):
        self.run_store("create", self.db, "--shards", "2")
        self.run_store("put", self.db, "kept", "yes")
        content = b"".join(b"%06d\t%s\n" % (i, os.urandom(500).hex().encode()) for i in range(12000))
        self.refused("space", "load", self.db, "--capacity", "8M", stdin=content)
        self.assertEqual(self.run_store("get", self.db, "kept")[0], b"yes")
        self.check_clean()
        self.assertLessEqual(max(os.path.getsize(self.shard(i)) for i in range(2)), 4 << 20)


class Trouble(ShardedCase):
    def test_shards_that_are_not_as_they_were(self):
        self.run_store("load", self.db, "--shards", "3", stdin=rows(1000))
        away = os.path.join(self.folder, "away")
        os.rename(self.shard(1), away)
        for verb in ("stat", "check", "dump"):
            self.refused("shard 1 of 3 is missing", verb, self.db)
        self.assertFalse(os.path.exists(self.shard(1)))
        os.rename(self.shard(2), self.shard(1))
        os.rename(away, self.shard(2))
        self.refused(f"{self.shard(1)} (shard 1 of 3): this is shard 2", "get", self.db, "000001")
        self.refused("exchanged", "put", self.db, "000001", "v")
        os.rename(self.shard(1), away)
        os.rename(self.shard(2), self.shard(1))
        os.rename(away, self.shard(2))
        old = os.path.join(self.folder, "old")
        shutil.copy(self.shard(0), old)
        self.run_store("load", self.db, stdin=rows(2000))
        shutil.copy(old, self.shard(0))
        self.refused("older than the other shards", "dump", self.db)

    def test_locked_by_another_process(self):
        self.run_store("create", self.db, "--shards", "2")
        holder = subprocess.Popen([TOOL, "load", self.db, "--partial"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            holder.stdin.write(b"a\t1\n" * 100000)
            holder.stdin.flush()
            self.refused("manifest", "put", self.db, "b", "2")
        finally:
            holder.communicate(timeout=60)
        self.assertEqual(holder.returncode, DONE)
        self.run_store("put", self.db, "b", "2")


class Copies(ShardedCase):
    def setUp(self):
        super().setUp()
        self.target = os.path.join(self.folder, "target")

    def dump(self, path):
        return self.run_store("dump", path)[0]

    def test_load_sorted(self):
        records = rows(3000)
        self.run_store("load", self.db, "--sorted", "--shards", "3", stdin=records)
        self.assertEqual(self.dump(self.db), records)
        self.assertIn(b"ok", self.run_store("check", self.db)[0])
        self.refused("fills an empty store", "load", self.db, "--sorted", stdin=records)
        message = self.refused("follows", "load", self.target, "--sorted", "--shards", "2", stdin=b"b\t1\na\t2\n")
        self.assertIn("line 2", message)
        self.assertFalse(os.path.exists(self.target))

    def test_backup(self):
        self.run_store("load", self.db, "--shards", "3", stdin=rows(2000))
        self.assertIn(b"3 shards", self.run_store("backup", self.db, self.target)[0])
        self.assertEqual(self.dump(self.target), self.dump(self.db))
        self.refused("holds a sharded store already", "backup", self.db, self.target)
        self.run_store("put", self.db, "more", "1")
        self.run_store("backup", self.db, self.target, "--incremental")
        self.assertEqual(self.dump(self.target), self.dump(self.db))
        self.refused("generations of their own", "backup", self.db, self.target, "--since", "2")
        self.run_store("put", self.db, "more", "2")
        self.run_store("backup", self.db, self.target, "--overwrite")
        self.assertEqual(self.dump(self.target), self.dump(self.db))
        self.refused("no such directory", "backup", self.db, self.folder + "/other", "--incremental")
        os.mkdir(self.folder + "/full")
        with open(self.folder + "/full/mine", "w"):
            pass
        self.refused("something else in it", "backup", self.db, self.folder + "/full")
        self.assertEqual(os.listdir(self.folder + "/full"), ["mine"])
        self.assertFalse(os.path.exists(self.folder + "/other"))

    def test_salvage(self):
        self.run_store("load", self.db, "--split", "001000", stdin=rows(2000))
        before = self.dump(self.db)
        self.run_store("salvage", self.db, self.target)
        self.assertEqual(self.dump(self.target), before)
        with open(self.shard(1), "r+b") as shard:  # the meta pages
            shard.write(b"\xee" * 4 * 4096)
        message = self.run_store("salvage", self.db, self.target, "--overwrite", expect=NEGATIVE)[1]
        self.assertIn("shard-0001", message)
        self.assertEqual(self.dump(self.target), before)
        self.run_store("create", self.file)
        self.refused("goes into a file", "salvage", self.file, self.target, "--overwrite")

    def test_reshard(self):
        self.run_store("load", self.db, "--shards", "2", stdin=rows(5000))
        before = self.dump(self.db)
        self.assertEqual(self.run_store("reshard", self.db, "--shards", "5")[0], b"ok: 5 shards, 5000 entries copied\n")
        self.assertEqual(self.dump(self.db), before)
        self.assertEqual(self.stat()["entries"], 5000)
        self.assertEqual(len(self.stat()["shards"]), 5)
        report = json.loads(self.run_store("reshard", self.db, "--split", "002000", "--json")[0])
        self.assertEqual(report, {"shards": 2, "entries_copied": 5000})
        self.assertEqual(self.dump(self.db), before)
        self.assertEqual(sorted(os.listdir(self.db)), ["manifest", "shard-0000.2", "shard-0001.2"])
        self.refused("--shards or --split", "reshard", self.db)
        self.run_store("reshard", self.db, "--shards", "0", expect=USAGE)
        self.run_store("create", self.file)
        self.refused("no sharded store", "reshard", self.file, "--shards", "2")
        self.assertEqual(self.dump(self.db), before)

    def test_reshard_that_is_killed(self):
        self.run_store("load", self.db, "--shards", "2", stdin=rows(200_000, b"value" * 20))
        before = self.dump(self.db)
        for seconds in (0.02, 0.05, 0.1, 0.2):
            command = subprocess.Popen([TOOL, "reshard", self.db, "--shards", "3"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            try:
                command.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                command.kill()
                command.communicate()
            self.assertEqual(self.dump(self.db), before)
        self.run_store("reshard", self.db, "--shards", "3")
        self.assertEqual(self.dump(self.db), before)
        self.assertEqual(len(os.listdir(self.db)), 4)


class Bench(ShardedCase):
    def bench(self, *arguments):
        out, _ = self.run_store("bench", self.db, "--num", "2000", "--json", *arguments)
        return {line["name"]: line for line in json.loads(out)}

    def test_every_workload_and_nothing_is_left(self):
        for options in (["--shards", "3"], ["--shards", "2", "--cores", "2", "--depth", "7"],
                        ["--shards", "1", "--cores", "3", "--depth", "4"]):
            measured = self.bench(*options)
            self.assertEqual(len(measured), 12)
            for name, line in measured.items():
                self.assertEqual(line["operations"], 2 if name == "fillsync" else 2000, name)
                reads = name.startswith(("read", "multi", "seek")) and name != "readmissing"
                self.assertEqual(line["found"], 2000 if reads else 0, name)
                self.assertLessEqual(line["p50_us"], line["max_us"])
            self.assertEqual(os.listdir(self.folder), [])

    def test_what_fills_write(self):
        for depth in ("1", "5"):
            self.bench("--benchmarks", "fillseq,fillrandom", "--keep", "--shards", "3", "--depth", depth, "--batch", "16")
            self.assertEqual(self.keys(), [f"{i:016}" for i in range(2000)])
            self.assertEqual(len(self.stat()["shards"]), 3)
            self.check_clean()
            shutil.rmtree(self.db)

    def test_a_store_that_is_there_stays(self):
        self.run_store("create", self.db, "--split", "m")
        self.run_store("put", self.db, "mine", "value")
        self.refused("--existing", "bench", self.db, "--shards", "2")
        self.bench("--existing", "--benchmarks", "fillseq,deleterandom", "--depth", "3")
        self.assertEqual(self.run_store("get", self.db, "mine")[0], b"value")
        self.assertGreater(self.stat()["entries"], 100)
        self.check_clean()

    def test_wrong_use(self):
        self.refused("--shards", "bench", self.db, "--shards", "0", expect=USAGE)
        self.refused("--cores", "bench", self.db, "--shards", "2", "--cores", "0", expect=USAGE)
        self.refused("--existing", "bench", self.db, "--shards", "2", "--existing", expect=USAGE)
        self.refused("--cores", "bench", self.db, "--cores", "2")
        self.refused("needs a log", "bench", self.db, "--shards", "2", "--wal", "none", "--batch", "50", "--num", "100",
                     "--benchmarks", "fillseq")
        self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    main()
