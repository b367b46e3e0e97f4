"""Predictions from elsewhere: what their numbers mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from sparserefine import DensePass
from sparserefine.images import ImageError


def labels_of(low: DensePass) -> list[list[int]]:
    return low.logits[0].argmax(0).tolist()


def test_logits_are_taken_as_they_are() -> None:
    logits = torch.randn(2, 4, 3, 5)
    low = DensePass.of(logits, kind="logits")
    assert torch.equal(low.logits, logits) and not low.hard
    assert (low.num_classes, low.size) == (4, (3, 5))
    one = DensePass.of(logits[0].numpy(), kind="logits")
    assert torch.equal(one.logits, logits[:1])


def test_half_precision_logits_become_float32() -> None:
    assert DensePass.of(torch.randn(3, 2, 2).half(), kind="logits").logits.dtype == torch.float32


def test_one_channel_is_the_foreground() -> None:
    logit = torch.randn(1, 1, 4, 6)
    first = DensePass.of(logit, kind="logits").logits.softmax(1)
    second = DensePass.of(logit.sigmoid(), kind="probabilities").logits.softmax(1)
    third = DensePass.of(logit.sigmoid()[0, 0].numpy(), kind="probabilities").logits.softmax(1)
    torch.testing.assert_close(first[:, 1:], logit.sigmoid())
    torch.testing.assert_close(first, second)
    assert torch.equal(second, third)


def test_probabilities_come_back_from_the_logits() -> None:
    probabilities = torch.randn(1, 5, 3, 3).softmax(1)
    low = DensePass.of(probabilities, kind="probabilities")
    torch.testing.assert_close(low.logits.softmax(1), probabilities)
    expected = -(probabilities * probabilities.log()).sum(1)
    torch.testing.assert_close(low.entropy, expected)


def test_labels_are_hard() -> None:
    labels = torch.tensor([[0, 2], [1, 2]])
    low = DensePass.of(labels, kind="labels")
    assert low.hard and low.num_classes == 3 and labels_of(low) == labels.tolist()
    assert float(low.entropy.max()) < 1e-4
    assert DensePass.of(labels.numpy(), kind="labels", num_classes=19).num_classes == 19


@pytest.mark.parametrize("high", [1, 255, True])
def test_masks_are_hard(high: int | bool) -> None:
    mask = torch.tensor([[0, high], [high, 0]], dtype=torch.bool if high is True else torch.uint8)
    low = DensePass.of(mask, kind="mask")
    assert low.hard and labels_of(low) == [[0, 1], [1, 0]]


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_of_one_value_is_that_value(value: int) -> None:
    low = DensePass.of(np.full((3, 4), value, np.uint8), kind="mask")
    assert low.hard and labels_of(low) == [[int(value > 0)] * 4] * 3


def test_a_gray_mask_is_a_probability() -> None:
    low = DensePass.of(np.array([[0, 51, 255]], np.uint8), kind="mask")
    assert not low.hard
    torch.testing.assert_close(low.logits.softmax(1)[0, 1], torch.tensor([[0.0, 0.2, 1.0]]))


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_masks_and_labels_come_from_files(mode: str, tmp_path: Path) -> None:
    array = np.array([[0, 1], [1, 0]], np.uint8) * (255 if mode == "L" else 1)
    image = Image.fromarray(array * (255 if mode == "1" else 1))
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 100, 0])
    image.convert(mode).save(tmp_path / "mask.png")
    low = DensePass.of(tmp_path / "mask.png", kind="labels" if mode == "P" else "mask")
    assert low.hard and labels_of(low) == [[0, 1], [1, 0]]


SCORES = 3 * torch.randn(5, 12, 18, generator=torch.Generator().manual_seed(0))
BAD = {
    "softmax over h": (SCORES.softmax(1), "probabilities", r"add up to 1 along h instead of"),
    "softmax over w": (SCORES[None].softmax(3), "logits", r"logits add up to 1 along w instead"),
    "softmax over B": (
        SCORES.repeat(4, 1, 1, 1).softmax(0),
        "probabilities",
        r"along the batch instead of over the classes: the softmax was taken over the wrong axis",
    ),
    "a plane of one": (SCORES.softmax(2)[1], "probabilities", r"along w instead of .* \[K, h, w\]"),
    "probabilities": (SCORES.softmax(0), "logits", r"as probabilities do. Say kind=.probabilities"),
    "classes last": (
        SCORES.repeat(1, 2, 2).permute(1, 2, 0),
        "logits",
        r"with 5 classes last, exp",
    ),
    "kind": (torch.zeros(2, 2), "scores", r"kind='scores': expected one of logits"),
    "whole logits": (torch.zeros(1, 2, 3, 3).int(), "logits", r"torch.int32, expected floating"),
    "flat logits": (torch.zeros(3, 3), "logits", r"\[3, 3\], expected \[B, K, h, w\]"),
    "nan": (torch.full((2, 3, 3), float("nan")), "logits", r"NaN or infinity"),
    "scores above 1": (torch.full((2, 3, 3), 3.0), "probabilities", r"3, expected 0 to 1"),
    "sums": (torch.full((3, 2, 2), 0.5), "probabilities", r"sum up to 1.5 to 1.5, expected 1"),
    "float labels": (torch.zeros(2, 2), "labels", r"float32, expected whole numbers"),
    "negative labels": (torch.tensor([[-1, 0]]), "labels", r"go from -1 to 0, expected 0 to 1"),
    "high labels": (
        torch.tensor([[70000, 0]]),
        "labels",
        r"up to 70000, and nothing says",
    ),
    "float mask": (torch.zeros(2, 2), "mask", r"float32, expected bool or whole numbers"),
    "labels as a mask": (torch.tensor([[0, 1, 2]], dtype=torch.uint8), "mask", r"from 0 to 2, exp"),
    "an image": (torch.zeros(9, 9, 3, dtype=torch.uint8), "mask", r"an image with channels last"),
    "a list": ([[0, 1]], "mask", r"came as list, expected a tensor.*numpy.asarray"),
    "none": (None, "labels", r"came as NoneType, expected a tensor"),
    "objects": (np.array([["a"]]), "labels", r"array of <U1, expected numbers"),
    "channels": (torch.zeros(2, 2, 2, 3).bool(), "mask", r"Give one value per pixel"),
    "nothing": (torch.zeros(0, 4), "mask", r"at least one value"),
    "text": ("a.png", "logits", r"given as str, expected a tensor or an array"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_meant_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    prediction, kind, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        DensePass.of(prediction, kind=kind)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        torch.eye(9),
        torch.ones(6, 6),
        torch.full((4, 4), 0.25),
        SCORES.repeat(3, 1, 1, 1).softmax(1),
        torch.rand(1, 8, 9),
    ],
)
def test_probabilities_that_may_be_so_are_taken(values: torch.Tensor) -> None:
    if values.std() == 0 and values.max() < 1:
        values = values.repeat(4, 1, 1)  # uniform over four classes, and along each axis of four
    assert DensePass.of(values, kind="probabilities").logits.isfinite().all()


def test_the_number_of_classes_is_checked() -> None:
    with pytest.raises(ValueError, match=r"has 3 classes, expected 19"):
        DensePass.of(torch.zeros(1, 3, 2, 2), kind="logits", num_classes=19)
    with pytest.raises(ValueError, match=r"go from 0 to 255.*a mask of 0 and 255 is kind=.mask"):
        DensePass.of(torch.tensor([[0, 255]]), kind="labels", num_classes=2)
    with pytest.raises(ValueError, match=r"num_classes is 1, expected a whole number of 2 or more"):
        DensePass.of(torch.tensor([[0, 0]]), kind="labels", num_classes=1)


def test_what_was_given_may_be_changed_afterwards() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    low = DensePass.of(logits, kind="logits")
    kept, entropy = low.logits.clone(), low.entropy.clone()
    logits[:] = 0
    assert torch.equal(low.logits, kept) and torch.equal(low.entropy, entropy)


ARRAYS = ("uint16", "uint32", "int64", ">i4", ">u2", "int8")


@pytest.mark.parametrize("dtype", ARRAYS)
def test_labels_of_any_whole_numbers(dtype: str) -> None:
    labels = np.array([[0, 2], [1, 2]], dtype)
    labels.flags.writeable = False
    assert labels_of(DensePass.of(labels, kind="labels")) == [[0, 2], [1, 2]]


def test_masks_of_wider_numbers() -> None:
    low = DensePass.of(np.array([[0, 1], [1, 0]]), kind="mask")
    assert low.hard and labels_of(low) == [[0, 1], [1, 0]]
    soft = DensePass.of(np.array([[0, 128]], np.uint8), kind="mask")
    assert not soft.hard
    torch.testing.assert_close(soft.logits.softmax(1)[0, 1, 0, 1], torch.tensor(128 / 255))


def test_a_mask_in_colors_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "colors.png")
    with pytest.raises(ImageError, match=r"colors\.png has mode RGB"):
        DensePass.of(tmp_path / "colors.png", kind="mask")
