#!/usr/bin/env python3
"""Runs this engine beside RocksDB, LMDB, WiredTiger and the device, in alternating rounds, and reports the ratios.

Every run is a process of bench_compare of its own. docs/benchmarks.md has the method. `./dev bench compare` builds what is needed.
"""
import argparse
import dataclasses
import json
import os
import shutil
import statistics
import sys
import time

import report
import scenarios
from system import Failed, MemoryGroup, fill_with_noise, fio, forget, machine, output_of, size_of

MAX_QUARTILE_RATIO = 2
FLAGS = ("warm", "limited")


def arguments(options):
    words = []
    for name, value in options.items():
        if name in FLAGS:
            words += [f"--{name}"] if value else []
        else:
            words += [f"--{name}", str(value)]
    return words


class Bench:
    """Where the stores lie, and how each kind of contender is run."""

    def __init__(self, options, scale):
        self.options = options
        self.scale = scale
        self.seed = 0
        self.records = {}  # path of a store: how many records it has now
        self.group = None

    def path(self, *names):
        return os.path.join(self.options.directory, "-".join(names))

    def program(self, name):
        return os.path.join(self.options.programs, name)

    def store_of(self, engine, data):
        """The path of an engine's store of this data, made now if it is not there."""
        path = self.path(data.name, engine)
        if path in self.records:
            return path
        if data.copy_of:
            source = self.store_of(engine, dataclasses.replace(data, name=data.copy_of, copy_of=""))
            output_of(["cp", "-r", "--reflink=auto", source, path], 3600)
        else:
            self.load(engine, path, data.keys, data.value_bytes, {"workload": f"load_{data.order}"})
        self.records[path] = data.keys
        return path

    def load(self, engine, path, keys, value_bytes, options):
        shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(path):
            os.remove(path)
        options = {"path": path, "keys": keys, "value-bytes": value_bytes, "seconds": 0, **options}
        command = [self.program("bench_compare"), engine, "load", *arguments(options)]
        result = json.loads(output_of(command, 7200, self.group if options.get("limited") else None))
        result["file_bytes"] = size_of(path)
        return result

    def run(self, contender, scenario, options, seconds, warm_up):
        """One run of one contender. Errors: Failed."""
        self.seed += 1
        options = {**contender.options, **options}
        if contender.kind == "fio":
            return self.run_fio(scenario, options, seconds)
        if contender.kind == "ladder":
            return self.run_ladder(scenario, options, seconds)
        if scenario.limited:
            options = {"memory": scenario.limited, **options, "limited": True}
        data = scenario.data
        if contender.kind == "load":
            path = self.path("load", contender.engine)
            try:
                return self.load(contender.engine, path, data.keys, data.value_bytes, options)
            finally:
                self.remove(path)
        path = self.store_of(contender.engine, data)
        if scenario.limited:
            forget(path)
        options = {"path": path, "keys": self.records[path], "value-bytes": data.value_bytes, "seconds": seconds, "warm-up": warm_up,
                   "seed": self.seed, **options}
        command = [self.program("bench_compare"), contender.engine, "run", *arguments(options)]
        result = json.loads(output_of(command, seconds + warm_up + 900, self.group if scenario.limited else None))
        self.records[path] = result["records_after"]
        result["file_bytes"] = size_of(path)
        return result

    def device_file(self, scenario):
        """A file for fio of the size of the store that the scenario reads, not the store itself."""
        if scenario.data:
            bytes_ = max(scenarios.MIB, scenario.data.keys * (scenario.data.value_bytes + 16))
        else:
            bytes_ = 4 * self.scale.memory
        path = self.path("device", str(bytes_))
        if not os.path.exists(path):
            fill_with_noise(path, bytes_)
        return path, bytes_

    def run_fio(self, scenario, options, seconds):
        path, bytes_ = self.device_file(scenario)
        return fio(path, bytes_, min(seconds, 10), **options)

    def run_ladder(self, scenario, options, seconds):
        path, _ = self.device_file(scenario)
        return json.loads(output_of([self.program("bench_ladder"), *arguments({"path": path, "seconds": seconds, **options})], seconds + 60))

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(path):
            os.remove(path)
        self.records.pop(path, None)

    def keep_only(self, names):
        """Removes the stores of data that no scenario to come needs."""
        for path in list(self.records):
            if os.path.basename(path).rsplit("-", 1)[0] not in names:
                self.remove(path)

    def chosen(self, contender):
        return not contender.engine or contender.engine in self.options.engines

    def play(self, scenario):
        """All rounds of a scenario: [{contender: result}], and the failures by contender."""
        seconds = self.options.seconds or scenario.seconds or self.scale.seconds
        warm_up = scenario.warm_up if scenario.warm_up >= 0 else self.scale.warm_up
        contenders = [c for c in scenario.contenders if self.chosen(c)]
        failures = {}
        taken = {}
        for contender in contenders:
            taken[contender.name] = self.fastest(contender, scenario, failures)
        rounds = []
        for number in range(self.options.rounds or scenario.rounds or self.scale.rounds):
            results = {}
            for contender in contenders[number % len(contenders):] + contenders[:number % len(contenders)]:
                if contender.name in failures:
                    continue
                try:
                    results[contender.name] = self.run(contender, scenario, taken[contender.name], seconds, warm_up)
                    results[contender.name]["contender"] = contender
                    results[contender.name]["taken"] = taken[contender.name]
                except Failed as error:
                    failures[contender.name] = str(error)
                    print(f"    {contender.name}: {error}", flush=True)
            rounds.append(results)
            print("    " + "  ".join(f"{name} {result['rate']:.0f}/s" for name, result in sorted(results.items())), flush=True)
        return rounds, failures

    def fastest(self, contender, scenario, failures):
        """Of a contender's variants the one that is fastest in a short trial, or the first if there are to be no trials."""
        rates = {}
        for i, variant in enumerate(contender.variants if self.scale.trials else ()):
            try:
                rates[i] = self.run(contender, scenario, variant, max(1, self.scale.seconds / 2), self.scale.warm_up)["rate"]
                print(f"    trial: {contender.name} {variant}: {rates[i]:.0f}/s", flush=True)
            except Failed as error:
                print(f"    trial: {contender.name} {variant}: {error}", flush=True)
                failures[contender.name] = str(error)
        if rates:
            failures.pop(contender.name, None)
            return contender.variants[max(rates, key=rates.get)]
        return contender.variants[0] if contender.variants else {}


