"""The pages do what they say, and their figures are those of the result files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_files import label_map, photo

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_examples_of_the_sparse_page_run_as_written() -> None:
    names: dict[str, object] = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "sparse.md").read_text(), re.S
    ):
        exec(block.replace("1024, 2048", "64, 96"), names)
    assert tuple(names["out"].shape) == (1, 32, 64, 96)  # type: ignore[attr-defined]


def test_the_examples_of_the_page_on_dense_models_run_as_written() -> None:
    names: dict[str, object] = {}
    text = (ROOT / "docs" / "dense-models.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(block, names)
    assert names["refiner"].dense.num_classes == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["refine.md", "cutout.md"])
def test_the_examples_on_photos_run_as_written(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x = np.mgrid[:96, :128]
    inside = np.hypot(y - 48, x - 64) < 30
    noise = np.random.default_rng(0).integers(0, 20, (96, 128, 3))
    photo = np.where(inside[..., None], (200, 60, 40), (40, 90, 160)) + noise
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "photo.jpg")
    Image.fromarray(inside[::4, ::4].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert {path.name for path in tmp_path.iterdir()} - {"photo.jpg", "mask.png"}


def test_the_example_on_data_runs_as_written_and_its_tables_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparserefine.data.finding import LAYOUTS
    from sparserefine.data.label_values import MEANINGS

    for index in range(2):
        photo(tmp_path / f"street/images/{index}.jpg", (96, 128))
        label_map(tmp_path / f"street/masks/{index}.png", (0, 255), (96, 128))
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "data.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(block, names)
    assert names["found"].sizes == {(96, 128): 2}  # type: ignore[attr-defined]
    assert names["dataset"][0].labels.max() == 1  # type: ignore[index]
    rows = re.findall(r"^\| `([^`]+)` \|", text, re.M)
    assert set(rows) >= LAYOUTS.keys() - {"auto"} | MEANINGS.keys()


def test_the_tables_of_the_page_on_dense_models_are_those_of_the_result_file() -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    import dense_models

    page = dense_models.PAGE.read_text()
    assert dense_models.with_tables(page) == page, "run: python benchmarks/dense_models.py --page"
    del sys.modules["dense_models"]


def test_the_speed_of_the_page_on_dense_models_is_that_of_the_result_file() -> None:
    import u2net_speed

    page = u2net_speed.PAGE.read_text()
    assert u2net_speed.with_figures(page) == page, "run: python benchmarks/u2net_speed.py --page"
    del sys.modules["u2net_speed"]


def test_the_figures_of_the_latency_page_are_those_of_the_result_files() -> None:
    import latency_page

    page = latency_page.PAGE.read_text()
    assert latency_page.with_figures(page) == page, "run: python benchmarks/latency_page.py"
    del sys.modules["latency_page"]


def test_the_figures_of_the_page_in_the_browser_are_those_of_the_result_file() -> None:
    import app_latency

    page = app_latency.PAGE.read_text()
    assert app_latency.with_figures(page) == page, "run: python benchmarks/app_latency.py --page"
    assert app_latency.PICTURE.stat().st_size <= 200_000
    del sys.modules["app_latency"]


def test_the_figures_of_the_gpu_page_are_those_of_the_result_files() -> None:
    import gpu_page

    page = gpu_page.PAGE.read_text()
    assert gpu_page.with_figures(page) == page, "run: python benchmarks/gpu_page.py"
    del sys.modules["gpu_page"]


def test_the_figures_of_the_frontier_page_are_those_of_the_result_files() -> None:
    import frontier

    page = frontier.PAGE.read_text()
    assert frontier.with_figures(page) == page, "run: python benchmarks/frontier.py --page"
    del sys.modules["frontier"]


def test_the_figures_of_the_sparse_page_are_those_of_the_result_file() -> None:
    import sparse_page

    page = sparse_page.PAGE.read_text()
    assert sparse_page.with_figures(page) == page, "run: python benchmarks/sparse_page.py"
    del sys.modules["sparse_page"]


@pytest.mark.parametrize("folder", ["cutout", "labels"])
def test_the_figures_of_pages_of_several_scripts_are_those_of_the_result_files(
    monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / folder))
    import page

    text = page.PAGE.read_text()
    assert page.with_figures(text) == text, f"run: python benchmarks/{folder}/page.py"
    del sys.modules["page"]


def test_the_figures_of_the_page_on_scale_are_those_of_the_result_file() -> None:
    import bulk

    page = bulk.PAGE.read_text()
    assert bulk.with_figures(page) == page, "run: python benchmarks/bulk.py --page"
    del sys.modules["bulk"]


def test_the_figures_of_the_page_on_deploying_are_those_of_the_result_file() -> None:
    import export

    page = export.PAGE.read_text()
    assert export.with_figures(page) == page, "run: python benchmarks/export.py --page"
    del sys.modules["export"]


def test_the_figures_on_videos_are_those_of_the_result_file() -> None:
    import video

    page = video.PAGE.read_text()
    assert video.with_figures(page) == page, "run: python benchmarks/video.py --page"
    del sys.modules["video"]
