"""How far around a pixel an extractor looks, and how windows must lie for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.refinement.refiner import SparseRefiner

# Windows of an extractor that is not ours begin at multiples of this.
_STEP = 64


@dataclass(frozen=True)
class FieldOfView:
    """The margin that makes a window's result that of the whole image.

    It does so with exact methods (`use_backend(exact=True)`). The fast ones compute blocks of 4×4
    pixels at once, whose places in a row depend on all that lies to their left, and so does what
    rounding leaves of them.

    Attributes:
        margin: Pixels around a window, a multiple of `step`.
        step: Windows begin at multiples of it, where the coarse grids lie as in the whole image.
    """

    margin: int
    step: int

    @classmethod
    def of(cls, model: SparseRefiner, margin: int | None = None) -> FieldOfView:
        """The field of view of a refiner's extractor.

        Args:
            model: The refiner.
            margin: That of an extractor of the user's own, in pixels.

        Raises:
            ValueError: The extractor sees the whole prediction, or nobody says how far it sees.
        """
        extractor: Any = model.extractor
        if isinstance(extractor, EdgeExtractor):
            raise ValueError(
                'a refiner "edges" looks at the whole prediction, and rasters are refined by '
                "window. Use a refiner with an extractor of its own, such as `train` makes."
            )
        step = _STEP
        if isinstance(extractor, SparseUNet):
            levels = len(extractor.widths)
            step = 1 << (levels - 1)
            if margin is None:
                margin = unet_radius(levels, extractor.blocks)
        if margin is None:
            raise ValueError(
                f"the extractor is a {type(extractor).__name__}, and nothing says how far around a "
                f"pixel it looks. Say it in pixels: margin=."
            )
        return cls(-(-margin // step) * step, step)


def unet_radius(levels: int, blocks: int) -> int:
    """Pixels around one that a `SparseUNet` sees.

    Args:
        levels: Number of its stages.
        blocks: Residual blocks on each side of a stage, two convolutions each.
    """
    radius = 2 * blocks
    for _ in range(levels - 1):
        # The steps down and up reach two pixels each.
        radius = 4 * blocks + 2 * radius + 4
    return radius + 1
