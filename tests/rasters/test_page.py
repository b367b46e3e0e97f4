"""The section on rasters does what it says, and its figures are those of the result file."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import run
from raster_files import make_raster_model, picture

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "scale.md").read_text().split("## Rasters")[1].split("\n## ")[0]


def _field(image: np.ndarray, path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")
    shape = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2]}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)}
    colors: dict[str, Any] = {"photometric": "RGB"} if image.shape[2] == 3 else {}
    with rasterio.open(path, "w", "GTiff", dtype=image.dtype, **shape, **place, **colors) as file:
        file.write(image.transpose(2, 0, 1))


def _of_4_bands(path: Path) -> None:
    image = picture(60, 80).astype(np.uint16)
    _field(np.dstack([image[..., 0], image]) * 12, path)


def test_the_commands_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr", reason="needs the extra zarr")
    from raster_files import RGB_CHANNELS, write_zarr

    monkeypatch.setattr("sparserefine.cli.rasters.load_refiner", lambda _: make_raster_model())
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    sparserefine (predict .*)$", SECTION, re.M)
    write_zarr(tmp_path / "field.zarr", picture(60, 80), "0.5", omero=RGB_CHANNELS)
    for command in commands:
        (tmp_path / "field_labels.tif").unlink(missing_ok=True)
        if "--bands" in command:
            _of_4_bands(tmp_path / "field.tif")
        else:
            _field(picture(60, 80), tmp_path / "field.tif")
        done = run(*shlex.split(command))
        assert done.returncode == 0, done.stderr
    assert len(commands) == 3 and (tmp_path / "field.zarr/labels/fields/0").is_dir()


def test_the_example_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _of_4_bands(tmp_path / "field.tif")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", SECTION, re.S):
        exec(block.replace('sr.load("demo")', "model"), names | {"model": make_raster_model()})
        names["ran"] = True
    assert names["ran"] and (tmp_path / "field_labels.tif").is_file()


def test_the_table_is_that_of_the_result_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    found = importlib.util.spec_from_file_location("page", ROOT / "benchmarks" / "rasters.py")
    assert found is not None and found.loader is not None
    page = importlib.util.module_from_spec(found)
    found.loader.exec_module(page)
    text = page.PAGE.read_text()
    assert page.with_figures(text) == text, "run: python benchmarks/rasters.py --page"
