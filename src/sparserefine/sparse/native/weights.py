"""Weights in the order in which the kernels read them, made once per update of a weight."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sparserefine.sparse.native.library import loaded, num_threads


@dataclass
class _Packs:
    """Packed forms of a weight with a certain content."""

    content: int
    forms: dict[tuple[int, str, bool, bool], Tensor] = field(default_factory=dict)


_packs: WeakIdKeyDictionary = WeakIdKeyDictionary()


def packed(weight: Tensor, method: str, *, transpose: bool = False, flip: bool = False) -> Tensor:
    """A weight [taps, C_in, C_out], or one matrix, as the kernels read it.

    Args:
        weight: The weight to pack, float32.
        method: Method of the kernel that reads it: "direct", "winograd2" or "winograd4".
        transpose: Swap inputs and outputs, for the input gradient.
        flip: Reverse the taps too; implied by a transposed Winograd pack.
    """
    library = loaded()
    values = weight.detach().contiguous()
    # torch's version counter misses what is written through `.data`, as some optimizers and
    # weight averages do. Hashing reads each weight once, 1 % of a convolution's time or less.
    content = library.c.sr_hash(values.data_ptr(), values.numel())
    packs = _packs.get(weight)
    if packs is None or packs.content != content:
        packs = _packs[weight] = _Packs(content)
    key = (library.isa, method, transpose, flip)
    if key not in packs.forms:
        packs.forms[key] = _pack(values, *key)
    return packs.forms[key]


def _pack(weight: Tensor, isa: int, method: str, transpose: bool, flip: bool) -> Tensor:
    c = loaded().c
    taps = len(weight) if weight.ndim == 3 else 1
    inputs, outputs = weight.shape[-2:]
    rows, columns = (outputs, inputs) if transpose else (inputs, outputs)
    if method == "direct":
        out = torch.empty(c.sr_packed_floats(isa, taps, rows, columns))
        c.sr_pack_direct(
            isa, weight.data_ptr(), taps, inputs, outputs, transpose, flip, out.data_ptr()
        )
        return out
    size = int(method.removeprefix("winograd"))
    out = torch.empty(c.sr_packed_floats(isa, (size + 2) ** 2, rows, columns))
    c.sr_pack_winograd(
        isa, weight.data_ptr(), size, inputs, outputs, transpose, num_threads(), out.data_ptr()
    )
    return out
