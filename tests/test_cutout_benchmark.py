"""The composites of benchmarks/cutout and the scores that are taken of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

CUTOUT = Path(__file__).resolve().parents[1] / "benchmarks" / "cutout"


@pytest.fixture
def cutout(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The modules of the benchmark."""
    import sys

    monkeypatch.syspath_prepend(str(CUTOUT))
    import composites
    import pictures
    import scores

    yield SimpleNamespace(composites=composites, pictures=pictures, scores=scores)
    for name in ("composites", "pictures", "scores"):
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A foreground of one color, and photos of noise."""
    (tmp_path / "foregrounds").mkdir()
    Image.new("RGB", (60, 80), (200, 30, 30)).save(tmp_path / "foregrounds" / "ball.jpg")
    y, x = np.mgrid[:80, :60]
    edge = (25 - np.hypot(y - 40, x - 30)).clip(0, 1)
    Image.fromarray((255 * edge).astype(np.uint8)).save(tmp_path / "foregrounds" / "ball.png")
    (tmp_path / "MANIFEST.csv").write_text("name,product,kind\nball,ball,toy\n")
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    for name in ("cat_01", "cat_02", "tree"):
        picture = Image.fromarray(noise).resize((640, 640))
        picture.save(tmp_path / f"{name}.jpg")
    return tmp_path


def test_a_scene_is_the_same_every_time_and_at_every_size(
    cutout: SimpleNamespace, folder: Path
) -> None:
    foregrounds = cutout.pictures.read_foregrounds([folder])
    backgrounds = cutout.pictures.read_backgrounds(folder)
    for seed in range(3):
        scene = cutout.composites.Scene.draw(seed, foregrounds, backgrounds)
        first, again = scene.render(0.03), scene.render(0.03)
        assert np.array_equal(first.image, again.image)
        assert first.image.shape[:2] == first.alpha.shape
        large = scene.render(0.12).alpha
        mean = torch.nn.functional.interpolate(
            torch.from_numpy(large)[None, None], first.alpha.shape, mode="area"
        )[0, 0]
        assert float((mean - torch.from_numpy(first.alpha)).abs().mean()) < 0.02
        assert abs(large.size / first.alpha.size - 4) < 0.1
        inside = first.image[first.alpha > 0.99].mean(0)
        assert inside[0] > inside[1] and inside[0] > inside[2]  # as red as it was


def test_what_looks_alike_is_not_split(cutout: SimpleNamespace, folder: Path) -> None:
    groups: dict[str, set[str]] = {}
    for picture in cutout.pictures.read_backgrounds(folder):
        groups.setdefault(picture.group, set()).add(picture.split)
    assert groups.keys() == {"cat", "tree"}
    assert all(len(splits) == 1 for splits in groups.values())
    both = [
        picture
        for split in ("train", "test")
        for picture in cutout.pictures.read_foregrounds([folder], split)
    ]
    assert both == cutout.pictures.read_foregrounds([folder])


def test_scores_of_right_and_wrong(cutout: SimpleNamespace) -> None:
    alpha = torch.zeros(60, 80)
    alpha[20:40, 20:60] = 1
    alpha[19, 20:60] = 0.25
    truth = cutout.scores.Truth(alpha)
    right = truth.score(alpha)
    assert right == cutout.scores.AlphaScores(
        boundary_iou=1.0, boundary_iou_share=1.0, sad=0.0, gradient=0.0, mae=0.0
    )
    shifted = truth.score(alpha.roll(1, 1))
    assert shifted.boundary_iou_share < shifted.boundary_iou < 1.0
    # Two columns of twenty and a quarter differ by one.
    assert shifted.mae == pytest.approx(1000 * 2 * 20.25 / alpha.numel())
    assert 0 < shifted.gradient < truth.score(alpha.roll(3, 1)).gradient
    # Far from the edge nothing counts but in the mean.
    far = alpha.clone()
    far[0, 79] = 1
    assert truth.score(far).sad == 0.0 < truth.score(far).mae
