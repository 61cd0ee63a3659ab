#!/usr/bin/env python3
"""Checks what a compiler does not see. Each check yields "place: what is wrong"; any finding fails the run.

Run by `./dev lint`.
"""
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

TOP = Path(__file__).resolve().parent.parent


def files_of_tree():
    """Every file but those that a build leaves behind; asks no git, which may be missing or refuse another user's tree."""
    found = []
    for folder, folders, names in os.walk(TOP):
        folders[:] = [f for f in folders if f not in (".git", "build", "out", "__pycache__")]
        found += [str((Path(folder) / name).relative_to(TOP)) for name in names if name != ".git"]
    return sorted(found)


FILES = files_of_tree()
TEXT = {}


def text(name):
    if name not in TEXT:
        TEXT[name] = (TOP / name).read_text(errors="replace")
    return TEXT[name]


def select(*suffixes, under=""):
    return [f for f in FILES if f.endswith(suffixes) and f.startswith(under)]


def numbered(name):
    return enumerate(text(name).splitlines(), 1)


def read_layers():
    """cmake/layers.txt as {layer: (paths, layers it may include)}, lowest first."""
    layers = {}
    for line in text("cmake/layers.txt").splitlines():
        match = re.match(r"([a-z]+): *([^|]*?) *\|(.*)$", line)
        if match:
            layers[match[1]] = (match[2].split(), match[3].split())
    return layers


LAYERS = read_layers()


def layer_of(name):
    """The layer that owns a file: the one with the longest matching path. None outside of the layers."""
    best, owner = -1, None
    for layer, (paths, _) in LAYERS.items():
        for path in paths:
            if (name == path or name.startswith(path + "/")) and len(path) > best:
                best, owner = len(path), layer
    return owner


INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')
KNOWN = set(FILES)


def project_includes(name):
    """(line number, file of this tree) for every include that names one."""
    for number, line in numbered(name):
        match = INCLUDE.match(line)
        if not match:
            continue
        for root in ("include/", "src/", "tests/", "", str(PurePosixPath(name).parent) + "/"):
            if root + match[1] in KNOWN:
                yield number, root + match[1]
                break


def check_layers():
    for layer, (_, allowed) in LAYERS.items():
        before = list(LAYERS)[:list(LAYERS).index(layer)]
        for name in allowed:
            if name not in before:
                yield f"cmake/layers.txt: {layer} may include {name}, which is not below it"
    for name in select(".cpp", ".hpp", ".h"):
        layer = layer_of(name)
        if name.startswith(("src/", "include/")) and layer is None:
            yield f"{name}: belongs to no layer of cmake/layers.txt"
        if name.startswith("tests/unit/"):
            layer = name.split("/")[2]
        for number, target in project_includes(name):
            other = layer_of(target)
            if layer and other and other != layer and other not in LAYERS[layer][1]:
                yield f"{name}:{number}: layer {layer} must not include {target} of layer {other}"
            if name.startswith(("include/", "examples/")) and not target.startswith(("include/", "examples/")):
                yield f"{name}:{number}: a public header or example must not include {target}"


def check_sources_listed():
    for name in select(".c", ".cpp", "_test.py"):
        path = PurePosixPath(name)
        for parent in path.parents:
            lists = str(parent / "CMakeLists.txt")
            listed = str(path.relative_to(parent)).removesuffix(".py")  # a Python test is named with its class
            if lists in KNOWN and re.search(rf"(?m)^[^#\n]*(?<![\w./-]){re.escape(listed)}(?![\w-])", text(lists)):
                break
        else:
            what = "a test that is not built" if "_test." in name else "a source that is not built"
            yield f"{name}: {what}: no CMakeLists.txt names it"


def check_error_codes():
    enum = re.search(r"enum class Errc \{(.*?)\};", text("include/store/error.hpp"), re.S)[1]
    codes = re.findall(r"(?m)^\s*(\w+)(?: = \d+)?,", enum)
    for name in select(".md"):
        for number, line in numbered(name):
            for code in re.findall(r"Errc::(\w+)", line):
                if code not in codes:
                    yield f"{name}:{number}: there is no Errc::{code}"
    if "docs/errors.md" in KNOWN:
        listed = re.findall(r"(?m)^\| `([a-z_]+)`", text("docs/errors.md"))
        if listed != codes:
            yield f"docs/errors.md: lists {listed}, include/store/error.hpp has {codes}"


