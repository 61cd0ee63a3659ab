"""The ABI of libstore.so against the recorded one, by libabigail. Every difference fails: what was added is to be recorded as well.

libabigail reads debug information, which a release has not, and of which that of the engine would drown the calls. So it reads that of a stub: the header's
calls without what they do, under the library's name, compiled as C. That the library has these very calls is what the compiler and
tests/unit/capi/exports_test.py see to.

Arguments: the library, the folder of the public headers, the version script, the record; `--record` before them writes the record instead.
"""
import re
import subprocess
import sys
import tempfile

BROKEN = 8  # the bit of abidiff's exit code: a call is gone; of other changes it cannot know


def describe(library, headers, script, out):
    """Writes what there is now; nothing in it tells where it was built."""
    soname = re.search(r"SONAME +(\S+)", subprocess.run(["objdump", "-p", library], check=True, capture_output=True, text=True).stdout)[1]
    with open(headers + "/store/store.h") as header:
        stub, calls = re.subn(r"\) STORE_NOEXCEPT;", ") {}", header.read())
    if calls < 40:
        sys.exit(f"only {calls} calls were found in store.h")
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/stub.c", "w") as file:
            file.write(stub)
        subprocess.run(["gcc", "-std=c99", "-shared", "-fPIC", "-g", "-w", "stub.c", "-o", "stub.so", f"-Wl,-soname,{soname}",
                        f"-Wl,--version-script={script}"], check=True, cwd=folder)
        subprocess.run(["abidw", "--no-show-locs", "--no-corpus-path", "--no-comp-dir-path", "--no-elf-needed", "--out-file", out, folder + "/stub.so"],
                       check=True)


def compare(library, headers, script, record):
    with tempfile.NamedTemporaryFile(suffix=".abi") as now:
        describe(library, headers, script, now.name)
        done = subprocess.run(["abidiff", record, now.name], capture_output=True, text=True)
    if done.returncode == 0:
        return
    print(done.stdout + done.stderr)
    if done.returncode & BROKEN:
        sys.exit("programs that were linked with libstore.so before would break: undo it, or make it a new major version (docs/packaging.md)")
    sys.exit("the ABI differs from its record; if that is meant and breaks nobody: ninja -C build/gcc record_abi (docs/packaging.md)")


if sys.argv[1] == "--record":
    describe(*sys.argv[2:])
else:
    compare(*sys.argv[1:])
