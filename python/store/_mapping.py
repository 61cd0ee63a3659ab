"""What a mapping has besides its own verbs, for Store and Snapshot: those classes are made in C++ and get these methods added."""
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView

_ABSENT = object()


class _Values(ValuesView):
    def __iter__(self):
        return (value for _, value in self._mapping.scan())


class _Items(ItemsView):
    def __iter__(self):
        return self._mapping.scan()


def keys(self):
    """Return a view of the keys, in key order."""
    return KeysView(self)


def values(self):
    """Return a view of the values, in key order."""
    return _Values(self)


def items(self):
    """Return a view of the (key, value) pairs, in key order."""
    return _Items(self)


def pop(self, key, default=_ABSENT):
    """Delete key and return its value, in one step; without one return default, or raise KeyError if there is no default."""
    while True:
        value = self.get(key)
        if value is None:
            if default is _ABSENT:
                raise KeyError(key)
            return default
        if self.compare_and_put(key, value, None):
            return value


def popitem(self):
    """Delete the entry with the greatest key and return it as (key, value). Raises KeyError when there is none."""
    while True:
        for key, value in self.scan(reverse=True, limit=1):
            if self.compare_and_put(key, value, None):
                return key, value
            break
        else:
            raise KeyError("the store is empty")


def setdefault(self, key, default):
    """Return the value of key, after setting it to default if there was none, in one step."""
    while not self.compare_and_put(key, None, default):
        value = self.get(key)
        if value is not None:
            return value
    return bytes(default)


def update(self, other=()):
    """Put all entries of a mapping, or of an iterable of (key, value), one after the other. A Batch puts them in one step."""
    for key, value in other.items() if isinstance(other, Mapping) else other:
        self.put(key, value)


def clear(self):
    """Delete all entries, in one step."""
    self.delete_range(b"")


def add_to(cls, methods):
    for method in methods:
        setattr(cls, method.__name__, method)


def complete(store, snapshot):
    add_to(store, (keys, values, items, pop, popitem, setdefault, update, clear))
    add_to(snapshot, (keys, values, items))
    MutableMapping.register(store)
    Mapping.register(snapshot)
