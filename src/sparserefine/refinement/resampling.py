"""Reading a low-resolution prediction at full-resolution pixels, without a full-size array.

A grid of h cells and an image of H pixels cover the same length: the center of pixel y lies at
(y + ½) · h / H − ½ on the grid (half-pixel centers, as `interpolate(align_corners=False)`).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.sparse.native.scores import (
    as_cells,
    best_classes,
    can_score,
    sampled,
    upsampled,
)

Upsampling = Literal["bilinear", "nearest", "floor"]

# Pixels read at a time: an image that is all edges then needs no more memory than a calm one.
CHUNK_PIXELS = 1 << 16
# An accelerator needs more at a time: starting its kernels takes longer than running them on few.
CHUNK_PIXELS_ACCELERATOR = 1 << 19


def nearest_index(
    cells: int, pixels: int, device: torch.device, *, floor: bool = False
) -> Int[Tensor, " pixels"]:
    """The cell that covers the center of each pixel, along one side.

    Args:
        cells: Number of cells.
        pixels: Number of pixels.
        device: Where the result lies.
        floor: The cell that covers the beginning of each pixel instead, as OpenCV's INTER_NEAREST
            takes it; the same where a cell has a whole number of pixels.
    """
    start = 0.0 if floor else 0.5
    at = (torch.arange(pixels, device=device, dtype=torch.float64) + start) * (cells / pixels)
    return at.long().clamp_(max=cells - 1)


def bilinear_index(
    cells: int, pixels: int, device: torch.device
) -> tuple[Int[Tensor, " pixels"], Int[Tensor, " pixels"], Float[Tensor, " pixels"]]:
    """The two cells around the center of each pixel, and the weight of the second."""
    at = (torch.arange(pixels, device=device, dtype=torch.float64) + 0.5) * (cells / pixels) - 0.5
    at = at.clamp_(min=0, max=cells - 1)
    first = at.long()
    return first, (first + 1).clamp(max=cells - 1), (at - first).float()


def cells_around(
    upsampling: Upsampling, cells: int, pixels: int, device: torch.device
) -> tuple[Int[Tensor, " pixels"], Int[Tensor, " pixels"], Float[Tensor, " pixels"]]:
    """The two cells that each pixel is read from, along one side, and the weight of the second.

    Args:
        upsampling: How values between cell centers are found; without "bilinear" both are the same.
        cells: Number of cells.
        pixels: Number of pixels.
        device: Where the result lies.
    """
    if upsampling == "bilinear":
        return bilinear_index(cells, pixels, device)
    index = nearest_index(cells, pixels, device, floor=upsampling == "floor")
    return index, index, torch.zeros(pixels, device=device)


def sample(
    logits: Float[Tensor, "B K h w"],
    coords: Int[Tensor, "N 3"],
    size: tuple[int, int],
    upsampling: Upsampling = "bilinear",
) -> Float[Tensor, "N K"]:
    """Read upsampled logits at some pixels.

    Equal to `interpolate(logits, size)` read at `coords`, in mode "bilinear" (half-pixel centers)
    or "nearest-exact"; "floor" is what OpenCV calls INTER_NEAREST.

    Args:
        logits: Logits of the low-resolution prediction.
        coords: (batch, y, x) of full-resolution pixels.
        size: (H, W) of the full-resolution image.
        upsampling: How values between cell centers are found: "bilinear", "nearest" or "floor".
    """
    check_upsampling(upsampling)
    if upsampling == "bilinear" and can_score(logits, classes=logits.shape[1]):
        return sampled(logits, coords, _sides(logits, size))
    table = logits.permute(0, 2, 3, 1).contiguous()  # [B, h, w, K]
    chunks = _chunks(coords)
    return torch.cat([_read(table, chunk, size, upsampling) for chunk in chunks])


def _sides(logits: Float[Tensor, "B K h w"], size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Of each row and each column of an image the cells around it, and their weights."""
    height, width = logits.shape[2:]
    return (
        *bilinear_index(height, size[0], logits.device),
        *bilinear_index(width, size[1], logits.device),
    )


def _chunks(coords: Integer[Tensor, "N 3"]) -> tuple[Tensor, ...]:
    on_cpu = coords.device.type == "cpu"
    return coords.split(CHUNK_PIXELS if on_cpu else CHUNK_PIXELS_ACCELERATOR)


