"""The whole pipeline on a small dense model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dense import TinyDense
from torch.nn import functional as F

from sparserefine import EntropySelector, GatedEnsembler, SparseRefiner, SparseUNet
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.resampling import nearest_index, sample, upsampled_labels
from sparserefine.refinement.timing import StageTimer

SIZES = pytest.mark.parametrize(
    "size", [(64, 96), (63, 95), (1, 1), (1, 200), (200, 1), (30, 17)], ids=str
)


def make(threshold: float = 0.5, max_density: float = 1.0, **options: object) -> SparseRefiner:
    torch.manual_seed(0)
    return SparseRefiner(
        TinyDense(),
        selector=EntropySelector(threshold, max_density),
        extractor=SparseUNet.from_preset("tiny", 5),
        **options,
    ).eval()


def photo(size: tuple[int, int], batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (batch, 3, *size), generator=generator, dtype=torch.uint8)


@SIZES
def test_any_image_size(size: tuple[int, int]) -> None:
    output = make()(photo(size, 2))
    assert output.labels.shape == output.mask.shape == (2, *size)
    assert output.labels.dtype == torch.uint8
    assert int(output.labels.max()) < 5


@SIZES
def test_the_dense_model_gets_sides_it_accepts(size: tuple[int, int]) -> None:
    model = make()
    model(photo(size))
    (seen,) = model.dense.seen
    assert seen[0] % 8 == seen[1] % 8 == 0


def test_fixed_dense_size_keeps_the_aspect_ratio() -> None:
    model = make(dense_size=(32, 64))
    for size, expected in (((128, 256), (32, 64)), ((128, 128), (32, 32)), ((256, 128), (32, 16))):
        model.dense.seen.clear()
        model(photo(size))
        assert model.dense.seen == [expected]


def test_nothing_selected_gives_the_dense_labels_bit_for_bit() -> None:
    model = make(threshold=10.0)
    images = photo((48, 80))
    output = model(images)
    upsampled = F.interpolate(output.low.logits, (48, 80), mode="bilinear", align_corners=False)
    assert not output.mask.any()
    assert torch.equal(output.labels.long(), upsampled.argmax(1))


def test_unselected_pixels_keep_the_dense_label_and_selected_ones_get_the_fused() -> None:
    model = make(threshold=0.9)
    output = model(photo((48, 80)))
    assert 0 < int(output.mask.sum()) < output.mask.numel()
    upsampled = F.interpolate(output.low.logits, (48, 80), mode="bilinear", align_corners=False)
    dense = upsampled.argmax(1)
    assert torch.equal(output.labels[~output.mask].long(), dense[~output.mask])
    assert torch.equal(output.labels[output.mask].long(), output.pixels.refined.argmax(1))


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_a_batch_never_changes_an_image(mode: str) -> None:
    torch.manual_seed(0)
    model = SparseRefiner(
        TinyDense(),
        selector=EntropySelector(0.5, 0.4),
        extractor=SparseUNet.from_preset("tiny", 5),
        mode=mode,
    ).eval()
    images = photo((40, 56), 2)
    together, alone = model(images), model(images[1:])
    assert torch.equal(together.mask[1], alone.mask[0])
    assert torch.equal(together.low.logits[1], alone.low.logits[0])
    own = together.pixels.coords[:, 0] == 1
    assert torch.equal(together.pixels.coords[own, 1:], alone.pixels.coords[:, 1:])
    first, second = together.pixels.refined[own], alone.pixels.refined
    # The same sums; how many pixels there are decides their order, so they round differently.
    torch.testing.assert_close(first, second, atol=2e-5, rtol=2e-5)
    best, next_best = second.topk(2, 1).values.unbind(1)
    certain = alone.mask[0].clone()
    certain[certain.clone()] = best - next_best > 1e-4
    certain |= ~alone.mask[0]
    assert certain.float().mean() > 0.99
    assert torch.equal(together.labels[1][certain], alone.labels[0][certain])


def test_paper_mode_changes_what_it_says() -> None:
    model = SparseRefiner(TinyDense(), mode="paper")
    assert model.upsampling == "floor" and model.selector.cells == "floor"
    assert model.extractor.padding == 0 and model.extractor.unet.down.padding == 0
    assert not model.ensembler.residual
    assert model.extractor.widths == (32, 64, 128, 256, 512)
    small = SparseUNet.from_preset("tiny", TinyDense().num_classes)
    given = SparseRefiner(TinyDense(), mode="paper", extractor=small, selector=EntropySelector(0.2))
    assert small.padding == 0 and given.selector == EntropySelector(0.2, cells="floor")


def test_floor_is_the_nearest_neighbor_of_opencv() -> None:
    """It takes the cell under the beginning of a pixel: floor(y · h / H)."""
    cpu = torch.device("cpu")
    pairs = [
        [nearest_index(cells, pixels, cpu, floor=floor) for floor in (True, False)]
        for cells, pixels in ((640, 1024), (1280, 2048))
    ]
    for (floor, _), (cells, pixels) in zip(pairs, ((640, 1024), (1280, 2048)), strict=True):
        assert floor.tolist() == [y * cells // pixels for y in range(pixels)]
    same = [(floor == center).double().mean() for floor, center in pairs]
    assert 1 - float(same[0] * same[1]) == pytest.approx(0.44, abs=0.005)
    logits, size = torch.randn(1, 5, 10, 15), (16, 24)
    full = torch.nn.functional.interpolate(logits, size, mode="nearest")
    assert torch.equal(upsampled_labels(logits, size, "floor"), full.argmax(1).to(torch.uint8))
    coords = torch.ones(1, *size).nonzero().int()
    assert torch.equal(sample(logits, coords, size, "floor"), full[0].flatten(1).T)
    entropies = DensePass(logits).entropy
    mask = EntropySelector(1.2, cells="floor")(DensePass(logits), size)
    expected = torch.nn.functional.interpolate(entropies[None], size, mode="nearest")[0] > 1.2
    assert torch.equal(mask, expected) and mask.any() and not mask.all()


def test_no_array_of_all_classes_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest array of the pipeline itself stays below [K, H, W]."""
    model = SparseRefiner(
        TinyDense(19),
        selector=EntropySelector(0.9, 0.25),
        extractor=SparseUNet.from_preset("tiny", 19),
    ).eval()
    images = photo((256, 256))
    largest = 0

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.is_floating_point():
                largest = max(largest, out.numel())
            return out

    dense = model.dense_pass(images)
    monkeypatch.setattr(model, "dense_pass", lambda *_, **__: dense)
    monkeypatch.setattr(model.extractor, "forward", lambda x: torch.zeros(len(x.feats), 19))
    with Spy():
        model(images)
    assert 0 < largest < 19 * 256 * 256


