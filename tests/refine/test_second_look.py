"""The window that the dense model sees again at full resolution."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from tiny_dense import TinyDense

import sparserefine as sr
from sparserefine.refine.second_look import CELL, richest_window
from sparserefine.refine.uncertainty import entropy


def make_refiner(second_look: float) -> sr.SparseRefiner:
    torch.manual_seed(0)
    return sr.SparseRefiner(
        TinyDense(),
        selector=sr.EntropySelector(0.5),
        extractor=sr.SparseUNet.from_preset("tiny", 5),
        second_look=second_look,
    ).eval()


def random_mask(size: tuple[int, int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    steep = torch.rand(size, generator=generator) * torch.linspace(0, 1, size[0])[:, None]
    return steep > 0.4


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("size", [(160, 224), (150, 201), (33, 320)], ids=str)
def test_no_window_of_that_share_holds_more(size: tuple[int, int], share: float) -> None:
    mask = random_mask(size, seed=1)
    rows, columns = -(-size[0] // CELL), -(-size[1] // CELL)
    most = 0
    for top, left in itertools.product(range(rows), range(columns)):
        for bottom, right in itertools.product(
            range(top + 1, rows + 1), range(left + 1, columns + 1)
        ):
            if (bottom - top) * (right - left) <= share * rows * columns:
                part = mask[top * CELL : bottom * CELL, left * CELL : right * CELL]
                most = max(most, int(part.sum()))
    window = richest_window(mask, share)
    assert window is not None
    assert int(mask[window.top : window.bottom, window.left : window.right].sum()) == most
    assert window.bottom <= size[0] and window.right <= size[1]


def test_an_empty_mask_has_no_window() -> None:
    assert richest_window(torch.zeros(70, 90, dtype=torch.bool), 0.5) is None


def test_one_pixel_is_in_the_window() -> None:
    mask = torch.zeros(200, 300, dtype=torch.bool)
    mask[199, 299] = True
    window = richest_window(mask, 0.2)
    assert window is not None and (window.bottom, window.right) == (200, 300)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (31, 33)], ids=str)
def test_a_small_image_is_seen_whole_by_a_share_of_1(size: tuple[int, int]) -> None:
    assert richest_window(torch.ones(size, dtype=torch.bool), 1.0) == (0, 0, *size)


def test_pixels_in_the_window_have_the_surer_of_both_predictions() -> None:
    model = make_refiner(0.3)
    images = torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(2))
    mask = torch.stack([random_mask((128, 160), 3), torch.zeros(128, 160, dtype=torch.bool)])
    low = model.dense_pass(images).logits
    found = model.dense_rows(images, mask, low)

    model.second_look = 0.0
    before = model.dense_rows(images, mask, low)
    window = richest_window(mask[0], 0.3)
    assert window is not None
    inside = torch.zeros_like(mask)
    inside[0, window.top : window.bottom, window.left : window.right] = True
    inside = inside[mask]
    # The tiny model sees blocks of 4×4 pixels, so the whole image tells it no more than a window;
    # between the blocks at a window's rim, though, its logits are not interpolated.
    full = model.dense_logits(images, (128, 160)).permute(0, 2, 3, 1)[mask]
    core = torch.zeros_like(mask)
    core[0, window.top + 4 : window.bottom - 4, window.left + 4 : window.right - 4] = True
    core = core[mask]
    assert core.any() and not inside.all()
    surer = (entropy(full) < entropy(before))[:, None]
    expected = torch.where(surer, full, before)
    assert surer[core].any() and not surer[core].all()
    torch.testing.assert_close(found[core], expected[core])
    assert torch.equal(found[~inside], before[~inside])


def test_the_second_image_has_its_own_window() -> None:
    model = make_refiner(0.3)
    images = torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(2))
    mask = torch.stack([random_mask((128, 160), 3), random_mask((128, 160), 4).flip(0)])
    low = model.dense_pass(images).logits
    both = model.dense_rows(images, mask, low)
    apart = [model.dense_rows(images[i : i + 1], mask[i : i + 1], low[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(both, torch.cat(apart))


def test_prediction_takes_its_time_and_other_pixels_keep_their_labels() -> None:
    model, plain = make_refiner(0.3), make_refiner(0.0)
    image = torch.rand(3, 128, 160, generator=torch.Generator().manual_seed(2))
    found, before = model.predict(image), plain.predict(image)
    assert "look" in found.stages_ms and "look" not in before.stages_ms
    assert found.settings["second_look"] == 0.3
    kept = ~found.mask
    assert (found.mask == before.mask).all()
    assert (found.labels[kept] == before.labels[kept]).all()
    assert (found.labels != before.labels).any()


def test_saved_with_the_refiner_and_absent_from_older_folders(tmp_path: Path) -> None:
    model = make_refiner(0.3)
    model.save_pretrained(tmp_path)
    again = sr.SparseRefiner.from_pretrained(tmp_path, dense=TinyDense())
    assert again.second_look == 0.3
    config = json.loads((tmp_path / "config.json").read_text())
    del config["second_look"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert sr.SparseRefiner.from_pretrained(tmp_path, dense=TinyDense()).second_look == 0.0


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"second_look=.*: expected a share of the image, 0 to 1"):
        make_refiner(share)
