"""The scenarios of compare.py: what runs against what, on which store, and the targets. Nothing here runs anything.

A scenario's contenders take turns in every round. A target is computed from the results of one round; the median over the rounds
is held against what is wanted (of a worst case, the worst round).
"""
import statistics
from dataclasses import dataclass, field, replace
from typing import Callable

MIB = 1 << 20
PEERS = ("lmdb", "rocksdb", "wiredtiger")
ENGINES = ("store", *PEERS)
NAMES = {"store": "store", "lmdb": "LMDB", "rocksdb": "RocksDB", "wiredtiger": "WiredTiger"}
ROCKSDB_LOGS = ("", "recycled", "recycled,pipelined", "pipelined")


@dataclass(frozen=True)
class Scale:
    """How large and how long."""
    name: str
    rounds: int
    seconds: float
    warm_up: float
    cached_keys: int
    cold_keys: int
    memory: int  # bytes, where it is short
    sustained: tuple  # seconds of warm-up and of measuring
    ycsb_records: int
    ycsb_cold_records: int
    value_store_bytes: int  # of each store of larger values
    load_seconds: float  # that a load of the slower peers may take
    trials: bool = False  # of a contender's variants; else the first is taken
    device: str = ""  # the character device of an NVMe namespace that may be read


QUICK = Scale("quick", rounds=1, seconds=0.5, warm_up=0.2, cached_keys=300_000, cold_keys=2_000_000, memory=64 * MIB, sustained=(1, 3),
              ycsb_records=50_000, ycsb_cold_records=400_000, value_store_bytes=192 * MIB, load_seconds=3)
FULL = Scale("full", rounds=5, seconds=5, warm_up=2, cached_keys=1_000_000, cold_keys=16_000_000, memory=256 * MIB, sustained=(120, 180),
             ycsb_records=1_000_000, ycsb_cold_records=2_000_000, value_store_bytes=2048 * MIB, load_seconds=600, trials=True)
# For the test of the apparatus itself.
TINY = Scale("tiny", rounds=1, seconds=0.2, warm_up=0.05, cached_keys=3000, cold_keys=5000, memory=40 * MIB, sustained=(0.1, 0.2),
             ycsb_records=1000, ycsb_cold_records=1000, value_store_bytes=2 * MIB, load_seconds=5)


@dataclass(frozen=True)
class Data:
    """A store that is loaded once for each engine, before the first scenario that needs it."""
    name: str
    keys: int
    value_bytes: int = 100
    order: str = "random"
    copy_of: str = ""  # a copy of that one: for scenarios that change it


@dataclass(frozen=True)
class Contender:
    """kind: run or load (an engine), fio, ladder. Of several variants the fastest in a trial before the rounds is taken, and where the
    scale has no trials the first."""
    name: str
    kind: str = "run"
    engine: str = ""
    options: dict = field(default_factory=dict)
    variants: tuple = ()

    def is_peer(self):
        return self.engine in PEERS


@dataclass(frozen=True)
class Target:
    """Without a want it is a fact that is only told."""
    text: str
    want: float | None
    value: Callable  # of a round: {contender: result}
    at_most: bool = False
    over: Callable = statistics.median

    def verdict(self, value):
        if self.want is None:
            return ""
        return "reached" if (value <= self.want if self.at_most else value >= self.want) else "missed"


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    contenders: tuple
    targets: tuple
    data: Data | None = None
    note: str = ""
    limited: int = 0  # bytes of the memory cgroup
    rounds: int = 0   # 0: the scale's
    seconds: float = 0
    warm_up: float = -1


def rate(result):
    return result["rate"]


def best(round_):
    """The result of the fastest peer of a round, of those that do what the store does."""
    return max((result for name, result in round_.items() if result["contender"].is_peer() and "(" not in name), key=rate)


def times(want, theirs, ours="store"):
    return Target(f"{ours} at least {want:g} x {theirs}", want, lambda r: rate(r[ours]) / rate(r[theirs]))


def times_best(want, ours="store"):
    return Target(f"{ours} at least {want:g} x the best peer", want, lambda r: rate(r[ours]) / rate(best(r)))


def share_of_fio(want, ours="store", device="fio"):
    return Target(f"{ours} at least {want:.0%} of {device}", want, lambda r: rate(r[ours]) / rate(r[device]))


def within_budget():
    def excess(r):
        return (r["store"]["resident_most_bytes"] - r["store"]["budget_bytes"]) / MIB
    return Target("resident memory above the configured budget at most 32 MiB", 32, excess, at_most=True, over=max)


