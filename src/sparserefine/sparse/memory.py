"""Memory for results, used again while a network runs.

The features of a large image take tens of megabytes a layer. The C library returns such blocks to
the system when they are freed, and the next layer's fresh pages cost half as much time as its
convolution (dev/LOG.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Shaped
from torch import Tensor

# Below, the C library keeps freed blocks itself.
_SMALLEST_BYTES = 1 << 20

_pool: ContextVar[list[torch.UntypedStorage] | None] = ContextVar("memory_pool", default=None)


@contextmanager
def reuse_memory() -> Iterator[None]:
    """Within the block, what convolutions on the CPU return takes the memory of what is gone.

    Nothing is kept after the block. Within a block that is open already, this one changes nothing.
    """
    if _pool.get() is not None:
        yield
        return
    token = _pool.set([])
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
    """An uninitialized array; on the CPU, of memory that no tensor uses any more where there is."""
    pool, size = _pool.get(), dtype.itemsize * rows * channels
    if pool is None or size < _SMALLEST_BYTES or torch.device(device).type != "cpu":
        return torch.empty(rows, channels, dtype=dtype, device=device)
    free = [
        block
        for block in pool
        # Ours is the only reference: neither a tensor nor a view of one holds it.
        if size <= block.nbytes() <= 2 * size and torch._C._storage_Use_Count(block._cdata) == 1
    ]
    if free:
        block = min(free, key=torch.UntypedStorage.nbytes)
    else:
        block = torch.UntypedStorage(size)
        pool.append(block)
    array = torch.empty(0, dtype=dtype)
    return array.set_(block, 0, (rows, channels), (channels, 1))  # type: ignore[call-overload]
