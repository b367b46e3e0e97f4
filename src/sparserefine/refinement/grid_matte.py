"""Alpha on a grid of a few hundred cells a side, and what carries it to full resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Num, Shaped
from scipy.ndimage import maximum_filter
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting import LocalLinear, SideColors, Trimap, closed_form_alpha
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.resampling import nearest_index

GRID = 512
"""Cells on the longer side of the grid that the matte is found on: more hardly helps."""

# Radius in cells and epsilon of the local linear model. Closed form is sharp already and is only
# carried to another resolution; the guided filter is to sharpen, so it reaches over a cell of the
# prediction at least.
CARRIED, GUIDED = (1, 1e-5), (4, 1e-4)

# How much the prediction counts in a wide band, whose middle colors alone can make anything of: in
# thin ones it knows less than colors do. Whole from DEEP of its own cells within the band, nothing
# to SHALLOW. Predictions finer than FINEST, in cells of the grid, know no more of where an edge is.
TRUST = 0.03
SHALLOW, DEEP = 1.25, 3.75
FINEST = 1.6

# Bands so deep, in the prediction's own cells, are doubt about a thing and not about its edge: what
# was learned of edges has no ground there. It counts whole up to the first, and not at all from the
# second.
DEEP_EDGE, DOUBT = 3, 6

# Where almost all is in doubt the few sure cells say nothing about the rest.
MOST_UNKNOWN = 0.9


@dataclass(frozen=True, eq=False)
class GridMatte:
    """Alpha of one image on a grid.

    Attributes:
        image: The image there, RGB in 0..1.
        coarse: The prediction there, probability of the foreground.
        trimap: Where that is sure.
        cell: Side of the prediction's own cells in those of the grid.
        given: The prediction as it came, on its own grid; of a hard mask whether it is foreground.
        alpha: Alpha there; None where it has yet to be found.
    """

    image: Float[Tensor, "3 h w"]
    coarse: Float[Tensor, "h w"]
    trimap: Trimap
    cell: float
    given: Shaped[Tensor, "h_own w_own"]
    alpha: Float[Tensor, "h w"] | None = None

    @classmethod
    def of(
        cls,
        images: Num[Tensor, "1 3 H W"],
        probability: Float[Tensor, "1 1 h_low w_low"],
        grid: int = GRID,
        *,
        given: Bool[Tensor, "h_own w_own"] | None = None,
    ) -> GridMatte:
        """Bring an image and its prediction to the grid.

        Args:
            images: One image at full resolution, RGB, uint8 or float in 0..1.
            probability: Probability of the foreground at low resolution.
            grid: Cells on the longer side; not more than the image has pixels.
            given: The hard mask that it was made of; None where it was made of none.
        """
        cells = grid_cells((images.shape[2], images.shape[3]), grid)
        small = as_unit_floats(resized_image(images, cells))[0]
        coarse = F.interpolate(probability, cells, mode="bilinear", antialias=True)[0, 0]
        coarse, trimap = with_trimap(coarse, given)
        given = probability[0, 0] if given is None else given
        return cls(small, coarse, trimap, cell_on_grid(probability, cells), given)

    @property
    def is_solvable(self) -> bool:
        """Whether there is something to find out, and enough that is sure to tell it by."""
        return self.trimap.is_solvable and float(self.trimap.unknown.float().mean()) < MOST_UNKNOWN

    def solved(self) -> GridMatte:
        """With alpha by closed-form matting between what is sure."""
        unknown = self.trimap.unknown
        sure = self.trimap.filled(self.coarse)
        alpha = closed_form_alpha(self.image, sure, unknown, weight=self._trust())
        return replace(self, alpha=alpha)

    def _trust(self) -> Float[Tensor, "h w"]:
        """How much the prediction counts in each unknown cell: more, the surer and the deeper."""
        depth = self.trimap.depth() / max(self.cell, FINEST)
        share = ((depth - SHALLOW) / (DEEP - SHALLOW)).clamp(0, 1)
        return TRUST * (2 * self.coarse - 1).square() * share

    def ground(self) -> Float[Tensor, "h w"]:
        """How much of what is learned of edges counts in each cell: less, the wider its band is."""
        cell = max(self.cell, FINEST)
        depth = self.trimap.depth()
        widest = maximum_filter(depth.cpu().numpy(), 2 * round(DEEP_EDGE * cell) + 1) / cell
        share = (DOUBT - torch.from_numpy(widest).to(depth.device)) / (DOUBT - DEEP_EDGE)
        return share.clamp(0, 1)

    def carrier(self, method: Literal["closed-form", "guided"]) -> LocalLinear:
        """What carries alpha, or the prediction as the guided filter has it, to any resolution.

        The guided filter takes a hard mask as it was given: what was made unsure of small things
        is too little to bring them back.
        """
        if method == "closed-form":
            assert self.alpha is not None
            return LocalLinear.fit(self.image, self.alpha, radius=CARRIED[0], epsilon=CARRIED[1])
        shape = (self.coarse.shape[0], self.coarse.shape[1])
        hard = self.given.dtype == torch.bool
        found = foreground_share(self.given, shape) if hard else self.coarse
        radius = max(GUIDED[0], round(self.cell))
        return LocalLinear.fit(self.image, found, radius=radius, epsilon=GUIDED[1])

    def side_colors(self) -> SideColors:
        """Mean colors of both sides around each cell."""
        return SideColors.around(
            self.image, self.trimap, self.coarse if self.alpha is None else self.alpha
        )


def grid_cells(size: tuple[int, int], grid: int) -> tuple[int, int]:
    """(h, w) of the grid for an image of (H, W) `size`."""
    scale = min(grid / max(size), 1.0)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def with_trimap(
    coarse: Float[Tensor, "h w"], given: Bool[Tensor, "h_own w_own"] | None
) -> tuple[Float[Tensor, "h w"], Trimap]:
    """A prediction on the grid and where it is sure, which small parts of a hard mask are too.

    Args:
        coarse: Probability of the foreground there.
        given: The hard mask that it was made of; None where it was made of none.
    """
    if given is None:
        return coarse, Trimap.of_prediction(coarse)
    share = foreground_share(given, (coarse.shape[0], coarse.shape[1]))
    trimap = Trimap.of_prediction(coarse, share >= 0.5)
    return trimap.filled(coarse), trimap


def foreground_share(
    mask: Bool[Tensor, "h_own w_own"], cells: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """A hard mask on a grid: how much of each cell is foreground."""
    return F.interpolate(mask[None, None].float(), cells, mode="area")[0, 0]


def cell_on_grid(probabilities: Float[Tensor, "1 K h w"], cells: tuple[int, int]) -> float:
    """Side of a prediction's own cells in those of a grid; the longer one."""
    return max(cells[0] / probabilities.shape[2], cells[1] / probabilities.shape[3])


def resized_image(images: Num[Tensor, "1 3 H W"], cells: tuple[int, int]) -> Num[Tensor, "1 3 h w"]:
    """An image reduced to a grid by averaging; uint8 stays uint8 on the CPU."""
    if tuple(images.shape[2:]) == cells:
        return images
    # The CPU averages uint8 as it is: floats of 30 megapixels would take 360 MB.
    if images.dtype != torch.uint8 or images.device.type != "cpu":
        images = as_unit_floats(images)
    return F.interpolate(images, cells, mode="bilinear", antialias=True)


def enlarge_cells(cells: Shaped[Tensor, "h w"], size: tuple[int, int]) -> Shaped[Tensor, "H W"]:
    """Each cell as a block of pixels."""
    rows = nearest_index(cells.shape[0], size[0], cells.device)
    columns = nearest_index(cells.shape[1], size[1], cells.device)
    # Whole rows are copied quickly; columns, one by one, while there are few rows.
    return cells.index_select(1, columns).index_select(0, rows)
