"""The seam: a prediction from anywhere, a choice of pixels, a refinement of them."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dense import TinyDense
from torch.utils._python_dispatch import TorchDispatchMode

import sparserefine as sr
from sparserefine.dense.normalize import Normalize
from sparserefine.images import write_image
from sparserefine.sparse import use_backend
from sparserefine.sparse.choice import Backend
from sparserefine.sparse.native import library


def make(**options: object) -> sr.SparseRefiner:
    torch.manual_seed(0)
    options = {"selector": sr.EntropySelector(0.9, 0.4), **options}
    extractor = sr.SparseUNet(5, widths=(8, 16), blocks=1)
    return sr.SparseRefiner(TinyDense(), extractor=extractor, **options)


def masks_only(classes: int = 2) -> sr.SparseRefiner:
    torch.manual_seed(0)
    extractor = sr.SparseUNet(classes, widths=(8, 16), blocks=1)
    return sr.SparseRefiner(dense=None, num_classes=classes, extractor=extractor)


def photos(batch: int = 1, size: tuple[int, int] = (48, 72)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (batch, 3, *size), generator=generator, dtype=torch.uint8)


def test_forward_is_the_three_calls() -> None:
    model, images = make(), photos(2)
    low = model.dense_pass(images)
    mask = model.selector(low, (48, 72))
    output, whole = model.refine(images, low, mask), model(images)
    assert torch.equal(output.labels, whole.labels)
    assert torch.equal(output.pixels.refined, whole.pixels.refined)
    assert torch.equal(output.labels[~mask], model.low_resolution_labels(low, (48, 72))[~mask])


def test_a_prediction_from_elsewhere_is_refined_as_the_dense_model_s_own() -> None:
    model, images = make(), photos(2)
    low = model.dense_pass(images)
    again = sr.DensePass.of(low.logits.clone(), kind="logits")
    assert torch.equal(model(images, low=again).labels, model(images).labels)


def test_a_selector_for_once_leaves_the_model_s_own() -> None:
    model, images = make(), photos()
    own = model.selector
    assert not model(images, selector=sr.EntropySelector(9.0)).mask.any()
    assert model.predict(images[0], selector=sr.EntropySelector(0.0)).density > 0.9
    assert model.selector is own
    other = model.with_selector(sr.EntropySelector(9.0))
    assert other.predict(images[0]).density == 0 and model.selector is own
    assert other.extractor is model.extractor


def test_a_mask_from_a_png_is_refined_without_a_dense_model(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 8:22] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    write_image(photos(size=(160, 240))[0].permute(1, 2, 0).numpy(), tmp_path / "photo.png")
    model = masks_only()
    low = sr.DensePass.of(tmp_path / "mask.png", kind="mask")
    result = model.predict(tmp_path / "photo.png", low=low)
    assert result.labels.shape == (160, 240) and 0.1 < result.density < 0.5
    enlarged = np.asarray(Image.fromarray(mask).resize((240, 160), Image.Resampling.NEAREST)) > 0
    assert np.array_equal(result.labels[~result.mask], enlarged[~result.mask])
    result.save(tmp_path / "out")
    assert (tmp_path / "out" / "labels.png").is_file()


def test_hard_labels_of_many_classes() -> None:
    model, images = masks_only(4), photos(2)
    labels = torch.randint(4, (2, 6, 9))
    low = sr.DensePass.of(labels, kind="labels", num_classes=4)
    output = model(images, low=low)
    kept = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert torch.equal(output.labels[~output.mask].long(), kept[~output.mask])


def test_without_a_dense_model_what_needs_one_says_so() -> None:
    model = masks_only()
    for call in (model, model.dense_pass, model.full_resolution_labels):
        with pytest.raises(ValueError, match=r"has no dense model, which is needed here\."):
            call(photos())


@pytest.mark.parametrize(
    ("low", "mask", "message"),
    [
        (torch.zeros(1, 5, 3, 3), (1, 48, 71), r"the mask is \[1, 48, 71\]"),
        (torch.zeros(2, 5, 3, 3), (1, 48, 72), r"of 2 images, but there are 1"),
        (torch.zeros(1, 4, 3, 3), (1, 48, 72), r"has 4 classes, but the refiner 5"),
    ],
)
def test_what_does_not_belong_together(
    low: torch.Tensor, mask: tuple[int, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    with pytest.raises(ValueError, match=message):
        make().refine(photos(), sr.DensePass(low), torch.zeros(mask, dtype=torch.bool))


def test_nothing_says_how_many_classes() -> None:
    with pytest.raises(ValueError, match="dense=None and no num_classes"):
        sr.SparseRefiner(dense=None)
    with pytest.raises(ValueError, match="num_classes=3, but the dense model has 5"):
        sr.SparseRefiner(TinyDense(), num_classes=3)


@pytest.mark.parametrize("training", [False, True])
def test_predicting_changes_nothing(training: bool) -> None:
    model = make().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = {name: value for name, value in vars(model).items() if name != "_run"}
    image = photos()[0]
    expected = copy.deepcopy(model).eval().predict(image).labels
    assert np.array_equal(model.predict(image).labels, expected)
    assert model.training is training and model.extractor.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: value for name, value in vars(model).items() if name != "_run"} == settings


def test_threads_share_a_refiner() -> None:
    """Each thread starts while the other is inside the dense model."""
    model = make().train()
    images = [photos(size=(40 + 8 * i, 56))[0] for i in range(4)]
    expected = [model.predict(image).labels for image in images]
    inside = threading.Barrier(4, timeout=20)
    dense = model.dense
    assert isinstance(dense, TinyDense)
    plain = dense.conv.forward
    dense.conv.forward = lambda x: (inside.wait(), plain(x))[1]  # type: ignore[method-assign]
    found: dict[int, np.ndarray] = {}

    def run(index: int) -> None:
        found[index] = model.predict(images[index]).labels

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(np.array_equal(found[index], expected[index]) for index in range(4))


class CountWaits(TorchDispatchMode):
    """Counts the operations that make a device queue wait for its host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean_index = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in ("nonzero", "_local_scalar_dense", "masked_select") or boolean_index:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_coordinates_are_found_once(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """One `nonzero` of the mask, in torch one of the pixels between unlike cells, no other wait."""
    if backend == "native" and isinstance(library.load(), str):
        pytest.skip("the native library was not built")
    model, images = make(selector=sr.EntropySelector(1.2)), photos()
    with CountWaits() as waits, torch.no_grad(), use_backend(backend):
        low = model.dense_pass(images)
        mask = model.selector(low, (48, 72))
    assert waits.seen == []
    # The U-Net's own waits are those of its backend.
    monkeypatch.setattr(model.extractor, "forward", lambda x: torch.zeros(len(x.feats), 5))
    with CountWaits() as waits, torch.no_grad(), use_backend(backend):
        output = model.refine(images, low, mask)
    assert 0 < int(output.mask.sum()) < output.mask.numel()
    assert waits.seen == ["nonzero"] * (2 if backend == "torch" else 1)


PRECISIONS = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])


