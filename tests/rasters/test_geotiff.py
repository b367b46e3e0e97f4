"""GeoTIFFs in and out: what is kept, what is refused, and what a stopped run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sparserefine as sr
from command_line import run
from raster_files import ArrayRaster, make_raster_model, picture
from sparserefine.images import read_image
from sparserefine.rasters import geotiff
from sparserefine.rasters import journal as journals
from sparserefine.rasters import predict as predicting
from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.error import RasterError
from sparserefine.sparse import use_backend
from sparserefine.viz import default_palette

rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")

SIZE = (203, 262)
PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_600_000)}


def write_tif(path: Path, image: np.ndarray, **profile: Any) -> Path:
    """A GeoTIFF of an image [H, W, bands]."""
    height, width, count = image.shape
    settings = {
        "driver": "GTiff", "height": height, "width": width, "count": count, "tiled": True,
        "dtype": image.dtype, "blockxsize": 64, "blockysize": 64,
    }  # fmt: skip
    with rasterio.open(path, "w", **{**settings, **PLACE, **profile}) as file:
        file.write(image.transpose(2, 0, 1))
    return path


def read_image_of(path: Path) -> np.ndarray:
    """Labels that lie nowhere on the earth."""
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture
def image() -> np.ndarray:
    return picture(*SIZE)


@pytest.fixture
def field(tmp_path: Path, image: np.ndarray) -> Path:
    return write_tif(tmp_path / "field.tif", image, photometric="RGB")


def test_labels_lie_where_the_raster_lies(tmp_path: Path, field: Path, image: np.ndarray) -> None:
    model, out = make_raster_model(), tmp_path / "labels.tif"
    told: list[tuple[str, int, int]] = []
    result = sr.predict_raster(model, field, out, side=128, progress=lambda *a: told.append(a))
    with use_backend(exact=True):
        expected = model.predict(image)
    with rasterio.open(out) as file:
        assert np.array_equal(file.read(1), expected.labels)
        assert file.crs == PLACE["crs"] and file.transform == PLACE["transform"]
        assert file.profile["tiled"] and file.profile["compress"] == "deflate"
        assert file.nodata is None and file.dtypes == ("uint8",)
        colors = file.colormap(1)
        palette = default_palette(5).tolist()
        assert [list(colors[k][:3]) for k in range(5)] == palette
    assert result.path == out and result.density == pytest.approx(expected.density)
    assert {stage for stage, *_ in told} == {"resize", "dense", "refine", "write"}
    assert all(any(done == total for s, done, total in told if s == stage) for stage, *_ in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["field.tif", "labels.tif"]


def test_a_raster_without_data_in_parts(tmp_path: Path, image: np.ndarray) -> None:
    image = image.clip(1, 255)
    image[:50, :60] = 0
    field = write_tif(tmp_path / "field.tif", image, photometric="RGB", nodata=0)
    sr.predict_raster(make_raster_model(), field, tmp_path / "labels.tif", side=128)
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.nodata == 255
        assert np.array_equal(file.read(1) == 255, (image == 0).all(2))


def test_a_mask_beside_the_bands_is_no_data(tmp_path: Path, image: np.ndarray) -> None:
    valid = np.ones(SIZE, np.uint8) * 255
    valid[60:90, 20:100] = 0
    field = write_tif(tmp_path / "field.tif", image, photometric="RGB")
    with rasterio.open(field, "r+") as file:
        file.write_mask(valid)
    rgba = np.dstack([image, valid])
    alpha = write_tif(tmp_path / "alpha.tif", rgba, photometric="RGB", alpha="yes")
    for source in (field, alpha):
        out = source.with_suffix(".labels.tif")
        sr.predict_raster(make_raster_model(), source, out, side=128)
        with rasterio.open(out) as file:
            assert np.array_equal(file.read(1) == 255, valid == 0)


def test_bands_and_range_are_those_of_photos(tmp_path: Path, image: np.ndarray) -> None:
    values = (image.astype(np.float32) / 255 * 0.3)[..., ::-1]
    deep = np.dstack([values[..., :1] * 0, values, values[..., :1] * 0 + 9])
    for name, array in (("float", deep), ("int", (deep * 10_000).round().astype(np.uint16))):
        field = write_tif(tmp_path / f"{name}.tif", array)
        high = 0.3 if name == "float" else 3000.0
        settings: dict[str, Any] = {"bands": (4, 3, 2), "value_range": (0.0, high)}
        sr.predict_raster(make_raster_model(), field, tmp_path / f"{name}_l.tif", **settings)
        photo = read_image(field, **settings)
        with use_backend(exact=True):
            expected = make_raster_model().predict(photo).labels
        with rasterio.open(tmp_path / f"{name}_l.tif") as file:
            assert np.array_equal(file.read(1), expected)


def test_overviews_are_for_what_is_larger_than_a_block(tmp_path: Path) -> None:
    field = write_tif(tmp_path / "field.tif", np.zeros((40, 1400, 3), np.uint8), photometric="RGB")
    sr.predict_raster(make_raster_model(), field, tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.overviews(1) == [2, 4]


@pytest.mark.parametrize(("side", "magic"), [(40_000, b"II*\0"), (50_000, b"II+\0")])
def test_labels_that_may_need_more_than_4_gib_are_a_bigtiff(
    side: int, magic: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL takes care from 2 GiB on, as it cannot know how well they compress."""
    create = rasterio.open
    sparse = {"SPARSE_OK": True}  # or the test would write all of them

    def opened(path: Path, mode: str = "r", **profile: Any) -> Any:
        return create(path, mode, **profile, **(sparse if mode == "w" else {}))

    monkeypatch.setattr(rasterio, "open", opened)
    monkeypatch.setattr(geotiff, "_factors", lambda size: [])
    raster = ArrayRaster(np.zeros((3, 1, 1), np.uint8))
    raster.height = raster.width = side
    labels = np.ones((512, 512), np.uint8)
    form = geotiff.LabelFormat("uint8", None, default_palette(5), ())
    out = tmp_path / "labels.tif"
    geotiff.write_geotiff(out, [(((0, 512), (0, 512)), labels)], raster, form)
    with out.open("rb") as file:
        assert file.read(4) == magic