def spread(values):
    """The factor between the quartiles."""
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [1, 1, 1]
    return quartiles[2] / quartiles[0] if quartiles[0] else float("inf")


def judge(scenario, rounds, failures):
    """[{text, want, value, verdict}] for each target."""
    devices = [c.name for c in scenario.contenders if c.kind == "fio"]
    unsteady = [name for name in devices if spread([r[name]["rate"] for r in rounds if name in r]) > MAX_QUARTILE_RATIO]
    verdicts = []
    for target in scenario.targets:
        values = []
        for results in rounds:
            try:
                values.append(target.value(results))
            except (KeyError, ValueError, ZeroDivisionError):
                continue
        verdict = {"text": target.text, "want": target.want, "at_most": target.at_most, "value": None}
        if not values:
            verdict["verdict"] = "not measured"
        else:
            verdict["value"] = target.over(values)
            verdict["verdict"] = "inconclusive" if unsteady and target.want is not None else target.verdict(verdict["value"])
        verdicts.append(verdict)
    return verdicts


def play_all(bench, about, chosen):
    results = []
    for i, scenario in enumerate(chosen):
        print(f"{scenario.name}: {scenario.title}", flush=True)
        begin = time.monotonic()
        entry = {"name": scenario.name, "title": scenario.title, "note": scenario.note, "limited_bytes": scenario.limited}
        try:
            if scenario.limited:
                bench.group = MemoryGroup(scenario.limited)
            rounds, failures = bench.play(scenario)
            entry.update(rounds=rounds, failures=failures, targets=judge(scenario, rounds, failures))
        except Failed as error:
            entry.update(rounds=[], failures={}, targets=[], left_out=str(error))
            print(f"    left out: {error}", flush=True)
        finally:
            if bench.group:
                bench.group.close()
                bench.group = None
        entry["took_seconds"] = time.monotonic() - begin
        for verdict in entry["targets"]:
            print("    " + report.verdict_line(verdict), flush=True)
        results.append(entry)
        report.write(bench.options.output, about, results)  # so that hours are not lost to an accident
        needed = [s.data for s in chosen[i + 1:] if s.data]
        bench.keep_only({data.name for data in needed} | {data.copy_of for data in needed})
    return results


