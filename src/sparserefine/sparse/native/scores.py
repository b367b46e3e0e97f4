"""Passes of the library over the class scores of pixels; see csrc/scores.h."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from sparserefine.sparse.choice import asked_backend
from sparserefine.sparse.native import library
from sparserefine.sparse.native.library import Fusion, Linear, Scores, Sides, loaded, num_threads

MOST_CLASSES = 256
Layers = tuple[nn.Linear, nn.Linear]


def can_score(*tensors: Tensor, classes: int) -> bool:
    """Whether the passes can be made here: of float32 on the CPU, where no gradient is asked for.

    Args:
        tensors: All that a pass takes.
        classes: Number of classes.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore
        return False
    if not 0 < classes <= MOST_CLASSES or asked_backend("auto") not in ("auto", "native"):
        return False
    grad = torch.is_grad_enabled()
    return all(
        type(one) in (Tensor, nn.Parameter)
        and one.device.type == "cpu"
        and one.dtype == torch.float32
        and not (grad and one.requires_grad)
        for one in tensors
    ) and not isinstance(library.load(), str)


def as_cells(rows: Float[Tensor, "N K"]) -> Float[Tensor, "1 K 1 N"]:
    """Rows of scores as those of an image of one row."""
    return rows.t()[None, :, None, :]


def entropies(scores: Float[Tensor, "B K h w"]) -> Float[Tensor, "B h w"]:
    """The entropy of softmax(scores) of each cell, in nats: −Σ p ln max(p, 1e-5)."""
    found = torch.empty(scores.shape[0], *scores.shape[2:])
    loaded().c.sr_score_cells(
        loaded().isa, byref(_scores(scores)), found.data_ptr(), None, num_threads()
    )
    return found


def best_classes(scores: Float[Tensor, "B K h w"]) -> UInt8[Tensor, "B h w"]:
    """The first class of the highest score of each cell."""
    found = torch.empty(scores.shape[0], *scores.shape[2:], dtype=torch.uint8)
    loaded().c.sr_score_cells(
        loaded().isa, byref(_scores(scores)), None, found.data_ptr(), num_threads()
    )
    return found


def sampled(
    scores: Float[Tensor, "B K h w"], coords: Int[Tensor, "N 3"], sides: Sequence[Tensor]
) -> Float[Tensor, "N K"]:
    """Bilinear scores at pixels of a larger image.

    Args:
        scores: Scores on a grid.
        coords: (image, y, x) of the pixels, all in the image.
        sides: Of each row of the image the rows of the grid above and below, and the weight of the
            latter; of each column likewise.
    """
    coords, kept = coords.int().contiguous(), _int_sides(sides)
    found = torch.empty(len(coords), scores.shape[1])
    loaded().c.sr_sample_scores(
        loaded().isa,
        byref(_scores(scores)),
        byref(_sides(kept)),
        coords.data_ptr(),
        len(coords),
        found.data_ptr(),
        num_threads(),
    )
    return found


def upsampled(
    scores: Float[Tensor, "B K h w"],
    sides: Sequence[Tensor],
    settled: Bool[Tensor, "B H W"] | None,
) -> UInt8[Tensor, "B H W"]:
    """The best class of the bilinear scores of each pixel of a larger image.

    Args:
        scores: Scores on a grid.
        sides: As `sampled` takes them.
        settled: True where the class of some cell near will do.
    """
    cells, kept = best_classes(scores), _int_sides(sides)
    height, width = len(kept[0]), len(kept[3])
    settled = None if settled is None else settled.contiguous()
    labels = torch.empty(scores.shape[0], height, width, dtype=torch.uint8)
    loaded().c.sr_upsample_labels(
        loaded().isa,
        byref(_scores(scores)),
        byref(_sides(kept)),
        cells.data_ptr(),
        None if settled is None else settled.data_ptr(),
        height,
        width,
        labels.data_ptr(),
        num_threads(),
    )
    return labels


def fused(
    dense: Float[Tensor, "N K"],
    sparse: Float[Tensor, "N K"],
    gate: Layers,
    fuser: Layers,
    residual: bool,
) -> Float[Tensor, "N K"]:
    """One prediction of two; see `GatedEnsembler`.

    Args:
        dense: The first prediction.
        sparse: The second.
        gate: Layers that weigh them by probabilities and entropies.
        fuser: Layers that correct the mixture.
        residual: Add the mixture to what the fuser says.
    """
    dense, sparse = dense.contiguous(), sparse.contiguous()
    layers = [[_linear(layer) for layer in pair] for pair in (gate, fuser)]
    held = [tensor for pair in layers for one in pair for tensor in one]
    structures = [
        Linear(weight.data_ptr(), bias.data_ptr(), len(bias))
        for weight, bias in zip(held[::2], held[1::2], strict=True)
    ]
    fusion = Fusion(
        classes=dense.shape[1],
        gate=(Linear * 2)(*structures[:2]),
        fuser=(Linear * 2)(*structures[2:]),
        residual=residual,
    )
    found = torch.empty_like(dense)
    loaded().c.sr_fuse_rows(
        loaded().isa,
        byref(fusion),
        dense.data_ptr(),
        sparse.data_ptr(),
        len(dense),
        found.data_ptr(),
        num_threads(),
    )
    return found


def _scores(scores: Tensor) -> Scores:
    batch, classes, height, width = scores.shape
    strides = (ctypes.c_int64 * 4)(*scores.stride())
    return Scores(scores.data_ptr(), batch, classes, height, width, strides)


def _int_sides(sides: Sequence[Tensor]) -> list[Tensor]:
    return [side.contiguous() if side.is_floating_point() else side.int() for side in sides]


def _sides(sides: Sequence[Tensor]) -> Sides:
    return Sides(*(side.data_ptr() for side in sides))


def _linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight.detach().contiguous(), layer.bias.detach().contiguous()
