"""The least time that the extractor can take: operations over rate, bytes over bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparserefine.sparse import ActivePixels, DownsamplingMode

# Measured on the H200 with a large bf16 product of random data and a copy.
FLOPS = {"bf16": 790e12, "fp16": 790e12, "tf32": 400e12}
BYTES_PER_S = 4.3e12
MAP_BYTES = 36  # a pixel's nine int32 neighbors; a compact map has 6


@dataclass(frozen=True)
class Stage:
    """Numbers of one level.

    Attributes:
        pixels: Active pixels.
        pairs: Neighbor pairs of the 3×3 convolution at this level, the pixel itself included.
        steps: Pairs of the strided convolution to the next coarser level; 0 for the last.
    """

    pixels: int
    pairs: int
    steps: int


def stages_of(pixels: ActivePixels, levels: int, pyramid: DownsamplingMode) -> list[Stage]:
    """Count what there is at every level."""
    found = []
    for level in range(levels):
        neighbors = pixels.submanifold_map.groups[0].neighbors
        pairs = int((neighbors < len(pixels)).sum())
        steps = 0
        if level + 1 < levels:
            step = pixels.downsampling(pyramid)
            steps = int((step.down.groups[0].neighbors < len(pixels)).sum())
        found.append(Stage(len(pixels), pairs, steps))
        if level + 1 < levels:
            pixels = step.coarse
    return found


def convolution_ms(stage: Stage, width: int, form: str, map_bytes: int = MAP_BYTES) -> float:
    """One submanifold convolution from `width` to `width` channels."""
    return _ms(stage.pairs, stage.pixels, stage.pixels, width, width, form, map_bytes)


def extractor_ms(stages: Sequence[Stage], widths: Sequence[int], blocks: int, form: str) -> float:
    """The whole extractor, norms and activations fused, layer by layer.

    Each input row is read once, each output row written once, the residual read once.
    """
    top = stages[0]
    total = _ms(top.pairs, top.pixels, top.pixels, 3, widths[0], form, MAP_BYTES)
    for level, (stage, width) in enumerate(zip(stages, widths, strict=True)):
        last = level + 1 == len(stages)
        same = _ms(stage.pairs, stage.pixels, stage.pixels, width, width, form, MAP_BYTES)
        residual = _ms(0, 0, stage.pixels, width, width, form, 0)
        total += 2 * blocks * same + blocks * residual
        if last:
            continue
        coarse, deeper = stages[level + 1], widths[level + 1]
        total += _ms(stage.steps, stage.pixels, coarse.pixels, width, deeper, form, MAP_BYTES)
        total += _ms(stage.steps, coarse.pixels, stage.pixels, deeper, width, form, MAP_BYTES / 4)
        first = _ms(stage.pairs, stage.pixels, stage.pixels, 2 * width, width, form, MAP_BYTES)
        shortcut = _ms(stage.pixels, stage.pixels, stage.pixels, 2 * width, width, form, 0)
        total += first + shortcut + (2 * blocks - 1) * same + (blocks - 1) * residual
    return total


def _ms(
    pairs: int, rows_in: int, rows_out: int, c_in: int, c_out: int, form: str, map_bytes: float
) -> float:
    size = 4 if form == "tf32" else 2
    weights = 9 * c_in * c_out * size if pairs else 0
    traffic = (rows_in * c_in + rows_out * c_out) * size + weights + map_bytes * rows_out
    return 1000 * max(2 * pairs * c_in * c_out / FLOPS[form], traffic / BYTES_PER_S)