def test_an_object_with_the_window_protocol_is_a_raster(tmp_path: Path, image: np.ndarray) -> None:
    raster, model = ArrayRaster(image.transpose(2, 0, 1)), make_raster_model()
    sr.predict_raster(model, raster, tmp_path / "labels.tif", side=128)
    with use_backend(exact=True):
        assert np.array_equal(read_image_of(tmp_path / "labels.tif"), model.predict(image).labels)
    assert raster.largest <= 262 * 203


def test_a_prediction_that_is_there_is_refined(
    tmp_path: Path, field: Path, image: np.ndarray
) -> None:
    import torch

    model = make_raster_model()
    low = sr.DensePass(torch.randn(1, 5, 30, 40))
    sr.predict_raster(model, field, tmp_path / "labels.tif", low=low, side=128)
    with rasterio.open(tmp_path / "labels.tif") as file, use_backend(exact=True):
        assert np.array_equal(file.read(1), model.predict(image, low=low).labels)


# What a stopped run leaves.


def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever something is committed: the file in the end is the same, byte by byte."""
    sr.predict_raster(make_raster_model(), field, tmp_path / "undisturbed.tif", side=128)
    expected = (tmp_path / "undisturbed.tif").read_bytes()
    commit, out = journals.Journal.commit, tmp_path / "labels.tif"
    committed: list[str] = []

    def stopping(self: Any, name: str, write: Any) -> None:
        commit(self, name, write)
        committed.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(journals.Journal, "commit", stopping)
    for _ in range(30):
        try:
            sr.predict_raster(make_raster_model(), field, out, side=128)
            break
        except KeyboardInterrupt:
            assert not out.exists()
    assert out.read_bytes() == expected
    assert len(committed) == len(set(committed)) and sum("window" in one for one in committed) == 6
    assert not list(tmp_path.glob(".*"))


def test_what_is_finished_is_not_that_of_other_settings(tmp_path: Path, field: Path) -> None:
    out = tmp_path / "labels.tif"
    raster = write_tif(tmp_path / "other.tif", picture(*SIZE, seed=1), photometric="RGB")
    left = tmp_path / ".labels.tif.unfinished"
    journals.Journal(left, {"plan": "another"})
    with pytest.raises(ValueError, match=r"another image, model or settings.*delete it"):
        sr.predict_raster(make_raster_model(), raster, out)
    assert left.exists() and not out.exists()


def test_a_window_that_cannot_be_read_loses_no_other(tmp_path: Path, image: np.ndarray) -> None:
    raster, out = ArrayRaster(image.transpose(2, 0, 1)), tmp_path / "labels.tif"
    model = make_raster_model()
    reads: list[Any] = []
    read = raster.read

    def breaking(indexes: list[int], *, window: Any) -> np.ndarray:
        reads.append(window)
        if len(reads) > 1:  # after it was resized
            raster.broken = ((150, 160), (200, 210))
        return read(indexes, window=window)

    raster.read = breaking  # type: ignore[method-assign]
    message = (
        r"^the array: rows .* \(a tile is damaged\).*if it is changed for that, delete .*\.unf"
    )
    with pytest.raises(RasterError, match=message):
        sr.predict_raster(model, raster, out, side=128)
    assert not out.exists()
    raster.broken, raster.read = None, read  # type: ignore[method-assign]
    result = sr.predict_raster(model, raster, out, side=128)
    assert result.resumed == 5 and result.windows == 6
    with use_backend(exact=True):
        assert np.array_equal(read_image_of(out), model.predict(image).labels)


def test_the_dense_pass_needs_every_block(tmp_path: Path, image: np.ndarray) -> None:
    """What is said is of the block, not of the file that was to be made of it."""
    raster, out = ArrayRaster(image.transpose(2, 0, 1)), tmp_path / "labels.tif"
    raster.broken = ((150, 160), (200, 210))
    with pytest.raises(RasterError, match=r"^the array: rows .* cannot be read \(a tile is dam"):
        sr.predict_raster(make_raster_model(), raster, out)
    left = tmp_path / ".labels.tif.unfinished"
    assert [path.name for path in left.iterdir()] == ["plan.json"] and not out.exists()


@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_a_window_whose_mask_cannot_be_read_is_named(kind: str, image: np.ndarray) -> None:
    def broken(*_: Any, **__: Any) -> np.ndarray:
        raise ValueError("a tile of the mask\nis damaged")

    raster: Any = ArrayRaster(np.dstack([image, image[..., :1]]).transpose(2, 0, 1))
    if kind == "alpha":
        raster.colorinterp, read = ("red", "green", "blue", "alpha"), raster.read
        raster.read = lambda bands, window: (broken if bands == [4] else read)(bands, window=window)
    else:
        raster.mask_flag_enums = [[SimpleNamespace(name="per_dataset")]]
        raster.read_masks = broken
    message = r"^it: rows 3 to 6, columns 1 to 8 cannot be read \(a tile of the mask is damaged"
    with pytest.raises(RasterError, match=message):
        RasterColors(raster, "it").read(((3, 7), (1, 9)))


def test_a_full_disk_loses_nothing(
    tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, kept = journals.Journal.keep_labels, []

    def filling(self: Any, index: int, labels: Any) -> None:
        if index == 3:
            raise journals.unwritable(self.folder / "it", OSError(28, "No space left on device"))
        kept.append(index)
        keep(self, index, labels)

    out = tmp_path / "labels.tif"
    with monkeypatch.context() as patch:
        patch.setattr(journals.Journal, "keep_labels", filling)
        with pytest.raises(OSError, match=r"No space left on device; what is finished is kept"):
            sr.predict_raster(make_raster_model(), field, out, side=128)
    assert (
        not out.exists()
        and sr.predict_raster(make_raster_model(), field, out, side=128).resumed == 3
    )


def test_a_result_that_was_not_written_whole_does_not_appear(
    tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL tells of some errors in its log alone."""
    write, out = predicting.geotiff.write_geotiff, tmp_path / "labels.tif"

    def cut(path: Path, *others: Any) -> None:
        write(path, *others)
        os.truncate(path, path.stat().st_size // 2)

    with monkeypatch.context() as patch:
        patch.setattr(predicting.geotiff, "write_geotiff", cut)
        with pytest.raises(OSError, match="it was not written whole; what is finished is kept"):
            sr.predict_raster(make_raster_model(), field, out)
    assert not out.exists()
    assert sr.predict_raster(make_raster_model(), field, out).resumed == 1


# What is refused.


@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        (
            {},
            {"bands": (4, 3, 2)},
            r"has 3 bands, and --bands asks for band 4. Give numbers from 1",
        ),
        ({"photometric": "MINISBLACK"}, {}, r"does not say which are red, green and blue.*--bands"),
        ({"dtype": "float32"}, {}, r"holds float32, and nothing says which values.*--range 0,3000"),
        ({"dtype": "uint16"}, {}, r"holds uint16, and nothing says which values are black"),
        ({}, {"value_range": (3.0, 1.0)}, r"expected black below white"),
    ],
)
def test_nothing_is_guessed(
    profile: Any, settings: Any, message: str, tmp_path: Path, image: np.ndarray
) -> None:
    array = image.astype(profile.get("dtype", "uint8"))
    field = write_tif(tmp_path / "field.tif", array, **{"photometric": "RGB", **profile})
    with pytest.raises(ValueError, match=message):
        sr.predict_raster(make_raster_model(), field, tmp_path / "labels.tif", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["field.tif"]


def test_what_cannot_be_done_by_window_is_refused(tmp_path: Path, field: Path) -> None:
    model, out = make_raster_model(), tmp_path / "labels.tif"
    with pytest.raises(ValueError, match=r"is no name for the labels of a raster. Use NAME.tif"):
        sr.predict_raster(model, field, tmp_path / "labels.png")
    with pytest.raises(ValueError, match=r"exists. Delete it, or choose another --out"):
        sr.predict_raster(model, field, field)
    with pytest.raises(ValueError, match="there is no folder"):
        sr.predict_raster(model, field, tmp_path / "no" / "labels.tif")
    with pytest.raises(ValueError, match='a refiner "edges" looks at the whole prediction'):
        sr.predict_raster(sr.load("edges"), field, out)
    with pytest.raises(ValueError, match="selects by edges, which needs the whole image at once"):
        sr.predict_raster(model.with_selector(sr.EdgeSelector()), field, out)
    with pytest.raises(ValueError, match="cannot be opened as a raster"):
        sr.predict_raster(model, tmp_path / "missing.tif", out)


def test_the_command_tells_a_raster_by_the_name_of_its_labels(
    tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.cli.rasters.load_refiner", lambda _: make_raster_model())
    module = sys.modules["sparserefine.cli.predict"]  # its name is that of the function
    monkeypatch.setattr(module, "load_refiner", lambda _: make_raster_model())
    out = tmp_path / "labels.tif"
    done = run("predict", field, "--out", out)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(out) and out.is_file()
    again = run("predict", field, "--out", out)
    assert again.returncode == 1 and "exists. Delete it" in again.stderr
    two = run("predict", field, field, "--out", tmp_path / "two.tif")
    assert "is one file, but 2 images are given" in two.stderr
    folder = run("predict", field, "--out", tmp_path / "out")
    assert folder.returncode == 0 and (tmp_path / "out/field/labels.png").is_file()
    store = run("predict", tmp_path / "a.zarr", "--out", tmp_path / "out")
    assert "Say where its labels go: --out" in store.stderr


def test_a_missing_extra_is_told_before_the_model_is_read(
    tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    done = run("predict", field, "--out", tmp_path / "labels.tif", "--model", "nothing")
    assert done.returncode == 1
    assert "a GeoTIFF needs rasterio: pip install 'sparserefine[geo]'" in done.stderr


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    field = write_tif(tmp_path / "field.tif", picture(1500, 1700), photometric="RGB")
    command = [sys.executable, "-c", _SCRIPT, str(field)]
    subprocess.run([*command, str(tmp_path / "undisturbed.tif")], check=True)
    out, left = tmp_path / "labels.tif", tmp_path / ".labels.tif.unfinished"
    for kills in range(1, 6):
        process = subprocess.Popen([*command, str(out)])
        # Wherever it is once so many more things are finished.
        while process.poll() is None and len(list(left.glob("*"))) < 9 * kills:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL and not out.exists()
    subprocess.run([*command, str(out)], check=True)
    assert out.read_bytes() == (tmp_path / "undisturbed.tif").read_bytes()
    assert not left.exists()


_SCRIPT = """
import sys
import sparserefine as sr
model = sr.load("demo")
sr.predict_raster(model, sys.argv[1], sys.argv[2], side=256)
"""


def test_time_is_told_of_each_stage(tmp_path: Path, field: Path) -> None:
    start = time.perf_counter()
    result = sr.predict_raster(make_raster_model(), field, tmp_path / "labels.tif")
    total = 1000 * (time.perf_counter() - start)
    assert {"resize", "dense", "select", "read", "extract", "ensemble", "write"} <= (
        result.stages_ms.keys()
    )
    assert 0 < sum(result.stages_ms.values()) < total
