"""A refiner as a module whose shapes do not depend on the image."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.dense.protocol import dtype_of
from sparserefine.exporting.plan import COARSE_SHARE, Plan
from sparserefine.exporting.resizing import FixedResize
from sparserefine.exporting.selection import BudgetSelection
from sparserefine.exporting.tables import LevelTable, Numbering
from sparserefine.exporting.unet import FixedUNet
from sparserefine.refinement.ensembler import ExtractorAlone, GatedEnsembler
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.refinement.features import MEAN, STD
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import cells_around, label_dtype, nearest_index
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.uncertainty import MIN_PROBABILITY

Output = Literal["labels", "alpha", "probabilities", "logits"]
"""What a file returns: labels, the probability of one foreground, those of all classes, logits."""


Evidence = tuple[Float[Tensor, "N K"], Float[Tensor, "N 1"]]
"""Probabilities of some logits, and their entropy."""


class FixedRefiner(nn.Module):
    """Refines images of one size, from a prediction of one size, with a fixed pixel budget.

    Its labels are those of the `SparseRefiner` that it was made of, with the same pixels selected.
    The weights are copies, with the batch norms folded in; the pixel budget is that of the
    refiner's selector.

    Args:
        model: A refiner with a `SparseUNet` that selects by entropy.
        size: (H, W) of the images.
        low_size: (h, w) of the prediction. Default: the size that the dense model runs at.
        output: What `forward` returns.
        coarse_share: Room at each coarser level, see `Plan.of`.

    Attributes:
        plan: The sizes.

    Raises:
        ValueError: The refiner, a size or the budget cannot be exported; the message says why.
    """

    y_first: Tensor
    y_second: Tensor
    y_weight: Tensor
    x_first: Tensor
    x_second: Tensor
    x_weight: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: SparseRefiner,
        size: tuple[int, int],
        *,
        low_size: tuple[int, int] | None = None,
        output: Output = "labels",
        coarse_share: float = COARSE_SHARE,
    ) -> None:
        super().__init__()
        extractor, selector = check_exportable(model, output)
        self.output: Output = output
        self.num_classes = model.num_classes
        self.upsampling = model.upsampling
        self.inputs = model.inputs
        self.plan = Plan.of(
            size,
            low_size or model.dense_size.resized(size),
            selector.max_density,
            levels=len(extractor.widths),
            pyramid=extractor.pyramid,
            padding=extractor.padding,
            coarse_share=coarse_share,
        )
        _check_cells(self.plan, selector)
        self.selection = BudgetSelection(self.plan, selector.threshold, model.num_classes)
        self.numbering = Numbering(self.plan)
        self.unet = FixedUNet(extractor)
        self.ensembler = _FixedEnsembler(model.ensembler)
        cpu = torch.device("cpu")
        for name, low, full in zip("yx", self.plan.low_size, size, strict=True):
            tables = cells_around(self.upsampling, low, full, cpu)
            for part, table in zip(("first", "second", "weight"), tables, strict=True):
                table = table if part == "weight" else table.int()
                self.register_buffer(f"{name}_{part}", table, persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)
        self.eval()

    def forward(
        self, image: Float[Tensor, "1 3 H W"], logits: Float[Tensor, "1 K h w"]
    ) -> Shaped[Tensor, ...]:
        """Refine a prediction.

        Args:
            image: RGB in 0..1.
            logits: The prediction.

        Returns:
            Labels [1, H, W]; the foreground's alpha [1, H, W]; or probabilities or logits
            [1, K, H, W]; as `output` says.
        """
        active, rows = self.select(logits)
        tables = self.numbering(active)
        refined = self._refined(image, rows, tables)
        if self.output == "labels":
            return self._labels(rows, refined, tables[0])
        return self._scores(rows, refined, tables[0])

    def select(
        self, logits: Float[Tensor, "1 K h w"]
    ) -> tuple[list[Bool[Tensor, ...]], Float[Tensor, "cells K"]]:
        """Choose the pixels.

        Args:
            logits: The prediction.

        Returns:
            True where a pixel is active, for each level; and the logits, one row per cell.
        """
        height, width = self.plan.low_size
        rows = logits[0].flatten(1).t().contiguous()
        return self.selection(_evidence(rows)[1].view(height, width)), rows

    def half_precision(self) -> FixedRefiner:
        """Compute the network in half precision; the choice and the fusion of pixels stay."""
        self.unet.half()
        return self

    def _refined(
        self, image: Tensor, rows: Float[Tensor, "cells K"], tables: list[LevelTable]
    ) -> Float[Tensor, "N K"]:
        """Logits of the selected pixels."""
        full = tables[0]
        dense = self._sampled(rows, full.y, full.x)
        evidence = _evidence(dense)
        pieces = []
        for name in self.inputs:
            if name == "rgb":
                flat = full.y * self.plan.size[1] + full.x
                rgb = image[0].flatten(1).index_select(1, flat).t()
                pieces.append((rgb - self.mean) / self.std)
            elif name == "probabilities":
                pieces.append(evidence[0])
            else:
                pieces.append(evidence[1])
        sparse = self.unet(torch.cat(pieces, 1).to(self.unet.stem.dtype), tables).float()
        return self.ensembler(dense, evidence, sparse)

    def _sampled(
        self, rows: Float[Tensor, "cells K"], y: Int[Tensor, " N"], x: Int[Tensor, " N"]
    ) -> Float[Tensor, "N K"]:
        """Upsampled logits at some pixels."""
        width = self.plan.low_size[1]
        top, bottom, left, right = (
            table.index_select(0, at)
            for table, at in (
                (self.y_first, y), (self.y_second, y), (self.x_first, x), (self.x_second, x)
            )
        )  # fmt: skip
        if self.upsampling != "bilinear":
            return rows.index_select(0, top * width + left)
        down = self.y_weight.index_select(0, y)[:, None]
        across = self.x_weight.index_select(0, x)[:, None]
        upper, lower = (
            rows.index_select(0, line * width + left) * (1 - across)
            + rows.index_select(0, line * width + right) * across
            for line in (top, bottom)
        )
        return upper * (1 - down) + lower * down

    def _upsampled(self, rows: Shaped[Tensor, "cells K"]) -> Shaped[Tensor, "HW K"]:
        """What a prediction says of all pixels, the classes of a pixel side by side.

        So the largest of them is found, and softmax taken, in half the time and less.
        """
        grid = rows.view(*self.plan.low_size, -1)
        if self.upsampling != "bilinear":
            full = grid.index_select(0, self.y_first).index_select(1, self.x_first)
        else:
            # `export` drops both permutations from an ONNX file.
            images = grid[None].permute(0, 3, 1, 2)
            images = F.interpolate(images, self.plan.size, mode="bilinear", align_corners=False)
            full = images.permute(0, 2, 3, 1)
        return full.reshape(-1, rows.shape[1])

    def _labels(self, rows: Tensor, refined: Tensor, table: LevelTable) -> Tensor:
        kind = label_dtype(self.num_classes)
        if self.upsampling != "bilinear":
            low = self._upsampled(rows.argmax(1, keepdim=True).int())[:, 0]
        else:
            low = self._upsampled(rows).argmax(1).int()
        # Written where they belong, of which there are far fewer; what holds no pixel, behind all.
        room = F.pad(low, (0, 1))
        labels = room.scatter(0, table.places.long(), refined.argmax(1).int())
        return labels[:-1].view(1, *self.plan.size).to(kind)

    def _scores(self, rows: Tensor, refined: Tensor, table: LevelTable) -> Tensor:
        """Logits of all pixels, or what is made of them."""
        low = self._upsampled(rows)
        numbers = table.numbers.flatten()
        found = F.pad(refined, (0, 0, 0, 1)).index_select(0, numbers)
        scores = torch.where((numbers < self.plan.budget)[:, None], found, low)
        if self.output != "logits":
            scores = torch.softmax(scores, 1)
        if self.output == "alpha":
            return scores[:, 1].view(1, *self.plan.size)
        return scores.t().reshape(1, self.num_classes, *self.plan.size)


class _FixedEnsembler(nn.Module):
    """What an ensembler computes, in float32 and in one piece."""

    def __init__(self, ensembler: GatedEnsembler | ExtractorAlone) -> None:
        super().__init__()
        self.own = deepcopy(ensembler).float()

    def forward(self, dense: Tensor, of_dense: Evidence, sparse: Tensor) -> Tensor:
        if isinstance(self.own, ExtractorAlone):
            return sparse
        gates = self.own.gate(torch.cat([*of_dense, *_evidence(sparse)], 1))
        # The softmax of two.
        weight = torch.sigmoid(gates[:, :1] - gates[:, 1:])
        mixture = sparse + weight * (dense - sparse)
        corrected = self.own.fuser(mixture)
        return mixture + corrected if self.own.residual else corrected


def _evidence(logits: Float[Tensor, "N K"]) -> Evidence:
    """Probabilities [N, K] and entropy [N, 1]: `entropy` with one logarithm a row, not K."""
    logs = torch.log_softmax(logits, 1)
    probabilities = logs.exp()
    floored = logs.clamp(min=math.log(MIN_PROBABILITY))
    return probabilities, -(probabilities * floored).sum(1, keepdim=True)


class FixedPipeline(nn.Module):
    """The dense model, run on the resized image, and the refiner behind it.

    Args:
        model: A refiner with a dense model.
        refiner: The refiner as a module of fixed shapes.

    Raises:
        ValueError: There is no dense model.
    """

    def __init__(self, model: SparseRefiner, refiner: FixedRefiner) -> None:
        super().__init__()
        if model.dense is None:
            raise ValueError(
                "the refiner has no dense model, so there is no whole pipeline to export. Use "
                'form="refiner": it takes the prediction as its second input.'
            )
        plan = refiner.plan
        resized = model.dense_size.resized(plan.size)
        self.padded = model.dense_size.padded(resized)
        self.resize = FixedResize(plan.size, resized, self.padded)
        # A copy, as half precision must not change the model that it was made of.
        self.dense = deepcopy(model.dense)
        self.refiner = refiner
        self.eval()

    def forward(self, image: Float[Tensor, "1 3 H W"]) -> Shaped[Tensor, ...]:
        """Segment an image.

        Args:
            image: RGB in 0..1.
        """
        logits = self.dense(self.resize(image).to(dtype_of(self.dense))).float()
        if tuple(logits.shape[2:]) != self.padded:
            logits = F.interpolate(logits, self.padded, mode="bilinear", align_corners=False)
        height, width = self.refiner.plan.low_size
        return self.refiner(image, logits[:, :, :height, :width])


def _check_cells(plan: Plan, selector: EntropySelector) -> None:
    """Refuse cells that begin elsewhere than the exported choice, which goes by pixel centers."""
    for low, full in zip(plan.low_size, plan.size, strict=True):
        cpu = torch.device("cpu")
        ways = [nearest_index(low, full, cpu, floor=floor) for floor in (True, False)]
        if selector.cells == "floor" and not torch.equal(*ways):
            raise ValueError(
                f"a refiner that selects as the authors' code does cannot be exported for "
                f"{full} pixels from {low} cells, expected a whole number of pixels per cell. "
                f"Use EntropySelector({selector.threshold:g}), or another size."
            )


def check_exportable(model: SparseRefiner, output: str) -> tuple[SparseUNet, EntropySelector]:
    """The parts of a refiner that decide whether it can be exported.

    Raises:
        ValueError: It cannot; the message says why.
    """
    if output not in get_args(Output):
        raise ValueError(f"output={output!r}: expected one of {', '.join(get_args(Output))}.")
    if not isinstance(model.extractor, SparseUNet):
        kind = model.extractor.describe()["kind"]
        reason, instead = "its network is not one of ours", "Export"
        if kind == "edges":
            reason = (
                "it solves a sparse system of equations for each class that an image has, in "
                "shapes that depend on the image"
            )
            instead = "Ask it by HTTP (`sparserefine serve --model edges`), or export"
        raise ValueError(
            f"the refiner {kind!r} cannot be exported: {reason}. {instead} one with an extractor "
            f"that `sparserefine train` trained."
        )
    if not isinstance(model.selector, EntropySelector):
        raise ValueError(
            f"a refiner that selects by {model.selector.describe()['kind']} cannot be exported, "
            f"expected one that selects by entropy. Use model.with_selector(EntropySelector(0.3))."
        )
    if not isinstance(model.ensembler, GatedEnsembler | ExtractorAlone):
        raise ValueError(
            f"an ensembler of type {type(model.ensembler).__name__} cannot be exported, expected "
            f"GatedEnsembler."
        )
    if output == "alpha" and model.num_classes != 2:
        raise ValueError(
            f'output="alpha" is of one foreground, but the refiner has {model.num_classes} '
            f'classes. Use "labels" or "probabilities".'
        )
    return model.extractor, model.selector