def _read(
    table: Float[Tensor, "B h w K"],
    coords: Integer[Tensor, "N 3"],
    size: tuple[int, int],
    upsampling: Upsampling,
) -> Float[Tensor, "N K"]:
    height, width, classes = table.shape[1:]
    device = table.device
    table = table.view(-1, classes)
    batch, y, x = coords.long().unbind(1)
    if upsampling != "bilinear":
        row = cells_around(upsampling, height, size[0], device)[0][y]
        column = cells_around(upsampling, width, size[1], device)[0][x]
        return table.index_select(0, (batch * height + row) * width + column)
    top, bottom, down = (part[y] for part in bilinear_index(height, size[0], device))
    left, right, across = (part[x] for part in bilinear_index(width, size[1], device))
    above, below = batch * height + top, batch * height + bottom
    return mix_cells(table, width, (above, below, down), (left, right, across))


def mix_cells(
    table: Float[Tensor, "n K"],
    width: int,
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
) -> Float[Tensor, "N K"]:
    """The weighted means of the four cells around some pixels.

    Args:
        table: Logits of the cells, row-major.
        width: Cells in a row.
        rows: Of each pixel the row of cells above it, the one below, and the weight of the latter.
        columns: Likewise the columns to its left and right.
    """
    top, bottom, down = rows
    left, right, across = columns
    top, bottom = top * width, bottom * width
    corners = torch.stack([top + left, top + right, bottom + left, bottom + right], 1)
    weights = torch.stack(
        [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], 1
    )
    # A weighted sum of table rows is what embedding_bag computes, without a [N, 4, K] array.
    return F.embedding_bag(corners, table, per_sample_weights=weights.to(table.dtype), mode="sum")


def upsampled_labels(
    logits: Float[Tensor, "B K h w"],
    size: tuple[int, int],
    upsampling: Upsampling = "bilinear",
    settled: Bool[Tensor, "B H W"] | None = None,
) -> Integer[Tensor, "B H W"]:
    """The argmax of upsampled logits.

    Equal to `interpolate(logits, size).argmax(1)`. Where all four cells around a pixel agree on
    the class, every weighted mean of them does too; only the other pixels are interpolated.

    Args:
        logits: Logits of the low-resolution prediction.
        size: (H, W) of the full-resolution image.
        upsampling: How values between cell centers are found: "bilinear", "nearest" or "floor".
        settled: True at pixels whose label the caller will overwrite; they get that of some cell
            near.

    Returns:
        Labels as uint8, or int32 where there are more than 256 classes.
    """
    check_upsampling(upsampling)
    if upsampling == "bilinear" and can_score(logits, classes=logits.shape[1]):
        return upsampled(logits, _sides(logits, size), settled)
    height, width = logits.shape[2:]
    cells = classes_of(logits).to(label_dtype(logits.shape[1]))
    if upsampling != "bilinear":
        rows = cells_around(upsampling, height, size[0], logits.device)[0]
        columns = cells_around(upsampling, width, size[1], logits.device)[0]
        return cells.index_select(1, rows).index_select(2, columns)
    top, bottom, _ = bilinear_index(height, size[0], logits.device)
    left, right, _ = bilinear_index(width, size[1], logits.device)
    upper, lower = cells.index_select(1, top), cells.index_select(1, bottom)
    labels = upper.index_select(2, left)
    mixed = labels != upper.index_select(2, right)
    mixed |= labels != lower.index_select(2, left)
    mixed |= labels != lower.index_select(2, right)
    if settled is not None:
        mixed &= ~settled
    table = logits.permute(0, 2, 3, 1).contiguous()
    for chunk in _chunks(mixed.nonzero()):
        batch, y, x = chunk.unbind(1)
        found = classes_of(_read(table, chunk, size, upsampling))
        labels[batch, y, x] = found.to(labels.dtype)
    return labels


def classes_of(logits: Float[Tensor, "N K ..."]) -> Integer[Tensor, "N ..."]:
    """The class of the highest logit. `argmax(1)` takes up to four times as long on a CPU."""
    if logits.ndim in (2, 4) and can_score(logits, classes=logits.shape[1]):
        cells = logits if logits.ndim == 4 else as_cells(logits)
        return best_classes(cells).view(logits.shape[:1] + logits.shape[2:]).long()
    return logits.max(1).indices


def check_upsampling(upsampling: str) -> None:
    """Raise ValueError unless `upsampling` is a known way of upsampling."""
    if upsampling not in get_args(Upsampling):
        raise ValueError(
            f'upsampling {upsampling!r} is unknown. Use "bilinear", "nearest" or "floor".'
        )


def label_dtype(num_classes: int) -> torch.dtype:
    """The smallest type that holds the labels: a 30-megapixel map of int64 takes 240 MB."""
    return torch.uint8 if num_classes <= 256 else torch.int32
