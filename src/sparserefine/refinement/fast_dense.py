"""A refiner whose dense model runs faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparserefine.dense.optimize import optimize
from sparserefine.refinement.sharing import shallow_copy

if TYPE_CHECKING:
    from sparserefine.refinement.refiner import SparseRefiner

# Layouts are tried on a small image of these proportions; photos have others.
_USUAL = (1024, 2048)


def with_fast_dense(
    model: SparseRefiner, size: tuple[int, int] = _USUAL, *, channels_last: bool | None = None
) -> SparseRefiner:
    """The refiner with its dense model as `dense.optimize` runs it.

    Args:
        model: A refiner on its device; it is left as it was. One without a dense model, or whose
            dense model is optimized already, is returned as it is.
        size: (H, W) of the images.
        channels_last: The layout, where it is to be that of another run; None tries.
    """
    if model.dense is None or model.dense.optimization is not None:
        return model
    other = shallow_copy(model)
    at = model.dense_size.padded(model.dense_size.resized(size))
    other.dense = optimize(model.dense, at, channels_last=channels_last)
    return other
