"""The active pixels of all levels of a network, found at once."""

from __future__ import annotations

from sparserefine.sparse import native
from sparserefine.sparse.backends import resolve_backend
from sparserefine.sparse.choice import Backend
from sparserefine.sparse.pixels import DownsamplingMode
from sparserefine.sparse.tensor import SparseTensor


def build_pyramid(
    x: SparseTensor,
    levels: int,
    *,
    mode: DownsamplingMode = "dilate",
    padding: int = 1,
    backend: Backend = "auto",
) -> None:
    """Find the active pixels of the coarser levels of a network before its convolutions need them.

    This is optional: each level is found when first needed. The native backend finds all of them
    in one call, which takes less time; for the others this does nothing.

    Args:
        x: The input of the network.
        levels: Number of levels of the network, that of `x` included.
        mode: Downsampling mode of the network's strided convolutions; see `sparse_conv2d`.
        padding: Zero padding of the network's strided convolutions, 0 or 1.
        backend: Name of the network's backend; see `submanifold_conv2d`.

    Raises:
        ValueError: A pixel is outside the images or named twice, there is no level, mode or padding
            is unknown, or the backend is unknown or cannot run.
    """
    if levels < 1:
        raise ValueError(f"levels={levels}: expected 1 or more; 1 is that of x alone.")
    if x.pixels.has_coarser(mode, padding):
        return
    weight = x.feats.new_empty(9, 1, 1)  # what is asked of a backend does not depend on its size
    if resolve_backend(backend, x.feats, weight) == "native":
        native.build_levels(x.pixels, levels, mode, padding)
