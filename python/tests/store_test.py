"""The Python package from outside: every verb, what it refuses, and what happens around it (threads, fork, the end of the interpreter)."""
import collections.abc
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

import store


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(self.folder, "db")

    def open(self, **options):
        db = store.open(self.path, **{"cache_bytes": 1 << 20, "write_buffer_bytes": 1 << 20, **options})
        self.addCleanup(db.close)
        return db

    def refused(self, code, call, *arguments, **named):
        with self.assertRaises(store.Error) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.code, code)
        return caught.exception

    def run_python(self, text, *arguments):
        """Runs a program that has `store` and `path`; returns what it printed."""
        program = f"import os, sys, threading, time\nimport store\npath = {self.path!r}\n{text}"
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout


class Verbs(Case):
    def test_a_mapping(self):
        db = self.open()
        self.assertFalse(db)
        db[b"b"] = b"2"
        db.put(b"a", b"1")
        self.assertTrue(db)
        self.assertEqual(db[b"a"], b"1")
        self.assertIn(b"a", db)
        self.assertNotIn(b"x", db)
        self.assertIsNone(db.get(b"x"))
        self.assertEqual(db.get(b"x", b"?"), b"?")
        self.assertEqual(db.get(b"x", default=7), 7)
        self.assertEqual(len(db), 2)
        self.assertEqual(list(db), [b"a", b"b"])
        self.assertEqual(list(db.keys()), [b"a", b"b"])
        self.assertEqual(list(db.values()), [b"1", b"2"])
        self.assertEqual(list(db.items()), [(b"a", b"1"), (b"b", b"2")])
        self.assertEqual(dict(db), {b"a": b"1", b"b": b"2"})
        self.assertIsInstance(db, collections.abc.MutableMapping)
        with self.assertRaises(KeyError) as caught:
            db[b"x"]
        self.assertEqual(caught.exception.args, (b"x",))
        del db[b"a"]
        with self.assertRaises(KeyError) as caught:
            del db[b"a"]
        self.assertEqual(caught.exception.args, (b"a",))
        db.delete(b"a")
        self.assertEqual(len(db), 1)

    def test_the_rest_of_a_mapping(self):
        db = self.open()
        db.update({b"a": b"1", b"c": b"3"})
        db.update([(b"b", b"2")])
        self.assertEqual(db.setdefault(b"a", b"9"), b"1")
        self.assertEqual(db.setdefault(b"d", bytearray(b"4")), b"4")
        self.assertEqual(db.pop(b"d"), b"4")
        self.assertEqual(db.pop(b"d", None), None)
        self.assertRaises(KeyError, db.pop, b"d")
        self.assertEqual(db.popitem(), (b"c", b"3"))
        db.clear()
        self.assertRaises(KeyError, db.popitem)
        self.assertEqual(dict(db), {})

    def test_len_is_exact(self):
        db = self.open()
        for i in range(300):
            db[b"%d" % i] = b"v"
        db.flush()
        self.assertEqual(len(db), 300)
        db[b"7"] = b"another"
        self.assertEqual(len(db), 300)
        db.delete_range(b"1", b"2")
        self.assertEqual(len(db), len(list(db)))
        self.assertEqual(len(db), 300 - 111)

    def test_any_bytes_like_object(self):
        db = self.open()
        db[bytearray(b"a")] = memoryview(b"1234")[1:3]
        self.assertEqual(db[memoryview(b"a")], b"23")
        self.assertRaises(BufferError, db.get, memoryview(b"abcd")[::2])
        target = bytearray(b"value")
        db[b"k"] = target
        target[:] = b"other longer bytes"  # it is not held
        self.assertEqual(db[b"k"], b"value")

    def test_wrong_types(self):
        db = self.open()
        calls = [(db.get, "a"), (db.put, "a", b""), (db.put, b"a", "x"), (db.delete, "a"), (db.__getitem__, "a"), (db.__contains__, "a"),
                 (db.__setitem__, b"a", "b"), (db.__delitem__, "a"), (db.get_many, ["a"]), (db.compare_and_put, b"a", "x", None),
                 (db.delete_range, "a"), (db.scan, "a")]
        for call, *arguments in calls:
            with self.subTest(call=call, arguments=arguments), self.assertRaisesRegex(TypeError, "encode"):
                call(*arguments)
        for wrong in (None, 7, [b"a"], 1.5):
            self.assertRaisesRegex(TypeError, "bytes-like", db.get, wrong)
            self.assertRaisesRegex(TypeError, "bytes-like", db.put, b"a", wrong)
        for arguments, named in (((), {}), ((b"a", 1, 2), {}), ((b"a",), {"other": 1}), ((b"a", 1), {"default": 2}), ((), {"default": 2})):
            self.assertRaises(TypeError, db.get, *arguments, **named)
        for cls in (store.Store, store.Snapshot, store.Scan, store.Batch):
            self.assertRaises(TypeError, cls)
            self.assertRaises(TypeError, cls.__new__, cls)
        self.assertRaises(TypeError, store.Store.get, object(), b"a")
        self.assertRaises(TypeError, db.scan, limit=1.5)
        self.assertRaises(ValueError, db.scan, limit=-1)
        self.assertRaises(ValueError, db.scan, b"a", prefix=b"a")
        self.assertRaises(ValueError, self.open, wal="sometimes")
        self.assertRaises(TypeError, self.open, cache_bytes="much")
        self.assertRaises(TypeError, store.open, 7)

    def test_limits_of_the_engine(self):
        db = self.open()
        self.refused("invalid_argument", db.get, b"")
        self.refused("invalid_argument", db.put, b"k" * 1025, b"")
        db[b"k" * 1024] = b""
        self.assertEqual(db[b"k" * 1024], b"")

    def test_get_many(self):
        db = self.open()
        db.update((b"%03d" % i, b"v%d" % i) for i in range(500))
        db.flush()
        keys = [b"%03d" % i for i in range(499, -1, -1)] + [b"none"]
        self.assertEqual(db.get_many(keys), [b"v%d" % i for i in range(499, -1, -1)] + [None])
        self.assertEqual(db.get_many(key for key in [b"001", bytearray(b"x")]), [b"v1", None])
        self.assertEqual(db.get_many([]), [])

    def test_get_into(self):
        db = self.open()
        value = random.Random(2).randbytes(300_000)
        db[b"big"], db[b"empty"] = value, b""
        for _ in range(2):
            parts, buffer = [], bytearray(70_000)
            while sum(map(len, parts)) < len(value):
                self.assertEqual(db.get_into(b"big", buffer, sum(map(len, parts))), len(value))
                parts.append(bytes(buffer[:len(value) - sum(map(len, parts))]))
            self.assertEqual(b"".join(parts), value)
            db.flush()
        before = bytes(buffer)
        self.assertEqual(db.get_into(b"big", buffer, offset=(1 << 64) - 1), len(value))
        self.assertEqual(db.get_into(b"empty", buffer), 0)
        self.assertIsNone(db.get_into(b"none", buffer))
        self.assertEqual(buffer, before)
        self.assertEqual(db.get_into(b"big", memoryview(buffer)[10:20], 5), len(value))
        self.assertEqual(buffer, before[:10] + value[5:15] + before[20:])
        self.assertEqual(db.get_into(b"big", bytearray()), len(value))
        self.assertRaises(BufferError, db.get_into, b"big", b"cannot be written to")
        self.assertRaises(BufferError, db.get_into, b"big", memoryview(buffer)[::2])
        self.assertRaisesRegex(TypeError, "writable", db.get_into, b"big", "text")
        self.assertRaises(TypeError, db.get_into, b"big", buffer, -1)

    def test_bulk_load(self):
        db = self.open()
        entries = [(b"%04d" % i, b"v%d" % i) for i in range(3000)]
        self.refused("invalid_argument", db.bulk_load, entries[1::-1])
        for wrong, error in (([b"a"], ValueError), ([(b"a", b"1", b"2")], ValueError), ([7], TypeError), (7, TypeError),
                             ([("a", b"1")], TypeError), ([(b"a", None)], TypeError)):
            with self.subTest(wrong):
                self.assertRaises(error, db.bulk_load, wrong)

        def fails():
            yield b"a", b"1"
            raise LookupError("it ends")

        self.assertRaisesRegex(LookupError, "it ends", db.bulk_load, fails())
        self.assertEqual(db.bulk_load([]), 0)
        self.assertFalse(db)
        self.assertEqual(db.bulk_load(entry for entry in entries), 3000)
        self.assertEqual(list(db.items()), entries)
        self.refused("invalid_argument", db.bulk_load, [(b"x", b"")])
        with store.open(self.path + "2") as other:
            self.assertEqual(other.bulk_load(dict(entries)), 3000)
            self.assertEqual(dict(other), dict(entries))

    def test_approximate_range(self):
        db = self.open()
        db.bulk_load((b"%05d" % i, b"x" * 100) for i in range(10_000))
        self.assertEqual(db.approximate_range()["entries"], 10_000)
        part = db.approximate_range(b"02000", b"04000")
        self.assertTrue(2000 <= part["entries"] < 2500 and 200_000 < part["bytes"] < 500_000, part)
        self.assertEqual(db.approximate_range(b"x")["entries"] < 100, True)
        self.assertRaises(TypeError, db.approximate_range, "a")

    def test_compaction_in_parts(self):
        db = self.open(wal="none")
        db.bulk_load((b"%05d" % i, b"x" * 1000) for i in range(10_000))
        db.delete_range(b"00000", b"09000")
        db.flush()
        size, calls = os.path.getsize(self.path), 1
        while not db.compact(max_bytes_moved=1 << 16)["finished"]:
            calls += 1
        self.assertGreater(calls, 1)
        self.assertLess(os.path.getsize(self.path), size / 2)
        self.assertRaises(TypeError, db.compact, max_bytes_moved="all")

    def test_text_for_prometheus(self):
        db = self.open()
        db[b"a"] = b"1"
        db.flush()
        with store.open(self.path + "2") as other:
            text = store.prometheus_text({"one": db, "an \"other\"": other})
        self.assertIn('\nstore_entries{store="one"} 1\nstore_entries{store="an \\"other\\""} 0\n', text)
        self.refused("closed", store.prometheus_text, {"gone": other})
        for wrong in ({"no": 7}, {b"no": db}, [db], db, None):
            with self.subTest(wrong), self.assertRaisesRegex(TypeError, "names"):
                store.prometheus_text(wrong)
        self.assertRaises(ValueError, store.prometheus_text, {"\udcff": db})

    def test_compare_and_put(self):
        db = self.open()
        self.assertTrue(db.compare_and_put(b"a", None, b"1"))
        self.assertFalse(db.compare_and_put(b"a", None, b"2"))
        self.assertTrue(db.compare_and_put(b"a", expected=b"1", desired=b"2"))
        self.assertTrue(db.compare_and_put(b"a", b"2", None))
        self.assertNotIn(b"a", db)

    def test_delete_range(self):
        db = self.open()
        db.update((bytes([c]), b"") for c in b"abcdef")
        db.delete_range(b"b", b"d")
        self.assertEqual(list(db), [b"a", b"d", b"e", b"f"])
        db.delete_range(b"e")
        self.assertEqual(list(db), [b"a", b"d"])

    def test_large_values(self):
        db = self.open()
        values = {b"%d" % size: random.Random(size).randbytes(size) for size in (0, 1, 4095, 4096, 4097, 70_000, 5 << 20)}
        db.update(values)
        self.assertEqual(dict(db), values)
        db.flush()
        self.assertEqual(dict(db.items()), values)
        self.assertEqual({key: db[key] for key in values}, values)
        self.assertTrue(all(key in db for key in values))

    def test_the_whole_store(self):
        db = self.open()
        db.update((b"%d" % i, b"x" * 100) for i in range(1000))
        db.sync()
        db.flush()
        self.assertEqual(db.check(), [])
        self.assertTrue(db.compact()["finished"])
        stats = db.stats()
        self.assertEqual(stats["entries"], 1000)
        self.assertEqual(stats["sync_count"], 1)
        self.assertGreaterEqual(stats["sync_p99_ns"], stats["sync_p50_ns"])
        self.assertEqual((stats["snapshots"], stats["open_notes"], stats["poisoned"]), ([], [], ""))
        copy = self.path + ".copy"
        self.assertGreater(db.backup(copy)["generation"], 0)
        self.refused("already_exists", db.backup, copy)
        db[b"new"] = b"1"
        db.backup(copy, incremental=True)
        with store.open(copy, create=False) as other:
            self.assertEqual(dict(other), dict(db))
        db.backup(copy, overwrite=True)

    def test_check_tells_damage(self):
        with self.open() as db:
            db.update((b"%d" % i, b"x" * 100) for i in range(1000))
        with open(self.path, "r+b") as file:
            file.seek(0, os.SEEK_END)
            blocks = file.tell() // 4096
            for block in range(4, blocks):
                file.seek(block * 4096 + 2000)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
        try:
            db = self.open()
        except store.Corruption as error:
            self.assertEqual(error.code, "corruption")
        else:
            self.assertGreater(len(db.check()), 0)
            self.assertEqual(len(db.check(max_errors=1)), 1)
            self.assertRaises(store.Corruption, lambda: [db.get(b"%d" % i) for i in range(1000)])


