"""Rounding float32 operands for tensor cores, which would only cut them off."""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def round_to_tf32(x):
    """The nearest number with 10 bits of mantissa, ties away from zero; NaN stays NaN.

    Tensor cores ignore the 13 bits that TF32 lacks: every product would be too small, and sums
    would drift by twice the error of rounding.
    """
    bits = x.to(tl.int32, bitcast=True)
    nearest = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return tl.where(x == x, nearest, x)
