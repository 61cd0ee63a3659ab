"""Writes what compare.py measured: compare.json with everything, compare.md for docs/benchmarks.md, and a plot for each scenario."""
import json
import os
import statistics
from html import escape

COLOURS = {"store": "#1b6ca8", "lmdb": "#8aa84f", "rocksdb": "#c77d3a", "wiredtiger": "#8e6bbf", "": "#777777"}
MIB = 1 << 20


def own_arguments(words):
    """Without the arguments that `./dev bench compare` adds."""
    kept = []
    skip = False
    for word in words:
        if not skip and word not in ("--programs", "--output", "--directory"):
            kept.append(word)
        skip = not skip and word in ("--programs", "--output", "--directory")
    return " ".join(kept)


def number(value):
    """To three digits, with a k or M."""
    if value is None:
        return ""
    for limit, unit in ((1e6, " M"), (1e3, " k"), (1, "")):
        if abs(value) >= 0.9995 * limit:
            part = value / limit
            return f"{part:.{2 if abs(part) < 9.995 else 1 if abs(part) < 99.95 else 0}f}{unit}"
    return f"{value:.3g}"


def microseconds(value):
    """Of a latency: as it is, or in ms or s where it is long."""
    for limit, unit in ((1e6, " s"), (1e3, " ms")):
        if value and value >= limit:
            return number(value / limit) + unit
    return number(value) if value else ""


def verdict_line(verdict):
    return ": ".join(part for part in (verdict["text"], number(verdict["value"]), verdict["verdict"]) if part)


def names_of(entry):
    names = []
    for results in entry["rounds"]:
        names += [name for name in results if name not in names]
    order = {name: i for i, name in enumerate(sorted(names, key=lambda n: (n != "store", n)))}
    return sorted(names, key=order.get)


def medians(entry, name):
    """A contender's result with the medians of its figures over the rounds, the maxima of what is a maximum."""
    results = [results[name] for results in entry["rounds"] if name in results]

    def merge(values, key=""):
        first = values[0]
        if isinstance(first, dict):
            return {k: merge([v[k] for v in values if k in v], k) for k in first}
        if isinstance(first, (int, float)) and not isinstance(first, bool):
            return max(values) if key.startswith(("max", "longest", "resident_most")) else statistics.median(values)
        return first
    return merge([{k: v for k, v in result.items() if k != "contender"} for result in results])


def latencies(result):
    for kind in ("reads", "writes", "at_rest"):
        if result.get(kind, {}).get("count"):
            yield kind, result[kind]


def table(entry):
    lines = ["| | rate, 1/s | CPU, us | latency, us: | p50 | p99 | p99.9 | p99.99 | max | resident, MiB | written / put | file, MB |",
             "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for name in names_of(entry):
        result = medians(entry, name)
        written = result["written_bytes"] / result["put_bytes"] if result.get("put_bytes") else None
        resident = result.get("resident_most_bytes")
        cells = [name, number(result["rate"]), number(result.get("cpu_us_per_operation"))]
        more = [number(resident / MIB if resident else None), number(written), number(result["file_bytes"] / 1e6 if "file_bytes" in result else None)]
        kinds = list(latencies(result)) or [("", {})]
        for i, (kind, latency) in enumerate(kinds):
            figures = [microseconds(latency.get(f"{p}_us")) for p in ("p50", "p99", "p99.9", "p99.99", "max")]
            row = (cells if i == 0 else ["", "", ""]) + [kind.replace("_", " "), *figures] + (more if i == 0 else ["", "", ""])
            lines.append("| " + " | ".join(row) + " |")
    return lines


def section(entry):
    lines = [f"### {entry['title']}", ""]
    limit = f" All in one memory cgroup of {entry['limited_bytes'] // MIB} MiB each." if entry["limited_bytes"] else ""
    count = len(entry["rounds"])
    lines += [f"`{entry['name']}`. {entry['note']}{limit} {count} round{'s' if count != 1 else ''}.", ""]
    if entry.get("left_out"):
        return lines + [f"Left out: {entry['left_out']}.", ""]
    lines += table(entry) + [""]
    if entry["targets"]:
        lines += ["| target | reached | |", "|---|--:|---|"]
        for verdict in entry["targets"]:
            lines.append(f"| {verdict['text']} | {number(verdict['value'])} | {verdict['verdict']} |")
        lines.append("")
    for name, reason in entry["failures"].items():
        lines += [f"{name}: {reason}.", ""]
    return lines


def configurations(entry):
    lines = []
    for name in names_of(entry):
        result = next(results[name] for results in entry["rounds"] if name in results)
        taken = "".join(f", {key} {value}" for key, value in result.get("taken", {}).items() if value != "")
        counters = {k: v for k, v in medians(entry, name).get("counters", {}).items() if v}
        counted = "; " + ", ".join(f"{key} {value:.6g}" for key, value in counters.items()) if counters else ""
        lines.append(f"* {name}: {result.get('configuration', '')}{taken}{counted}")
    return lines


def markdown(about, entries):
    lines = [f"Measured on {about['date']} with `{about['command']}`: {about['processors']}, {about['memory_mib']} MiB, {about['kernel']}, "
             f"{about['file_system']}; load average {about['load_average_at_start']:.1f} at the start. Medians over the rounds, "
             "for targets of the ratios within a round.", "", "| scenario | target | reached | |", "|---|---|--:|---|"]
    for entry in entries:
        for verdict in entry["targets"]:
            if verdict["want"] is not None:
                lines.append(f"| `{entry['name']}` | {verdict['text']} | {number(verdict['value'])} | {verdict['verdict']} |")
    lines.append("")
    for entry in entries:
        lines += section(entry)
    lines += ["### Configurations", ""]
    for entry in entries:
        if entry["rounds"]:
            lines += [f"`{entry['name']}`:", "", *configurations(entry), ""]
    return "\n".join(lines)


def svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n')


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words)}</text>'


