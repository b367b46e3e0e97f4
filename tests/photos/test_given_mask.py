"""Every way to give a segmentation: what is read from it, and what is refused."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sparserefine.images import ImageError
from sparserefine.photos.given_mask import read_mask
from sparserefine.photos.given_values import GivenMask, check_kind


def disk(size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A mask with a border: bool."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.hypot(y - size[0] / 2, x - size[1] / 2) < 0.3 * min(size)


def soft_disk(size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Probabilities: float32, 0 and 1 among them."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = 0.3 * min(size) - np.hypot(y - size[0] / 2, x - size[1] / 2)
    return np.clip(distance / 8 + 0.5, 0, 1).astype(np.float32)


def three_labels() -> np.ndarray:
    return disk().astype(np.int64) * 7 + (np.arange(60) > 50)


def class_probabilities() -> np.ndarray:
    return np.stack([1 - soft_disk(), soft_disk() / 4, 3 * soft_disk() / 4])


def one(given: object, **options: Any) -> GivenMask:
    """What is given is one segmentation of the whole photo."""
    found = read_mask(given, **options)
    assert isinstance(found, GivenMask)
    assert found.window is None
    return found


def many(given: object, **options: Any) -> list[GivenMask]:
    found = read_mask(given, **options)
    assert isinstance(found, list)
    return found


MASK, SOFT, LABELS, CLASSES = disk(), soft_disk(), three_labels(), class_probabilities()
GRAY = np.round(255 * SOFT).astype(np.uint8)
LOGITS = (12 * SOFT - 6).astype(np.float32)
K_LOGITS = (8 * CLASSES - 4).astype(np.float32)
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def enlarged(plane: np.ndarray, filter: Image.Resampling = Image.Resampling.LANCZOS) -> np.ndarray:
    """Eight times as large, by a filter that overshoots."""
    size = (8 * plane.shape[1], 8 * plane.shape[0])
    return np.array(Image.fromarray(plane.astype(np.float32)).resize(size, filter))


SHARP = enlarged(MASK, Image.Resampling.BICUBIC)
ROUND = enlarged(SOFT[10:32:3, 20:42:3])
K_LARGE = np.stack([enlarged(plane) for plane in CLASSES])

ARRAYS: dict[str, tuple[object, str, np.ndarray]] = {
    "bool": (MASK, "mask", MASK),
    "0 and 255": (255 * MASK.astype(np.uint8), "mask", MASK),
    "0 and 1": (MASK.astype(np.uint8), "mask", MASK),
    "only 255": (np.full((4, 5), 255, np.uint8), "mask", np.ones((4, 5), bool)),
    "only 0": (np.zeros((4, 5), np.uint8), "mask", np.zeros((4, 5), bool)),
    "16 bits": (65535 * MASK.astype(np.uint16), "mask", MASK),
    "integers 0 and 1": (MASK.astype(np.int32), "mask", MASK),
    "integers 0 and 255": (255 * MASK.astype(np.int64), "mask", MASK),
    "floats 0 and 1": (MASK.astype(np.float64), "mask", MASK),
    "gray": (GRAY, "probabilities", GRAY / np.float32(255)),
    "trimap": (
        np.where(MASK, 255, 128 * (np.arange(60) > 50)).astype(np.uint8),
        "probabilities",
        np.where(MASK, 255, 128 * (np.arange(60) > 50)) / np.float32(255),
    ),
    "gray of 16 bits": (
        np.round(65535 * SOFT).astype(np.uint16),
        "probabilities",
        np.round(65535 * SOFT) / np.float32(65535),
    ),
    "small gray values": (LABELS.astype(np.uint8), "labels", LABELS),
    "integers": (LABELS.astype(np.int32), "labels", LABELS),
    "many labels": (100 * LABELS, "labels", 100 * LABELS),
    "ignored": (LABELS - 1, "labels", LABELS - 1),
    "probabilities": (SOFT, "probabilities", SOFT),
    "overshoot": (SOFT * 1.0005 - 0.0002, "probabilities", SOFT),
    "enlarged by a cubic filter": (SHARP, "probabilities", SHARP.clip(0, 1)),
    "enlarged by Lanczos": (enlarged(SOFT), "probabilities", enlarged(SOFT).clip(0, 1)),
    "logits of a small range": (LOGITS / 12, "logits", LOGITS / 12),
    "half precision": (SOFT.astype(np.float16), "probabilities", SOFT),
    "logits": (LOGITS, "logits", LOGITS),
    "classes": (CLASSES, "probabilities", CLASSES),
    "classes in half precision": (CLASSES.astype(np.float16), "probabilities", CLASSES),
    "logits of classes": (K_LOGITS, "logits", K_LOGITS),
    "classes enlarged": (K_LARGE, "probabilities", K_LARGE.clip(0, 1) / K_LARGE.clip(0, 1).sum(0)),
    "similarities of classes": (1.2 * CLASSES - 0.3, "logits", 1.2 * CLASSES - 0.3),
    "batch of one": (K_LOGITS[None], "logits", K_LOGITS),
    "batch of one plane": (LOGITS[None, None], "logits", LOGITS),
    "one plane first": (GRAY[None], "probabilities", GRAY / np.float32(255)),
    "one channel last": (MASK[..., None], "mask", MASK),
    "tensor": (torch.from_numpy(SOFT).requires_grad_(), "probabilities", SOFT),
    "tensor in bfloat16": (torch.from_numpy(CLASSES).bfloat16(), "probabilities", CLASSES),
    "tensor of bool": (torch.from_numpy(MASK), "mask", MASK),
    "gray as colors": (np.dstack([GRAY] * 3), "probabilities", GRAY / np.float32(255)),
    "gray as colors, first": (np.stack([SOFT] * 3), "probabilities", SOFT),
    "alpha last": (
        np.dstack([np.zeros((40, 60, 3), np.uint8), GRAY]),
        "probabilities",
        GRAY / np.float32(255),
    ),
    "alpha first": (
        np.stack([*np.moveaxis(PHOTO, 2, 0), GRAY]),
        "probabilities",
        GRAY / np.float32(255),
    ),
    "black and alpha": (np.stack([0 * GRAY, GRAY]), "probabilities", GRAY / np.float32(255)),
    "opaque": (np.dstack([GRAY] * 3 + [np.full_like(GRAY, 255)]), "probabilities", GRAY / 255),
    "cut out": (
        np.dstack([np.indices((40, 60)).sum(0).astype(np.uint8)] * 3 + [255 * MASK]).astype("u1"),
        "mask",
        MASK,
    ),
    "converts itself": (
        type("Array", (), {"__array__": lambda *_, **__: SOFT})(),
        "probabilities",
        SOFT,
    ),
    "list of one": ([MASK], "mask", MASK),
}


@pytest.mark.parametrize(("given", "kind", "values"), ARRAYS.values(), ids=ARRAYS)
def test_arrays(given: object, kind: str, values: np.ndarray) -> None:
    found = one(given)
    assert found.kind == kind
    dtypes = {"mask": "bool", "labels": ("uint8", "int64")}.get(kind, "float32")
    assert found.values.dtype in np.atleast_1d(dtypes).tolist()
    np.testing.assert_allclose(found.values, values, atol=4e-3 if "float" in dtypes else 0)


def test_array_of_an_array_is_shared_not_copied() -> None:
    assert np.shares_memory(one(SOFT).values, SOFT)
    assert np.shares_memory(one(LABELS).values, LABELS)


KINDS: dict[str, tuple[np.ndarray, str, np.ndarray]] = {
    "gray and alpha as probabilities": (
        np.stack([255 - GRAY, GRAY]),
        "probabilities",
        GRAY / np.float32(255),
    ),
    "bool as labels": (MASK, "labels", MASK.astype(np.uint8)),
    "bool as probabilities": (MASK, "probabilities", MASK.astype(np.float32)),
    "gray as labels": (GRAY, "labels", GRAY),
    "16 bits as labels": (LABELS.astype(np.uint16) * 1000, "labels", LABELS * 1000),
    "0 and 7 as mask": (7 * MASK.astype(np.uint8), "mask", MASK),
    "small values as probabilities": (
        LABELS.astype(np.uint8),
        "probabilities",
        LABELS.astype(np.float32) / 255,
    ),
    "0 and 1 as labels": (MASK.astype(np.int64), "labels", MASK.astype(np.int64)),
    "floats as labels": (LABELS.astype(np.float32), "labels", LABELS),
    "0..1 as logits": (SOFT, "logits", SOFT),
    "enlarged as probabilities": (ROUND, "probabilities", ROUND.clip(0, 1)),
    "enlarged as logits": (ROUND, "logits", ROUND),
    "positive as logits": (SOFT + 1, "logits", SOFT + 1),
    "classes that are none as logits": (2 * CLASSES, "logits", 2 * CLASSES),
}


@pytest.mark.parametrize(("given", "kind", "values"), KINDS.values(), ids=KINDS)
def test_kind_decides(given: np.ndarray, kind: str, values: np.ndarray) -> None:
    found = one(given, kind=kind)
    assert found.kind == kind
    assert found.values.dtype == values.dtype
    np.testing.assert_allclose(found.values, values, rtol=1e-6)


with_nan = SOFT.copy()
with_nan[3, 4] = np.nan
COLORS = np.zeros((40, 60, 3), np.uint8)
COLORS[MASK] = 255, 0, 0
COLORS[:5] = 0, 0, 255
LOGITS_OF_CLASSES = torch.randn(3, 40, 60, generator=torch.Generator().manual_seed(0))

REFUSED: dict[str, tuple[object, dict[str, Any], str]] = {
    "NaN": (with_nan, {}, r"float32 \[40, 60\] has 1 values of 2400 that are NaN or inf.*nan_to"),
    "NaN in classes": (np.full((3, 8, 9), np.nan), {}, "has 216 values of 216 that are NaN"),
    "infinite": (np.array([[0.0, np.inf]]), {}, "has 1 values of 2 that are NaN or infinite"),
    "beyond float32": (np.array([[-1.0, 1e300]]), {}, "1 values of 2 that are NaN or infinite"),
    "empty": (np.zeros((0, 5)), {}, r"shape \[0, 5\], expected \[h, w\].*at least one pixel"),
    "one axis": (np.zeros(5), {}, r"has shape \[5\], expected \[h, w\], or \[K, h, w\]"),
    "five axes": (np.zeros((2, 1, 3, 8, 9)), {}, r"has shape \[2, 1, 3, 8, 9\], expected \[h"),
    "batch": (np.zeros((2, 3, 8, 9)), {}, r"shape \[2, 3, 8, 9\].*Pass one photo's at a time"),
    "text": (np.array([["a"]]), {}, "has dtype <U1, expected bool, integers or floats. Convert"),
    "complex": (np.ones((2, 2), complex), {}, "has dtype complex128, expected bool"),
    "colors": (COLORS, {}, "has 3 colors, expected a mask. Give labels as integers or as a pal"),
    "gray and alpha, or two masks": (
        np.stack([GRAY, 255 - GRAY]),
        {},
        'may be masks of their own, or colors and alpha. Pass kind="mask" or a list',
    ),
    "colors and alpha, or four masks": (
        np.stack([MASK, ~MASK, MASK, MASK[::-1]]).astype("u1"),
        {},
        "4 planes, which may be masks of their own",
    ),
    "colors first": (np.moveaxis(COLORS, 2, 0), {}, "has 3 colors, expected a mask"),
    "photo": (PHOTO, {}, "has more than 256 colors, expected a mask"),
    "photo in floats": (np.moveaxis(PHOTO, 2, 0) / 255, {}, "3 planes which add up to"),
    "photo as floats": (np.moveaxis(PHOTO, 2, 0).astype(float), {}, "3 planes, which look like c"),
    "transparent": (np.zeros((8, 9, 4), np.uint8), {}, "is transparent everywhere, expected a m"),
    "classes last": (np.moveaxis(K_LOGITS, 0, 2), {}, "has its 3 channels last.*Move the classes"),
    "many classes last": (np.ones((64, 64, 12)), {}, "has its 12 channels last"),
    "labels of one-hot planes": (np.eye(40, 60, dtype=int)[None].repeat(5, 0), {}, "5 planes of i"),
    "two grays": (np.where(MASK, 128, 0).astype("u1"), {}, 'gray values 0, 128, expected.*kind="m'),
    "ignored gray": (np.where(MASK, 255, LABELS).astype("u1"), {}, "gray values 0, 1, 255, exp"),
    "spread labels": (
        np.where(MASK, 200, 90).astype("u1"),
        {},
        "has gray values 90, 200, expected",
    ),
    "faint": ((GRAY * 0.4).astype("u1"), {}, "has gray values 0 to 102, expected"),
    "instances": (LABELS.astype(np.uint16) * 1000, {}, "gray values 0, 1000, 7000, expected 0 and"),
    "gray floats": (GRAY.astype(np.float32), {}, "floats from 0 to 255, expected 0 to 1.*Divide"),
    "soft all over, enlarged": (ROUND, {}, 'floats from -0.0.* to 1.0.*Say which.*"logits"'),
    "enlarged masks as classes": (np.stack([SHARP] * 2), {}, r"2 planes which add up to -0\.2.*li"),
    "enlarged classes as logits": (K_LARGE, {"kind": "logits"}, "3 planes which add up to 1, as p"),
    "not of one": (CLASSES * 0.8, {}, "3 planes which add up to 0.8 to 0.8, expected 1"),
    "logits as probabilities": (LOGITS, {"kind": "probabilities"}, "has -6 to 6, expected 0 to 1"),
    "classes as probabilities": (K_LOGITS, {"kind": "probabilities"}, "has -4 to 4, expected 0 "),
    "classes as labels": (K_LOGITS, {"kind": "labels"}, "3 planes of floats, expected one plane f"),
    "gray as mask": (GRAY, {"kind": "mask"}, "has 0 to 255, expected 0 and one other value for"),
    "integers as mask": (LABELS, {"kind": "mask"}, "has 0 to 7, expected 0 and one other value"),
    "floats as mask": (SOFT, {"kind": "mask"}, "has 0 to 1, expected 0 and one other value"),
    "fractions as labels": (SOFT, {"kind": "labels"}, "has fractions, expected whole numbers"),
    "bool as logits": (MASK, {"kind": "logits"}, 'has bool, expected floats for kind="logits"'),
    "gray as logits": (GRAY, {"kind": "logits"}, "has uint8, expected floats for kind"),
    "integers as logits": (LABELS, {"kind": "logits"}, "has int64, expected floats for kind"),
    "nothing": (None, {}, "given as NoneType, expected a path, an image, an array.*Convert it to"),
    "other keys": ({"boxes": 1}, {}, "a mask was given as dict of boxes, expected a path"),
    "empty list": ([], {}, "a list of 0 has no masks.*nothing was found.*Lower the model's thres"),
    "no planes": (np.zeros((0, 8, 9), bool), {}, "has no masks, expected at least one"),
    "numbers": ([[0, 1], [1, 0]], {}, "a list of 2 has list, expected masks"),
    "labels of two photos": (
        [LABELS, LABELS],
        {},
        r"list of 2 has labels \[40, 60\], expected mas",
    ),
    "softmax over h": (LOGITS_OF_CLASSES.softmax(1).numpy(), {}, "add up to 1 along h instead of"),
    "softmax over w": (LOGITS_OF_CLASSES.softmax(2)[1], {"kind": "probabilities"}, "1 along w ins"),
    "0..1 of classes as logits": (CLASSES, {"kind": "logits"}, "add up to 1, as probabilities of"),
    "two sizes": ([MASK, MASK[1:]], {}, r"list of 2 has mask \[40, 60\], mask \[39, 60\], expec"),
}


@pytest.mark.parametrize(("given", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(given: object, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_mask(given, **options)
    assert "\n" not in str(caught.value)


def test_planes_of_bool_are_masks_of_their_own() -> None:
    found = many(np.stack([MASK, ~MASK]))
    assert [mask.source for mask in found] == [
        f"mask {i} of an array of bool [2, 40, 60]" for i in (0, 1)
    ]
    np.testing.assert_array_equal(found[1].values, ~MASK)
    (first, second) = many([SOFT, Image.fromarray(GRAY)])
    assert first.kind == second.kind == "probabilities"
    assert len(many(np.stack([MASK, ~MASK]).astype(np.int64), kind="mask")) == 2
    for count in (2, 3, 4):
        planes = 255 * np.stack([np.roll(MASK, 3 * one) for one in range(count)]).astype(np.uint8)
        found = many(planes, kind="mask")
        np.testing.assert_array_equal([mask.values for mask in found], planes > 0)


# Pictures and files.


def palette_image(values: np.ndarray, colors: list[int]) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(colors)
    return image


RED_GREEN = [0, 0, 0, 255, 0, 0, 0, 255, 0] + [9, 8, 7] * 6
PICTURES: dict[str, tuple[Image.Image, str, np.ndarray]] = {
    "1": (Image.fromarray(MASK), "mask", MASK),
    "L, black and white": (Image.fromarray(255 * MASK.astype("u1")), "mask", MASK),
    "L, soft": (Image.fromarray(GRAY), "probabilities", GRAY / np.float32(255)),
    "L, labels": (Image.fromarray(LABELS.astype("u1")), "labels", LABELS.astype("u1")),
    "LA": (
        Image.merge("LA", [Image.new("L", (60, 40)), Image.fromarray(GRAY)]),
        "probabilities",
        GRAY / np.float32(255),
    ),
    "RGBA": (
        Image.fromarray(np.dstack([PHOTO, GRAY // 5])),
        "probabilities",
        (GRAY // 5) / np.float32(255),
    ),
    "RGB": (Image.fromarray(np.dstack([GRAY] * 3)), "probabilities", GRAY / np.float32(255)),
    "I;16": (Image.fromarray(GRAY * np.uint16(257)), "probabilities", GRAY / np.float32(255)),
    "I": (Image.fromarray(LABELS.astype("i4") * 70000), "labels", LABELS * 70000),
    "F": (Image.fromarray(LOGITS), "logits", LOGITS),
    "P": (palette_image(LABELS, RED_GREEN), "labels", LABELS.astype("u1")),
    "P of gray colors": (palette_image(~MASK, [255, 255, 255, 0, 0, 0]), "mask", MASK),
    "CMYK": (Image.fromarray(np.dstack([GRAY] * 3)).convert("CMYK"), "probabilities", GRAY / 255),
}


@pytest.mark.parametrize(("picture", "kind", "values"), PICTURES.values(), ids=PICTURES)
def test_pictures(picture: Image.Image, kind: str, values: np.ndarray) -> None:
    found = one(picture)
    assert found.kind == kind
    assert found.source.endswith(f"an image of mode {picture.mode}, 40×60")
    np.testing.assert_allclose(found.values, values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PICTURES if name not in ("F", "CMYK", "I")])
def test_png_files_are_read_as_the_pictures_in_them(name: str, tmp_path: Path) -> None:
    picture, kind, values = PICTURES[name]
    picture.save(tmp_path / "mask.png")
    for given in (tmp_path / "mask.png", str(tmp_path / "mask.png")):
        found = one(given)
        assert found.kind == kind
        assert found.source.removeprefix("alpha of ") == str(tmp_path / "mask.png")
        np.testing.assert_allclose(found.values, values, rtol=1e-6)
    assert one((tmp_path / "mask.png").read_bytes()).kind == kind
    with (tmp_path / "mask.png").open("rb") as file:
        assert one(file).kind == kind


@pytest.mark.parametrize("suffix", ["bmp", "tif"])
def test_other_lossless_files(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(255 * MASK.astype("u1")).save(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(one(tmp_path / f"mask.{suffix}").values, MASK)


def as_jpeg(picture: Image.Image, quality: int) -> BytesIO:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_black_and_white_survives_jpeg(quality: int, mode: str) -> None:
    picture = Image.new("L", (300, 200))
    ImageDraw.Draw(picture).polygon([(20, 30), (270, 50), (190, 180), (40, 150)], fill=255)
    found = one(as_jpeg(picture.convert(mode), quality))
    assert found.kind == "mask"
    np.testing.assert_array_equal(found.values, np.array(picture) > 0)


def test_jpeg_stays_soft_where_it_was_and_is_never_labels() -> None:
    picture = Image.new("L", (1200, 800))
    ImageDraw.Draw(picture).polygon([(80, 120), (1080, 200), (760, 720), (160, 600)], fill=255)
    assert one(as_jpeg(picture.reduce(4), 75)).kind == "probabilities"
    assert not one(as_jpeg(Image.fromarray(LABELS.astype("u1")), 95)).values.any()
    with pytest.raises(ValueError, match="is a JPEG, which does not keep labels exactly"):
        read_mask(as_jpeg(picture, 95), kind="labels")
    with pytest.raises(ValueError, match="colors, expected a mask"):
        read_mask(as_jpeg(Image.fromarray(COLORS), 95))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_files_are_turned_upright(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to be upright
    file = BytesIO()
    # Nothing that is the same from both sides.
    corner = np.where(np.arange(60) < 30, SOFT, 0)
    Image.fromarray(np.round(255 * corner).astype("u1")).save(file, format, exif=exif, quality=95)
    np.testing.assert_allclose(one(file).values, np.rot90(corner, -1), atol=0.06)


def test_palettes_with_transparency_are_asked_for(tmp_path: Path) -> None:
    palette_image(LABELS, RED_GREEN).save(
        tmp_path / "mask.png", transparency=bytes([0, 128] + [255] * 7)
    )
    with pytest.raises(
        ValueError, match=r'with transparency, which may be labels or.*kind="labels"'
    ):
        read_mask(tmp_path / "mask.png")
    np.testing.assert_array_equal(one(tmp_path / "mask.png", kind="labels").values, LABELS)
    alpha = one(tmp_path / "mask.png", kind="probabilities").values
    np.testing.assert_allclose(alpha, np.array([0, 128] + [255] * 7)[LABELS] / 255, rtol=1e-6)


def test_indices_of_colors_are_no_probabilities() -> None:
    picture = palette_image(LABELS, RED_GREEN)
    with pytest.raises(
        ValueError, match=r"palette image with colors, expected gray values for kin"
    ):
        read_mask(picture, kind="probabilities")
    assert one(palette_image(MASK, RED_GREEN), kind="mask").kind == "mask"


def test_files_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", SOFT)
    np.testing.assert_array_equal(one(tmp_path / "mask.npy").values, SOFT)
    np.savez_compressed(tmp_path / "mask.npz", K_LOGITS)
    assert one(str(tmp_path / "mask.npz")).source == str(tmp_path / "mask.npz")
    np.savez(tmp_path / "two.npz", low=SOFT, high=MASK)
    with pytest.raises(ValueError, match=r"has 2 arrays \(low, high\), expected one\. Pass numpy"):
        read_mask(tmp_path / "two.npz")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.npz").write_text("PK hello")
    np.savez(tmp_path / "object.npz", np.array([{}], dtype=object))
    for save, name in ((np.savez, "damaged.npz"), (np.savez_compressed, "unpacked.npz")):
        save(tmp_path / name, SOFT)
        content = bytearray((tmp_path / name).read_bytes())
        content[300:340] = b"\xff" * 40
        (tmp_path / name).write_bytes(content)
    refused = ("object.npy", "text.npy", "text.npz", "object.npz", "damaged.npz", "unpacked.npz")
    for name in refused:
        with pytest.raises(ImageError, match=f"{name} is no array: .* Write it with numpy.save"):
            read_mask(tmp_path / name)
    with pytest.raises(ImageError, match=r"none\.npy does not exist. Check the path"):
        read_mask(tmp_path / "none.npy")


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png does not exist"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match="is not an image that Pillow can read"):
        read_mask(tmp_path / "text.png")
    Image.fromarray(COLORS).save(tmp_path / "colors.png")
    with pytest.raises(ValueError, match=r"colors\.png has 3 colors, expected a mask"):
        read_mask(tmp_path / "colors.png")


# Results of libraries.


def test_what_a_pipeline_of_transformers_returns() -> None:
    def picture(mask: np.ndarray) -> Image.Image:
        return Image.fromarray(255 * mask.astype("u1"))

    result = [
        {"score": 0.98, "label": "cat", "mask": picture(MASK)},
        {"score": None, "label": "sky", "mask": picture(~MASK)},
    ]
    for given in (result, [result]):
        cat, sky = many(given)
        assert (cat.name, cat.score, cat.kind, cat.source) == ("cat", 0.98, "mask", "mask cat")
        assert (sky.name, sky.score) == ("sky", None)
        np.testing.assert_array_equal(cat.values, MASK)
    assert one(result[0]).name == "cat"
    with pytest.raises(ValueError, match=r"list of 2 has list, expected masks .* one photo"):
        read_mask([result, result])
    with pytest.raises(ValueError, match="list of 0 has no masks"):
        read_mask([[]])


def test_what_mask_generation_returns() -> None:
    masks = np.stack([MASK, ~MASK])
    for given in (list(masks), masks, torch.from_numpy(masks)):
        first, second = many({"masks": given, "scores": torch.tensor([0.5, 0.25])})
        assert (first.score, second.score) == (0.5, 0.25)
        assert second.source == "mask 1 of a dict of masks, scores"
        np.testing.assert_array_equal(second.values, ~MASK)
    with pytest.raises(ValueError, match="dict of masks, scores has no masks"):
        read_mask({"masks": [], "scores": torch.zeros(0)})


def test_what_detection_networks_of_torchvision_and_sam_3_return() -> None:
    soft = torch.from_numpy(np.stack([SOFT, 1 - SOFT]))[:, None]
    result = {"boxes": torch.zeros(2, 4), "labels": torch.tensor([1, 17]), "masks": soft}
    first, second = many(result)
    assert (first.kind, first.name, second.name) == ("probabilities", "1", "17")
    integers = torch.from_numpy(np.stack([MASK, ~MASK])).long()
    assert [one.kind for one in many({"scores": torch.ones(2), "masks": integers})] == ["mask"] * 2


def test_what_segmentation_networks_return() -> None:
    scores = torch.from_numpy(K_LOGITS)[None]
    for given in ({"out": scores, "aux": scores}, SimpleNamespace(logits=scores, loss=None)):
        found = one(given)
        assert found.kind == "logits"
        np.testing.assert_array_equal(found.values, K_LOGITS)
    with pytest.raises(
        ValueError, match=r"logits of types SimpleNamespace has shape \[2, 9, 5\], exp"
    ):
        read_mask(SimpleNamespace(logits=torch.zeros(2, 9, 5)))
    with pytest.raises(ValueError, match="one photo's at a time"):
        read_mask(SimpleNamespace(logits=torch.zeros(2, 3, 9, 5)))


def test_semantic_segmentation_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    processor = transformers.models.segformer.SegformerImageProcessorPil()
    outputs = SimpleNamespace(logits=torch.from_numpy(K_LOGITS[:2])[None])
    maps = processor.post_process_semantic_segmentation(outputs, target_sizes=[(80, 120)])
    found = one(maps)
    assert (found.kind, found.values.shape) == ("labels", (80, 120))
    assert set(np.unique(found.values)) == {0, 1}
    detailed = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(80, 120)], return_segmentation_scores=True
    )
    np.testing.assert_array_equal(one(detailed).values, found.values)
    with pytest.raises(ValueError, match=r"a list of 2 has labels \[80, 120\], expected masks"):
        read_mask([torch.where(maps[0] == 0, 0, 5)] * 2)


def mask2former_outputs() -> SimpleNamespace:
    """Two sure queries, one on each half, and one for nothing."""
    queries = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])
    left = torch.where(torch.arange(16) < 8, 9.0, -9.0).expand(16, 16)
    return SimpleNamespace(
        class_queries_logits=queries[None],
        masks_queries_logits=torch.stack([left, -left, torch.full_like(left, -9.0)])[None],
    )


@pytest.mark.parametrize("binary_maps", [False, True])
def test_instances_of_transformers(binary_maps: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    processor = transformers.models.mask2former.Mask2FormerImageProcessorPil()
    result = processor.post_process_instance_segmentation(
        mask2former_outputs(), target_sizes=[(40, 60)], return_binary_maps=binary_maps
    )
    found = many(result)
    assert sorted(mask.name for mask in found) == ["0", "1"]
    assert all(mask.score is not None and mask.score > 0.9 for mask in found)
    (left,) = (mask.values for mask in found if mask.name == "0")
    np.testing.assert_array_equal(left, np.broadcast_to(np.arange(60) < 30, (40, 60)))


def test_segments_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    processor = transformers.models.mask2former.Mask2FormerImageProcessorPil()
    result = processor.post_process_panoptic_segmentation(
        mask2former_outputs(), target_sizes=[(40, 60)], label_ids_to_fuse={1}
    )
    assert len(many(result)) == 2
    lengths = processor.post_process_instance_segmentation(
        mask2former_outputs(), target_sizes=[(40, 60)], return_coco_annotation=True
    )
    with pytest.raises(
        ValueError, match=r"has run lengths, expected a map.*return_coco_annotation"
    ):
        read_mask(lengths)
    nothing = processor.post_process_instance_segmentation(
        mask2former_outputs(), target_sizes=[(40, 60)], threshold=1.0
    )
    with pytest.raises(ValueError, match="a dict of segmentation, segments_info has no masks"):
        read_mask(nothing)


def test_a_pipeline_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    config = transformers.SegformerConfig(
        num_labels=3,
        hidden_sizes=[4, 4, 4, 4],
        depths=[1] * 4,
        decoder_hidden_size=4,
        num_attention_heads=[1] * 4,
    )
    pipeline = transformers.ImageSegmentationPipeline(
        model=transformers.SegformerForSemanticSegmentation(config),
        image_processor=transformers.models.segformer.SegformerImageProcessorPil(size=(64, 64)),
    )
    found = many(pipeline(Image.fromarray(PHOTO)))
    assert {mask.name for mask in found} <= {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert np.sum([mask.values for mask in found], 0).tolist() == np.ones((40, 60)).tolist()


def sam_outputs(name: str = "Sam", images: int = 1, prompts: int = 1) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    family = getattr(transformers.models, {"Sam": "sam", "Sam2": "sam2", "SamHQ": "sam_hq"}[name])
    module = family.__getattr__(f"modeling_{family.__name__.split('.')[-1]}")
    scores = torch.tensor([0.1, 0.9, 0.3]).expand(images, prompts, 3)
    masks = torch.arange(3.0).sub(1.5)[:, None, None].expand(images, prompts, 3, 32, 32)
    cls = getattr(module, f"{name}ImageSegmentationOutput")
    return cls(iou_scores=scores, pred_masks=masks)


@pytest.mark.parametrize(("name", "padded"), [("Sam", True), ("SamHQ", True), ("Sam2", False)])
def test_the_best_of_sam_s_answers(name: str, padded: bool) -> None:
    found = one(sam_outputs(name))
    assert (found.kind, found.values.shape, found.padded_square) == ("logits", (32, 32), padded)
    assert found.score == pytest.approx(0.9)
    assert np.all(found.values == -0.5)
    assert len(many(sam_outputs(name, prompts=2))) == 2
    with pytest.raises(ValueError, match=r"pred_masks \[2, 1, 3, 32, 32\], expected \[1, prompts"):
        read_mask(sam_outputs(name, images=2))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
def test_what_sam_s_predictors_return(padded: bool, size: tuple[int, int]) -> None:
    mask = disk(size)
    shown = np.pad(mask, ((0, 60 - size[0]), (0, 60 - size[1]))) if padded else mask
    y, x = (np.arange(30) * side // 30 for side in shown.shape)
    logits = np.where(shown[np.ix_(y, x)], 5.0, -5.0).astype(np.float32)
    result = (np.stack([~mask, mask]), np.array([0.1, 0.75]), np.stack([-logits, logits]))
    found = one(result)
    assert (found.kind, found.score, found.padded_square) == ("logits", 0.75, padded)
    np.testing.assert_array_equal(found.values, logits)


def test_queries_are_not_taken_for_sam_s() -> None:
    outputs = SimpleNamespace(pred_masks=torch.zeros(1, 9, 8, 8), pred_logits=torch.zeros(1, 9))
    with pytest.raises(ValueError, match="pred_masks without iou_scores, expected those of SAM"):
        read_mask(outputs)


class Results:
    """As ultralytics' class documents itself: masks lie on what the network saw."""

    def __init__(self, masks: torch.Tensor | None, orig_shape: tuple[int, int]) -> None:
        count = 0 if masks is None else len(masks)
        self.orig_shape, self.names = orig_shape, {0: "person", 2: "car"}
        self.masks = None if masks is None else SimpleNamespace(data=masks)
        self.boxes = SimpleNamespace(
            cls=torch.tensor([2.0, 0.0])[:count], conf=torch.tensor([0.5, 0.25])[:count]
        )


