"""info, pages, page, wal, snapshots and stat --watch of the program `store`: sound stores, damaged ones, and those of a running program."""
import fcntl
import json
import os
import random
import signal
import subprocess
import threading

from harness import DONE, FAILED, NEGATIVE, SEED, TOOL, USAGE, Case, main

BLOCK = 4096


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Inspect(Case):
    def setUp(self):
        super().setUp()
        self.rows = [(b"k\\x00%05d" % i, b"v" * (i * 7 % 3000)) for i in range(3000)]
        self.run_store("load", self.db, stdin=b"".join(key + b"\t" + value + b"\n" for key, value in self.rows))

    def json_of(self, *arguments, expect=DONE):
        out, message = self.run_store(*arguments, "--json", expect=expect)
        self.assertEqual(message, "")
        return json.loads(out)

    def change(self, at, replace):
        """Replaces bytes of the store; `replace` is given the old ones."""
        with open(self.db, "r+b") as file:
            file.seek(at)
            old = file.read(8)
            file.seek(at)
            file.write(replace(old))

    def flip(self, at):
        self.change(at, lambda old: bytes([old[0] ^ 0x10]) + old[1:])

    def test_info_says_what_stat_does(self):
        info = self.json_of("info", self.db)
        stat = self.json_of("stat", self.db)
        for name in ("uuid", "generation", "entries", "height", "tree_pages", "overflow_blocks", "high_water_blocks", "free_blocks",
                     "device_blocks", "log_bytes", "copy_of", "copy_of_generation"):
            self.assertEqual(info[name], stat[name], name)
        self.assertEqual([page["state"] for page in info["meta_pages"]], ["good"] * 4)
        self.assertEqual((info["format_version"], info["open_by"], info["damage"]), (1, "nobody", []))
        text = self.run_store("info", self.db)[0].decode()
        self.assertRegex(text, r"(?m)^entries +3000$")
        self.assertIn("page 3  state good", text)
        fresh = os.path.join(self.folder, "fresh")
        self.run_store("create", fresh)
        self.assertEqual(self.json_of("info", fresh)["damage"], [])

    def test_info_of_a_store_that_does_not_open(self):
        newest = max(self.json_of("info", self.db)["meta_pages"], key=lambda page: page["generation"])["page"]
        self.flip(newest * BLOCK + 120)
        info = self.json_of("info", self.db, expect=NEGATIVE)
        self.assertEqual(info["meta_pages"][newest]["state"], "damaged")
        self.assertEqual(info["entries"], 3000)
        self.assertIn(f"meta page {newest}: crc", info["damage"][0])
        self.change((newest ^ 1) * BLOCK + 16, lambda old: b"x" * 8)
        info = self.json_of("info", self.db, expect=NEGATIVE)
        self.assertEqual((info["entries"], info["generation"]), (0, 1))
        for page in range(4):
            self.change(page * BLOCK + 40, lambda old: b"x" * 8)
        message = self.run_store("info", self.db, expect=NEGATIVE)[1]
        self.assertIn("store salvage", message)
        self.assertIn("no meta page is good", self.run_store("pages", self.db, expect=FAILED)[1])
        self.assertIn("no meta page is good", self.run_store("wal", self.db, expect=FAILED)[1])
        self.run_store("page", self.db, "0", expect=NEGATIVE)
        self.run_store("page", self.db, "5")
        other = self.write("other", b"just some text\n" * 4000)
        self.assertIn("not a store", self.run_store("info", other, expect=FAILED)[1])

    def rewrite(self, block, at, replace):
        """Replaces 8 bytes of a page and seals it again."""
        self.change(block * BLOCK + at, replace)
        with open(self.db, "rb") as file:
            file.seek(block * BLOCK + 4)
            crc = crc32c(file.read(BLOCK - 4))
        self.change(block * BLOCK, lambda old: crc.to_bytes(4, "little") + old[4:])

    def test_a_newer_format(self):
        for block in range(4):
            self.rewrite(block, 24, lambda old: b"\x09\0\0\0" + old[4:])
        for command in (["get", "k"], ["snapshots"], ["info"], ["stat", "--watch"], ["pages"], ["wal"]):
            message = self.run_store(command[0], self.db, *command[1:], expect=FAILED)[1]
            self.assertIn("format version 9, this program knows up to 1; use a newer version", message, command)
            self.assertNotIn("salvage", message)
        shown = self.json_of("page", self.db, "0")
        self.assertIn("use a newer version", shown["cannot_tell"])
        self.assertIn("use a newer version", self.json_of("page", self.db, "5")["state"])

    def test_info_beside_a_writer_tells_what_stays(self):
        """A commit in flight is what another look does not find again; damage is found again."""
        with open(self.db, "r+b", buffering=0) as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            info = subprocess.Popen([TOOL, "info", self.db, "--json"], stdout=subprocess.PIPE)
            changes = 0
            while info.poll() is None:
                changes += 1
                os.pwrite(file.fileno(), changes.to_bytes(8, "little"), 200)
            shown = json.loads(info.communicate()[0])
            self.assertEqual((info.returncode, shown["open_by"], shown["damage"]), (DONE, "a writer", []))
            shown = self.json_of("info", self.db, expect=NEGATIVE)
            self.assertEqual(len(shown["damage"]), 1)

    def test_info_of_a_short_file(self):
        os.truncate(self.db, 20 * BLOCK)
        info = self.json_of("info", self.db, expect=NEGATIVE)
        self.assertIn("truncated: the device has 20 blocks", " ".join(info["damage"]))
        self.json_of("pages", self.db, expect=NEGATIVE)
        os.truncate(self.db, 2000)
        self.run_store("info", self.db, expect=FAILED)

    def test_pages_account_for_every_block(self):
        pages = self.json_of("pages", self.db, "--list")
        stat = self.json_of("stat", self.db)
        kinds = {kind["kind"]: kind for kind in pages["kinds"]}
        self.assertEqual(kinds["leaf"]["blocks"] + kinds["branch"]["blocks"], stat["tree_pages"])
        self.assertEqual(kinds["leaf"]["entries"], 3000)
        self.assertEqual(kinds["value"]["blocks"], stat["overflow_blocks"])
        self.assertEqual(kinds["value"]["bytes_used"], sum(len(value) for _, value in self.rows if len(value) > 1024))
        self.assertEqual(kinds["free"]["blocks"], stat["free_blocks"])
        self.assertEqual((pages["unaccounted_blocks"], pages["damage"]), (0, []))
        self.assertEqual(sum(page["blocks"] for page in pages["pages"]) + kinds["free"]["blocks"], stat["high_water_blocks"])
        numbers = [page["page"] for page in pages["pages"]]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertRegex(self.run_store("pages", self.db)[0].decode(), r"(?m)^unaccounted +0$")

    def test_a_page_in_use_and_free_at_once(self):
        bitmap = self.listed("allocator")[0]["page"]
        leaf = self.listed("leaf")[0]["page"]
        before = self.json_of("pages", self.db)
        at = 128 + leaf // 64 * 8
        bit = 1 << leaf % 64
        self.rewrite(bitmap, at, lambda old: (int.from_bytes(old, "little") | bit).to_bytes(8, "little"))
        with open(self.db, "rb") as file:
            file.seek(bitmap * BLOCK)
            crc = file.read(4)
        for block in range(4):
            if "allocator_root" in (shown := json.loads(self.run_store("page", self.db, str(block), "--json")[0])):
                if shown["allocator_root"] == str(bitmap):
                    self.rewrite(block, 84, lambda old: crc + old[4:])
        pages = self.json_of("pages", self.db, expect=NEGATIVE)
        self.assertEqual(pages["damage"], [f"page {leaf}: 1 blocks in use there are free in the bitmap"])
        self.assertEqual(pages["unaccounted_blocks"], before["unaccounted_blocks"])

    def listed(self, kind):
        return [page for page in self.json_of("pages", self.db, "--list")["pages"] if page["kind"] == kind]

    def test_page_of_every_kind(self):
        leaf = self.listed("leaf")[0]
        shown = self.json_of("page", self.db, str(leaf["page"]))
        self.assertEqual((shown["kind"], shown["state"], shown["damage"]), ("leaf", "in use", []))
        self.assertEqual((shown["generation"], shown["entries"]), (leaf["generation"], leaf["entries"]))
        entries = shown["entries_in_order"]
        rows = {key.decode(): value for key, value in self.rows}
        self.assertEqual(len(entries), leaf["entries"])
        for entry in entries:
            self.assertEqual(entry["value_bytes"], len(rows[entry["key"]]))
            self.assertEqual("run" in entry, entry["value_bytes"] > 1024)
            self.assertEqual(entry.get("value", ""), rows[entry["key"]].decode() if "value" in entry else "")
        self.assertIn(f"key {entries[0]['key']}  ", self.run_store("page", self.db, str(leaf["page"]))[0].decode())
        branch = self.json_of("page", self.db, str(self.listed("branch")[0]["page"]))
        self.assertEqual((branch["kind"], branch["children"]), ("branch", len(branch["children_in_order"])))
        allocator = self.json_of("page", self.db, str(self.listed("allocator")[0]["page"]))
        free = sum(run["blocks"] for run in allocator["free"])
        self.assertEqual((allocator["kind"], allocator["free_blocks"]), ("bitmap", free))
        self.assertEqual(self.json_of("page", self.db, str(allocator["free"][0]["first"]))["state"], "free")
        self.assertEqual(self.json_of("page", self.db, str(self.listed("value")[0]["page"]))["kind"], "data")
        self.assertEqual(self.json_of("page", self.db, "2")["entries"], 3000)
        size = os.path.getsize(self.db) // BLOCK
        self.assertIn("behind the high-water mark", self.run_store("page", self.db, str(size - 1))[0].decode())
        self.assertIn(f"no page {size}: the device has {size} blocks", self.run_store("page", self.db, str(size), expect=FAILED)[1])
        self.run_store("page", self.db, "-1", expect=USAGE)
        self.run_store("page", self.db, "first", expect=USAGE)

    def test_damaged_pages(self):
        leaf = self.listed("leaf")[5]["page"]
        branch = self.listed("branch")[0]["page"]
        whole = self.json_of("page", self.db, str(leaf))
        at = whole["bytes_used"] - 1  # a byte of the last value: the structure holds
        self.flip(leaf * BLOCK + at)
        shown = self.json_of("page", self.db, str(leaf), expect=NEGATIVE)
        self.assertEqual(len(shown["entries_in_order"]), whole["entries"])
        self.assertIn("crc: the page says", shown["damage"][0])
        self.change(leaf * BLOCK + 16, lambda old: b"\xff\xff" + old[2:])  # the number of slots
        shown = self.json_of("page", self.db, str(leaf), expect=NEGATIVE)
        self.assertNotIn("entries_in_order", shown)
        self.assertIn("structure: ", shown["damage"][1])
        message = self.run_store("page", self.db, str(leaf), expect=NEGATIVE)[1]
        self.assertIn(f"page {leaf}: structure: ", message)
        damage = self.json_of("pages", self.db, expect=NEGATIVE)
        self.assertGreater(damage["unaccounted_blocks"], 0)
        self.assertIn(f"page {leaf}: crc", damage["damage"][0])
        with open(self.db, "r+b") as file:  # a misdirected write
            file.seek(branch * BLOCK)
            page = file.read(BLOCK)
            file.seek((branch + 1) * BLOCK)
            file.write(page)
        shown = self.json_of("page", self.db, str(branch + 1), expect=NEGATIVE)
        self.assertIn(f"written for block {branch}, read from block {branch + 1}", shown["damage"][0])

    def test_random_damage_is_told(self):
        """Never by a crash: pages are shown as far as they hold together."""
        generator = random.Random(SEED)
        pages = [page["page"] for page in self.json_of("pages", self.db, "--list")["pages"] if page["kind"] in ("leaf", "branch", "allocator")]
        with open(self.db, "rb") as file:
            sound = file.read()
        for _ in range(10):
            content = bytearray(sound)
            blocks = generator.sample(pages, 5)
            for block in [*blocks, generator.randrange(4)]:
                at = block * BLOCK + generator.choice([14, 16, 18, generator.randrange(40), generator.randrange(BLOCK - 8)])
                content[at:at + 4] = generator.randbytes(4)
            with open(self.db, "wb") as file:
                file.write(content)
            for arguments in (["info"], ["pages", "--list"], ["wal"], *(["page", str(block)] for block in blocks)):
                done = subprocess.run([TOOL, arguments[0], self.db, *arguments[1:], "--json"], capture_output=True, timeout=60)
                self.assertIn(done.returncode, (DONE, NEGATIVE, FAILED), f"{arguments}: {done.stderr}")
                if done.returncode != FAILED:
                    json.loads(done.stdout)

    def test_sharded_stores(self):
        shards = os.path.join(self.folder, "shards")
        self.run_store("create", shards, "--split", "b", "--split", "d")
        self.run_store("load", shards, stdin=b"a\t1\nc\t2\ne\t3\n")
        info = self.json_of("info", shards)
        self.assertEqual((info["kind"], info["routing"], info["split"], info["entries"]), ("sharded store", "ranges", ["b", "d"], 3))
        self.assertEqual([shard["entries"] for shard in info["shards"]], [1, 1, 1])
        self.assertIn("shard-0001: 1 entries", self.run_store("info", shards)[0].decode())
        watched = self.json_of("stat", shards, "--watch", "--count=1")
        self.assertEqual(watched["entries"], 3)
        for command in (["pages"], ["page", "0"], ["wal"]):
            message = self.run_store(command[0], shards, *command[1:], expect=FAILED)[1]
            self.assertIn("name one of its shards", message)
        self.assertEqual(self.json_of("pages", os.path.join(shards, "shard-0002"))["damage"], [])
        os.remove(os.path.join(shards, "shard-0001"))
        info = self.json_of("info", shards, expect=NEGATIVE)
        self.assertIn("shard-0001: ", info["damage"][0])
        self.assertEqual(info["entries"], 2)

    def test_snapshots(self):
        self.assertEqual(self.json_of("snapshots", self.db), [])
        self.assertIn(b"none that keeps blocks", self.run_store("snapshots", self.db)[0])
        self.run_store("snapshots", self.db + "x", expect=FAILED)