class Scans(Case):
    def test_both_ways(self):
        db = self.open()
        db.update((b"%04d" % i, b"%d" % i) for i in range(2000))
        everything = [(b"%04d" % i, b"%d" % i) for i in range(2000)]
        for _ in range(2):
            self.assertEqual(list(db.scan()), everything)
            self.assertEqual(list(db.scan(reverse=True)), everything[::-1])
            self.assertEqual(list(db.scan(b"0010", b"0012")), everything[10:12])
            self.assertEqual(list(db.scan(stop=b"0002", reverse=True)), everything[1::-1])
            self.assertEqual(list(db.scan(prefix=b"001")), everything[10:20])
            self.assertEqual(list(db.scan(b"0500", limit=3)), everything[500:503])
            self.assertEqual(list(db.scan(limit=0)), [])
            self.assertEqual(len(list(db.scan(limit=1 << 70))), 2000)
            db.flush()

    def test_seek(self):
        db = self.open()
        db.update((b"%04d" % i, b"") for i in range(0, 2000, 2))
        scan = db.scan(b"0100", b"1900")
        self.assertEqual(next(scan)[0], b"0100")
        scan.seek(b"1001")
        self.assertEqual(next(scan)[0], b"1002")
        scan.seek(b"0000")
        self.assertEqual(next(scan)[0], b"0100")
        scan.seek(b"1900")
        self.assertRaises(StopIteration, next, scan)
        self.assertRaises(StopIteration, next, scan)
        back = db.scan(reverse=True)
        back.seek(b"1001")
        self.assertEqual([key for key, _ in back][:2], [b"1000", b"0998"])

    def test_writing_while_iterating(self):
        db = self.open()
        db.update((b"%04d" % i, b"old") for i in range(1000))
        seen = 0
        for key, value in db.items():
            self.assertEqual(value, b"old")
            db[key] = b"new"
            db[key + b"x"] = b"new"
            seen += 1
            if seen % 300 == 0:
                db.flush()
        self.assertEqual((seen, len(db)), (1000, 2000))
        for key in db:
            del db[key]
        self.assertEqual(len(db), 0)

    def test_a_snapshot(self):
        db = self.open()
        db[b"a"] = b"1"
        with db.snapshot() as before:
            self.assertEqual(len(db.stats()["snapshots"]), 1)
            db[b"a"] = b"2"
            db[b"b"] = b"2"
            db.flush()
            self.assertEqual(before[b"a"], b"1")
            self.assertEqual(before.get(b"b", default=b"?"), b"?")
            self.assertNotIn(b"b", before)
            self.assertIn(b"a", before)
            self.assertRaises(KeyError, lambda: before[b"b"])
            self.assertEqual(before.get_many([b"a", b"b"]), [b"1", None])
            self.assertEqual((len(before), bool(before), list(before)), (1, True, [b"a"]))
            self.assertEqual(list(before.items()), list(before.scan(prefix=b"a")))
            self.assertEqual(list(before.values()), [b"1"])
            self.assertIsInstance(before, collections.abc.Mapping)
        self.refused("closed", before.get, b"a")
        self.refused("closed", before.scan)
        self.assertEqual(db.stats()["snapshots"], [])


