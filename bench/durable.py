#!/usr/bin/env python3
"""Lets the contenders of the durable benchmark (durable.cpp) take turns, and prints the rates and the ratios within a round.

Before the rounds, what can be tuned is: fio's engine and RocksDB's options, each to what is fastest here and now. The rounds
begin with another contender each time. Where fio's own quartiles lie further apart than a factor of two, the disk changed under
the run, and the ratios are called inconclusive.
"""
import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys

FIO_FILE_BYTES = 256 << 20
TUNING_TURNS = 3
TUNING_SECONDS = 2
WARM_UP_SECONDS = 1
MAX_QUARTILE_RATIO = 2

WRITERS = 64
FIO, STORE_ONE, STORE_MANY = "fio", "store 1", f"store {WRITERS}"
ROCKSDB_ONE, ROCKSDB_MANY = "RocksDB 1", f"RocksDB {WRITERS}"
RATIOS = (("one writer / fio", STORE_ONE, FIO, 0.9), (f"{WRITERS} writers / RocksDB, {WRITERS} threads", STORE_MANY, ROCKSDB_MANY, 8))


def output_of(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, options):
        self.options = options
        self.seed = 0
        self.fio_engine = "psync"
        self.rocksdb_flags = ()

    def path(self, name):
        return os.path.join(self.options.directory, name)

    def prepare(self):
        shutil.rmtree(self.options.directory, ignore_errors=True)
        os.makedirs(self.options.directory)
        output_of("fio", "--name=fill", f"--filename={self.path('fio')}", "--rw=write", "--bs=1m", f"--size={FIO_FILE_BYTES}",
                  "--direct=1", "--end_fsync=1", "--refill_buffers")
        for program, name in (("bench_durable", "store"), ("bench_durable_rocksdb", "rocksdb")):
            output_of(self.program(program), "fill", "--path", self.path(name), "--keys", self.options.keys)

    def program(self, name):
        return os.path.join(self.options.programs, name)

    def fio(self, seconds, engine=None):
        out = output_of("fio", "--name=durable", f"--filename={self.path('fio')}", f"--size={FIO_FILE_BYTES}", "--rw=write", "--bs=4k",
                        "--direct=1", "--fdatasync=1", f"--ioengine={engine or self.fio_engine}", "--iodepth=1", "--refill_buffers",
                        "--time_based", f"--runtime={seconds}", f"--ramp_time={WARM_UP_SECONDS}", "--output-format=json")
        return json.loads(out)["jobs"][0]["write"]["iops"]

    def engine(self, program, path, writers, seconds, *more):
        self.seed += 1
        out = output_of(self.program(program), "run", "--path", self.path(path), "--keys", self.options.keys, "--writers", writers,
                        "--seconds", seconds, "--warm-up", WARM_UP_SECONDS, "--seed", self.seed, *more)
        return float(out.split("rate=")[1])

    def store(self, writers, seconds):
        return self.engine("bench_durable", "store", writers, seconds, "--mode", self.options.mode)

    def rocksdb(self, writers, seconds, flags=None):
        return self.engine("bench_durable_rocksdb", "rocksdb", writers, seconds, *(self.rocksdb_flags if flags is None else flags))

    def fastest(self, title, choices, measure):
        rates = {choice: [] for choice in choices}
        for _ in range(TUNING_TURNS):
            for choice in choices:
                rates[choice].append(measure(choice))
        for choice in choices:
            name = choice if isinstance(choice, str) else " ".join(choice)
            print(f"  {title} {name}: {statistics.median(rates[choice]):.0f}/s", flush=True)
        return max(choices, key=lambda choice: statistics.median(rates[choice]))

    def tune(self):
        print(f"tuning, medians of {TUNING_TURNS}:")
        self.fio_engine = self.fastest("fio", ("psync", "io_uring"), lambda engine: self.fio(TUNING_SECONDS, engine))
        flags = tuple(itertools.product(("--not-pipelined", "--pipelined"), ("--not-recycled", "--recycled"),
                                        ("--not-yielding", "--yielding")))
        self.rocksdb_flags = self.fastest("RocksDB", flags, lambda chosen: self.rocksdb(WRITERS, TUNING_SECONDS, chosen))
        for _ in range(TUNING_TURNS):  # nothing to choose, but its log shall have grown too when the rounds begin
            self.store(WRITERS, TUNING_SECONDS)
        print(f"  taken: fio {self.fio_engine}, RocksDB {' '.join(self.rocksdb_flags)}")

    def rounds(self):
        seconds = self.options.seconds
        contenders = {FIO: lambda: self.fio(seconds), STORE_ONE: lambda: self.store(1, seconds),
                      ROCKSDB_ONE: lambda: self.rocksdb(1, seconds), STORE_MANY: lambda: self.store(WRITERS, seconds),
                      ROCKSDB_MANY: lambda: self.rocksdb(WRITERS, seconds)}
        names = list(contenders)
        print("".join(f"{name:>12}" for name in ["round", *names]), flush=True)
        rates = {name: [] for name in names}
        for number in range(self.options.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                rates[name].append(contenders[name]())
            print(f"{number + 1:>12}" + "".join(f"{rates[name][-1]:>12.0f}" for name in names), flush=True)
        print(f"{'median':>12}" + "".join(f"{statistics.median(rates[name]):>12.0f}" for name in names))
        return rates


def machine(directory):
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    kind = output_of("findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", directory).strip()
    return f"{platform.system()} {platform.release()}, {len(models)} x {models[0] if models else platform.machine()}, {kind}"


def spread(rates):
    """The factor between the quartiles."""
    quartiles = statistics.quantiles(rates, n=4) if len(rates) > 1 else [rates[0]] * 3
    return quartiles[2] / quartiles[0]


def report(rates):
    print(f"{'q3 / q1':>12}" + "".join(f"{spread(rates[name]):>12.2f}" for name in rates))
    print(f"{WRITERS} writers that wait for one sync at a time reach at most {WRITERS} x fio: {WRITERS * statistics.median(rates[FIO]):.0f}/s")
    for title, ours, theirs, target in RATIOS:
        ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[theirs]))
        verdict = "inconclusive" if spread(rates[FIO]) > MAX_QUARTILE_RATIO else "reached" if ratio >= target else "missed"
        print(f"{title}: {ratio:.2f} (median of {len(rates[FIO])} rounds; target {target}): {verdict}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5, help="that count, for each contender in each round")
    parser.add_argument("--directory", required=True, help="in it the folder durable-bench is made anew, and removed afterwards")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--mode", default="per_op", help="of the engine's log")
    parser.add_argument("--programs", required=True, help="the folder of the built benchmarks")
    options = parser.parse_args()
    options.directory = os.path.join(options.directory, "durable-bench")
    bench = Bench(options)
    try:
        bench.prepare()
        print(f"{machine(options.directory)}; {options.rounds} rounds of {options.seconds} s, {options.keys} keys", flush=True)
        bench.tune()
        report(bench.rounds())
    finally:
        shutil.rmtree(options.directory, ignore_errors=True)


if __name__ == "__main__":
    main()