class Wal(Case):
    def make(self, *log):
        subprocess.run([os.environ["MAKE_LOG_STORE"], self.db, *log], check=True, timeout=60)

    def wal(self, *arguments, expect=DONE):
        return json.loads(self.run_store("wal", self.db, "--json", *arguments, expect=expect)[0])

    def judge(self, *arguments):
        log = self.wal("--list", *arguments)
        self.assertEqual((log["put"], log["erase"], log["erase_range"], log["damage"]), (10, 1, 1, []))
        self.assertEqual((log["records"], log["merged_records"]), (12, 0))
        changes = [(change["operation"], change["key"]) for change in log["operations"]]
        self.assertEqual(changes, [("put", f"key{i}") for i in range(10, 20)] + [("erase", "key2"), ("erase_range", "x")])
        self.assertEqual([change["sequence"] for change in log["operations"]], list(range(11, 23)))
        self.assertEqual(log["operations"][-1]["to"], "y")
        self.assertEqual(log["ends_with"], "no group")
        return log

    def test_a_log_in_the_store(self):
        self.make()
        log = self.judge()
        self.assertGreaterEqual(log["groups"], 1)
        self.assertEqual((log["end_lsn"] - log["begin_lsn"]) // 4096, log["groups"])
        info = json.loads(self.run_store("info", self.db, "--json")[0])
        self.assertEqual((info["log"], info["log_lsn"]), ("in the store", log["begin_lsn"]))
        self.assertIn("operation put  key key10", self.run_store("wal", self.db, "--list")[0].decode())
        first = log["segments_in_order"][0]["first"] + log["begin_lsn"] % 4096
        block = next(page for page in range(first, first + 64) if self.group_at(page))
        shown = self.group_at(block)
        self.assertEqual((shown["kind"], shown["damage"]), ("log_group", []))
        self.assertTrue(shown["contents"][0]["key"].startswith("key"))
        pages = json.loads(self.run_store("pages", self.db, "--json")[0])
        self.assertEqual((pages["unaccounted_blocks"], pages["damage"]), (0, []))

    def test_a_group_that_is_not_of_the_log(self):
        """What is left of a group whose blocks were used again is no damage."""
        self.make()
        log = self.wal()
        segment = log["segments_in_order"][0]
        page = next(page for page in range(segment["first"], segment["first"] + segment["blocks"]) if self.group_at(page))
        with open(self.db, "r+b") as file:
            file.seek(page * 4096)
            content = file.read(4096)
            file.seek((segment["first"] + segment["blocks"] - 1) * 4096)
            file.write(content[:self.group_at(page)["bytes"] - 1] + b"X" * 8)
        shown = self.group_at(segment["first"] + segment["blocks"] - 1)
        self.assertEqual(shown["damage"], [])
        self.assertIn("used again", shown["cannot_tell"])

    def group_at(self, page):
        shown = json.loads(self.run_store("page", self.db, "--json", str(page))[0])
        return shown if shown["kind"] == "log_group" else None

    def test_a_damaged_log(self):
        self.make()
        with open(self.db, "rb") as file:
            content = file.read()
        at = content.rindex(b"key10value")
        with open(self.db, "r+b") as file:
            file.seek(at)
            file.write(b"X")
        log = self.wal(expect=NEGATIVE)
        self.assertIn("checksum does not hold", log["damage"][0])
        self.assertLess(log["put"], 10)
        page = at // 4096
        shown = json.loads(self.run_store("page", self.db, "--json", str(page), expect=NEGATIVE)[0])
        self.assertIn("crc: it does not hold", shown["damage"][0])

    def test_a_log_on_a_device_of_its_own(self):
        device = os.path.join(self.folder, "log")
        self.make(device)
        self.judge("--log", device)
        self.assertIn("name that with --log", self.run_store("wal", self.db, expect=FAILED)[1])
        self.run_store("create", self.db + "2")
        self.assertIn("not a log device", self.run_store("wal", self.db, "--log", self.db + "2", expect=FAILED)[1])
        message = self.run_store("wal", self.db + "2", "--log", device, expect=FAILED)[1]
        self.assertIn("leave --log out", message)
        os.truncate(device, 8192)
        self.assertIn("the log ends at block", self.wal("--log", device, expect=NEGATIVE)["damage"][0])


class Watch(Case):
    def start(self, *arguments):
        watch = subprocess.Popen([TOOL, "stat", self.db, "--json", "--watch", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.stderr.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        return watch

    def test_beside_a_writer(self):
        self.run_store("create", self.db)
        writer = subprocess.Popen([TOOL, "load", self.db, "--partial"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(writer.stderr.close)
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)
        watch = self.start("0.01")
        seen = [json.loads(watch.stdout.readline())]
        deadline = threading.Timer(60, lambda: (writer.kill(), watch.kill()))
        self.addCleanup(deadline.cancel)
        deadline.start()
        enough = threading.Event()

        def feed():  # a load commits behind each 32 MiB, so that less than 120 MB make two commits
            for first in range(0, 120_000, 5000):
                if not enough.is_set():
                    writer.stdin.write(b"".join(b"%08d\t%s\n" % (i, b"v" * 1000) for i in range(first, first + 5000)))
            writer.stdin.flush()

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        values = {seen[0]["entries"]}
        while len(values) < 3:
            line = watch.stdout.readline()
            self.assertTrue(line, "no second commit within a minute")
            seen.append(json.loads(line))
            values.add(seen[-1]["entries"])
        enough.set()
        feeder.join()
        deadline.cancel()
        info = json.loads(self.run_store("info", self.db, "--json")[0])
        self.assertEqual((info["open_by"], info["damage"]), ("a writer", []))
        for command in (["stat"], ["snapshots"], ["pages"], ["page", "0"], ["wal"]):
            self.assertIn("another process", self.run_store(command[0], self.db, *command[1:], expect=FAILED)[1])
        self.assertGreater(max(line["writes_per_second"] for line in seen), 0)
        self.assertGreater(max(line["generations_per_second"] for line in seen), 0)
        watch.send_signal(signal.SIGINT)
        self.assertEqual(watch.wait(60), DONE)
        self.assertEqual(watch.stderr.read(), b"")
        writer.stdin.close()
        self.assertEqual(writer.wait(60), DONE)

    def test_beside_a_reshard(self):
        self.run_store("load", self.db, "--shards", "2", stdin=b"a\t1\nc\t2\ne\t3\n")
        watch = self.start("0.01")
        device_bytes = json.loads(watch.stdout.readline())["device_bytes"]
        self.run_store("reshard", self.db, "--shards", "3")
        line = {"device_bytes": device_bytes}
        while line["device_bytes"] == device_bytes:
            line = json.loads(watch.stdout.readline())  # fails when the watch has ended
        self.assertEqual(line["entries"], 3)

    def test_ends_with_the_pipe(self):
        self.run_store("create", self.db)
        watch = self.start("0.01")
        self.assertEqual(json.loads(watch.stdout.readline())["entries"], 0)
        watch.stdout.close()
        self.assertEqual(watch.wait(60), DONE)
        self.assertEqual(watch.stderr.read(), b"")

    def test_counted_and_wrong_use(self):
        self.run_store("create", self.db)
        lines = self.run_store("stat", "--watch", "0.01", "--count", "3", "--device", self.db)[0].decode().splitlines()
        self.assertEqual(len(lines), 4)
        self.assertIn("generations/s", lines[0])
        for wrong in ("0", "-1", "nan", "many", "1e9"):
            self.assertIn("number of seconds", self.run_store("stat", self.db, f"--watch={wrong}", expect=USAGE)[1])
        self.run_store("stat", self.db, "--count", "3", expect=USAGE)
        self.run_store("stat", self.db, "--watch", "--prometheus", expect=USAGE)
        self.run_store("stat", self.db + "x", "--watch", expect=FAILED)


if __name__ == "__main__":
    main()