@pytest.mark.parametrize(
    ("photo", "network", "inside"),
    [
        ((1080, 1920), (384, 640), np.s_[12:372, :]),
        ((1920, 1080), (640, 384), np.s_[:, 12:372]),
        ((1000, 1500), (640, 640), np.s_[106:533, :]),  # 427 rows, 106 above and 107 below
        ((480, 640), (480, 640), np.s_[:, :]),
        ((40, 60), (640, 640), np.s_[106:533, :]),
    ],
    ids=["wide", "tall", "odd", "as large as the photo", "enlarged"],
)
def test_borders_of_ultralytics_are_cut_off(
    photo: tuple[int, int], network: tuple[int, int], inside: tuple[slice, slice]
) -> None:
    masks = torch.zeros(2, *network, dtype=torch.uint8)
    masks[(slice(None), *inside)] = 1
    for given in (Results(masks, photo), [Results(masks.float(), photo)]):
        car, person = many(given)
        assert (car.name, car.score, car.kind, person.name) == ("car", 0.5, "mask", "person")
        assert car.values.all()
        assert car.values.shape == np.zeros(network)[inside].shape
    with pytest.raises(ValueError, match=r"list of 2 has Results, expected .* one photo"):
        read_mask([Results(masks, photo)] * 2)


def test_nothing_found_by_ultralytics() -> None:
    with pytest.raises(ValueError, match=r"Results has no masks.*nothing was found in the photo"):
        read_mask(Results(None, (40, 60)))