class Batches(Case):
    def test_it_is_written_at_the_end(self):
        db = self.open()
        db[b"old"] = b""
        with db.batch() as batch:
            batch.put(b"a", b"1")
            batch.delete(b"old")
            batch.put(b"r1", b"")
            batch.delete_range(b"r", b"s")
            batch.put(b"r2", b"")
            batch.expect(b"nothing", None)
            self.assertEqual(len(batch), 6)
            self.assertNotIn(b"a", db)
        self.assertEqual(dict(db), {b"a": b"1", b"r2": b""})
        with batch:
            batch.delete(b"a")
        self.assertEqual(list(db), [b"r2"])

    def test_an_exception_drops_it(self):
        db = self.open()
        with self.assertRaises(ZeroDivisionError):
            with db.batch() as batch:
                batch.put(b"a", b"1")
                1 // 0
        self.assertNotIn(b"a", db)
        with batch:
            pass
        self.assertNotIn(b"a", db)

    def test_an_expectation_that_does_not_hold(self):
        db = self.open()
        with self.assertRaises(store.Conflict) as caught:
            with db.batch() as batch:
                batch.put(b"a", b"1")
                batch.expect(b"b", b"2")
        self.assertEqual(caught.exception.code, "conflict")
        self.assertNotIn(b"a", db)

    def test_changes_outside_of_its_block(self):
        batch = self.open().batch()
        self.assertRaises(RuntimeError, batch.put, b"a", b"1")
        with batch:
            self.assertRaises(RuntimeError, batch.__enter__)
            self.assertRaisesRegex(TypeError, "encode", batch.put, "a", b"1")
            self.refused("invalid_argument", batch.put, b"", b"1")


