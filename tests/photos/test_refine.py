"""Masks of any kind and size, at the full resolution of their photo."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import sparserefine as sr
from command_line import run
from sparserefine.images import ImageError
from sparserefine.photos.refine_folder import refine_photos

SIZE = (192, 256)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A red flower on noisy blue, and its alpha."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    angle, radius = np.arctan2(y - 96, x - 120), np.hypot(y - 96, x - 120)
    alpha = (60 * (1 + 0.3 * np.cos(7 * angle)) - radius + 0.5).clip(0, 1)
    noise = np.random.default_rng(0).normal(0, 5, (*SIZE, 3))
    colors = alpha[..., None] * (200, 50, 40) + (1 - alpha[..., None]) * (40, 90, 180)
    return (colors + noise).clip(0, 255).astype(np.uint8), alpha


def reduced(alpha: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    return F.interpolate(torch.from_numpy(alpha)[None, None], cells, mode="area")[0, 0].numpy()


def enlarged(mask: np.ndarray) -> np.ndarray:
    mask = torch.from_numpy(mask.astype(np.float32))[None, None]
    return F.interpolate(mask, SIZE, mode="bilinear")[0, 0].numpy()


PROBABILITIES = reduced(scene()[1], (24, 32))
HARD = PROBABILITIES > 0.5
LOGITS = np.log(PROBABILITIES.clip(1e-4, 1 - 1e-4) / (1 - PROBABILITIES.clip(1e-4, 1 - 1e-4)))
MASKS = {
    "bool": HARD,
    "0/255": HARD.astype(np.uint8) * 255,
    "probabilities": PROBABILITIES,
    "gray": (255 * PROBABILITIES).round().astype(np.uint8),
    "logits of two classes": np.stack([0 * LOGITS, LOGITS]),
    "enlarged hard": np.kron(HARD, np.ones((8, 8), bool)),
    "enlarged soft": enlarged(PROBABILITIES),
    "tensor": torch.from_numpy(HARD),
    "Pillow": Image.fromarray(HARD.astype(np.uint8) * 255),
}


@pytest.mark.parametrize("name", MASKS)
def test_every_kind_of_mask_comes_nearer_to_the_truth(name: str) -> None:
    image, truth = scene()
    out = sr.refine(image, MASKS[name])
    assert out.alpha is not None and out.alpha.shape == SIZE
    coarse = enlarged(HARD if MASKS[name] is HARD or "hard" in name else PROBABILITIES)
    assert np.abs(out.alpha - truth).mean() < 0.4 * np.abs(coarse - truth).mean()
    assert np.array_equal(out.labels, out.alpha > 0.5)
    assert 0.05 < out.density < 0.5
    assert set(np.unique(out.alpha[~out.mask])) == {0.0, 1.0}


def test_a_png_and_its_photo_by_path(tmp_path: Path) -> None:
    image, _ = scene()
    Image.fromarray(image).save(tmp_path / "photo.png")
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "mask.png")
    out = sr.refine(str(tmp_path / "photo.png"), tmp_path / "mask.png")
    assert np.array_equal(out.alpha, sr.refine(image, MASKS["bool"]).alpha)  # type: ignore[arg-type]
    out.save(tmp_path / "cut.png", "cutout")
    with Image.open(tmp_path / "cut.png") as cut:
        rgba = np.asarray(cut)
    assert rgba.shape == (*SIZE, 4)
    edge = (rgba[..., 3] > 40) & (rgba[..., 3] < 215)
    assert edge.any() and (rgba[edge][:, 0].astype(int) > rgba[edge][:, 2]).mean() > 0.8


def test_a_photo_of_16_bits_keeps_them(tmp_path: Path) -> None:
    image, _ = scene()
    deep = image.astype(np.uint16) * 257
    deep += np.random.default_rng(1).integers(0, 100, deep.shape, np.uint16)
    out = sr.refine(deep, HARD)
    as_tensor = sr.refine(torch.from_numpy(deep).permute(2, 0, 1), HARD)
    assert as_tensor.foreground is not None
    np.testing.assert_array_equal(as_tensor.foreground.colors, out.foreground.colors)
    gray = sr.refine(Image.fromarray(deep[..., 0]), HARD)
    assert gray.foreground is not None and gray.foreground.colors.dtype == np.uint16
    assert out.foreground is not None and out.foreground.colors.dtype == np.uint16
    np.testing.assert_array_equal(out.foreground.colors[~out.mask], deep[~out.mask])
    assert (out.labels != sr.refine(image, HARD).labels).mean() < 0.001
    whole = out.mask & (out.foreground.alpha == 1)
    np.testing.assert_array_equal(out.foreground.colors[whole], deep[whole])


def test_classes_are_refined_as_labels(tmp_path: Path) -> None:
    image, alpha = scene()
    truth = (alpha > 0.5).astype(np.uint8) * 2
    truth[150:] = 1
    image = np.where((truth == 1)[..., None], np.uint8([30, 160, 60]), image)
    coarse = np.stack([reduced((truth == k).astype(np.float32), (24, 32)) for k in range(3)])
    out = sr.refine(image, coarse)
    assert out.alpha is None
    before = enlarged_labels(coarse)
    assert (out.labels != truth).mean() < 0.6 * (before != truth).mean()
    out.save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as file:
        assert np.array_equal(np.asarray(file), out.labels)
    with pytest.raises(ValueError, match="3 classes and no one foreground, so there is no alpha"):
        out.save(tmp_path / "alpha.png", "alpha")


def test_labels_keep_their_values() -> None:
    image, alpha = scene()
    truth = np.where(alpha > 0.5, 255, 7).astype(np.uint8)
    truth[150:] = 40
    coarse = truth[4::8, 4::8]
    out = sr.refine(image, coarse, kind="labels")
    assert set(np.unique(out.labels)) == {7, 40, 255}
    before = np.kron(coarse, np.ones((8, 8), np.uint8))
    assert (out.labels != truth).mean() < 0.8 * (before != truth).mean()


def enlarged_labels(coarse: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(coarse)[None]
    return F.interpolate(values, SIZE, mode="bilinear")[0].argmax(0).numpy()


def test_instances_share_what_they_overlap_in() -> None:
    from sparserefine.photos.given_values import GivenMask
    from sparserefine.photos.refine import refine

    image, alpha = scene()
    left, right = PROBABILITIES.copy(), PROBABILITIES.copy()
    left[:, 17:] = 0
    right[:, :14] = 0
    given = [
        GivenMask(values=one, kind="probabilities", source="a test", name=name)
        for one, name in ((left, "left"), (right, "right"))
    ]
    import sparserefine.photos.refine as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_mask", lambda *_, **__: given)
        out = refine(image, "instances")
    assert out.names == ("left", "right")
    assert set(np.unique(out.labels)) == {0, 1, 2}
    total = np.zeros(SIZE, np.float32)
    for one in out.instances:
        top, left_edge, height, width = one.window
        assert one.alpha.shape == (height, width) and width < SIZE[1]
        total[top : top + height, left_edge : left_edge + width] += one.alpha
    assert total.max() <= 1 + 1e-6
    assert out.alpha is not None
    np.testing.assert_allclose(out.alpha, total, atol=1e-5)
    assert np.abs(out.alpha - alpha)[40:150, 60:180].mean() < 0.02


class CompactMask:
    """As supervision documents its own: boxes, and the mask in each, of a picture of some size."""

    def __init__(self, mask: np.ndarray) -> None:
        y, x = mask.nonzero()
        self.offsets, self.shape = np.array([[x.min(), y.min()]]), (1, *mask.shape)
        self._crop = mask[y.min() : y.max() + 1, x.min() : x.max() + 1]

    def __len__(self) -> int:
        return 1

    def crop(self, index: int) -> np.ndarray:
        return self._crop


@pytest.mark.parametrize("reduced_by", [1, 2])
def test_compact_masks_of_a_smaller_photo_lie_in_their_place(reduced_by: int) -> None:
    image, truth = scene()
    mask = (truth > 0.5)[::reduced_by, ::reduced_by]
    given = SimpleNamespace(
        mask=CompactMask(mask), xyxy=None, data={}, class_id=None, confidence=None
    )
    out = sr.refine(image, given)
    assert out.alpha is not None and np.abs(out.alpha - truth).mean() < 0.005


def test_a_padded_square_lies_on_its_photo() -> None:
    image, truth = scene()
    square = np.zeros((32, 32), np.float32)
    square[:24] = PROBABILITIES
    out = sr.refine(image, square, fit="pad")
    assert np.abs(out.alpha - truth).mean() < 0.01  # type: ignore[operator]
    squashed = reduced(truth, (32, 32))
    out = sr.refine(image, squashed, fit="stretch")
    assert np.abs(out.alpha - truth).mean() < 0.01  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"is 32×32, the photo 192×256: other proportions\. Give"):
        sr.refine(image, square)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((24, 32), bool), "is all background, so it has no edge"),
        (np.ones((24, 32), bool), "is all foreground, so it has no edge"),
        (np.zeros((32, 24), bool), r"is 32×24, the photo 192×256: other proportions"),
        (np.full((24, 32), np.nan), "NaN"),
    ],
)
def test_bad_masks_are_one_line(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        sr.refine(scene()[0], mask)
    assert "\n" not in str(caught.value)


def test_what_looks_inverted_is_said() -> None:
    with pytest.warns(UserWarning, match="border of .* is foreground and its middle is not"):
        sr.refine(scene()[0], ~HARD)


def test_a_cell_widens_the_band() -> None:
    image, _ = scene()
    fine, wide = (sr.refine(image, scene()[1] > 0.5, cell=cell) for cell in (1.0, 8.0))
    assert wide.density > 2 * fine.density
    with pytest.raises(ValueError, match=r"cell is 0\.0, expected pixels"):
        sr.refine(image, HARD, cell=0.0)


def test_a_missing_photo_is_named() -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        sr.refine("gone.jpg", HARD)


def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    image, truth = scene()
    Image.fromarray(image).save(tmp_path / "photo.png")
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "mask.png")
    words = ["refine", tmp_path / "photo.png", tmp_path / "mask.png"]
    done = run(*words, "-o", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out.png")
    assert "matte" in done.stdout and "write" in done.stdout
    with Image.open(tmp_path / "out.png") as file:
        assert file.mode == "L" and np.abs(np.asarray(file) / 255 - truth).mean() < 0.01
    assert run(*words, "-o", tmp_path / "cut.png", "--cutout").returncode == 0
    with Image.open(tmp_path / "cut.png") as file:
        assert file.mode == "RGBA"
    done = run(*words, "-o", tmp_path / "cut.png", "--cutout", "--alpha")
    assert done.returncode == 1 and "two outputs of one file" in done.stderr
    done = run(*words, "-o", tmp_path / "mask.png")
    assert done.returncode == 1 and "would be written over" in done.stderr


def test_a_stopped_command_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(scene()[0]).save(tmp_path / "photo.png")
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "mask.png")
    replace = os.replace

    def stopped(*paths: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        replace(*paths)

    monkeypatch.setattr("sparserefine.atomic.os.replace", stopped)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        done = run(
            "refine", tmp_path / "photo.png", tmp_path / "mask.png", "-o", tmp_path / "o.png"
        )
        cut = run("cutout", tmp_path / "photo.png", "--out", tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.returncode == cut.returncode == 143
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "mask.png", "out"}
    assert not list((tmp_path / "out").iterdir())


def test_a_mask_that_is_right_stays_and_that_is_said(tmp_path: Path) -> None:
    image, truth = scene()
    right, off = truth > 0.5, np.roll(truth > 0.5, 4, 1)
    assert sr.refine(image, right).kept == 1
    assert sr.refine(image, off).kept == sr.refine(image, HARD).kept == 0
    found = sr.refine(image, np.stack([right, off]))
    assert [one.kept for one in found.instances] == [1, 0] and found.kept == 0.5
    # What it made of a coarse mask is as fine as the photo, and stays.
    once = sr.refine(image, PROBABILITIES)
    assert sr.refine(image, once.alpha).kept == 1
    for name, mask in {"right": right, "off": off}.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
        words = ["refine", tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png"]
        done = run(*words, "-o", tmp_path / "out.png")
        assert done.returncode == 0
        said = " ".join(done.stderr.split())
        assert ("follows the edges of its photo already" in said) == (name == "right")


def test_a_folder_of_each(tmp_path: Path) -> None:
    image, _ = scene()
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.jpg")
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "masks" / "a.png")
    np.save(tmp_path / "masks" / "b.npy", PROBABILITIES)
    done = run("refine", tmp_path / "photos", tmp_path / "masks", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}
    assert "there is no mask of its name" in done.stderr
    assert "1 of 3 masks could not be refined" in done.stderr
    done = run("refine", tmp_path / "photos", tmp_path / "masks" / "a.png", "-o", tmp_path / "x")
    assert done.returncode == 1 and "is a folder and" in done.stderr


def test_masks_in_the_folder_of_the_photos(tmp_path: Path) -> None:
    image, _ = scene()
    for name in ("a.jpg", "b.png"):
        Image.fromarray(image).save(tmp_path / name)
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", PROBABILITIES)
    done = run("refine", tmp_path, tmp_path, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}
    assert "a.png: a mask of the JPEG of its name, and no photo" in done.stderr


def test_a_folder_of_masks_below_that_of_the_photos(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    Image.fromarray(scene()[0]).save(tmp_path / "a.jpg")
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "masks" / "a.png")
    found = refine_photos(tmp_path, tmp_path / "masks", out=tmp_path / "out")
    assert found.done == (tmp_path / "out" / "a.png",) and not found.failed
    (said,) = found.left_out
    assert said.endswith("a.png: in the folder of the masks, and no photo")


def test_two_masks_of_one_name(tmp_path: Path) -> None:
    image, _ = scene()
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(image).save(tmp_path / "photos" / "a.jpg")
    Image.fromarray(MASKS["0/255"]).save(tmp_path / "masks" / "a.png")
    np.save(tmp_path / "masks" / "a.npy", PROBABILITIES)
    done = run("refine", tmp_path / "photos", tmp_path / "masks", "-o", tmp_path / "out")
    assert done.returncode == 1 and not list((tmp_path / "out").iterdir())
    assert "there are 2 masks of its name" in done.stderr and "a.npy and" in done.stderr


def shapes(size: tuple[int, int] = (300, 400)) -> dict[str, np.ndarray]:
    """Masks whose edges are straight, or that are small."""
    y, x = np.mgrid[: size[0], : size[1]]
    box = (y > 60) & (y < 220) & (x > 100) & (x < 220)
    return {
        "box": box,
        "boxes": box | ((y > 240) & (y < 280) & (x > 20) & (x < 380)),
        "slanted": (x - 0.02 * y > 100) & (x - 0.02 * y < 200) & (y > 20) & (y < 280),
        "pole": (x > 200) & (x < 206),
        "dot": np.hypot(y - 150, x - 200) < 5,
        "dot beside a box": box | (np.hypot(y - 150, x - 320) < 5),
    }


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("enlarged_by", [1, 6])
def test_straight_and_small_things_stay(name: str, enlarged_by: int) -> None:
    mask = shapes()[name]
    if enlarged_by > 1:
        mask = np.kron(mask[::enlarged_by, ::enlarged_by], np.ones((enlarged_by,) * 2, bool))
        if not mask.any():
            pytest.skip("too small to be left at this resolution")
        mask = mask[:300, :400]
    noise = np.random.default_rng(0).normal(0, 4, (300, 400, 3))
    image = (np.where(mask[..., None], (200, 60, 40), (40, 80, 160)) + noise).clip(0, 255)
    out = sr.refine(image.astype(np.uint8), mask)
    intersection, union = (mask & (out.labels == 1)).sum(), (mask | (out.labels == 1)).sum()
    assert intersection / union > 0.95


def test_an_empty_or_full_instance_leaves_the_others() -> None:
    image, truth = scene()
    out = sr.refine(image, np.stack([HARD, np.zeros_like(HARD)]))
    assert out.alpha is not None and np.abs(out.alpha - truth).mean() < 0.01
    assert len(out.instances) == 2 and not out.instances[1].alpha.any()
    out = sr.refine(image, np.stack([HARD, np.ones_like(HARD)]))
    assert out.alpha is not None and out.alpha.min() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "foo"}, "fit='foo': expected one of stretch, pad"),
        ({"method": "foo"}, "method 'foo' is unknown"),
        ({"fit": "pad"}, "is 24×32, expected a square for fit=.pad."),
        ({"cell": float("inf")}, "cell is inf, expected pixels"),
    ],
)
def test_bad_options_are_one_line(options: dict, message: str) -> None:
    # Unchecked, as a user's calls are.
    plain = sr.refine.__wrapped__ if hasattr(sr.refine, "__wrapped__") else sr.refine
    with pytest.raises(Exception, match=message if plain is not sr.refine else ""):
        plain(scene()[0], HARD, **options)


def test_labels_beyond_255_are_kept_and_written(tmp_path: Path) -> None:
    image, alpha = scene()
    labels = np.where(alpha > 0.5, 1000, 5)[4::8, 4::8]
    out = sr.refine(image, labels, kind="labels")
    assert set(np.unique(out.labels)) == {5, 1000}
    with Image.open(out.save(tmp_path / "labels.png")) as file:
        assert np.array_equal(np.asarray(file), out.labels)
    out = sr.refine(image, labels - 1000, kind="labels")
    with pytest.raises(
        ValueError, match=r"labels are -995 to 0, and cannot be written to .*labels"
    ):
        out.save(tmp_path / "labels.png")


def test_masks_larger_than_the_photo_and_thin_ones() -> None:
    image, _ = scene()
    large = np.kron(HARD, np.ones((32, 32), bool))[: 2 * SIZE[0] + 3, : 2 * SIZE[1] + 4]
    assert sr.refine(image, large).density > 0
    strip = np.zeros((110, 4000, 3), np.uint8)
    strip[:, 2000:] = 200
    thin = np.zeros((9, 320), np.float32)
    thin[:, 160:] = 1
    assert sr.refine(strip, thin).labels.shape == (110, 4000)
    assert sr.refine(strip.transpose(1, 0, 2), thin.T).labels.shape == (4000, 110)


def test_photos_of_one_name_and_what_was_written_before(tmp_path: Path) -> None:
    image, _ = scene()
    for folder in ("p/a", "p/b", "m/a", "m/b"):
        (tmp_path / folder).mkdir(parents=True)
    for part, mask in (("a", MASKS["0/255"]), ("b", 255 - MASKS["0/255"].T.T[:, ::-1])):
        Image.fromarray(image).save(tmp_path / "p" / part / "x.jpg")
        Image.fromarray(np.ascontiguousarray(mask)).save(tmp_path / "m" / part / "x.png")
    out = tmp_path / "p" / "out"
    for _ in range(2):
        with pytest.warns(UserWarning, match="inverted"):
            done = run("refine", tmp_path / "p", tmp_path / "m", "-o", out)
        assert done.returncode == 0, done.stderr
        names = {str(path.relative_to(out)) for path in out.rglob("*.png")}
        assert names == {"a/x.png", "b/x.png"}


def test_one_photo_that_fails_is_one_line(tmp_path: Path) -> None:
    Image.fromarray(scene()[0]).save(tmp_path / "photo.png")
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(tmp_path / "mask.png")
    words = ["refine", tmp_path / "photo.png", tmp_path / "mask.png", "-o"]
    done = run(*words, tmp_path / "out.png")
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.png").exists()
    done = run(*words, tmp_path / "out.jpg")
    assert done.returncode == 1 and "expected .png" in done.stderr
