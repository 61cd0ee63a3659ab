"""The exceptions of the package. All that the engine refuses or meets is an Error, failed I/O too; its code says what it is.

A wrong type of an argument is a TypeError, a wrong value that is not the engine's matter a ValueError, and a missing key where it has to be there
a KeyError.
"""


class Error(Exception):
    """What the engine refused or met, in words.

    code: one of the names in docs/errors.md, such as "no_space". os_error: the errno behind an "io_error", else 0.
    """

    def __init__(self, message, code, os_error=0):
        super().__init__(message, code, os_error)
        self.code = code
        self.os_error = os_error

    def __str__(self):
        return self.args[0]


class Conflict(Error):
    """An expectation of a batch did not hold; nothing of the batch was applied. Code "conflict"."""


class Corruption(Error):
    """Damage was detected; the text names the page and the check. Code "corruption"."""


class Locked(Error):
    """This or another process has the store open. Code "locked"."""


_CLASSES = {"conflict": Conflict, "corruption": Corruption, "locked": Locked}


def make(message, code, os_error):
    return _CLASSES.get(code, Error)(message, code, os_error)
