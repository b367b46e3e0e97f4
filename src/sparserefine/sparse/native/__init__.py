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

__all__ = [
    "convolve_pointwise",
    "convolve_step",
    "convolve_submanifold",
    "step_weight_gradient",
    "submanifold_weight_gradient",
]