def bars(entry):
    """The medians of the rates, with the least and the largest of the rounds."""
    names = names_of(entry)
    rates = {name: [results[name]["rate"] for results in entry["rounds"] if name in results] for name in names}
    scale = 420 / max(max(values) for values in rates.values())
    body = [text(10, 20, f"{entry['title']}: operations a second")]
    for i, name in enumerate(names):
        y = 34 + 24 * i
        engine = next(results[name]["contender"].engine for results in entry["rounds"] if name in results)
        middle = statistics.median(rates[name])
        body.append(text(170, y + 13, name, "end"))
        body.append(f'<rect x="180" y="{y}" width="{middle * scale:.1f}" height="18" fill="{COLOURS[engine]}"/>')
        body.append(f'<path d="M{180 + min(rates[name]) * scale:.1f} {y + 9} H{180 + max(rates[name]) * scale:.1f}" stroke="black"/>')
        body.append(text(188 + max(rates[name]) * scale, y + 13, number(middle)))
    return svg(680, 44 + 24 * len(names), body)


def over_time(entry):
    """The rates of the first round, second by second."""
    series = {name: result["each_second"] for name, result in entry["rounds"][0].items() if len(result.get("each_second", [])) > 1}
    if not series:
        return None
    most = max(max(values) for values in series.values()) or 1
    longest = max(len(values) for values in series.values())
    body = [text(10, 20, f"{entry['title']}: operations in each second, up to {number(most)}")]
    for i, (name, values) in enumerate(sorted(series.items())):
        colour = COLOURS[entry["rounds"][0][name]["contender"].engine]
        points = " ".join(f"{40 + 600 * at / (longest - 1):.1f},{230 - 190 * value / most:.1f}" for at, value in enumerate(values))
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        body.append(f'<text x="{40 + 150 * i}" y="252" fill="{colour}">{escape(name)}</text>')
    body.append('<path d="M40 40 V230 H640" fill="none" stroke="black"/>')
    return svg(680, 264, body)


def write(folder, about, entries):
    for entry in entries:
        if any(entry["rounds"]):
            plots = {entry["name"]: bars(entry)}
            if entry["name"].endswith("sustained"):
                plots[entry["name"] + "-seconds"] = over_time(entry)
            for name, plot in plots.items():
                if plot:
                    with open(os.path.join(folder, f"compare-{name}.svg"), "w") as file:
                        file.write(plot)
    with open(os.path.join(folder, "compare.md"), "w") as file:
        file.write(markdown(about, entries))
    plain = {"about": about, "scenarios": entries}
    with open(os.path.join(folder, "compare.json"), "w") as file:
        json.dump(plain, file, indent=1, default=lambda value: value.name)
