"""Gets of keys in memory from Python, beside python3-lmdb's in one long read transaction: 1,000,000 keys of 16 bytes with values of 100 bytes, in
random order. The parts of a round alternate; medians of the rounds are told.

`./dev bench python [--rounds N] [--seconds N] [--directory DIR]`
"""
import argparse
import hashlib
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lmdb
import store

KEYS = 1_000_000
AT_ONCE = 10_000  # gets between two looks at the clock
TARGET = 1.0


def key_of(number):
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).hexdigest().encode()


def rate(get, keys, seconds):
    """Calls of `get` a second."""
    done, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        at = done % len(keys)
        for key in keys[at:at + AT_ONCE]:
            get(key)
        done += AT_ONCE
    return done / elapsed


def run(folder, rounds, seconds):
    draw = random.Random(1)
    text = draw.randbytes(1 << 16)
    keys = [key_of(number) for number in range(KEYS)]
    with store.open(folder / "store", cache_bytes=512 << 20, wal="none") as db, \
            lmdb.open(str(folder / "lmdb"), map_size=4 << 30, sync=False) as peer:
        with peer.begin(write=True) as transaction:
            for number, key in enumerate(keys):
                value = text[number % 65000:][:100]
                db.put(key, value)
                transaction.put(key, value)
        db.flush()
        for _ in db.scan():  # everything is in the cache
            pass
        draw.shuffle(keys)
        rates = {"store": [], "lmdb": []}
        with peer.begin() as transaction:
            if any(db.get(key) != transaction.get(key) for key in keys[:1000]):
                sys.exit("the stores differ")
            for _ in range(rounds):
                rates["lmdb"].append(rate(transaction.get, keys, seconds))
                rates["store"].append(rate(db.get, keys, seconds))
    ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["store"], rates["lmdb"]))
    print(f"get threads=1 store={statistics.median(rates['store']) / 1e6:.2f} M/s lmdb={statistics.median(rates['lmdb']) / 1e6:.2f} M/s "
          f"ratio={ratio:.3f} target={TARGET} {'ok' if ratio >= TARGET else 'MISSED'}")


def main():
    parser = argparse.ArgumentParser(description="Gets from Python beside python3-lmdb")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each part")
    parser.add_argument("--directory", type=Path, help="where the stores lie")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        run(folder, options.rounds, options.seconds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