def test_detections_of_supervision() -> None:
    sv = pytest.importorskip("supervision", reason="needs supervision")
    detections = sv.Detections(
        xyxy=np.array([[20.0, 10, 42, 32], [0, 0, 60, 40]]),
        mask=np.stack([MASK, ~MASK]),
        class_id=np.array([3, 5]),
        confidence=np.array([0.5, 0.25]),
        data={"class_name": np.array(["dog", "sky"])},
    )
    dog, sky = many(detections)
    assert (dog.name, dog.score, dog.source) == ("dog", 0.5, "mask 0 of supervision Detections")
    np.testing.assert_array_equal(sky.values, ~MASK)
    detections.data = {}
    assert [mask.name for mask in many(detections)] == ["3", "5"]
    with pytest.raises(ValueError, match="supervision Detections has no masks"):
        read_mask(sv.Detections.empty())


def test_compact_masks_of_supervision_keep_their_windows() -> None:
    pytest.importorskip("supervision", reason="needs supervision")
    compact = pytest.importorskip("supervision.detection.compact_mask", reason="needs 0.27 or so")
    import supervision as sv

    boxes = np.array([[17, 7, 43, 33]], np.float32)
    mask = compact.CompactMask.from_dense(MASK[None], boxes, image_shape=MASK.shape)
    (found,) = many(sv.Detections(xyxy=boxes, mask=mask))
    assert found.window is not None
    top, left, height, width = found.window
    assert found.values.shape == (height, width) != MASK.shape
    whole = np.zeros_like(MASK)
    whole[top : top + height, left : left + width] = found.values
    np.testing.assert_array_equal(whole, MASK)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="kind='alpha', expected one of mask, probabilities, log"):
        check_kind("alpha")


def test_names_in_messages_are_short() -> None:
    with pytest.raises(ValueError) as caught:
        read_mask({"segmentation": with_nan})
    assert re.match("a dict of segmentation has 1 values", str(caught.value))
