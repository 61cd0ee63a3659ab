#!/usr/bin/env python3
"""libstore.so exports the calls that its header declares, in the version node STORE_0, and nothing else.

Arguments: the library and the header.
"""
import re
import subprocess
import sys

library, header = sys.argv[1:]
declared = set(re.findall(r"STORE_API [^;(]*?\b(store_\w+)\(", open(header).read()))
listing = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
exported = {line.split()[-1] for line in listing.splitlines()} - {"STORE_0"}  # the node itself
want = {name + "@@STORE_0" for name in declared}
if len(declared) < 40 or exported != want:
    sys.exit(f"{len(declared)} calls are declared; exported besides: {sorted(exported - want)}; "
             f"not exported: {sorted(want - exported)}")
