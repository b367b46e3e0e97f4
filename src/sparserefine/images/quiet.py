"""Decoders that warn of nothing, in several threads at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_decoding = 0
_filters = ExitStack()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Ignore what Pillow and its plugins warn of while a file is decoded.

    Filters are those of the whole process, and the one who restores them must be the last to
    decode: else a thread that is done lets another's filters stay for ever. Warnings of other
    modules are shown as ever.
    """
    global _decoding
    with _lock:
        _decoding += 1
        if _decoding == 1:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.|pillow_")
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if _decoding == 0:
                _filters.close()