def test_uint8_and_float_images_give_the_same() -> None:
    model = make()
    images = photo((61, 90))
    first, second = model(images), model(images / 255)
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.mask, second.mask)


def test_inputs_beyond_rgb() -> None:
    inputs = ("rgb", "probabilities", "entropy")
    model = SparseRefiner(
        TinyDense(), extractor=SparseUNet.from_preset("tiny", 5, in_channels=9), inputs=inputs
    ).eval()
    assert model(photo((32, 32))).labels.shape == (1, 32, 32)


def test_training_mode_leaves_the_dense_model_frozen() -> None:
    model = make().train()
    assert model.extractor.training and not model.dense.training
    assert not any(p.requires_grad for p in model.dense.parameters())


@pytest.mark.parametrize("kind", ["array", "float_array", "pil", "tensor", "float_tensor"])
def test_predict_takes_what_people_have(kind: str) -> None:
    array = photo((30, 40))[0].permute(1, 2, 0).numpy()
    image = {
        "array": array,
        "float_array": array.astype(np.float32) / 255,
        "pil": Image.fromarray(array),
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "float_tensor": torch.from_numpy(array).permute(2, 0, 1) / 255,
    }[kind]
    model = make()
    result = model.predict(image)
    assert result.labels.shape == result.mask.shape == (30, 40)
    assert 0 <= result.density <= 1
    assert np.array_equal(result.labels, model.predict(array).labels)
    assert result.stages_ms == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extractor": SparseUNet.from_preset("tiny", 4)}, "extractor has 4 classes"),
        ({"ensembler": GatedEnsembler(4)}, "ensembler has 4 classes"),
        ({"inputs": ("rgb", "entropy")}, "takes 3 channels, but inputs"),
        ({"dense_size": (60, 128)}, r"not a multiple of 8.*Use \(64, 128\)"),
        ({"dense_size": 0.0}, "expected a scale above 0"),
    ],
)
def test_parts_that_do_not_fit(options: dict[str, object], message: str) -> None:
    options = {"extractor": SparseUNet.from_preset("tiny", 5), **options}
    with pytest.raises(ValueError, match=message):
        SparseRefiner(TinyDense(), **options)


def test_time_is_taken_when_asked() -> None:
    timer = StageTimer()
    result = make().predict(photo((30, 40))[0], timer=timer)
    assert list(result.stages_ms) == ["read", "resize", "dense", "select", "extract", "ensemble"]
    assert result.stages_ms == timer.stages_ms and min(result.stages_ms.values()) > 0