def check_c_api():
    """include/store/store.h has the codes of store::Errc and two more."""
    errc = re.search(r"enum class Errc \{(.*?)\};", text("include/store/error.hpp"), re.S)[1]
    want = re.findall(r"(?m)^\s*(\w+)(?: = \d+)?,", errc) + ["out_of_memory", "unknown"]
    codes = [name.lower() for name in re.findall(r"(?m)^\s*STORE_ERROR_(\w+) = ", text("include/store/store.h"))]
    if codes != want:
        yield f"include/store/store.h: has the errors {codes}, store::Errc and two more are {want}"


def check_metrics():
    """src/store/base/metrics.cpp names all numbers and histograms of store::Stats, and docs/metrics.md says of them what it says."""
    stats = re.search(r"struct Stats \{(.*?)\n\};", text("include/store/stats.hpp"), re.S)[1]
    want = re.findall(r"(?m)^\s*std::uint64_t (\w+) = 0;", stats)
    named = re.findall(r'\{"(\w+)", &Stats::(\w+), Kind::', text("src/store/base/metrics.cpp"))
    if named != [(name, name) for name in want]:
        yield f"src/store/base/metrics.cpp: names the statistics {named}, store::Stats has {want}"
    want = re.findall(r"(?m)^\s*LatencyHistogram (\w+);", stats)
    source = text("src/store/base/metrics.cpp")
    latencies = re.findall(r'\{"(\w+)", &Stats::(\w+),\s*("[^"]*")\}', source)
    if [(name, member) for name, member, _ in latencies] != [(name, name) for name in want]:
        yield f"src/store/base/metrics.cpp: names the histograms {latencies}, store::Stats has {want}"
    if re.findall(r"STORE_FIGURES\((\w+)\)", source)[1:] != want:
        yield f"src/store/base/metrics.cpp: has no figures of some of the histograms {want}"
    numbers = re.findall(r'\{"(\w+)", &Stats::\w+, Kind::(\w+),\s*"([^"]*)"\}', source)
    rows = [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in numbers]
    rows += [f"| `{name}` | {meaning[1:-1]} |" for name, _, meaning in latencies]
    listed = re.findall(r"(?m)^\| `\w+` \|.*$", text("docs/metrics.md"))
    if listed != rows:
        odd = [row for row in listed + rows if (row in listed) != (row in rows)]
        yield f"docs/metrics.md: differs from src/store/base/metrics.cpp in {odd or 'the order of its rows'}"


def check_changelog():
    """The newest part of CHANGELOG.md is about the version that CMakeLists.txt has."""
    version = re.search(r"project\(store VERSION (\S+)", text("CMakeLists.txt"))[1]
    newest = re.search(r"(?m)^## \[(.*?)\]", text("CHANGELOG.md"))
    if not newest or newest[1] != version:
        yield f"CHANGELOG.md: its newest part is not about {version}, the version in CMakeLists.txt"


def check_probes():
    """docs/probes.md lists the probes of the code, each with as many arguments."""
    placed = {}
    for name in select(".cpp", ".hpp", under="src/"):
        for probe, arguments in re.findall(r"(?<!define )STORE_PROBE\((\w+), ([^;]*)\);", text(name)):
            count = 1 + re.sub(r"\([^()]*\)", "", arguments).count(",")
            if placed.setdefault(probe, count) != count:
                yield f"{name}: the probe {probe} has {count} arguments here and {placed[probe]} elsewhere"
    listed = {probe: 1 + arguments.count(",") for probe, arguments in re.findall(r"(?m)^\| `(\w+)` \| ([^|]*) \|", text("docs/probes.md"))}
    if listed != placed:
        odd = sorted(probe for probe in {*listed, *placed} if listed.get(probe) != placed.get(probe))
        yield f"docs/probes.md: differs from the code in {odd}"


