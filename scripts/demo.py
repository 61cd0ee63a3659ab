#!/usr/bin/env python3
"""Puts this machine's Debian package index into a store, reads it back from the reopened file and compares all of it.

Usage: demo.py TOOL, where TOOL is the built program `store`. Run by `./dev demo`. The key is the package's name, the
value its whole stanza; of several stanzas with one name the last stays. The store is left in build/demo to play with.
"""
import os
import re
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "demo"
ASKED = ["bash", "coreutils", "g++", "linux-image-amd64", "python3"]
PREFIX = "libstdc++"


def read_index():
    index = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True).stdout
    if index.count(b"\nPackage: ") < 1000:
        print("    the package index is empty: apt-get update")
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*sudo, "apt-get", "update", "-qq"], check=True, stdin=subprocess.DEVNULL)
        index = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True).stdout
    records = {}
    for stanza in index.split(b"\n\n"):
        match = re.search(rb"(?m)^Package: (\S+)$", stanza)
        if match:
            records[match[1]] = stanza.strip(b"\n") + b"\n"
    if not records:
        sys.exit("demo: apt-cache dumpavail gives no packages")
    return records


ESCAPES = {b"\\": rb"\\", b"\t": rb"\t", b"\n": rb"\n", b"\r": rb"\r"}
UNESCAPES = {short: byte for byte, short in ESCAPES.items()}


def escape(field):
    return re.sub(rb"[\\\t\n\r]", lambda match: ESCAPES[match[0]], field)


def unescape(field):
    def byte_of(match):
        return UNESCAPES.get(match[0]) or bytes([int(match[0][2:], 16)])
    return re.sub(rb"\\(?:x[0-9a-fA-F]{2}|.)", byte_of, field, flags=re.S)


def main():
    tool = sys.argv[1]
    records = read_index()
    FOLDER.mkdir(parents=True, exist_ok=True)
    tsv, store = FOLDER / "packages.tsv", FOLDER / "packages.store"
    tsv.write_bytes(b"".join(escape(name) + b"\t" + escape(stanza) + b"\n" for name, stanza in records.items()))
    store.unlink(missing_ok=True)

    def run(*arguments):
        done = subprocess.run([tool, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"demo: store {' '.join(map(str, arguments))} ended with {done.returncode}")
        return done.stdout

    def timed(*arguments):
        start = time.monotonic()
        out = run(*arguments)
        return out, time.monotonic() - start

    size = sum(len(name) + len(stanza) for name, stanza in records.items())
    longer = sum(len(stanza) > 1024 for stanza in records.values())
    print(f"    {len(records)} packages, {size} bytes of names and stanzas, {longer} stanzas over 1 KiB")

    _, seconds = timed("load", store, tsv)
    print(f"    load: {seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s, {len(records) / seconds:.0f} records/s")

    for name in [name for name in ASKED if name.encode() in records]:
        if run("get", store, name) != records[name.encode()]:
            sys.exit(f"demo: get {name} gave another value than was loaded")
        print(f"    get {name}: {len(records[name.encode()])} bytes, as loaded")

    found = run("scan", store, "--prefix", PREFIX, "--keys").split()
    expected = sorted(name for name in records if name.startswith(PREFIX.encode()))
    if found != expected:
        sys.exit(f"demo: scan --prefix {PREFIX} gave {len(found)} keys, expected {len(expected)}")
    print(f"    scan --prefix {PREFIX}: {len(found)} packages, {found[0].decode()} first" if found else
          f"    scan --prefix {PREFIX}: no packages, as expected")

    dumped, seconds = timed("dump", store)
    rows = [line.split(b"\t") for line in dumped.split(b"\n")[:-1]]
    reread = [(unescape(key), unescape(value)) for key, value in rows]
    if reread != sorted(records.items()):
        sys.exit("demo: the reopened store does not hold what was loaded")
    print(f"    dump of the reopened file: {seconds:.2f} s, all {len(reread)} records as in the source, in order")

    checked, seconds = timed("check", store)
    print(f"    check: {seconds:.2f} s, {checked.decode().strip()}")
    print(f"    file: {store.stat().st_size} bytes, {store.stat().st_size / size:.2f} times its records, {store}")
    tsv.unlink()


if __name__ == "__main__":
    main()
