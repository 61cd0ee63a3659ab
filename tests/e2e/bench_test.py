"""`store bench`: what its workloads do to a store, and what it prints."""
import json
import os

from harness import FAILED, USAGE, Case, main

ALL = ["fillsync", "fillseq", "fillrandom", "overwrite", "readrandom", "multireadrandom", "readmissing", "readseq", "readreverse",
       "seekrandom", "readwhilewriting", "deleterandom"]


class Bench(Case):
    def bench(self, *arguments):
        out, _ = self.run_store("bench", self.db, "--num", "2000", "--json", *arguments)
        return {line["name"]: line for line in json.loads(out)}

    def entries(self):
        return json.loads(self.run_store("stat", self.db, "--json")[0])["entries"]

    def test_every_workload_in_json_and_nothing_is_left(self):
        for depth in ("1", "7"):
            measured = self.bench("--depth", depth)
            self.assertEqual(list(measured), ALL)
            for name, line in measured.items():
                self.assertEqual(line["operations"], 2 if name == "fillsync" else 2000, name)
                self.assertGreater(line["operations_per_second"], 0)
                reads = name.startswith(("read", "multi", "seek")) and name != "readmissing"
                self.assertEqual(line["found"], 2000 if reads else 0, name)
                if name not in ("readseq", "readreverse"):
                    self.assertGreater(line["p50_us"], 0, name)
                self.assertLessEqual(line["p50_us"], line["p99_us"])
                self.assertLessEqual(line["p99_us"], line["p99.99_us"])
                self.assertLessEqual(line["p99.99_us"], line["max_us"])
            self.assertFalse(os.path.exists(self.db))

    def test_text(self):
        out, _ = self.run_store("bench", self.db, "--num", "500", "--benchmarks", "fillseq,readrandom")
        lines = out.decode().splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["fillseq", "readrandom"])
        self.assertIn(" ops/s  us: p50 ", lines[0])
        self.assertTrue(lines[1].endswith("(500 of 500 found)"))

    def test_what_fills_write(self):
        for name in ("fillseq", "fillrandom"):
            for batch in ("1", "64"):
                self.bench("--benchmarks", name, "--keep", "--value-size", "321", "--batch", batch)
                self.assertEqual(self.entries(), 2000)
                rows = self.run_store("scan", self.db, "--keys")[0].decode().split()
                self.assertEqual(rows, [f"{i:016}" for i in range(2000)])
                self.assertEqual(len(self.run_store("get", self.db, rows[-1])[0]), 321)
                self.check_clean()
                os.remove(self.db)

    def test_a_store_that_is_there_stays(self):
        self.run_store("create", self.db)
        self.run_store("put", self.db, "mine", "value")
        self.assertIn("--existing", self.run_store("bench", self.db, "--num", "100", expect=FAILED)[1])
        self.bench("--existing", "--benchmarks", "fillseq,deleterandom")
        self.assertEqual(self.run_store("get", self.db, "mine")[0], b"value")
        self.assertGreater(self.entries(), 100)
        self.assertLess(self.entries(), 2001)
        self.check_clean()

    def test_wrong_use(self):
        for wrong in (["--benchmarks", "fillseq,fillbatch"], ["--num", "0"], ["--depth", "0"], ["--wal", "sometimes"]):
            self.run_store("bench", self.db, *wrong, expect=USAGE)
            self.assertFalse(os.path.exists(self.db))


if __name__ == "__main__":
    main()