def check_docs():
    for name in select(".md"):
        for number, line in numbered(name):
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", line):
                if not re.match(r"[a-z]+:", target) and not (TOP / name).parent.joinpath(target).exists():
                    yield f"{name}:{number}: the link to {target} leads nowhere"
            for path in re.findall(r"`((?:include|src|tests|tools|bench|examples|docs|cmake|scripts|python)/[\w./-]+)`", line):
                if not (TOP / path).exists():
                    yield f"{name}:{number}: there is no {path}"
            for header in re.findall(r"`<?((?:store|monterey)/[\w/]+\.hp?p?)>?`", line):
                if f"include/{header}" not in KNOWN:
                    yield f"{name}:{number}: there is no header {header}"
    for name in select(".md", under="docs/"):
        if f"({name})" not in text("README.md"):
            yield f"README.md: has no link to {name}"
    for row in re.findall(r"(?m)^\| `.*\|$", text("README.md")):
        if row not in text("docs/benchmarks.md"):
            yield f"README.md: docs/benchmarks.md has other figures: {row}"
    benches = re.findall(r"\$\{1-\} == (\w+) ", text("dev")[text("dev").index("verb_bench()"):text("dev").index("verb_nvme()")])
    listed = re.findall(r"(?m)^\| `\./dev bench (\w+)` \|", text("docs/benchmarks.md"))
    if sorted(benches) != sorted(listed):
        yield f"docs/benchmarks.md: lists the benchmarks {sorted(listed)}, dev has {sorted(benches)}"
    block = re.search(r"```cpp\n(.*?)```", text("README.md"), re.S)
    if not block or block[1] != text("examples/basic.cpp"):
        yield "README.md: the first C++ block is not examples/basic.cpp"
    block = re.search(r"```c\n(.*?)```", text("docs/c.md"), re.S)
    if not block or block[1] != text("examples/c_api.c"):
        yield "docs/c.md: the first C block is not examples/c_api.c"
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*\| ([^|]*) \|$", text("docs/architecture.md"))
    want = [(layer, " ".join(allowed) or "nothing") for layer, (_, allowed) in LAYERS.items()]
    if rows != want:
        yield f"docs/architecture.md: the table of layers differs from cmake/layers.txt: {rows} and {want}"


# Spelled so that this file does not find itself.
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|root|home/\w|tmp/plan|mnt)" r"/")


def check_marks():
    for name in FILES:
        if name.endswith((".bin", ".png", ".gz")):
            continue
        for number, line in numbered(name):
            if MARKS.search(line):
                yield f"{name}:{number}: a mark for later: {line.strip()}"
            if MACHINE_PATHS.search(line):
                yield f"{name}:{number}: a path of one machine: {line.strip()}"
            if line != line.rstrip() and not name.endswith((".md", ".txt")) and "LICENSE" not in name:
                yield f"{name}:{number}: space at the end of the line"


def check_awaits():
    """g++ 12 miscompiles an await of a conditional expression (docs/decisions.md)."""
    for name in select(".cpp", ".hpp"):
        for match in re.finditer(r"co_await\s*\([^;{}]*\?[^;{}]*:", text(name)):
            yield f"{name}:{text(name).count(chr(10), 0, match.start()) + 1}: an await of a conditional expression"


def check_format():
    sources = select(".c", ".h", ".cpp", ".hpp")
    run = subprocess.run(["clang-format-14", "--dry-run", "-Werror", *sources],
                         cwd=TOP, capture_output=True, text=True)
    seen = set()
    for line in run.stderr.splitlines():
        match = re.match(r"([^:]+):(\d+):\d+: error: ", line)
        if match and match[1] not in seen:
            seen.add(match[1])
            yield f"{match[1]}:{match[2]}: not as clang-format 14 writes it (./dev format)"
    if run.returncode and not seen:
        yield f"clang-format-14 failed: {run.stderr.strip()[:300]}"


def main():
    findings = [finding for check in (check_layers, check_sources_listed, check_error_codes, check_c_api, check_metrics, check_probes, check_changelog, check_docs, check_marks, check_awaits,
                                      check_format) for finding in check()]
    for finding in findings:
        print(finding, file=sys.stderr)
    if findings:
        sys.exit(f"lint: {len(findings)} findings")
    print(f"    {len(FILES)} files are clean")


if __name__ == "__main__":
    main()
