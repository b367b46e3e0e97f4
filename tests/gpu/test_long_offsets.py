"""Arrays of more than 2^31 numbers, of which only the few that are used take memory."""

from __future__ import annotations

import mmap

import pytest
import torch
from masks import MASKS
from torch import Tensor

from sparserefine.sparse import ActivePixels
from sparserefine.sparse.gpu import launch
from sparserefine.sparse.gpu.levels import DeviceLevels

pytestmark = pytest.mark.interpreter

FAR = 2**31
_MAP_NORESERVE = 0x4000  # Linux; Python names it from 3.13 on


def far_apart(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Rows of which the last begins beyond 2^31 numbers, all zero."""
    stride = -(-FAR // (rows - 1) // 64) * 64
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    numbers = (rows - 1) * stride + width
    memory = mmap.mmap(-1, numbers * dtype.itemsize, flags=flags)
    return torch.frombuffer(memory, dtype=dtype).as_strided((rows, width), (stride, 1))


def apart(rows: Tensor) -> Tensor:
    """A copy whose rows are far apart."""
    return far_apart(len(rows), rows.shape[1], rows.dtype).copy_(rows)


@pytest.fixture
def pixels() -> ActivePixels:
    return ActivePixels.from_mask(MASKS["two_images_one_empty"])


@pytest.mark.parametrize("which", ["features", "tables"])
def test_convolutions(which: str, pixels: ActivePixels) -> None:
    n = len(pixels)
    own = pixels.submanifold_map.groups[0].neighbors
    x, residual, wide = (torch.randn(n, c, dtype=torch.float16) for c in (12, 24, 40))
    weight, skip_weight = (torch.randn(*c, 24, dtype=torch.float16) for c in ((9, 12), (40,)))
    scale, shift = torch.rand(24), torch.randn(24)
    features = apart if which == "features" else torch.clone
    tables = apart if which == "tables" else torch.clone
    results = []
    for of_features, of_tables in ((torch.clone, torch.clone), (features, tables)):
        raw, active = (of_features(torch.zeros(n, 24, dtype=torch.float16)) for _ in range(2))
        launch.convolve(
            of_features(x),
            weight,
            of_tables(own),
            n,
            raw=raw,
            residual=of_features(residual),
            skip=launch.Skip(of_features(wide), skip_weight),
            activations=(launch.Activation(scale, shift, active),),
        )
        gradient = launch.weight_gradient(of_features(x), of_features(residual), of_tables(own))
        results.append((raw, active, gradient))
    for near, far in zip(*results, strict=True):
        assert near.any() and torch.equal(near, far)


@pytest.mark.parametrize("padding", [0, 1])
def test_inverse_convolutions(padding: int, pixels: ActivePixels) -> None:
    step = pixels.downsampling("dilate", padding)
    own, children = (
        kernel_map.groups[0].neighbors for kernel_map in (step.coarse.submanifold_map, step.down)
    )
    x, weight = torch.randn(len(step.coarse), 6), torch.randn(9, 6, 4)
    results = []
    for place in (torch.clone, apart):
        raw = place(torch.zeros(len(pixels), 4))
        inverse = launch.Inverse(place(children), len(pixels), padding)
        launch.convolve(place(x), weight, place(own), len(step.coarse), raw=raw, inverse=inverse)
        results.append(raw)
    assert results[0].any() and torch.equal(*results)


@pytest.mark.parametrize("compact", [0, 2])
def test_maps(compact: int) -> None:
    mask = MASKS["two_images_one_empty"]
    found = []
    for place in (torch.clone, apart):
        levels = DeviceLevels(
            len(mask), tuple(mask.shape[1:]), [512, 512], compact_levels=compact, device="cpu"
        )
        for name in ("_submanifold", "_compact", "_strided"):
            buffer = getattr(levels, name)
            if buffer.shape[1] > 0:
                setattr(levels, name, place(buffer))
        levels.update(mask)
        found.append((levels.submanifold_map(0), levels.submanifold_map(1), levels.strided_map(1)))
    for near, far in zip(*found, strict=True):
        assert near.any() and torch.equal(near, far)


@pytest.mark.parametrize("far", ["channels", "rows", "columns"])
def test_images(far: str) -> None:
    levels = DeviceLevels(1, (8, 8), [64], device="cpu")
    levels.update(torch.ones(1, 8, 8, dtype=torch.bool))
    numbers = torch.randint(1, 255, (8, 64), dtype=torch.uint8)
    images = apart(numbers).unflatten(1, (8, 8))[None]
    order = {"channels": (0, 1, 2, 3), "rows": (0, 2, 1, 3), "columns": (0, 2, 3, 1)}[far]
    images = images.permute(order)
    feats = levels.gather(images, apart(torch.zeros(64, 12, dtype=torch.float16)))
    assert torch.equal(feats[:, :8].byte(), images[0].permute(1, 2, 0).reshape(64, 8))
    assert not feats[:, 8:].any()


def test_more_rows_than_32_bits_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"these are more than 2\^31 rows in all. Make less room"):
        DeviceLevels(1, (4, 4), [2**30, 2**30], device="cpu")
