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


QUICK = Scale("quick", rounds=1, seconds=1, warm_up=0.3, cached_keys=300_000, cold_keys=3_000_000, memory=64 * MIB, sustained=(2, 4),
              ycsb_records=50_000, ycsb_cold_records=500_000, value_store_bytes=256 * MIB, load_seconds=5)
FULL = Scale("full", rounds=5, seconds=5, warm_up=2, cached_keys=1_000_000, cold_keys=16_000_000, memory=256 * MIB, sustained=(120, 180),
             ycsb_records=1_000_000, ycsb_cold_records=2_000_000, value_store_bytes=2048 * MIB, load_seconds=600)
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
    """kind: run or load (an engine), fio, ladder. Of several variants the fastest in a trial before the rounds is taken."""
    name: str
    kind: str = "run"
    engine: str = ""
    options: dict = field(default_factory=dict)
    variants: tuple = ()
    data: Data | None = None  # else the scenario's

    def is_peer(self):
        return self.engine in PEERS


@dataclass(frozen=True)
class Target:
    text: str
    want: float
    value: Callable  # of a round: {contender: result}
    at_most: bool = False
    over: Callable = statistics.median

    def reached(self, value):
        return value <= self.want if self.at_most else value >= self.want


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


def best(round_, names=None):
    """The fastest peer of a round."""
    rates = [rate(result) for name, result in round_.items()
             if (name in names if names else result["contender"].is_peer() and "(" not in name)]
    return max(rates)


def times(want, theirs, ours="store"):
    return Target(f"{ours} at least {want:g} x {theirs}", want, lambda r: rate(r[ours]) / rate(r[theirs]))


def times_best(want, ours="store"):
    return Target(f"{ours} at least {want:g} x the best peer", want, lambda r: rate(r[ours]) / best(r))


def share_of_fio(want, ours="store", device="fio"):
    return Target(f"{ours} at least {want:.0%} of {device}", want, lambda r: rate(r[ours]) / rate(r[device]))


def within_budget(ours="store"):
    def excess(r):
        return (r[ours]["resident_most_bytes"] - r[ours]["budget_bytes"]) / MIB
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


def cached(scale):
    data = Data("cached", scale.cached_keys)
    written = replace(data, name="cached-written", copy_of="cached")
    common = {"memory": 512 * MIB, "warm": True, "sample": 16}
    yield Scenario(
        "cached-get", "Cached get", (*all_engines("get", **common), *all_engines("get_pinned", "pinned", **common),
                                     engine("store", "get_into", "get_into", **common)),
        (times(2, "LMDB"), times(5, "RocksDB"), within_budget()), data,
        "One key at a time, one task or thread. The value is copied for the caller; (pinned) is looked at where it lies. The store's get "
        "makes a new string, its get_into copies into memory of the caller's, as the peers do here.")
    yield Scenario(
        "cached-get-many", "Cached get_many(64)",
        tuple(engine(name, "get_many", batch=64, **common) for name in ENGINES),
        (times(4, "LMDB"), times(10, "RocksDB"), within_budget()), data,
        "64 keys at a time; RocksDB by MultiGet, the others one after the other. Rates count keys, latencies are of 64.")
    yield Scenario(
        "cached-absent", "Cached get of absent keys", all_engines("get_absent", **common), (times_best(1), within_budget()), data,
        "Keys of the same length that lie between present ones.")
    yield Scenario(
        "cached-update", "Cached random update, not durable",
        (*all_engines("update", promise="none", **common), *all_engines("update", "batched", promise="batched", **common)),
        (times(4, "RocksDB"), times(4, "LMDB"), times(4, "RocksDB (batched)", "store (batched)"), within_budget(),
         ), written,
        "Flushes included. No log: WalMode::none beside RocksDB without a log, LMDB with MDB_NOSYNC and transactions of 10,000. (batched): a log "
        "that is synced behind the writes, beside RocksDB's and WiredTiger's that is not synced.",
        seconds=max(scale.seconds, 2) if scale.name != "tiny" else 0)
    beside = {**common, "clients": 2, "sample": 4}
    yield Scenario(
        "cached-get-beside-flush", "Cached get while a flush runs", all_engines("get_beside_flush", **beside),
        (Target("p50 at most 1.3 x that at rest", 1.3, lambda r: r["store"]["reads"]["p50_us"] / r["store"]["at_rest"]["p50_us"], at_most=True),
         Target("p99.9 at most 300 us", 300, lambda r: r["store"]["reads"]["p99.9_us"], at_most=True), within_budget()), written,
        "One client gets; another puts 100,000, flushes and rests, in turn. The latencies are those of gets beside the flush, and at rest.",
        seconds=max(scale.seconds, 3) if scale.name != "tiny" else 0)


def all_scenarios(scale):
    yield from cached(scale)
