"""A checksum of tensors on their device, without waiting for it.

torch's version counters miss what is written through `.data`, as some optimizers and weight
averages do; the content does not lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Int
from torch import Tensor

_WORD = 2  # bytes: no number of a network has fewer
_CHUNK = 2**15  # words per program: a word and its place fit 32 bits
_BLOCK = 2**11


class Checksum:
    """Reads all bytes of some tensors in one kernel, as fast as the memory gives them.

    It keeps addresses, not tensors: the caller makes a new one where a tensor has moved.

    Args:
        tensors: What to read, all on one device and of numbers of two bytes or more.
    """

    @torch.inference_mode(False)  # what is made in it could not be written to outside
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        devices = {tensor.device for tensor in tensors}
        if len(devices) != 1:
            raise ValueError(
                f"tensors are on {sorted(map(str, devices))}, expected one device. Move them to it."
            )
        (device,) = devices
        chunks = [
            (tensor.data_ptr() + _WORD * first, min(_words(tensor) - first, _CHUNK))
            for tensor in tensors
            for first in range(0, _words(tensor), _CHUNK)
        ]
        self._chunks = torch.tensor(chunks, dtype=torch.int64, device=device).view(-1, 2)
        self._sums = torch.zeros(len(chunks), dtype=torch.int64, device=device)
        # A copy into pinned memory is the only one that nobody waits for.
        pinned = device.type == "cuda"
        self._copy = torch.zeros(len(chunks), dtype=torch.int64, pin_memory=pinned)

    def start(self) -> None:
        """Queue the computation on the current stream."""
        if len(self._chunks) == 0:
            return
        with torch.cuda.device_of(self._sums):
            checksum_kernel[(len(self._chunks),)](self._chunks, self._sums, BLOCK=_BLOCK)
            self._copy.copy_(self._sums, non_blocking=True)

    def read(self) -> Int[Tensor, " chunks"]:
        """Checksums from the last `start`, valid once the caller has waited for its stream."""
        return self._copy.clone()


@triton.jit
@no_type_check
def checksum_kernel(chunks, sums, BLOCK: tl.constexpr):
    """One number per chunk. A change of one word always changes it, one of many almost always.

    A row of `chunks` is (address, words of 16 bits).
    """
    chunk = tl.program_id(0)
    words = tl.load(chunks + 2 * chunk).to(tl.pointer_type(tl.uint16))
    number = tl.load(chunks + 2 * chunk + 1).to(tl.int32)
    total = tl.zeros((BLOCK,), dtype=tl.int64)
    for first in range(0, number, BLOCK):
        at = first + tl.arange(0, BLOCK)
        word = tl.load(words + at, mask=at < number, other=0)
        # The finalizer of MurmurHash3 (Austin Appleby, public domain), which is one to one.
        mixed = at.to(tl.uint32) * 65536 + word.to(tl.uint32)
        mixed ^= mixed >> 16
        mixed *= 0x85EBCA6B
        mixed ^= mixed >> 13
        mixed *= 0xC2B2AE35
        mixed ^= mixed >> 16
        total += mixed.to(tl.int64)
    tl.store(sums + chunk, tl.sum(total, 0))


def _words(tensor: Tensor) -> int:
    """Number of words from the first to the last element, gaps between elements included."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size() // _WORD
