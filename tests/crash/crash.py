#!/usr/bin/env python3
"""Kills a process that writes to a store, at random moments, and verifies what it leaves behind.

A life: the worker loads the store (or opens it, or closes it) and gets SIGKILL at a random moment; now and then recoveries are
started and killed too; then a verification opens the store and holds it against the expected state that the worker kept beside
it. The next life goes on in the same file. Log modes and I/O backends take turns.

SIGKILL takes nothing back that the kernel has: this shows ordering, recovery, locking and replay on a real file system, not
what a power cut does. --seed chooses what the workers do and when they are killed; the timing itself is the machine's.
"""
import argparse
import collections
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time

MODES = ("none", "batched", "per_op")
BACKENDS = ("full", "threads")
LIVES_PER_FILE = 20
HANG_SECONDS = 120
MAX_KEPT = 5


class Violation(Exception):
    pass


class Crash:
    def __init__(self, worker, directory, seed):
        self.worker, self.directory, self.seed = worker, directory, seed
        self.random = random.Random(seed)
        self.lives = self.operations = self.replayed = self.violations = 0
        self.killed = collections.Counter()
        self.turns = collections.Counter()

    def files(self):
        return os.path.join(self.directory, "crash.store"), os.path.join(self.directory, "crash.state")

    def command(self, verb, mode, *more):
        store, state = self.files()
        return [self.worker, verb, "--store", store, "--state", state, "--mode", mode,
                "--seed", str(self.random.getrandbits(48)), *more]

    def start_and_kill(self, verb, mode, environment, wait_for, seconds, *more):
        """Starts a worker and kills it so long after it said that it has come to `wait_for` ("": at once)."""
        process = subprocess.Popen(self.command(verb, mode, *more), env=environment, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        phases = b""
        if wait_for:
            phases = self.read_until(process, wait_for.encode())
        time.sleep(seconds)
        process.kill()
        rest, errors = process.communicate()
        if process.returncode == -signal.SIGKILL:
            self.killed[{"": "starting", "o": "opening", "w": "working", "c": "closing"}[(phases + rest).decode()[-1:]]] += 1
        elif process.returncode != 0:
            raise Violation(f"{verb} ended with {process.returncode}: {errors.decode(errors='replace').strip()}")

    @staticmethod
    def read_until(process, letter):
        phases = b""
        limit = time.monotonic() + HANG_SECONDS
        while letter not in phases:
            if not select.select([process.stdout], [], [], max(0, limit - time.monotonic()))[0]:
                process.kill()
                process.communicate()
                raise Violation(f"a worker hangs: no sign of {letter.decode()} in {HANG_SECONDS} s")
            got = os.read(process.stdout.fileno(), 64)
            if not got:
                break  # it has ended
            phases += got
        return phases

    def load(self, mode, environment):
        kind = self.random.random()
        if kind < 0.2:  # while it starts, opens, recovers or creates
            self.start_and_kill("load", mode, environment, "", self.random.uniform(0, 0.03))
        elif kind < 0.8:
            seconds = 0.001 * 300 ** self.random.random()
            self.start_and_kill("load", mode, environment, "w", seconds)
        else:  # about when it closes
            operations = int(10 * 1000 ** self.random.random())
            self.start_and_kill("load", mode, environment, "c", self.random.uniform(0, 0.004), "--operations", str(operations))

    def recover(self, mode, environment):
        early = self.random.random() < 0.5
        self.start_and_kill("recover", mode, environment, "o" if early else "w",
                            self.random.uniform(0, 0.004 if early else 0.02))

    def verify(self, mode, environment):
        try:
            done = subprocess.run(self.command("verify", mode), env=environment, capture_output=True, text=True,
                                  timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            raise Violation(f"the verification hangs: not done in {HANG_SECONDS} s") from None
        for line in done.stdout.splitlines():
            if line.startswith("verified "):
                numbers = dict(word.split("=") for word in line.split()[1:])
                self.operations += int(numbers["operations"])
                self.replayed += int(numbers["replayed"])
        if done.returncode != 0:
            raise Violation(f"the verification ended with {done.returncode}\n{done.stdout}{done.stderr}")

    def life(self):
        mode = MODES[self.lives % len(MODES)]
        backend = BACKENDS[self.lives // len(MODES) % len(BACKENDS)]
        environment = dict(os.environ, STORE_IO=backend)
        self.turns[f"{mode}/{backend}"] += 1
        self.lives += 1
        self.load(mode, environment)
        while self.random.random() < 0.35:
            self.recover(mode, environment)
        self.verify(mode, environment)

    def fresh(self):
        for path in self.files():
            if os.path.exists(path):
                os.remove(path)

    def keep(self, what):
        kept = os.path.join(self.directory, f"violation-{self.seed}-{self.violations}")
        shutil.rmtree(kept, ignore_errors=True)
        os.makedirs(kept)
        for path in self.files():
            if os.path.exists(path):
                subprocess.run(["cp", "--sparse=always", path, kept], check=True)
        with open(os.path.join(kept, "what.txt"), "w") as file:
            file.write(what + "\n")
        return kept

    def run(self, kills):
        self.fresh()
        while sum(self.killed.values()) < kills:
            if self.lives % LIVES_PER_FILE == 0:
                self.fresh()
            try:
                self.life()
            except Violation as violation:
                self.violations += 1
                what = f"life {self.lives} of seed {self.seed}: {violation}"
                print(what, flush=True)
                print(f"kept in {self.keep(what)}; replay with --seed {self.seed}", flush=True)
                if self.violations >= MAX_KEPT:
                    break
                self.fresh()
        self.fresh()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--directory", required=True, help="where the store lies meanwhile; made if it is missing")
    parser.add_argument("--worker", required=True)
    options = parser.parse_args()
    os.makedirs(options.directory, exist_ok=True)
    print(f"seed {options.seed} in {options.directory}", flush=True)
    crash = Crash(options.worker, options.directory, options.seed)
    crash.run(options.kills)
    for title, counter in (("killed while", crash.killed), ("lives", crash.turns)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counter.items())))
    print(f"log records replayed by verifications: {crash.replayed}")
    print(f"kills={sum(crash.killed.values())} operations={crash.operations} violations={crash.violations}")
    sys.exit(1 if crash.violations else 0)


if __name__ == "__main__":
    main()
