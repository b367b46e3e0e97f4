"""Chunk sizes and working memory of loops over gathered rows."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.memory import empty_rows

# Gathered rows of one chunk: 1 MiB of float32, so that they are still in the cache when they are
# multiplied. With 4 MiB, strips of 16 channels took twice as long (dev/LOG.md, 2026-11-24).
CHUNK_ELEMENTS = 1 << 18


def rows_per_chunk(columns: int, least: int) -> int:
    """Number of rows of `columns` elements that make a chunk, at least `least`."""
    return max(CHUNK_ELEMENTS // max(columns, 1), least)


class Scratch:
    """Working memory of a loop over chunks, allocated once.

    Were it allocated for each chunk, the C library could return it to the system in between.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self._flat = like.new_empty(size)

    def take(self, *shape: int) -> Tensor:
        """A view of the given shape on the start of the memory."""
        return self._flat[: math.prod(shape)].view(shape)

    def gather(self, rows: Float[Tensor, "N C"], index: Tensor) -> Float[Tensor, "n C"]:
        """The rows at each entry of `index`, one below the other."""
        out = self.take(index.numel(), rows.shape[1])
        return torch.index_select(rows, 0, index.reshape(-1), out=out)


def with_zero_row(feats: Tensor) -> Tensor:
    """Append the row of zeros that absent neighbors point at."""
    padded = like(feats, len(feats) + 1, feats.shape[1])
    padded[:-1] = feats
    padded[-1] = 0
    return padded


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """The rows of `values` at the numbers in `rows`."""
    return torch.index_select(values, 0, rows, out=like(values, len(rows), values.shape[1]))


def like(values: Tensor, rows: int, channels: int) -> Tensor:
    """An uninitialized array of the type and on the device of `values`."""
    return empty_rows(rows, channels, values.dtype, values.device)
