"""The refiner `edges`: any prediction, any number of classes, without training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_dense import TinyDense
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.refinement.band_selector import BandSelector
from sparserefine.refinement.checks import check_shipped
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.sparse import ActivePixels
from sparserefine.training.config import TrainConfig

SIZE = (120, 160)


def scene(classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, sr.DensePass]:
    """Images [1, 3, H, W] of disks of plain colors, their labels, and a coarse prediction."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.arange(side) for side in SIZE), indexing="ij")
    labels = torch.zeros(SIZE, dtype=torch.int64)
    for index in range(1, classes):
        labels[torch.hypot(y - 60.0, x - 160 * index / classes) < 24] = index
    colors = torch.tensor([[30, 60, 190], [210, 160, 40], [40, 170, 60], [190, 40, 150]])
    noise = torch.randint(-6, 7, (*SIZE, 3), generator=generator)
    image = (colors[labels] + noise).clamp(0, 255).to(torch.uint8)
    one_hot = F.one_hot(labels, classes).permute(2, 0, 1)[None].float()
    share = F.interpolate(one_hot, (30, 40), mode="area")
    return image.permute(2, 0, 1)[None], labels, sr.DensePass.of(share, kind="probabilities")


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_it_refines_any_number_of_classes(classes: int) -> None:
    images, truth, low = scene(classes)
    model = sr.load("edges", num_classes=classes)
    output = model(images, low=low)
    before = model.low_resolution_labels(low, SIZE)[0]
    wrong, wrong_before = (int((found != truth).sum()) for found in (output.labels[0], before))
    assert wrong < 0.5 * wrong_before
    assert torch.equal(output.labels[~output.mask], before[None][~output.mask])
    assert output.pixels.refined.shape == (int(output.mask.sum()), classes)
    assert torch.equal(output.mask, model.selector(low, SIZE))


def test_it_is_alpha_by_edges() -> None:
    images, _, low = scene()
    model = sr.load("edges")
    output = model(images, low=low)
    matte = sr.refine(images[0], low.logits[0].softmax(0)[1].numpy(), method="edges")
    _, y, x = output.pixels.coords.long().unbind(1)
    alpha = torch.from_numpy(matte.alpha)[y, x]
    torch.testing.assert_close(output.pixels.refined.softmax(1)[:, 1], alpha, atol=1e-4, rtol=0)
    assert torch.equal(output.mask[0], torch.from_numpy(matte.mask))


def test_two_images_one_without_a_band() -> None:
    images, _, low = scene()
    sure = torch.tensor([20.0, -20.0])[None, :, None, None].expand(1, 2, 30, 40)
    both = sr.DensePass(torch.cat([sure, low.logits]))
    model = sr.load("edges")
    output = model(torch.cat([images, images]), low=both)
    assert not output.mask[0].any() and not output.labels[0].any()
    alone = model(images, low=low)
    assert torch.equal(output.labels[1], alone.labels[0])


@pytest.mark.parametrize("pixels", [0, 1])
def test_the_pixels_that_are_asked_for_and_no_others(pixels: int) -> None:
    images, _, low = scene()
    model = sr.load("edges")
    whole = model(images, low=low)
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    if pixels:
        _, y, x = whole.pixels.coords[100].tolist()
        mask[0, y, x] = True
    output = model.refine(images, low, mask)
    assert output.pixels.refined.shape == (pixels, 2)
    if pixels:
        torch.testing.assert_close(output.pixels.refined[0], whole.pixels.refined[100])


def test_pixels_of_which_the_prediction_is_sure_keep_it() -> None:
    images, _, low = scene()
    model = sr.load("edges")
    everywhere = model.refine(images, low, torch.ones(1, *SIZE, dtype=torch.bool))
    assert torch.equal(everywhere.labels, model(images, low=low).labels)


def test_hard_labels_have_a_band_too() -> None:
    images, truth, low = scene(3)
    hard = sr.DensePass.of(low.logits.argmax(1), kind="labels", num_classes=3)
    model = sr.load("edges", num_classes=3)
    output = model(images, low=hard)
    assert 0.05 < float(output.mask.float().mean()) < 0.8
    before = (model.low_resolution_labels(hard, SIZE)[0] != truth).sum()
    assert int((output.labels[0] != truth).sum()) < int(before)


def test_in_front_of_a_dense_model() -> None:
    dense = TinyDense(num_classes=3)
    model = sr.SparseRefiner(dense, refiner="edges")
    assert model.num_classes == 3 and isinstance(model.selector, BandSelector)
    output = model(torch.rand(1, 3, 64, 96))
    assert output.labels.shape == (1, 64, 96)
    assert model.describe()["ensembler"] == {"kind": "extractor"}


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    images, _, low = scene(3)
    model = sr.load("edges", num_classes=3)
    model.save_pretrained(tmp_path / "mine")
    again = sr.load(tmp_path / "mine")
    assert again.describe() == model.describe() and again.num_classes == 3
    assert torch.equal(again(images, low=low).labels, model(images, low=low).labels)


def test_weights_of_two_are_not_shared() -> None:
    first, second = sr.load("edges"), sr.load("edges")
    with torch.no_grad():
        next(first.extractor.parameters()).zero_()
    assert not torch.equal(next(first.extractor.parameters()), next(second.extractor.parameters()))


def test_what_does_not_go_together() -> None:
    with pytest.raises(ValueError, match="refiner 'edge' is unknown"):
        check_shipped("edge", None, None)
    with pytest.raises(ValueError, match="brings its extractor"):
        sr.SparseRefiner(None, refiner="edges", num_classes=2, extractor=sr.SparseUNet(2))
    with pytest.raises(ValueError, match="Leave it out"):
        sr.load("demo", num_classes=3)
    images, _, low = scene()
    model = sr.SparseRefiner(TinyDense(num_classes=2), refiner="edges")
    with pytest.raises(ValueError, match="trained on alpha"):
        sample = sr.data.Sample("one", images[0], torch.zeros(SIZE, dtype=torch.int64))
        sr.train(model, [sample], config=TrainConfig(steps=1))
    mask = sr.load("edges").selector(low, SIZE)
    pixels = ActivePixels.from_mask(mask)
    with pytest.raises(ValueError, match="the whole prediction"):
        model.refine_pixels(images, pixels, low.at(pixels.coords, SIZE))


def test_the_extractor_says_how_to_make_it_again() -> None:
    described = EdgeExtractor(5, widths=(8, 16)).describe()
    kind = described.pop("kind")
    assert kind == "edges" and EdgeExtractor(5, **described).describe() == {
        "kind": kind,
        **described,
    }
