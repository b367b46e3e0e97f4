"""What is said of a photo that could not be done."""

from __future__ import annotations

from sparserefine.atomic import WriteError

# How torch, its allocators and NumPy say that there is no more memory.
_NO_MEMORY = ("out of memory", "allocate memory", "unable to allocate", "bad_alloc", "not enough")


def describe_failure(error: Exception) -> str:
    """Why one photo could not be done, in one line.

    Args:
        error: What was raised in doing it.

    Raises:
        WriteError: Nothing can be written any more, so that the next photo has no better luck.
    """
    if isinstance(error, WriteError) and error.is_full:
        raise error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(one in text.lower() for one in _NO_MEMORY):
        return (
            "it needs more memory than there is. Scale it down, cut it into tiles, or close other "
            "programs."
        )
    if isinstance(error, ValueError | OSError):
        return text
    return f"{type(error).__name__}: {text}"
