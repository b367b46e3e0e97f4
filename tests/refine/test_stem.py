"""The dense model's first features as input of the extractor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_dense import TinyDense
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense import create
from sparserefine.refine.features import count_channels
from sparserefine.refine.stem import STEM_WIDTH, StemProjection

INPUTS = ("rgb", "stem")


def make_refiner() -> sr.SparseRefiner:
    torch.manual_seed(0)
    dense = create("espnetv2-0.5")
    channels = count_channels(INPUTS, dense)
    extractor = sr.SparseUNet(19, in_channels=channels, widths=(8, 8), blocks=1)
    selector = sr.EntropySelector(0.1, max_density=0.3)
    return sr.SparseRefiner(dense, selector=selector, extractor=extractor, inputs=INPUTS)


@pytest.mark.parametrize("training", [True, False])
def test_projection_is_normalize_convolve_and_interpolate(training: bool) -> None:
    stem = StemProjection((4, 6)).train(training)
    for norm in stem.norms:
        norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    features = torch.randn(2, 4, 8, 10), torch.randn(2, 6, 4, 5)
    coords = torch.tensor([[0, 0, 0], [0, 15, 19], [1, 7, 8]], dtype=torch.int32)
    expected = []
    for index, map_ in enumerate(features):
        projected = stem.projections[index](stem.norms[index](map_))
        upsampled = F.interpolate(projected, (16, 20), mode="bilinear", align_corners=False)
        expected.append(torch.stack([upsampled[b, :, y, x] for b, y, x in coords.tolist()]))
    found = stem(features, coords, (16, 20))
    assert found.shape == (3, 2 * STEM_WIDTH)
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-5)


def test_the_stem_is_that_of_the_whole_model() -> None:
    dense = create("espnetv2-0.5")
    images = torch.rand(1, 3, 64, 96)
    maps = dense.stem(images)
    assert tuple(m.shape[1] for m in maps) == dense.stem_channels
    assert [tuple(m.shape[2:]) for m in maps] == [(32, 48), (16, 24)]
    encoded = dense.base_net(dense.normalize(images))  # type: ignore[operator]
    for found, wanted in zip(maps, encoded, strict=False):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("size", [(50, 70), (64, 96), (1, 1)])
def test_predicts_any_size_and_survives_saving(size: tuple[int, int], tmp_path: Path) -> None:
    refiner = make_refiner().eval()
    images = torch.rand(1, 3, *size)
    labels = refiner(images).labels
    assert labels.shape == (1, *size)
    refiner.save_pretrained(tmp_path / "model")
    again = sr.SparseRefiner.from_pretrained(tmp_path / "model")
    assert torch.equal(again(images).labels, labels)


def test_the_projection_learns_and_the_dense_model_does_not() -> None:
    refiner = make_refiner().train()
    mask = torch.rand(1, 32, 48) < 0.5
    dense = torch.randn(int(mask.sum()), 19)
    refiner.refine_pixels(torch.rand(1, 3, 32, 48), mask, dense).fused.square().mean().backward()
    assert refiner.stem is not None
    assert all(p.grad is not None and bool(p.grad.any()) for p in refiner.stem.parameters())
    assert all(p.grad is None for p in refiner.dense.parameters())


def test_a_model_without_a_stem_says_so() -> None:
    dense = TinyDense()
    with pytest.raises(ValueError, match=r'TinyDense has no stem\. Leave "stem" out, or'):
        sr.SparseRefiner(dense, inputs=("rgb", "stem"))
    with pytest.raises(NotImplementedError, match="TinyDense has no stem"):
        dense.stem(torch.rand(1, 3, 32, 32))
