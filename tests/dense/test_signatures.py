"""What is wrapped is what was said, or the error says what it is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.dense.adapters.small_images import with_room
from sparserefine.dense.adapters.unwrapped import check_callable

IMAGES = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def network(classes: int = 5, channels: int = 3) -> nn.Conv2d:
    torch.manual_seed(classes)
    return nn.Conv2d(channels, classes, 3, padding=1)


def wrap(model: Any, kind: Any = "logits", classes: int = 5, **options: Any) -> Any:
    return sr.dense.from_callable(model, kind, classes, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: network()(x).permute(0, 2, 3, 1), r"Channels come last \(NHWC\): return x\.p"),
        (lambda x: network()(x).argmax(1), r"of torch\.int64, expected .*torch\.int64 are no scor"),
        (lambda x: network()(x).transpose(2, 3), "96×64 of an image of 64×96: height and width a"),
        (lambda x: network(1)(x), r'tensor \[1, 1, 64, 96\].*One channel is kind="binary"'),
        (lambda x: network(7)(x), r"num_classes=7 if that is their number"),
        (lambda x: {"out": network()(x), "aux": x}, r"a dict with out, aux.*output='out'"),
        (lambda x: [network()(x), x], r"a list of .*output=0"),
        (lambda x: network()(x).softmax(1), r'probabilities, expected logits\. Say kind="probab'),
        (lambda x: network()(x).sigmoid(), r"probabilities of each class alone, as behind a sigm"),
        (lambda x: network()(x) / 0 * 0, r"returned NaN for an image of noise"),
        (network(5, channels=4), r"takes images of 4 channels, expected 3: red, green and blue"),
        (network(5, channels=1), r"takes images of 1 channels, expected 3"),
        (lambda x: x.numpy(force=True)["a"], r"fails on an image \[1, 3, 256, 384\] \(IndexError"),
    ],
)  # fmt: skip
def test_another_signature_is_named(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrap(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("net.onnx", r"the path 'net\.onnx', expected a module.*Open files with from_onnx"),
        (network().state_dict(), r"OrderedDict of 2 entries.*Weights alone compute nothing"),
        (nn.Conv2d, r"the class Conv2d, expected an object of it"),
        (SimpleNamespace(get_inputs=0, run=0), r"of onnxruntime, expected.*Use from_onnx"),
        (SimpleNamespace(image_processor=0, preprocess=0), r"a pipeline of transformers.*Use from"),
        (3, r"the model is a int, which cannot be called"),
    ],
)
def test_what_is_no_network_is_named(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):  # the tests' check of types comes before ours
        check_callable(model)


@pytest.mark.parametrize("kind", ["binary", "probabilities"])
def test_one_channel_is_what_it_is_said_to_be(kind: str) -> None:
    inside = network(1)
    right = inside if kind == "binary" else nn.Sequential(inside, nn.Sigmoid())
    wrong = nn.Sequential(inside, nn.Sigmoid()) if kind == "binary" else inside
    found = wrap(right, kind, 2)(IMAGES).softmax(1)[:, 1:]
    torch.testing.assert_close(found, inside(IMAGES).sigmoid())
    with pytest.raises(ValueError, match="for an image of noise"):
        wrap(wrong, kind, 2)


@pytest.mark.parametrize(("axis", "said"), [(2, "along h"), (3, "along w"), (0, "1 everywhere")])
def test_a_softmax_over_another_axis_is_refused(axis: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"image of noise that .*{said}"):
        wrap(nn.Sequential(network(), nn.Softmax(axis)), "probabilities")
    assert wrap(nn.Sequential(network(), nn.Softmax(1)), "probabilities").num_classes == 5


def test_an_own_model_of_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r'num_classes=1.*kind="probabilities" behind a sigmoid'):
        wrap(network(1), "logits", 1)


@pytest.mark.parametrize("output", ["out", 1])
def test_one_of_several_outputs_is_chosen(output: str | int) -> None:
    inside = network()

    def several(x: Tensor) -> Any:
        return {"aux": x, "out": inside(x)} if output == "out" else [x, inside(x)]

    model = wrap(several, output=output, identity="several")
    torch.testing.assert_close(model(IMAGES), inside(IMAGES))
    assert model.describe()["output"] == output
    with pytest.raises(ValueError, match="expected an output 'gone'"):
        wrap(several, output="gone")


def test_the_masks_of_one_class_leave_the_background() -> None:
    def masks(x: Tensor) -> tuple[Tensor, Tensor]:
        sure = torch.tensor([[[9.0, -9.0]]]).expand(len(x), -1, -1)
        return sure, 20 * (x[:, :1] - 0.5)

    model = wrap(masks, "masks", 2)
    inside = (20 * (IMAGES[:, :1] - 0.5)).sigmoid()
    torch.testing.assert_close(model(IMAGES).softmax(1)[:, 1:], inside, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "adapt",
    [
        lambda m: wrap(m),
        lambda m: sr.dense.from_timm(nn.Identity(), m, 5),
    ],
)
def test_data_parallel_is_unwrapped(adapt: Callable[[nn.Module], Any]) -> None:
    model = adapt(nn.DataParallel(network()))
    assert not any(isinstance(part, nn.DataParallel) for part in model.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_is_fed_in_its_own_precision(dtype: torch.dtype) -> None:
    model = wrap(network().to(dtype), mean=(0.5, 0.5, 0.5))
    expected = network()(IMAGES - 0.5)
    assert model(IMAGES).dtype == torch.float32
    torch.testing.assert_close(model(IMAGES), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), r"of images in 0\.\.255.*Divide both by 255"),
        ((0.5,), (0.5,), "expected three numbers, of red"),
        ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5), "standard deviations above 0"),
    ],
)
def test_a_normalization_that_cannot_be_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        wrap(network(), mean=mean, std=std)


def test_what_cannot_run_yet_is_not_run() -> None:
    def elsewhere(x: Tensor) -> Tensor:
        raise RuntimeError("no GPU")

    with pytest.raises(ValueError, match=r"\(RuntimeError: no GPU\)\. Say .* or check=False"):
        wrap(elsewhere)
    assert wrap(elsewhere, check=False).num_classes == 5
    assert wrap(network().to("meta")).num_classes == 5


def test_the_check_changes_nothing_random() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model = network()
    torch.manual_seed(3)
    wrap(lambda x: model(x + torch.rand_like(x)))
    assert torch.equal(torch.rand(1), expected)


class Halving(nn.Module):
    """As SegFormer: 29 pixels are the least that leave a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(5, 5, 8, stride=8)
        self.begin = nn.Conv2d(3, 5, 7, stride=4, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        first = self.begin(images)
        return first + self.reduce(first).mean((2, 3), keepdim=True)


@pytest.mark.parametrize("size", [(1, 1), (5, 90), (28, 28)])
def test_images_too_small_for_a_network_are_padded(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    inside = Halving()
    model = wrap(inside)
    refiner = sr.SparseRefiner(model, extractor=sr.SparseUNet(5, widths=(4,), blocks=1))
    picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        inside(picture[None] / 255)
    assert refiner.predict(picture).labels.shape == size
    logits = model(picture[None] / 255)
    assert logits.shape == (1, 5, *size) and bool(logits.isfinite().all())


def test_larger_images_are_run_as_they_are() -> None:
    inside = Halving()
    assert torch.equal(wrap(inside)(IMAGES), inside(IMAGES))


def test_a_network_that_fails_at_any_size_says_its_own_reason() -> None:
    def fails(images: Tensor) -> Tensor:
        raise RuntimeError(f"not at {images.shape[2]}")

    with pytest.raises(RuntimeError, match="not at 32"):
        with_room(fails, IMAGES)


class Own(sr.dense.DenseModel):
    def __init__(self, answer: Callable[[Tensor], Tensor], num_classes: int = 2) -> None:
        super().__init__()
        self.answer = answer
        self.num_classes = num_classes
        self.size_divisor = 1
        self.preset = sr.dense.Preset()

    def forward(self, images: Tensor) -> Tensor:
        return self.answer(images)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda x: x[:, :1],
            r"Own returned \[1, 1, 64, 96\], expected logits \[B, 2.*binary",
        ),
        (lambda x: x[:, :2].permute(0, 2, 3, 1), r"Own returned \[1, 64, 96, 2\], expected logits"),
    ],
)
def test_a_model_of_ones_own_returns_what_it_says(
    answer: Callable[[Tensor], Tensor], message: str
) -> None:
    picture = torch.randint(0, 256, (3, 128, 192), dtype=torch.uint8)
    refiners = [
        sr.SparseRefiner(Own(one), extractor=sr.SparseUNet(2, widths=(4,), blocks=1))
        for one in (answer, lambda x: 2 * x[:, :2])
    ]
    with pytest.raises(ValueError, match=message):
        refiners[0].predict(picture)
    assert refiners[1].predict(picture).labels.shape == (128, 192)
