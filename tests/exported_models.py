"""Refiners for the tests of exporting, and what they should find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.refinement.features import count_channels
from sparserefine.refinement.output import RefinerOutput


def trained_like(
    selector: sr.EntropySelector,
    *,
    classes: int = 19,
    dense: sr.dense.DenseModel | None = None,
    widths: Sequence[int] = (8, 16, 12),
    pyramid: Any = "floor",
    padding: int = 1,
    inputs: Any = ("rgb",),
    upsampling: Any = None,
) -> sr.SparseRefiner:
    """A small refiner whose norms and last layers are not as they start."""
    torch.manual_seed(0)
    if dense is None and classes == 19:
        dense = sr.dense.create("espnetv2-0.5")
    extractor = sr.SparseUNet(
        classes,
        in_channels=count_channels(inputs, classes),
        widths=widths,
        blocks=1,
        pyramid=pyramid,
        padding=padding,
    )
    model = sr.SparseRefiner(
        dense,
        num_classes=classes,
        selector=selector,
        extractor=extractor,
        inputs=inputs,
        upsampling=upsampling,
    )
    for module in extractor.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    last = model.ensembler.fuser[2]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.1)
    return model


def full_logits(model: sr.SparseRefiner, output: RefinerOutput, size: tuple[int, int]) -> Tensor:
    """Logits of all pixels: the upsampled ones, and the refined where pixels were selected."""
    if model.upsampling == "nearest":
        everywhere = _nearest(output.low.logits, size)
    else:
        everywhere = F.interpolate(output.low.logits, size, mode="bilinear")
    _, y, x = output.pixels.coords.long().unbind(1)
    everywhere[0, :, y, x] = output.pixels.refined.t()
    return everywhere


def _nearest(logits: Tensor, size: tuple[int, int]) -> Tensor:
    y, x = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    coords = torch.stack([torch.zeros_like(y), y, x], -1).view(-1, 3).int()
    values = sr.DensePass(logits).at(coords, size, "nearest")
    return values.t().reshape(1, -1, *size)
