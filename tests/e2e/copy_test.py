"""backup and salvage of the program `store`."""
import json
import os
import random
import subprocess

from harness import FAILED, NEGATIVE, SEED, USAGE, Case, main, random_records

BLOCK = 4096
LEAF, BRANCH = 1, 2


def tsv(records):
    def escaped(text):
        return b"".join(b"\\x%02x" % byte if byte < 33 or byte > 126 or byte == 92 else bytes([byte]) for byte in text)
    return b"".join(escaped(key) + b"\t" + escaped(value) + b"\n" for key, value in sorted(records.items()))


class Copies(Case):
    def setUp(self):
        super().setUp()
        self.target = os.path.join(self.folder, "target.store")

    def dump(self, path):
        """The entries of a store, key and value in the escapes of the tsv format."""
        lines = self.run_store("dump", path)[0].splitlines()
        return dict(line.split(b"\t") for line in lines)

    def damage(self, page):
        with open(self.db, "r+b") as file:
            file.seek(page * BLOCK + 2000)
            byte = file.read(1)
            file.seek(page * BLOCK + 2000)
            file.write(bytes([byte[0] ^ 0x10]))

    def pages(self, kind, level=0):
        """The blocks that hold pages of a kind, stale ones included."""
        with open(self.db, "rb") as file:
            content = file.read()
        return [at // BLOCK for at in range(4 * BLOCK, len(content), BLOCK)
                if content[at + 14] == kind and content[at + 15] == level
                and int.from_bytes(content[at + 4:at + 8], "little") == at // BLOCK]


class Backup(Copies):
    def test_a_copy_is_the_same_and_smaller(self):
        records = random_records(random.Random(SEED), 3000)
        self.run_store("load", self.db, stdin=tsv(records))
        for _ in range(3):
            some = dict(random.Random(SEED).sample(sorted(records.items()), 1000))
            self.run_store("load", self.db, stdin=tsv(some))
        before = self.run_store("dump", self.db)[0]
        out, message = self.run_store("backup", self.db, self.target)
        self.assertTrue(out.startswith(b"ok: generation "))
        self.assertEqual(message, "")
        self.assertEqual(self.run_store("dump", self.target)[0], before)
        self.assertEqual(self.run_store("dump", self.db)[0], before)
        self.assertTrue(self.run_store("check", self.target)[0].startswith(b"ok"))
        self.assertLess(os.path.getsize(self.target), os.path.getsize(self.db))
        self.run_store("put", self.target, "goes", "on")

    def test_replaces_nothing_unless_told(self):
        self.run_store("load", self.db, stdin=b"a\t1\n")
        self.run_store("load", self.target, stdin=b"b\t2\n")
        self.assertIn("overwrite", self.run_store("backup", self.db, self.target, expect=FAILED)[1])
        self.assertEqual(self.run_store("dump", self.target)[0], b"b\t2\n")
        self.run_store("backup", self.db, self.target, "--overwrite")
        self.assertEqual(self.run_store("dump", self.target)[0], b"a\t1\n")

    def test_an_increment_brings_the_copy_up_to_date(self):
        records = random_records(random.Random(SEED), 3000)
        self.run_store("load", self.db, stdin=tsv(records))
        generation = self.run_store("backup", self.db, self.target)[0].split(b",")[0].removeprefix(b"ok: generation ")
        stat = json.loads(self.run_store("stat", self.target, "--json")[0])
        self.assertEqual(stat["copy_of_generation"], int(generation))
        self.assertEqual(stat["copy_of"], json.loads(self.run_store("stat", self.db, "--json")[0])["uuid"])
        text = self.run_store("stat", self.target)[0].decode()
        self.assertRegex(text, rf"copy_of_generation +{int(generation)}\n")
        self.assertIn(stat["copy_of"], text)
        for change in ("--incremental", "--since"):
            self.run_store("put", self.db, "new" + change, "value")
            self.run_store("del", self.db, "--range", "k", "m")
            since = json.loads(self.run_store("stat", self.target, "--json")[0])["copy_of_generation"]
            how = [change] if change == "--incremental" else [f"--since={since}"]
            out, message = self.run_store("backup", self.db, self.target, *how)
            self.assertTrue(out.startswith(b"ok: generation "))
            self.assertEqual(message, "")
            self.assertEqual(self.run_store("dump", self.target)[0], self.run_store("dump", self.db)[0])
            self.assertTrue(self.run_store("check", self.target)[0].startswith(b"ok"))
        # Nothing has changed; the wrong generation; a copy that was written to; no copy; two ways at once.
        self.assertIn(b", 0 ", self.run_store("backup", self.db, self.target, "--incremental")[0])
        before = self.run_store("dump", self.target)[0]
        self.assertIn("not of 1", self.run_store("backup", self.db, self.target, "--since=1", expect=FAILED)[1])
        self.assertEqual(self.run_store("dump", self.target)[0], before)
        self.run_store("put", self.target, "a", "b")
        self.assertEqual(json.loads(self.run_store("stat", self.target, "--json")[0])["copy_of"], "")
        self.assertIn("full copy", self.run_store("backup", self.db, self.target, "--incremental", expect=FAILED)[1])
        self.run_store("backup", self.db, self.target + "x", "--incremental", expect=FAILED)
        self.assertFalse(os.path.exists(self.target + "x"))
        self.run_store("backup", self.db, self.target, "--incremental", "--overwrite", expect=USAGE)

    def test_json(self):
        self.run_store("load", self.db, stdin=b"a\t1\n")
        report = json.loads(self.run_store("backup", self.db, self.target, "--json")[0])
        self.assertEqual(report["generations"], [json.loads(self.run_store("info", self.target, "--json")[0])["copy_of_generation"]])
        self.assertEqual(report["bytes_written"] % BLOCK, 0)
        self.assertGreater(report["bytes"], 0)

    def test_damage_ends_it_and_leaves_no_file(self):
        self.run_store("load", self.db, stdin=b"".join(b"%06d\tvalue\n" % i for i in range(20000)))
        self.damage(self.pages(LEAF)[5])
        self.assertIn("page", self.run_store("backup", self.db, self.target, expect=FAILED)[1])
        self.assertFalse(os.path.exists(self.target))
        self.run_store("backup", self.db + "x", self.target, expect=FAILED)
        self.assertFalse(os.path.exists(self.target))


class Salvage(Copies):
    def setUp(self):
        super().setUp()
        self.records = random_records(random.Random(SEED), 6000)
        self.run_store("load", self.db, stdin=tsv(self.records))
        self.before = self.dump(self.db)
        self.assertEqual(len(self.before), len(self.records))

    def salvage(self, expect=NEGATIVE):
        out, message = self.run_store("salvage", self.db, self.target, "--overwrite", expect=expect)
        self.assertTrue(self.run_store("check", self.target)[0].startswith(b"ok"))
        found = self.dump(self.target)
        for key, row in found.items():
            self.assertEqual(row, self.before[key])
        self.assertIn(f"{len(found)} entries".encode(), out)
        return found, message

    def test_of_a_sound_store_is_a_copy(self):
        found, message = self.salvage(expect=0)
        self.assertEqual(found, self.before)
        self.assertEqual(message, "")

    def test_a_damaged_leaf_is_left_out_and_told(self):
        page = random.Random(SEED).choice(self.pages(LEAF))
        self.damage(page)
        found, message = self.salvage()
        self.assertLess(len(found), len(self.before))
        self.assertGreater(len(found), len(self.before) - 300)
        self.assertIn(f"page {page}: ", message)
        self.assertIn("the keys from", message)

    def test_damaged_branches_and_the_root_lose_nothing(self):
        stat = json.loads(self.run_store("stat", self.db, "--json")[0])
        self.assertGreaterEqual(stat["height"], 3)
        for level in range(1, stat["height"]):
            for page in self.pages(BRANCH, level):
                self.damage(page)
            found, message = self.salvage()
            self.assertEqual(found, self.before)
            self.assertIn("searched for the leaves", message)

    def test_damaged_meta_pages_lose_nothing(self):
        for page in (0, 1):  # slot 0, which holds the newest commit or the one before
            self.damage(page)
        for page in (2, 3):
            self.damage(page)
        found, message = self.salvage()
        self.assertEqual(found, self.before)
        self.assertIn("no meta page is good", message)
        with open(self.db, "r+b") as file:
            file.write(bytes(4 * BLOCK))
        found, message = self.salvage()
        self.assertEqual(found, self.before)

    def test_a_file_cut_off_gives_what_is_left(self):
        leaves = self.pages(LEAF)
        os.truncate(self.db, leaves[len(leaves) // 2] * BLOCK)
        found, _ = self.salvage()
        self.assertGreater(len(found), len(self.before) // 4)
        self.assertLess(len(found), len(self.before))

    def test_random_damage(self):
        generator = random.Random(SEED)
        with open(self.db, "r+b") as file:
            for _ in range(10):
                file.seek(generator.randrange(os.path.getsize(self.db)))
                file.write(generator.randbytes(3000))
        found, _ = self.salvage()
        self.assertGreater(len(found), len(self.before) // 3)

    def test_json(self):
        page = random.Random(SEED).choice(self.pages(LEAF))
        self.damage(page)
        out, message = self.run_store("salvage", self.db, self.target, "--json", expect=NEGATIVE)
        report = json.loads(out)
        self.assertEqual((report["entries"], report["entries_counted"]), (len(self.dump(self.target)), len(self.before)))
        self.assertEqual((message, len(report["damage"])), ("", 1))
        self.assertIn(f"page {page}: ", report["damage"][0])

    def test_what_is_no_store(self):
        path = self.write("other", b"just some text\n" * 4000)
        self.assertIn("neither a meta page nor a leaf", self.run_store("salvage", path, self.target, expect=FAILED)[1])
        self.assertFalse(os.path.exists(self.target))
        self.run_store("salvage", path + "x", self.target, "--overwrite", expect=FAILED)

    def test_never_writes_what_it_reads(self):
        link = os.path.join(self.folder, "link")
        os.link(self.db, link)
        for target in (self.db, link):
            for option in ([], ["--overwrite"]):
                message = self.run_store("salvage", self.db, target, *option, expect=FAILED)[1]
                self.assertIn("the same file as", message)
                self.assertEqual(self.dump(self.db), self.before)

    def test_opens_what_it_reads_before_it_empties_the_target(self):
        self.run_store("create", self.target)
        self.run_store("put", self.target, "an earlier", "rescue")
        short = self.write("short", b"too short")
        self.assertIn("less than one block", self.run_store("salvage", short, self.target, "--overwrite", expect=FAILED)[1])
        self.assertEqual(self.dump(self.target), {b"an earlier": b"rescue"})

    def test_a_log_on_a_device_of_its_own(self):
        log = os.path.join(self.folder, "log")
        message = self.run_store("salvage", self.db, self.target, "--log", log, expect=FAILED)[1]
        self.assertIn("no such file", message)
        other = os.path.join(self.folder, "other.store")
        subprocess.run([os.environ["MAKE_LOG_STORE"], other, log], check=True, timeout=60)
        message = self.run_store("salvage", self.db, self.target, "--overwrite", "--log", log, expect=FAILED)[1]
        self.assertIn("its log on its own device", message)
        message = self.run_store("salvage", other, self.target, "--overwrite", expect=NEGATIVE)[1]
        self.assertIn("which was not given", message)
        self.assertEqual(len(self.dump(self.target)), 10)
        self.run_store("salvage", other, self.target, "--overwrite", "--log", log)
        self.assertEqual(len(self.dump(self.target)), 19)


if __name__ == "__main__":
    main()
