"""Rasters of the sizes that this is for: equal to the whole, and in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sparserefine as sr
from sparserefine.images import read_image
from sparserefine.refinement.dense_size import DenseSize
from sparserefine.sparse import use_backend

rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")

PHOTO = Path(sr.__file__).parent / "assets" / "photos" / "lund.jpg"
TILED = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB", "tiled": True,
         "blockxsize": 512, "blockysize": 512, "compress": "deflate", "crs": "EPSG:32633",
         "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 5_600_000)}  # fmt: skip

# A process starts with the peak of the one that started it, so that is a small one.
_SCRIPT = """
import json, resource, sys
import sparserefine as sr
from sparserefine.refinement.dense_size import DenseSize
model = sr.load("demo")
if sys.argv[3] != "own":
    size = json.loads(sys.argv[3])
    model.dense_size = DenseSize(tuple(size) if isinstance(size, list) else size, 16)
result = sr.predict_raster(model, sys.argv[1], sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"peak_mib": peak, "parts": result.dense_parts, "density": result.density}))
"""


def in_a_process(source: Path, out: Path, dense_size: str) -> dict[str, float]:
    """Segment a raster in a process that is started by a small one."""
    command = [sys.executable, "-c", _SCRIPT, str(source), str(out), dense_size]
    launch = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", launch, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_30_megapixels_equal_the_whole_and_take_less_than_2_gib(tmp_path: Path) -> None:
    image = np.tile(read_image(PHOTO), (7, 7, 1))[:4750, :6350]
    noise = np.random.default_rng(0).integers(-15, 16, (*image.shape[:2], 1), np.int16)
    image = (image + noise).clip(0, 255).astype(np.uint8)
    source, out = tmp_path / "field.tif", tmp_path / "labels.tif"
    height, width = image.shape[:2]
    with rasterio.open(source, "w", **TILED, height=height, width=width) as file:
        file.write(image.transpose(2, 0, 1))
    found = in_a_process(source, out, "0.25")
    assert found["peak_mib"] < 2048 and found["parts"] == 1
    model = sr.load("demo")
    model.dense_size = DenseSize(0.25, 16)
    with use_backend(exact=True):
        expected = model.predict(image)
    with rasterio.open(out) as file:
        assert np.array_equal(file.read(1), expected.labels)
    assert 0.1 < expected.density == pytest.approx(found["density"])
    # As it ships, the dense model sees 7.5 megapixels, in parts.
    found = in_a_process(source, tmp_path / "shipped.tif", "own")
    assert found["peak_mib"] < 2048 and found["parts"] > 1


@pytest.mark.slow
def test_a_gigapixel_takes_less_than_2_gib(tmp_path: Path) -> None:
    """Most of it without data, as scenes of satellites have it, and a photo here and there."""
    side, photo = 32_000, read_image(PHOTO).clip(1, 255)
    source, out = tmp_path / "field.tif", tmp_path / "labels.tif"
    settings = {**TILED, "BIGTIFF": "YES", "SPARSE_OK": True, "nodata": 0}
    places = [(0, 0), (15_000, 17_123), (31_000, 30_500), (9_999, 26_001)]
    height, width = photo.shape[:2]
    with rasterio.open(source, "w", **settings, height=side, width=side) as file:
        for y, x in places:
            part = photo[: side - y, : side - x]
            window = ((y, y + part.shape[0]), (x, x + part.shape[1]))
            file.write(part.transpose(2, 0, 1), window=window)
    found = in_a_process(source, out, "own")
    assert found["peak_mib"] < 2048
    with rasterio.open(out) as file:
        assert file.shape == (side, side) and file.overviews(1)
        for y, x in places:
            labels = file.read(1, window=((y, min(y + height, side)), (x, min(x + width, side))))
            assert (labels < 19).all() and len(np.unique(labels)) > 3
        assert (file.read(1, window=((4000, 6000), (0, side))) == 255).all()
