"""The convolutions on a CPU, compiled: Winograd's method on active blocks, and a direct method.

Nothing here is needed: where the library was not built or cannot be loaded, plain torch serves.
"""

from sparserefine.sparse.native.convolve import (
    convolve_pointwise,
    convolve_step,
    convolve_submanifold,
    step_weight_gradient,
    submanifold_weight_gradient,
)
from sparserefine.sparse.native.maps import build_levels

__all__ = [
    "build_levels",
    "convolve_pointwise",
    "convolve_step",
    "convolve_submanifold",
    "step_weight_gradient",
    "submanifold_weight_gradient",
]
