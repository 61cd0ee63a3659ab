"""An embedded key/value store: a mapping of bytes to bytes in key order, in one file.

    with store.open("db") as db:
        db[b"hello"] = b"world"

docs/python.md is the way in.
"""
import atexit
import os
import weakref
from collections.abc import Iterable, Mapping

from . import _mapping, _store
from ._errors import Conflict, Corruption, Error, Locked
from ._store import Batch, Scan, Snapshot, Store, __version__

__all__ = ["Batch", "Conflict", "Corruption", "Error", "Locked", "Scan", "Snapshot", "Store", "open", "prometheus_text"]

for _class in (Batch, Conflict, Corruption, Error, Locked, Scan, Snapshot, Store):
    _class.__module__ = __name__
del _class

_mapping.complete(Store, Snapshot)


def _backup(self, path, incremental=False, *, overwrite=False):
    """Copy the store as of now to another file, while others read and write, and wait until the copy is durable.

    incremental brings path, a backup of this store, up to date instead, by one commit. overwrite replaces what is at path.
    Return "generation" (of this store, that the copy holds), "blocks_written" and "bytes".
    """
    return Store._backup(self, os.fsencode(path), incremental, overwrite)


_backup.__name__ = "backup"
Store.backup = _backup


def _bulk_load(self, entries):
    """Fill an empty store with a mapping, or an iterable of (key, value), whose keys ascend: faster than putting them. Return how many there were.

    All of them are held in memory until they are loaded, in one step, and durable. Raises Error "invalid_argument", and leaves the store empty, if a
    key does not ascend; or if the store is not empty.
    """
    # All that runs Python code is done here: a thread that the interpreter ends within may not hold references in C++.
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    return Store._bulk_load(self, [pair if isinstance(pair, (tuple, list)) or not isinstance(pair, Iterable) else tuple(pair) for pair in pairs])


_bulk_load.__name__ = "bulk_load"
Store.bulk_load = _bulk_load


def prometheus_text(stores):
    """Return the numbers of stores in the text format of Prometheus (version 0.0.4). stores: a mapping of names, the values of the label "store"."""
    named = list(stores.items()) if isinstance(stores, Mapping) else [(stores, None)]
    if not all(isinstance(name, str) and isinstance(db, Store) for name, db in named):
        raise TypeError("prometheus_text() takes a mapping of names, which are str, to stores")
    return _store.prometheus([(name.encode(), db) for name, db in named])


_opened = weakref.WeakSet()


def open(path, *, cache_bytes=64 << 20, wal="batched", write_buffer_bytes=32 << 20, capacity_bytes=0, create=True, read_only=False):
    """Open the store in a file or on an NVMe namespace, or make it there, and return a Store.

    cache_bytes: of cached pages, 256 KiB or more. write_buffer_bytes: of each of two write buffers, 16 KiB to 32 GiB. capacity_bytes: what the file may grow to; 0: no limit.
    wal: when a write is durable: "per_op" when the call returns, "batched" some milliseconds later, "none" after flush() or sync().
    create: make the store if there is none. read_only: many processes may then have it open, but none for writing.

    Raises Error: "not_found" where there is none and create is False, Locked, "not_a_store", Corruption, "invalid_argument", "io_error".
    """
    db = _store.open(os.fsencode(path), cache_bytes, wal, write_buffer_bytes, capacity_bytes, create, read_only)
    _opened.add(db)
    return db


def _close_all():
    """What is open when the interpreter ends is closed as by close(). Not in a child of os.fork(), which has no right to."""
    for db in list(_opened):
        try:
            db.close()
        except Error:
            pass  # nobody is left to be told; the log has what was durable


atexit.register(_close_all)
