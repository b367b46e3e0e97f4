"""The extractor that reads the first stages of the dense model's encoder."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.refinement.stage_extractor import see_stages
from sparserefine.sparse import ActivePixels


@pytest.fixture(scope="module")
def dense() -> sr.dense.DenseModel:
    torch.manual_seed(0)
    return sr.dense.create("espnetv2-0.5")


def refiner(dense: sr.dense.DenseModel, *, random: bool = False) -> sr.SparseRefiner:
    torch.manual_seed(1)
    extractor = sr.StageExtractor(19, stage_channels=dense.stage_channels, width=16)
    if random:
        torch.nn.init.normal_(extractor.head[-1].weight)
    return sr.SparseRefiner(dense, extractor=extractor, selector=sr.EntropySelector(0.0, 0.3))


def test_untrained_it_says_what_the_dense_model_says(dense: sr.dense.DenseModel) -> None:
    images = torch.rand(2, 3, 75, 101)
    model = refiner(dense)
    output = model(images)
    assert output.mask.any()
    assert torch.equal(output.labels, model.low_resolution_labels(output.low, (75, 101)))


def test_the_stages_are_those_of_a_run_of_the_model(dense: sr.dense.DenseModel) -> None:
    seen = []
    encoder = dense.get_submodule("base_net")
    hooks = [
        encoder.get_submodule(name).register_forward_hook(lambda *call: seen.append(call[2]))
        for name in ("level1", "level2_0", "level3_0")
    ]
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        dense(images)
        whole = list(seen)
        grids = dense.first_stages(images)
    for hook in hooks:
        hook.remove()
    assert tuple(grid.shape[1] for grid in grids) == dense.stage_channels
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(grids, whole, strict=True))


def test_projecting_cells_and_reading_pixels_commute(dense: sr.dense.DenseModel) -> None:
    """Plain torch in float64: every grid enlarged to all pixels, projected there, and read."""
    model = refiner(dense, random=True)
    extractor = model.extractor
    assert isinstance(extractor, sr.StageExtractor)
    images = torch.rand(2, 3, 50, 70)
    mask = torch.rand(2, 50, 70) < 0.2
    pixels = ActivePixels.from_mask(mask)
    low = model.dense_pass(images)
    given = low.at(pixels.coords, (50, 70), "bilinear")
    with torch.no_grad():
        found = model.refine_pixels(images, pixels, given).sparse
        shown = see_stages(dense, images, model.dense_size)
        exact = extractor.double()
        mean, std = (
            torch.tensor(s)[:, None, None] for s in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        rgb = ((images - mean) / std).permute(0, 2, 3, 1)[mask].double()
        hidden = exact.own(exact.norm(torch.cat([rgb, given.double()], 1)))
        for project, grid in zip(exact.projections, shown.grids, strict=True):
            large = F.interpolate(grid.double(), shown.size, mode="bilinear")[:, :, :50, :70]
            hidden = hidden + project(large).permute(0, 2, 3, 1)[mask]
        expected = given.double() + exact.head(hidden)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "chosen", [[], [(0, 0, 0)], [(1, 32, 44)]], ids=["none", "a corner", "one image empty"]
)
def test_few_pixels(dense: sr.dense.DenseModel, chosen: list[tuple[int, int, int]]) -> None:
    mask = torch.zeros(2, 33, 45, dtype=torch.bool)
    for at in chosen:
        mask[at] = True
    model = refiner(dense, random=True)
    images = torch.rand(2, 3, 33, 45)
    low = model.dense_pass(images)
    output = model.refine(images, low, mask)
    assert len(output.pixels.refined) == len(chosen)
    outside = ~mask
    before = model.low_resolution_labels(low, (33, 45))
    assert torch.equal(output.labels[outside], before[outside])


def test_it_trains_and_the_dense_model_does_not(dense: sr.dense.DenseModel) -> None:
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    samples = [
        sr.data.Sample(
            str(index),
            torch.randint(256, (3, 48, 64), dtype=torch.uint8),
            torch.randint(19, (48, 64), dtype=torch.uint8),
        )
        for index in range(2)
    ]
    model = refiner(dense)
    config = sr.TrainConfig(
        steps=30,
        batch_size=2,
        crop_size=(48, 64),
        views=1,
        set_aside=0.0,
        learning_rate=1e-2,
        jitter=0.0,
        flip=False,
        warmup_steps=0,
    )
    result = sr.train(model, samples, config)
    # Noise, so it learns by heart, and slowly.
    assert result.losses[-1] < result.losses[0] - 0.1
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


def test_saved_and_read_it_says_the_same(dense: sr.dense.DenseModel, tmp_path) -> None:
    model = refiner(dense, random=True)
    model.save_pretrained(tmp_path / "model")
    images = torch.rand(1, 3, 40, 56)
    again = sr.SparseRefiner.from_pretrained(tmp_path / "model")
    assert torch.equal(again(images).labels, model(images).labels)


def test_a_model_without_stages_is_refused(dense: sr.dense.DenseModel) -> None:
    other = sr.dense.from_callable(lambda images: images, "logits", 3, check=False)
    with pytest.raises(ValueError, match="stage_channels"):
        sr.StageExtractor(3, stage_channels=other.stage_channels)
    extractor = sr.StageExtractor(19, stage_channels=(8, 8))
    with pytest.raises(ValueError, match=r"reads stages of \(8, 8\) channels, but the dense"):
        sr.SparseRefiner(dense, extractor=extractor)
    with pytest.raises(ValueError, match="shows none"):
        sr.SparseRefiner(None, num_classes=19, extractor=extractor)
    with pytest.raises(NotImplementedError, match="shows no stages"):
        other.first_stages(torch.rand(1, 3, 8, 8))


def test_it_is_not_exported(dense: sr.dense.DenseModel, tmp_path) -> None:
    pytest.importorskip("onnx", reason="export needs onnx")
    with pytest.raises(ValueError, match="'stages' cannot be exported"):
        sr.export(refiner(dense), (64, 64), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
