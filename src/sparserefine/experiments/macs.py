"""Multiply-accumulates (MACs) that a prediction takes, counted, not estimated."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool
from torch import Tensor

from sparserefine.dense import DenseModel
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import ActivePixels


def dense_macs(dense: DenseModel, size: tuple[int, int], batch: int = 1) -> int:
    """Count the MACs of the convolutions and matrix products of a dense model.

    Args:
        dense: The model; it is copied to the meta device, where nothing is computed.
        size: (h, w) of the images.
        batch: Number of images.
    """
    from torch.utils.flop_counter import FlopCounterMode  # which imports Triton where there is one

    model = copy.deepcopy(dense).to("meta")
    images = torch.empty(batch, 3, *size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    return counter.get_total_flops() // 2


def extractor_macs(network: SparseUNet, mask: Bool[Tensor, "B H W"]) -> int:
    """Count the MACs of the extractor's 3×3 convolutions, between pixels that are active.

    Args:
        network: The extractor.
        mask: True at the active pixels.
    """
    pixels = ActivePixels.from_mask(mask)
    total = 0
    widths, units = network.widths, 4 * network.blocks + 1
    for stage, width in enumerate(widths):
        last = stage == len(widths) - 1
        pairs = sum(len(inputs) for _, inputs, _ in pixels.submanifold_map.pairs)
        total += pairs * width * width * (2 * network.blocks if last else units)
        if stage == 0:
            total += pairs * network.in_channels * width
        if not last:
            step = pixels.downsampling(network.pyramid, network.padding)
            strided = sum(len(inputs) for _, inputs, _ in step.down.pairs)
            total += 2 * strided * width * widths[stage + 1]  # there and back
            pixels = step.coarse
    return total