def parse(words):
    parser = argparse.ArgumentParser(prog="./dev bench compare", description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="scale", const=scenarios.QUICK, help="small stores, one short round, no trials (the default)")
    size.add_argument("--full", action="store_const", dest="scale", const=scenarios.FULL, help="the sizes that the targets are for; hours")
    size.add_argument("--tiny", action="store_const", dest="scale", const=scenarios.TINY, help=argparse.SUPPRESS)
    parser.add_argument("--only", metavar="SCENARIO[,..]", help="these scenarios; a name may end in *")
    parser.add_argument("--engines", default=",".join(scenarios.ENGINES), help="store,lmdb,rocksdb,wiredtiger")
    parser.add_argument("--rounds", type=int, default=0, help="instead of what the scenario has")
    parser.add_argument("--seconds", type=float, default=0, help="of each run, instead of what the scenario has")
    parser.add_argument("--device", default="", help="an NVMe namespace like /dev/ng0n1, for the ladder's rung of passthrough; it is only read")
    parser.add_argument("--directory", required=True, help="a folder compare-bench is made in it, and removed afterwards")
    parser.add_argument("--output", required=True, help="the folder for compare.json, compare.md and the plots")
    parser.add_argument("--programs", required=True, help="the folder of the built benchmarks")
    parser.add_argument("--list", action="store_true", help="print the scenarios and their targets, and run nothing")
    options = parser.parse_args(words)
    options.scale = dataclasses.replace(options.scale or scenarios.QUICK, device=options.device)
    options.engines = options.engines.split(",")
    for name in options.engines:
        if name not in scenarios.ENGINES:
            parser.error(f"no such engine: {name}")
    return parser, options


def choose(parser, options):
    everything = list(scenarios.all_scenarios(options.scale))
    if not options.only:
        return everything
    chosen = []
    for name in options.only.split(","):
        found = [s for s in everything if s.name == name or name.endswith("*") and s.name.startswith(name[:-1])]
        if not found:
            parser.error(f"no such scenario: {name} (--list shows them)")
        chosen += found
    return [s for s in everything if s in chosen]


def main():
    parser, options = parse(sys.argv[1:])
    chosen = choose(parser, options)
    if options.list:
        for scenario in chosen:
            print(f"{scenario.name:28}{scenario.title}")
            for target in scenario.targets:
                print(f"{'':30}{target.text}")
        return
    words = sys.argv[1:]
    options.directory = os.path.join(options.directory, f"compare-bench-{os.getpid()}")
    os.makedirs(options.directory)
    os.makedirs(options.output, exist_ok=True)
    try:
        about = {**machine(options.directory), "scale": dataclasses.asdict(options.scale), "engines": options.engines,
                 "date": time.strftime("%Y-%m-%d"), "command": "./dev bench compare " + report.own_arguments(words)}
        results = play_all(Bench(options, options.scale), about, chosen)
    finally:
        shutil.rmtree(options.directory, ignore_errors=True)
    print(f"written: {options.output}/compare.md, compare.json, compare-*.svg")
    failed = [entry for entry in results if entry["failures"].get("store")]
    if failed:
        sys.exit("the store failed in " + ", ".join(f"{entry['name']} ({entry['failures']['store']})" for entry in failed))


if __name__ == "__main__":
    main()
