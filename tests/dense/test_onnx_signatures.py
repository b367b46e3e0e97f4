"""ONNX files of any signature: they predict what they compute, or say why not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from small_onnx import logits, write  # noqa: E402

UINT8, DOUBLE, HALF, LONG = (
    getattr(onnx.TensorProto, name) for name in ("UINT8", "DOUBLE", "FLOAT16", "INT64")
)


def photos(batch: int = 1, size: tuple[int, int] = (32, 48)) -> Tensor:
    whole = torch.randint(0, 256, (batch, 3, *size), generator=torch.Generator().manual_seed(0))
    return whole / 255


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"last": True},
        {"last": True, "said": False},
        {"said": False},
        {"dtype": UINT8},
        {"dtype": UINT8, "last": True},
        {"dtype": DOUBLE},
        {"sizes": (1, "h", "w")},
        {"sizes": (4, "h", "w")},
        {"sizes": (4, "h", "w"), "last": True},
    ],
    ids=str,
)
def test_images_come_as_the_file_takes_them(options: dict[str, Any], tmp_path: Path) -> None:
    model = sr.dense.from_onnx(write(tmp_path / "net.onnx", **options), "logits", 5)
    for batch in (1, 3, 5):
        images = photos(batch)
        torch.testing.assert_close(model(images), logits(images, 5), atol=1e-4, rtol=1e-4)


def test_half_precision_rounds(tmp_path: Path) -> None:
    model = sr.dense.from_onnx(write(tmp_path / "net.onnx", dtype=HALF), "logits", 5)
    torch.testing.assert_close(model(photos()), logits(photos(), 5), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("sizes", "size", "says"),
    [
        ((1, 64, 96), (64, 96), "takes 64×96 only"),
        ((1, 64, "w"), (64, 64), "takes a height of 64 only"),
        ((1, "h", 96), (96, 96), "takes a width of 96 only"),
    ],
)
def test_a_side_that_is_fixed_is_met(
    sizes: tuple[Any, ...], size: tuple[int, int], says: str, last: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "net.onnx", sizes=sizes, last=last)
    with pytest.warns(UserWarning, match=says):
        model = sr.dense.from_onnx(path, "logits", 5)
    assert model.preset.dense_size == size
    refiner = sr.SparseRefiner(model, extractor=sr.SparseUNet(5, widths=(4,), blocks=1))
    for height, width in ((120, 180), (180, 120), (20, 31)):
        picture = (255 * photos(1, (height, width))[0]).byte()
        assert refiner.predict(picture).labels.shape == (height, width)
    images = photos(1, (min(size[0], 64), min(size[1], 96)))
    target = tuple(side if isinstance(side, int) else images.shape[axis]
                   for axis, side in ((2, sizes[1]), (3, sizes[2])))  # fmt: skip
    below, right = target[0] - images.shape[2], target[1] - images.shape[3]
    expected = logits(F.pad(images, (0, right, 0, below), mode="replicate"), 5)
    expected = F.interpolate(expected, target, mode="bilinear")
    expected = expected[..., : images.shape[2], : images.shape[3]]
    found = F.interpolate(model(images), tuple(images.shape[2:]), mode="bilinear")
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", outputs=("d0", "d1"))
    with pytest.raises(ValueError, match=r"net\.onnx: the ONNX file has 2 outputs \(d0 .*'d0'"):
        sr.dense.from_onnx(path, "logits", 5)
    with pytest.raises(ValueError, match=r"there is no output 'd7', expected one of d0 .*, d1"):
        sr.dense.from_onnx(path, "logits", 5, output="d7")
    first, second = (sr.dense.from_onnx(path, "logits", 5, output=name) for name in ("d0", "d1"))
    assert torch.equal(first(photos()), second(photos()))
    assert first.describe() != second.describe()


@pytest.mark.parametrize("activation", ["Sigmoid", ""])
def test_one_channel_is_a_logit_or_a_probability(activation: str, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", 1, activation=activation)
    right, wrong = ("probabilities", "binary") if activation else ("binary", "probabilities")
    with pytest.raises(ValueError, match=f"for an image of noise.* Say kind=.{right}"):
        sr.dense.from_onnx(path, wrong, 2)  # type: ignore[arg-type]
    model = sr.dense.from_onnx(path, right, 2)  # type: ignore[arg-type]
    expected = logits(photos(), 1).sigmoid()
    torch.testing.assert_close(model(photos()).softmax(1)[:, 1:], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("activation", ["Softmax", "Sigmoid"])
def test_probabilities_that_are_said_to_be_logits_are_refused(
    activation: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "net.onnx", activation=activation)
    with pytest.raises(ValueError, match=r'probabilities.*expected logits\. Say kind="prob'):
        sr.dense.from_onnx(path, "logits", 5)
    model = sr.dense.from_onnx(path, "probabilities", 5)
    found = logits(photos(), 5)
    expected = found.softmax(1) if activation == "Softmax" else found.sigmoid()
    expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(model(photos()).softmax(1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, r"takes \[b, 4, h, w\], expected RGB images of 3 channels"),
        ({"channels": 1}, r"takes \[b, 1, h, w\], expected RGB images of 3 channels"),
        ({"channels": 4, "last": True}, r"takes \[b, h, w, 4\], expected RGB"),
        ({"channels": 6, "sizes": (1, 64, 64)}, r"takes \[1, 6, 64, 64\], expected RGB"),
        ({"channels": 4, "said": False}, r"takes images of 4 channels|fails on an image"),
        ({"inputs": ("size",)}, r"takes 2 inputs \(input .*, size \[1\]\), expected images alone"),
        ({"dtype": LONG}, r"takes tensor\(int64\), expected images as one of"),
        ({"classes": 7}, r"returned a tensor \[1, 7, 32, 48\], expected .*num_classes=7"),
    ],
    ids=str,
)
def test_other_signatures_are_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", **options)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=f"^net.onnx: .*{message}"):
        warnings.simplefilter("ignore")
        sr.dense.from_onnx(path, "logits", 5)


def test_uint8_is_normalized_by_the_file_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", dtype=UINT8)
    with pytest.raises(ValueError, match="takes uint8 images, which it normalizes itself"):
        sr.dense.from_onnx(path, "logits", 5, mean=(0.5, 0.5, 0.5))


def test_no_other_size_is_made_of_a_file_with_channels_last(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", last=True, sizes=(1, 64, 96))
    with pytest.raises(ValueError, match=r"takes \[1, 64, 96, 3\], expected images \[B, 3, h, w\]"):
        sr.dense.free_size(path)
