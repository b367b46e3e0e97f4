"""Memory pages of arrays that were freed: kept by the process, or returned to the system."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
# Larger arrays than this are still mapped and returned: nobody should hold gigabytes for nothing.
_LARGEST_KEPT = 1 << 30
_MORE_AT_A_TIME = 64 << 20
_NEVER = -1


@cache
def keep_pages() -> str:
    """Let the C library keep the pages of freed arrays for the next ones, in the whole process.

    By default it returns arrays of megabytes to the system when they are freed, and the next one
    of a network pays for fresh pages: up to a third of its time. The process then holds what it
    held at its peak.

    Returns:
        Empty where the pages are kept from now on; else why they are not.
    """
    library = _glibc()
    if library is None:
        return "the C library is not glibc"
    settings = (
        (_MMAP_THRESHOLD, _LARGEST_KEPT),
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, _MORE_AT_A_TIME),
    )
    for setting, value in settings:
        if library.mallopt(setting, value) != 1:
            return f"glibc refused setting {setting}"
    return ""


def return_pages() -> None:
    """Return the pages of freed arrays to the system, where the C library holds some.

    Arrays of many sizes, one after the other, leave gaps between each other that no later one fits
    into; a long run then holds more and more.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    is_glibc = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
    return ctypes.CDLL(None) if is_glibc else None