@PRECISIONS
def test_the_whole_refiner_in_another_precision(dtype: torch.dtype) -> None:
    model, images = make(), photos(2)
    expected = model(images)
    other = copy.deepcopy(model).to(dtype)
    found = other.refine(images, expected.low, expected.mask)
    atol = {torch.float16: 0.02, torch.bfloat16: 0.15, torch.float64: 1e-4}[dtype]
    scale = float(expected.pixels.sparse.detach().abs().max())
    for part in ("sparse", "refined"):
        difference = getattr(found.pixels, part) - getattr(expected.pixels, part)
        assert float(difference.detach().abs().max()) < atol * max(scale, 1), part
    whole = other(images)
    assert whole.pixels.refined.dtype == torch.float32
    difference = whole.low.logits - expected.low.logits
    assert float(difference.abs().max()) < atol * float(expected.low.logits.abs().max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_in_another_precision(dtype: torch.dtype) -> None:
    model = make()
    images = photos().to(dtype) / 256  # exact in all of them, but for bfloat16
    expected = model(images.float())
    assert torch.equal(model(images).labels, expected.labels)


def test_autocast() -> None:
    model, images = make(), photos()
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = model.refine(images, expected.low, expected.mask)
    scale = float(expected.pixels.sparse.detach().abs().max())
    difference = (found.pixels.sparse - expected.pixels.sparse).detach()
    assert float(difference.abs().max()) < 0.15 * max(scale, 1)
    assert found.labels.shape == expected.labels.shape


def test_equal_refiners_have_equal_descriptions_and_others_do_not() -> None:
    model = make()
    assert model.describe() == copy.deepcopy(model).describe()
    named = model.describe()
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.dense.conv.bias[0] += 1e-3
    assert changed.describe()["dense"] != named["dense"]
    assert changed.describe()["extractor"] == named["extractor"]
    changed = copy.deepcopy(model)
    changed.extractor.head_norm.norm.running_mean[0] += 1e-3
    assert changed.describe()["extractor"] != named["extractor"]
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.ensembler.gate[0].bias[0] += 1e-3
    assert changed.describe()["ensembler"] != named["ensembler"]
    assert model.with_selector(sr.EdgeSelector()).describe()["selector"]["kind"] == "edges"
    assert "identity" not in model.describe(weights=False)["extractor"]


MISUSES = {
    "an image": (lambda m: m(torch.zeros(3, 8, 8)), r"\[3, 8, 8\], expected \[B, 3, H, W\]"),
    "four channels": (lambda m: m(torch.zeros(1, 4, 8, 8)), r"\[1, 4, 8, 8\], expected"),
    "an array": (lambda m: m(np.zeros((8, 8, 3))), r"a ndarray, expected a tensor"),
    "whole numbers": (lambda m: m(torch.zeros(1, 3, 8, 8).int()), r"torch.int32, expected uint8"),
    "raw logits": (
        lambda m: m(torch.zeros(1, 3, 8, 8), low=torch.zeros(1, 5, 2, 2)),
        r"a Tensor, expected a DensePass",
    ),
    "raw logits to predict": (
        lambda m: m.predict(torch.zeros(3, 8, 8), low=np.zeros((5, 2, 2))),
        r"a ndarray, expected a DensePass",
    ),
    "other images": (
        lambda m: m(torch.zeros(1, 3, 8, 8), low=sr.DensePass(torch.zeros(2, 5, 2, 2))),
        r"of 2 images, but there are 1",
    ),
    "a selector's numbers": (
        lambda m: m(torch.zeros(1, 3, 8, 8), selector=lambda low, size: torch.ones(1, *size)),
        r"the mask is torch.float32, expected a torch.bool",
    ),
    "a function": (
        lambda m: sr.SparseRefiner(print, num_classes=2),
        r"Wrap yours: .*from_callable",
    ),
    "a number": (lambda m: make(selector=0.3), r"the selector is a float, expected one such as"),
    "half a class": (lambda m: sr.SparseRefiner(None, num_classes=2.5), r"2.5, expected a whole"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_answered_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    misuse, message = MISUSES[name]
    with pytest.raises(ValueError, match=message) as error:
        misuse(make())
    assert "\n" not in str(error.value)


class Around(torch.nn.Module):
    """A module around a function, such as the session of another library."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[operator]


class Mine(sr.dense.DenseModel):
    """A user's own dense model around a function, with a normalization of ours."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.num_classes, self.size_divisor, self.preset = 5, 1, sr.dense.Preset()
        self.normalize = Normalize()
        self.function = function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(self.normalize(images))  # type: ignore[operator]


def described(dense: sr.dense.DenseModel) -> dict[str, object]:
    return dense.describe()


def alike() -> torch.nn.Conv2d:
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 5, 3, padding=1)


def wrapped(model: object, **options: object) -> sr.dense.DenseModel:
    return sr.dense.from_callable(model, "logits", 5, check=False, **options)  # type: ignore[arg-type]


class Signed(torch.nn.Module):
    """Equal weights, another setting."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.conv, self.sign = alike(), sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sign * self.conv(x)


UNLIKE = {
    "functions": lambda: (wrapped(lambda x: x), wrapped(lambda x: -x)),
    "modules around functions": lambda: (wrapped(Around(abs)), wrapped(Around(round))),
    "models of ones own": lambda: (Mine(abs), Mine(round)),
    "copies": lambda: (one := wrapped(lambda x: x), copy.deepcopy(one)),
    "settings": lambda: (wrapped(Signed(1)), wrapped(Signed(-1))),
    "names": lambda: (wrapped(abs, identity="x 1"), wrapped(abs, identity="x 2")),
    "normalization": lambda: (wrapped(alike()), wrapped(alike(), mean=(0.5, 0.5, 0.5))),
    "precision": lambda: (wrapped(alike()), wrapped(alike()).half()),
    "quantized": lambda: tuple(
        wrapped(torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(3, 5))))
        for _ in range(2)
    ),
}


@pytest.mark.filterwarnings("ignore:.*quantiz.*")
@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_dense_models_have_unlike_descriptions(name: str) -> None:
    first, second = UNLIKE[name]()
    assert described(first) != described(second)
    assert described(first) == described(first)


def test_like_dense_models_have_like_descriptions() -> None:
    assert described(wrapped(alike())) == described(wrapped(alike()))
    one, other = wrapped(alike(), identity="x 1"), wrapped(alike(), identity="x 1")
    assert described(one) == described(other)
    with torch.no_grad():
        one.model.bias[0] += 1  # the name does not hide other weights
    assert described(one) != described(other)


def test_the_precision_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = masks_only().half()
    model.save_pretrained(tmp_path)
    again = sr.SparseRefiner.from_pretrained(tmp_path)
    assert again.dtype == torch.float16 and again.describe() == model.describe()