def engine(name, workload, label="", variants=(), **options):
    return Contender(f"{NAMES[name]}{f' ({label})' if label else ''}", "run", name, {"workload": workload, **options}, variants)


def all_engines(workload, label="", peers=PEERS, **options):
    return tuple(engine(name, workload, label, **options) for name in ("store", *peers))


def fio(label="", **options):
    return Contender(f"fio{f' {label}' if label else ''}", "fio", options=options)


def threads(*counts):
    return tuple({"clients": count} for count in counts)


def read_only(memory):
    """Of the store where only reads happen: as little as it takes for write buffers, and the rest for the cache."""
    return {"write-buffer": min(MIB, memory // 64)}


def large_buffers(memory):
    """Of the store where nothing is read: two write buffers, and what is left for the cache."""
    return {"write-buffer": memory * 5 // 16}


def cached(scale):
    data = Data("cached", scale.cached_keys)
    written = replace(data, name="cached-written", copy_of="cached")
    common = {"memory": 512 * MIB, "warm": True, "sample": 16}
    yield Scenario(
        "cached-get", "Cached get", (*all_engines("get", **common), *all_engines("get_pinned", "pinned", **common),
                                     engine("store", "get_into", "get_into", **common)),
        (times(2, "LMDB"), times(5, "RocksDB")), data,
        "One key at a time, one task or thread. The value is copied for the caller; (pinned) is looked at where it lies. The store's get "
        "makes a new string, its get_into copies into memory of the caller's, as the peers do here.")
    yield Scenario(
        "cached-get-many", "Cached get_many(64)",
        tuple(engine(name, "get_many", batch=64, **common) for name in ENGINES),
        (times(4, "LMDB"), times(10, "RocksDB")), data,
        "64 keys at a time; RocksDB by MultiGet, the others one after the other. Rates count keys, latencies are of 64.")
    yield Scenario(
        "cached-absent", "Cached get of absent keys", all_engines("get_absent", **common), (times_best(1),), data,
        "Keys of the same length that lie between present ones.")
    yield Scenario(
        "cached-update", "Cached random update, not durable",
        (*all_engines("update", promise="none", **common), *all_engines("update", "batched", promise="batched", **common)),
        (times(4, "RocksDB"), times(4, "LMDB"), times(4, "RocksDB (batched)", "store (batched)")), written,
        "Flushes included. No log: WalMode::none beside RocksDB without a log, LMDB with MDB_NOSYNC and transactions of 10,000. (batched): a log "
        "that is synced behind the writes, beside RocksDB's and WiredTiger's that is not synced.",
        seconds=max(scale.seconds, 2) if scale.name != "tiny" else 0)
    beside = {**common, "clients": 2, "sample": 4}
    yield Scenario(
        "cached-get-beside-flush", "Cached get while a flush runs", all_engines("get_beside_flush", **beside),
        (Target("p50 at most 1.3 x that at rest", 1.3, lambda r: r["store"]["reads"]["p50_us"] / r["store"]["at_rest"]["p50_us"], at_most=True),
         Target("p99.9 at most 300 us", 300, lambda r: r["store"]["reads"]["p99.9_us"], at_most=True)), written,
        "One client gets; another puts 100,000, flushes and rests, in turn. The latencies are those of gets beside the flush, and at rest.",
        seconds=max(scale.seconds, 3) if scale.name != "tiny" else 0)


def reads_per_get(r):
    return r["store"]["counters"]["cache_misses"] / r["store"]["counters"]["gets"]


def short_of_memory(scale):
    cold = Data("cold", scale.cold_keys, order="sorted")
    reader = read_only(scale.memory)
    limit = {"data": cold, "limited": scale.memory}

    def peers(workload, counts):
        return tuple(engine(name, workload, variants=threads(*counts)) for name in PEERS)
    async_io = ({"tuning": "async_io"}, {"tuning": ""}, {"tuning": "buffered"})
    yield Scenario(
        "cold-get-128", "Random get, 128 in flight",
        (engine("store", "get", clients=128, **reader), engine("store", "get_many", "get_many", clients=2, batch=64, **reader),
         *peers("get", (32, 8, 64, 128)), engine("rocksdb", "get_many", "MultiGet", batch=64, variants=async_io),
         fio(rw="randread", block=4096, depth=128)),
        (share_of_fio(0.9), times_best(1),
         Target("CPU per get at most a third of the best peer's", 1 / 3, lambda r: r["store"]["cpu_us_per_operation"] / best(r)["cpu_us_per_operation"],
                at_most=True),
         times(8, "RocksDB (MultiGet)"), Target("reads per get", None, reads_per_get)),
        note="The store on one core with 128 tasks; peers with as many threads as they are fastest with; (MultiGet) and (get_many) are of 64 keys, "
        "MultiGet in one thread.", **limit)
    yield Scenario(
        "cold-get-1", "Random get, one at a time", (*(engine(name, "get", **(reader if name == "store" else {})) for name in ENGINES),
                                                    fio(rw="randread", block=4096)),
        (share_of_fio(0.95), Target("reads per get", None, reads_per_get)), warm_up=max(scale.warm_up, 3 * (scale.name == "full")), **limit)
    yield Scenario(
        "cold-get-small-cache", "Random get with a cache of 4 MiB, 128 in flight",
        (engine("store", "get", clients=128, cache=4 * MIB, **reader), fio(rw="randread", block=4096, depth=128)),
        (Target("store at least 90% of fio divided by its reads per get", 0.9, lambda r: rate(r["store"]) * reads_per_get(r) / rate(r["fio"])),
         Target("reads per get", None, reads_per_get)), **limit)
    written = {"data": replace(cold, name="cold-written", copy_of="cold"), "limited": scale.memory}
    large = large_buffers(scale.memory)
    yield Scenario(
        "update-sustained", "Random update, not durable",
        (engine("store", "update", promise="none", **large),
         engine("rocksdb", "update", promise="none", variants=(*threads(1, 2, 4), {"clients": 1, **large})),
         engine("lmdb", "update", promise="none"), fio(rw="randwrite", block=65536, depth=4)),
        (times(1, "RocksDB"), times(10, "LMDB"),
         Target("longest put, of 50 ms or twice fio's slowest write, the larger, at most 1", 1,
                lambda r: r["store"]["longest_write_us"] / max(50e3, 2 * r["fio"]["writes"]["max_us"]), at_most=True, over=max),
         Target("p99.9 of a put below RocksDB's", 1, lambda r: r["store"]["writes"]["p99.9_us"] / r["RocksDB"]["writes"]["p99.9_us"], at_most=True),
         Target("mean write of a flush, KiB", None,
                lambda r: 4 * r["store"]["counters"]["flush_pages_written"] / r["store"]["counters"]["flush_writes"]),
         Target("pages rewritten per put", None, lambda r: r["store"]["counters"]["flush_pages_written"] / r["store"]["counters"]["puts"])),
        note=f"{scale.sustained[0]:g} s that do not count, then {scale.sustained[1]:g} s that do. The longest put is that of both together. No log on either side; the "
        "store has two write buffers of five sixteenths of the memory, RocksDB those with which it is faster; "
        "LMDB with transactions of 10,000. fio: 64 KiB, four in flight.", warm_up=scale.sustained[0], seconds=scale.sustained[1], **written)
    yield Scenario(
        "mixed", "Half get, half update, zipfian",
        (engine("store", "mixed", promise="none", clients=64),
         *(engine(name, "mixed", promise="none", variants=threads(*((8, 32, 64) if name != "lmdb" else (1, 8, 32)))) for name in PEERS)),
        (times_best(2),), note="The store with 64 tasks; peers with as many threads as they are fastest with.", **written)


def durable(scale):
    data = Data("durable", scale.cached_keys, copy_of="cached")
    rounds = {"quick": 1, "full": 10, "tiny": 1}[scale.name]
    for writers, want in ((1, 1.4), (64, 8)):
        logs = tuple({"tuning": tuning} for tuning in ROCKSDB_LOGS)
        options = {"promise": "durable", "clients": writers, "memory": 512 * MIB}
        yield Scenario(
            f"durable-put-{writers}", f"Durable put, {writers} writer{'s' if writers > 1 else ''}",
            (*(engine(name, "update", variants=logs if name == "rocksdb" else (), **options) for name in ENGINES),
             fio(rw="write", block=4096, sync=True)),
            (times(want, "RocksDB"), Target("store beside one write and sync at a time of fio", None, lambda r: rate(r["store"]) / rate(r["fio"]))),
            data, "RocksDB with what makes its log fastest here, of recycled logs and pipelined writes. fio: 4 KiB and fdatasync.", rounds=rounds)


def load(name, workload, **options):
    return Contender(NAMES[name], "load", name, {"workload": workload, **options})


def open_time():
    return Target("opening the store, ms, which is not counted", None, lambda r: 1e3 * r["store"]["open_seconds"])


def loads(scale):
    data = Data("cold", scale.cold_keys, order="sorted")
    yield Scenario(
        "load-sorted", "Load in ascending order", tuple(load(name, "load_sorted", memory=256 * MIB) for name in ENGINES), (times(1.5, "LMDB"), open_time()), data,
        "Until it is durable: bulk_load, MDB_APPEND in transactions of 10,000 and a sync, SstFileWriter and IngestExternalFile, WiredTiger's bulk "
        "cursor and a checkpoint. Neither finding the order nor opening the engine is counted.")
    yield Scenario(
        "load-random", "Load in random order",
        tuple(load(name, "load_random", seconds=scale.load_seconds, **(large_buffers(scale.memory) if name == "store" else {})) for name in ENGINES),
        (times(1, "RocksDB"), open_time()), data,
        f"Until it is durable and, for RocksDB, compacted; after {scale.load_seconds:g} s no more is put. No log. The store has two write buffers of "
        "five sixteenths of the memory.", limited=scale.memory)


def ycsb(scale):
    """The core workloads A to F. Those that insert come last, so that the others find what was loaded."""
    cached_data = Data("ycsb", scale.ycsb_records, 1000)
    cold_data = Data("ycsb-cold", scale.ycsb_cold_records, 1000)
    fits = {"memory": max(512 * MIB, 3000 * scale.ycsb_records), "promise": "batched"}
    note = "1,000 bytes a record. Every value that is read is checked whole. Logs are written and not waited for."
    yield Scenario("ycsb-load", "YCSB load", tuple(load(name, "load_random", **fits) for name in ENGINES), (times_best(1), open_time()), cached_data, note)
    for letter in "cbafed":
        yield Scenario(
            f"ycsb-{letter}", f"YCSB {letter.upper()}, cached",
            tuple(engine(name, f"ycsb_{letter}", warm=True, variants=threads(1, 2, 4) if name != "store" else (), **fits) for name in ENGINES),
            (times_best(1), Target("values checked", None, lambda r: r["store"]["checked"], over=sum)), cached_data, note)
    yield Scenario("ycsb-load-cold", "YCSB load, 8 times the memory",
                   tuple(load(name, "load_random", promise="batched", seconds=scale.load_seconds) for name in ENGINES), (times_best(1), open_time()), cold_data,
                   f"{note} Stopped after {scale.load_seconds:g} s.", limited=scale.memory)
    for letter in "cbafed":
        yield Scenario(
            f"ycsb-{letter}-cold", f"YCSB {letter.upper()}, data 8 times the memory",
            tuple(engine(name, f"ycsb_{letter}", promise="batched", **({"clients": 64} if name == "store" else {}),
                         variants=threads(8, 32, 64) if name != "store" else ()) for name in ENGINES),
            (times_best(1), Target("values checked", None, lambda r: r["store"]["checked"], over=sum)), cold_data, note, limited=scale.memory)


def values(scale):
    for size, depth, block in ((1024, 128, 4096), (16384, 64, 16384), (MIB, 8, MIB)):
        yield Scenario(
            f"values-{size}", f"Cold read of values of {size // 1024} KiB",
            (engine("store", "get_into", clients=depth, **read_only(scale.memory)),
             *(engine(name, "get", variants=threads(*((8, 32) if size == MIB else (32, 8)))) for name in PEERS), fio(rw="randread", block=block, depth=depth)),
            (share_of_fio(0.9),), Data(f"values{size}", scale.value_store_bytes // size, size, "sorted"),
            f"The store reads into memory of the caller's, with {depth} tasks; fio reads blocks of {block} bytes at that depth.", limited=scale.memory)


def ladder(scale):
    rungs = (("threads with pread", "threads"), ("io_uring", "uring"), ("+ registered buffers and files", "registered"), ("+ DEFER_TASKRUN", "deferred"))
    for depth in (32, 128):
        passthrough = Contender("NVMe passthrough", "ladder", options={"rung": "passthrough", "depth": depth, "path": scale.device})
        yield Scenario(
            f"ladder-{depth}", f"The ladder of I/O paths, random reads, {depth} in flight",
            (*(Contender(name, "ladder", options={"rung": rung, "depth": depth}) for name, rung in rungs), *((passthrough,) if scale.device else ()),
             fio(rw="randread", block=4096, depth=depth)), (),
            note="No engine: 4 KiB each, by threads that wait for one read each, or one thread with a ring.")


def all_scenarios(scale):
    for part in (cached, short_of_memory, durable, loads, ycsb, values, ladder):
        for scenario in part(scale):
            if any(c.name == "store" for c in scenario.contenders):
                scenario = replace(scenario, targets=(*scenario.targets, within_budget()))
            yield scenario
