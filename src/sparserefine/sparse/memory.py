"""Memory for results that is reused while a network runs.

The features of a large image take tens of megabytes a layer. The C library returns such blocks to
the system when they are freed, and the next layer's fresh pages cost half as much time as its
convolution (dev/LOG.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

import torch
from jaxtyping import Shaped
from torch import Tensor

# Smaller blocks the C library keeps itself when they are freed.
_SMALLEST_BYTES = 1 << 20


class _Pool:
    """Blocks of memory; each holds one array at a time.

    Threads share a pool where they run in copies of one context, as asyncio.to_thread does.
    """

    def __init__(self) -> None:
        self._blocks: list[torch.UntypedStorage] = []
        self._lock = Lock()

    def take(self, rows: int, channels: int, dtype: torch.dtype) -> Tensor | None:
        """An uninitialized array in a block that no tensor uses, or in a new one.

        None where another thread is choosing at this moment: nobody waits, so that a process forked
        at such a moment does not wait forever.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            block = self._block(dtype.itemsize * rows * channels)
            # Still under the lock: until an array uses the block, it looks free to others.
            array = torch.empty(0, dtype=dtype)
            return array.set_(block, 0, (rows, channels), (channels, 1))  # type: ignore[call-overload]
        finally:
            self._lock.release()

    def _block(self, size: int) -> torch.UntypedStorage:
        free = [
            block
            for block in self._blocks
            # Ours is the only reference: neither a tensor nor a view of one holds it.
            if size <= block.nbytes() <= 2 * size and torch._C._storage_Use_Count(block._cdata) == 1
        ]
        if free:
            return min(free, key=torch.UntypedStorage.nbytes)
        self._blocks.append(torch.UntypedStorage(size))
        return self._blocks[-1]


_pool: ContextVar[_Pool | None] = ContextVar("memory_pool", default=None)


@contextmanager
def reuse_memory() -> Iterator[None]:
    """Let convolutions on the CPU write their results, within the block, into memory freed in it.

    Nothing is kept after the block. Within a block that is open already, this one changes nothing.
    """
    if _pool.get() is not None:
        yield
        return
    token = _pool.set(_Pool())
    try:
        yield
    finally:
        _pool.reset(token)


def empty_rows(
    rows: int,
    channels: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Shaped[Tensor, "rows channels"]:
    """An uninitialized array; within `reuse_memory` on the CPU, in freed memory where it fits."""
    pool, size = _pool.get(), dtype.itemsize * rows * channels
    array = None
    if pool is not None and size >= _SMALLEST_BYTES and torch.device(device).type == "cpu":
        array = pool.take(rows, channels, dtype)
    if array is None:
        array = torch.empty(rows, channels, dtype=dtype, device=device)
    return array
