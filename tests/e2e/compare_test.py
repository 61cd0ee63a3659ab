"""bench/compare: every scenario in little with this engine alone, and what is written about it. No figure is judged."""
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

from harness import Case, main

SCRIPT = os.environ["COMPARE_SCRIPT"]


class Compare(Case):
    def compare(self, *arguments):
        command = [sys.executable, SCRIPT, "--tiny", "--engines", "store", "--programs", os.environ["COMPARE_PROGRAMS"], "--directory",
                   self.folder, "--output", os.path.join(self.folder, "out"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        return done.stdout

    def test_every_scenario(self):
        self.compare()
        with open(os.path.join(self.folder, "out", "compare.json")) as file:
            scenarios = json.load(file)["scenarios"]
        self.assertGreater(len(scenarios), 30)
        with open(os.path.join(self.folder, "out", "compare.md")) as file:
            text = file.read()
        for scenario in scenarios:
            self.assertIn(f"### {scenario['title']}\n", text)
            if "left_out" in scenario:
                self.assertIn("memory cgroup", scenario["left_out"])
            elif "store" in scenario["rounds"][0]:
                self.judge(scenario)
        self.assertEqual(os.listdir(self.folder), ["out"])

    def judge(self, scenario):
        name = scenario["name"]
        result = scenario["rounds"][0]["store"]
        self.assertGreater(result["rate"], 0, name)
        self.assertTrue(result["configuration"].startswith("one core, "), name)
        self.assertGreater(result["file_bytes"], 0, name)
        self.assertGreater(result["resident_most_bytes"], 1 << 20, name)
        for kind in ("reads", "writes"):
            if result.get(kind, {}).get("count"):
                latency = [result[kind][f"{p}_us"] for p in ("p50", "p90", "p99", "p99.9", "p99.99", "max")]
                self.assertEqual(latency, sorted(latency), name)
        plot = ElementTree.parse(os.path.join(self.folder, "out", f"compare-{name}.svg"))
        self.assertTrue(plot.getroot().tag.endswith("svg"))
        self.assertEqual(scenario["targets"][-1]["verdict"], "reached", f"{name}: {scenario['targets'][-1]}")  # memory

    def test_list_and_only(self):
        self.assertIn("store at least 2 x LMDB", self.compare("--list"))
        self.assertIn("update-sustained", self.compare("--list", "--only", "update*"))
        self.assertNotIn("ycsb", self.compare("--list", "--only", "update*"))

    def test_a_wrong_value_is_noticed(self):
        """A run with other values than were loaded fails, and says why."""
        program = os.path.join(os.environ["COMPARE_PROGRAMS"], "bench_compare")
        common = ["--path", self.db, "--keys", "100"]
        subprocess.run([program, "store", "load", "--workload", "load_sorted", "--seconds", "0", *common], check=True, capture_output=True)
        for workload, keys, want in (("get", "200", "is missing"), ("get_absent", "50", "was found")):
            done = subprocess.run([program, "store", "run", "--workload", workload, "--path", self.db, "--keys", keys, "--seconds", "1"],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn(want, done.stderr)
        done = subprocess.run([program, "store", "run", "--workload", "get", *common, "--value-bytes", "99", "--seconds", "1"],
                              capture_output=True, text=True)
        self.assertIn("a value of a wrong size", done.stderr)


if __name__ == "__main__":
    main()