class Trouble(Case):
    def test_closed(self):
        with self.open() as db:
            db[b"a"] = b"1"
            scan, snapshot, batch = db.scan(), db.snapshot(), db.batch()
            next(scan)
        calls = [(db.get, b"a"), (db.__getitem__, b"a"), (db.__contains__, b"a"), (db.put, b"a", b""), (db.delete, b"a"), (db.__delitem__, b"a"),
                 (db.get_many, [b"a"]), (db.compare_and_put, b"a", None, None), (db.delete_range, b"a"), (len, db), (bool, db), (iter, db),
                 (db.scan,), (db.snapshot,), (db.batch,), (db.get_into, b"a", bytearray(1)), (db.bulk_load, []), (db.approximate_range,),
                 (db.sync,), (db.flush,), (db.compact,), (db.check,), (db.stats,),
                 (db.backup, self.path + "2"), (db.__enter__,), (next, scan), (scan.seek, b"a"), (snapshot.get, b"a"), (batch.__enter__,)]
        for call, *arguments in calls:
            with self.subTest(call=call):
                self.refused("closed", call, *arguments)
        db.close()
        self.assertEqual(self.open()[b"a"], b"1")

    def test_paths(self):
        self.refused("not_found", store.open, os.path.join(self.folder, "no", "db"))
        self.refused("not_found", store.open, self.path, create=False)
        with open(self.path, "wb") as file:
            file.write(b"something else" * 1000)
        self.assertIn(self.path, str(self.refused("not_a_store", store.open, self.path)))
        odd = self.path + "\udcff"  # no UTF-8
        self.assertIn(odd, str(self.refused("not_found", store.open, odd, create=False)))
        with store.open(os.fsencode(odd)) as db:
            db[b"a"] = b""
        self.assertTrue(os.path.exists(odd))

    def test_locked(self):
        self.open()
        error = self.refused("locked", store.open, self.path)
        self.assertIsInstance(error, store.Locked)
        self.assertIn(self.path, str(error))

    def test_read_only(self):
        self.open().close()
        with store.open(self.path, read_only=True) as one, store.open(self.path, read_only=True) as another:
            self.assertEqual((len(one), len(another)), (0, 0))
            self.refused("read_only", one.put, b"a", b"")

    def test_no_space(self):
        db = self.open(capacity_bytes=1 << 24, wal="none")
        with self.assertRaises(store.Error) as caught:
            for i in range(100):
                db[b"%d" % i] = bytes(1 << 20)
        self.assertEqual(caught.exception.code, "no_space")

    def in_child(self, work):
        """Runs work in a process of its own, for what cannot be undone; its failure is this test's."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_a_file_without_rights(self):
        with self.open() as db:
            db[b"a"] = b"1"
        closed = os.path.join(self.folder, "closed")
        os.mkdir(closed, 0o555)
        os.chmod(self.folder, 0o755)
        os.chmod(self.path, 0)

        def become_ordinary():
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)

        def closed_to_us():
            become_ordinary()
            error = self.refused("io_error", store.open, self.path)
            self.assertEqual(error.os_error, errno.EACCES)
            self.assertRegex(str(error), f"{self.path}: this user may not open it.*permissions.*Permission denied")
            error = self.refused("io_error", store.open, os.path.join(closed, "db"))
            self.assertRegex(str(error), f"{closed}/db: this user may not make a file there.*directory.*Permission denied")

        def to_be_read():
            become_ordinary()
            self.assertRegex(str(self.refused("read_only", store.open, self.path)), f"{self.path}: may only be read.*open it read-only")
            with store.open(self.path, read_only=True) as db:
                self.assertEqual(db[b"a"], b"1")
                self.refused("io_error", db.backup, os.path.join(closed, "copy"))

        self.in_child(closed_to_us)
        os.chmod(self.path, 0o444)
        self.in_child(to_be_read)
        self.assertEqual(self.open()[b"a"], b"1")

    def test_a_full_disk(self):
        with self.open() as db:
            db[b"a"] = b"1"

        def fill():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
            with self.open() as db:
                with self.assertRaises(store.Error) as caught:
                    for i in range(100):
                        db[b"%d" % i] = bytes(100_000)
                self.assertEqual(caught.exception.code, "no_space")
                self.assertRegex(str(caught.exception), f"{self.path}: full.*nothing was changed.*erase something")
                self.assertEqual(db[b"a"], b"1")
                self.assertEqual(db[b"0"], bytes(100_000))
                self.assertEqual(db.check(), [])

        self.in_child(fill)
        db = self.open()
        self.assertEqual((db[b"a"], db[b"0"]), (b"1", bytes(100_000)))

    def test_what_is_no_whole_store(self):
        with self.open() as db:
            db.update((b"%d" % i, b"x" * 100) for i in range(1000))
        os.truncate(self.path, 10 * 4096)
        error = self.refused("corruption", store.open, self.path)
        self.assertIsInstance(error, store.Corruption)
        self.assertRegex(str(error), f"{self.path}: truncated: the device has 10 blocks.*restore.*salvage")
        os.truncate(self.path, 100)
        self.assertRegex(str(self.refused("not_a_store", store.open, self.path)), f"{self.path}: not a store.*check the path")
        self.assertRegex(str(self.refused("invalid_argument", store.open, self.folder)), "is a directory; name a file")
        self.refused("invalid_argument", store.open, "")
        self.assertRegex(str(self.refused("invalid_argument", store.open, self.path + "\0x")), "zero byte")

    def test_every_argument_of_a_wrong_type(self):
        db = self.open()
        db[b"a"] = b"1"
        snapshot, scan, batch = db.snapshot(), db.scan(), db.batch()
        buffer = bytearray(4)
        # Each call with arguments that are right; in the place of each of them every wrong one is put.
        calls = [(db.get, b"a"), (db.__getitem__, b"a"), (db.__contains__, b"a"), (db.get_many, [b"a"]), (db.put, b"b", b"2"),
                 (db.__setitem__, b"b", b"2"), (db.delete, b"b"), (db.__delitem__, b"a"), (db.get_into, b"a", buffer), (db.delete_range, b"x", b"y"),
                 (db.compare_and_put, b"c", b"2", b"3"), (db.approximate_range, b"a", b"b"), (db.scan, b"a", b"b"), (scan.seek, b"a"),
                 (snapshot.get, b"a"), (snapshot.__getitem__, b"a"), (snapshot.__contains__, b"a"), (snapshot.get_many, [b"a"]),
                 (snapshot.scan, b"a", b"b"), (db.bulk_load, [(b"a", b"1")]), (db.setdefault, b"z", b"1"), (db.update, [(b"a", b"1")])]
        for wrong in ("text", 7, 1.5, object(), ["a"], True):
            for call, *arguments in calls:
                # What takes pairs says so as dict.update() does.
                errors = (TypeError, ValueError) if call in (db.update, db.bulk_load) else TypeError
                for place in range(len(arguments)):
                    with self.subTest(wrong, call=call, place=place), self.assertRaises(errors):
                        call(*arguments[:place], wrong, *arguments[place + 1:])
            for call in (batch.put, batch.expect):
                with batch:
                    self.assertRaises(TypeError, call, wrong, b"1")
                    self.assertRaises(TypeError, call, b"k", wrong)
                    self.assertEqual(len(batch), 0)
            if wrong is not True and not isinstance(wrong, int):
                self.assertRaises(TypeError, db.scan, limit=wrong)
                self.assertRaises(TypeError, db.check, max_errors=wrong)
                self.assertRaises(TypeError, db.compact, max_bytes_moved=wrong)
                self.assertRaises(TypeError, db.get_into, b"a", buffer, wrong)
            if not isinstance(wrong, str):
                self.assertRaises(TypeError, db.backup, wrong)
                self.assertRaises(TypeError, store.open, wrong)
        for call in (db.get, db.put, db.delete, db.get_into, db.compare_and_put, db.get_many, scan.seek, snapshot.get):
            with self.subTest(call=call):
                self.assertRaises(TypeError, call)
                self.assertRaises(TypeError, call, other=1)
        self.assertRaises(TypeError, db.get, None)
        self.assertRaises(TypeError, db.put, b"a", None)
        self.assertRaises(TypeError, db.delete_range, None)
        self.assertEqual(dict(db), {b"a": b"1"})

    def test_a_store_that_is_closed_while_others_iterate(self):
        db = self.open(cache_bytes=1 << 18)
        db.update((b"%05d" % i, b"x" * 100) for i in range(20_000))
        db.flush()
        started, ended = threading.Barrier(4), []

        def walk():
            scan = db.scan()
            next(scan)
            started.wait()
            try:
                while True:
                    for _ in scan:
                        pass
                    scan = db.scan()
            except BaseException as error:
                ended.append(error)

        threads = [threading.Thread(target=walk) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        db.close()
        for thread in threads:
            thread.join()
        self.assertEqual([getattr(error, "code", error) for error in ended], ["closed"] * 3)
        self.assertEqual(len(self.open()), 20_000)

    def test_errors_can_be_pickled(self):
        import pickle
        error = pickle.loads(pickle.dumps(store.Locked("text", "locked", 0)))
        self.assertEqual((type(error), str(error), error.code, error.os_error), (store.Locked, "text", "locked", 0))


class Around(Case):
    def test_a_waiting_thread_lets_others_run(self):
        db = self.open(write_buffer_bytes=64 << 20, wal="none")
        value = random.Random(1).randbytes(60_000)
        for i in range(700):
            db[b"%d" % i] = value
        over, ran = threading.Event(), 0
        def flush():
            db.flush()
            over.set()
        switch = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, switch)
        thread = threading.Thread(target=flush)
        sys.setswitchinterval(100)  # nobody is made to give the lock away
        thread.start()
        while not over.is_set() and ran < 10**9:
            ran += 1
            if ran % 1000 == 0:
                time.sleep(0)
        thread.join()
        self.assertGreater(ran, 1000)

    def test_many_threads(self):
        db = self.open(cache_bytes=1 << 18, write_buffer_bytes=1 << 16)
        wrong = []

        def work(number):
            draw = random.Random(number)
            try:
                for i in range(2000):
                    key = b"%04d" % draw.randrange(1000)
                    if i % 3 == 0:
                        db[key] = key * 20
                    elif i % 97 == 1:
                        with db.snapshot() as snapshot:
                            for found, value in snapshot.scan(key, limit=20):
                                assert value == found * 20
                    else:
                        assert db.get(key, key * 20) == key * 20
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertEqual(db.check(), [])

    def test_a_scan_shared_by_threads(self):
        db = self.open(cache_bytes=1 << 18)
        db.update((b"%05d" % i, b"x" * 100) for i in range(20_000))
        db.flush()
        scan, found, wrong = db.scan(), [], []

        def walk():
            while True:
                try:
                    found.append(next(scan)[0])
                except StopIteration:
                    return
                except ValueError:  # the other one is in it
                    time.sleep(0)
                except BaseException as error:
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=walk) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertEqual(sorted(found), [b"%05d" % i for i in range(20_000)])

    def test_fork(self):
        db = self.open()
        db[b"a"] = b"1"
        scan = db.scan()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            code = 1
            try:
                for call in (lambda: db.get(b"a"), lambda: db.put(b"a", b"2"), lambda: next(scan), db.flush, db.close, lambda: b"a" in db):
                    self.refused("closed", call)
                del db, scan
                code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(db[b"a"], b"1")
        self.assertEqual(list(scan), [(b"a", b"1")])

    def test_the_interpreter_ends_in_a_child_of_fork(self):
        self.run_python("db = store.open(path)\ndb[b'a'] = b'1'\nchild = os.fork()\n"
                        "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))")
        self.assertEqual(self.open()[b"a"], b"1")

    def test_the_interpreter_ends_with_an_open_store(self):
        self.run_python("""
db = store.open(path, wal='none')
db[b'a'] = b'1'
scan, snapshot = db.scan(), db.snapshot()
threading.Thread(target=lambda db: time.sleep(1000), args=(db,), daemon=True).start()  # whose frame nobody takes down
""")
        self.assertEqual(self.open()[b"a"], b"1", "it was closed")

    def test_the_interpreter_ends_while_threads_work(self):
        for call in ("db.get(b'a')", "db.put(b'a', b'1')", "db.flush()", "list(db.scan(limit=3))", "db.snapshot().get(b'a')",
                     "db.bulk_load((b'%d' % i, b'') for i in (3, 2))"):
            with self.subTest(call):
                self.run_python(f"""
db = store.open(path)
def work():
    while True:
        try:
            {call}
        except store.Error:  # it was closed
            pass
for _ in range(3): threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
""")

    def test_what_a_store_made_keeps_it(self):
        db = store.open(self.path)  # of which nobody else knows
        db[b"a"] = b"1"
        scan = db.scan()
        del db
        self.assertEqual(next(scan), (b"a", b"1"))


if __name__ == "__main__":
    unittest.main()
