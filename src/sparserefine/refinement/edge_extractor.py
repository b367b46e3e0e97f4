"""The extractor of `edges`, which tells the classes of any prediction apart along their edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.refinement.agreement import Agreement
from sparserefine.refinement.class_bands import ClassBands
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.edge_net import WIDTHS, EdgeNet
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GRID, grid_cells, resized_image
from sparserefine.refinement.kept_mask import kept_alpha
from sparserefine.refinement.reduced_look import alphas_by_reduced_look
from sparserefine.refinement.resampling import sample
from sparserefine.refinement.shipped_edges import shipped_net
from sparserefine.refinement.timing import StageTimer, stage
from sparserefine.sparse import ActivePixels

# Probabilities of classes that are elsewhere; their logarithms must be finite.
_SMALLEST = 1e-6


class EdgeExtractor(nn.Module):
    """Predicts the selected pixels from the image and all of the prediction around them.

    Each class that is unsure somewhere is one foreground against the rest, and a network that knows
    no classes corrects the alpha that closed form finds for it: weights for any number of classes.
    Its own gate says how far the prediction is to be corrected, so no ensembler follows.

    Args:
        num_classes: Number of classes K.
        widths: Channels of each stage of the network.
        blocks: Residual blocks a stage.
        grid: Cells on the longer side of the grid that closed form works on.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 1,
        grid: int = GRID,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.grid = grid
        self.net = EdgeNet(widths, blocks)

    @classmethod
    def shipped(cls, num_classes: int) -> EdgeExtractor:
        """The trained one, with weights of its own.

        Args:
            num_classes: Number of classes K.
        """
        extractor = cls(num_classes)
        extractor.net.load_state_dict(shipped_net().state_dict())
        return extractor

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {**self.net.describe(), "grid": self.grid}

    def forward(
        self,
        images: Num[Tensor, "B 3 H W"],
        low: DensePass,
        pixels: ActivePixels,
        timer: StageTimer | None = None,
    ) -> Float[Tensor, "N K"]:
        """Logits of the selected pixels.

        Those of which the prediction is sure keep what it says, and all do where one of two classes
        is as fine as the image and follows its edges already.

        Args:
            images: RGB at full resolution, uint8 or float in 0..1.
            low: The low-resolution prediction of the same images.
            pixels: The N selected pixels, row-major.
            timer: Collects the stage "extract".
        """
        found = []
        with stage(timer, "extract"):
            for index in range(len(images)):
                own = pixels.mask[index]
                one = DensePass(low.logits[index : index + 1], low.hard)
                found.append(self._probabilities(images[index : index + 1], one, own))
        return torch.cat(found).clamp(min=_SMALLEST).log()

    def _probabilities(self, images: Tensor, low: DensePass, asked: Tensor) -> Tensor:
        """Those of the classes at the asked pixels of one image."""
        size = (images.shape[2], images.shape[3])
        agreement = Agreement.of(images, low) if low.num_classes == 2 else Agreement()
        kept = kept_alpha(images, low, agreement.reduction)[asked] if agreement.share else None
        if kept is not None and agreement.share == 1:
            return torch.stack([1 - kept, kept], 1)
        said = ClassPrediction.of(low)
        coords = F.pad(asked.nonzero(), (1, 0)).int()
        found = sample(said.probabilities, coords, size)
        small = as_unit_floats(resized_image(images, grid_cells(size, self.grid)))[0]
        bands = ClassBands.of(said.probabilities, size, self.grid, labels=said.labels)
        mattes = {index: matte.solved() for index, matte in bands.mattes(small).items()}
        for one in alphas_by_reduced_look(images, mattes, asked, self.net, said.cells):
            found[one.rows, one.index] = one.alpha
        if low.num_classes > 2:
            return found
        if kept is not None:
            found = found.lerp(kept[:, None], agreement.share)
        return torch.cat([1 - found, found], 1)
