"""The maps that are built on the device against those of `ActivePixels`."""

from __future__ import annotations

import pytest
import torch
from masks import MASKS
from torch import Tensor

from sparserefine.sparse import ActivePixels, KernelMap
from sparserefine.sparse.gpu.levels import MAX_COMPACT_WIDTH, DeviceLevels

pytestmark = pytest.mark.interpreter

DOWN = pytest.mark.parametrize(
    ("mode", "padding"), [("dilate", 1), ("dilate", 0), ("floor", 1)], ids=str
)
ROOM = [1700, 1800, 600]


def little_more(pixels: ActivePixels, mode: str, padding: int) -> list[int]:
    """Room for the pixels of three levels, and up to 64 more: programs without a row take time."""
    coarse = pixels.downsampling(mode, padding).coarse
    coarsest = coarse.downsampling(mode, padding).coarse
    return [64 * (len(level) // 64 + 1) for level in (pixels, coarse, coarsest)]


def make(mask: Tensor, capacities: list[int], **options) -> DeviceLevels:
    batch, height, width = mask.shape
    return DeviceLevels(batch, (height, width), capacities, device="cpu", **options)


def table(kernel_map: KernelMap) -> Tensor:
    (group,) = kernel_map.groups
    return torch.where(group.neighbors == kernel_map.num_inputs, -1, group.neighbors)


def unpacked(compact: Tensor) -> Tensor:
    """The table [9, rows] that a compact map [3, rows] stands for."""
    up, down, code = compact.int()
    row = torch.arange(len(up))
    first = {0: row + up, 1: row - ((code >> 3) & 1), 2: row + down}
    found = torch.full((9, len(up)), -1, dtype=torch.long)
    for dy in range(3):
        at = first[dy].clone()
        for dx in range(3):
            present = (code >> (3 * dy + dx)) & 1 == 1
            found[3 * dy + dx] = torch.where(present, at, -1)
            at += present
    return found


@DOWN
@pytest.mark.parametrize("name", MASKS)
def test_pixels_and_maps_of_all_levels(name: str, mode: str, padding: int) -> None:
    mask = MASKS[name]
    pixels = ActivePixels.from_mask(mask)
    room = little_more(pixels, mode, padding)
    levels = make(mask, room, mode=mode, padding=padding, compact_levels=1)
    levels.update(mask)
    assert not levels.overflow
    for level in range(3):
        number = len(pixels)
        assert levels.levels[level].spatial_shape == pixels.spatial_shape
        assert levels.found[level] == levels.count(level) == number
        assert torch.equal(levels.coords(level)[:number], pixels.coords)
        own = levels.submanifold_map(level)[:, :number]
        own = unpacked(own) if level == 0 else own
        assert torch.equal(own.long(), table(pixels.submanifold_map).long())
        if level == 2:
            break
        step = pixels.downsampling(mode, padding)
        window = levels.strided_map(level + 1)[:, : len(step.coarse)]
        assert torch.equal(window, table(step.down))
        pixels = step.coarse


def test_a_new_mask_leaves_nothing_of_the_old_one() -> None:
    first, second = MASKS["random_30pct"], MASKS["random_30pct"].flip(2)
    levels, fresh = make(first, ROOM), make(first, ROOM)
    levels.update(first)
    levels.update(second)
    fresh.update(second)
    assert torch.equal(levels.found, fresh.found)
    for level, number in enumerate(fresh.found.tolist()):
        assert torch.equal(levels.coords(level)[:number], fresh.coords(level)[:number])
        old, new = levels.submanifold_map(level), fresh.submanifold_map(level)
        assert torch.equal(old[:, :number], new[:, :number])


def test_overflow_is_counted_and_stays_within_bounds() -> None:
    mask = MASKS["random_30pct"]
    levels = make(mask, [64, 64, 64])
    before = levels._cells.clone()
    levels.update(mask)
    assert levels.overflow
    pixels = ActivePixels.from_mask(mask)
    assert levels.found[0] == len(pixels)
    assert [int(levels.count(i)) for i in range(3)] == [64, 64, 64]
    assert levels.found[1] == len(pixels.downsampling().coarse)  # exact, whatever the room above
    assert len(before) == 192 and int(levels._grid.max()) == 63


def test_features_are_gathered_from_images_of_any_strides() -> None:
    mask = MASKS["random_30pct"]
    images = torch.randn(2, 32, 40, 5).permute(0, 3, 1, 2)
    levels = make(mask, ROOM)
    levels.update(mask)
    batch, y, x = mask.nonzero().unbind(1)
    for width in (5, 8, 40):
        room = torch.full((levels.levels[0].capacity, width), 7, dtype=torch.float16)
        feats = levels.gather(images, room)[: len(y)]
        assert torch.equal(feats[:, :5], images[batch, :, y, x].half())
        assert not feats[:, 5:].any()


def test_very_wide_images_have_no_compact_maps() -> None:
    levels = DeviceLevels(1, (1, MAX_COMPACT_WIDTH + 1), [64], device="cpu")
    assert levels.submanifold_map(0).dtype == torch.int32


def test_bad_input_is_answered_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"capacities=\(0,\): expected one number of pixels"):
        DeviceLevels(1, (4, 4), [0], device="cpu")
    with pytest.raises(ValueError, match=r"need index grids of more than 2\^31 cells"):
        DeviceLevels(1000, (2000, 2000), [64], device="cpu")
    with pytest.raises(ValueError, match='padding=0 does not fit mode "floor"'):
        DeviceLevels(1, (4, 4), [64], mode="floor", padding=0, device="cpu")
