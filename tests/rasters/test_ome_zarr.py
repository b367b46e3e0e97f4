"""OME-Zarr images in, and labels beside them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparserefine as sr
from raster_files import RGB_CHANNELS, make_raster_model, picture, write_zarr
from sparserefine.rasters import ome_zarr
from sparserefine.rasters.journal import Journal
from sparserefine.sparse import use_backend

zarr = pytest.importorskip("zarr", reason="needs the extra zarr")

SIZE = (101, 134)


def attributes(path: Path) -> dict[str, Any]:
    """What a group says, as the file has it."""
    if (path / ".zattrs").exists():
        return json.loads((path / ".zattrs").read_text())
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_lie_beside_the_image(version: str, tmp_path: Path) -> None:
    image, model = picture(*SIZE), make_raster_model(dense_size=1.0)
    store = write_zarr(tmp_path / "field.zarr", image, version, omero=RGB_CHANNELS)
    for name in ("first", "second"):
        out = store / "labels" / name
        result = sr.predict_raster(model, store, out, side=64)
        assert result.path == out
    with use_backend(exact=True):
        expected = model.predict(image).labels
    group = zarr.open_group(str(out), mode="r")
    assert np.array_equal(group["0"][0, 0], expected)
    for level in (1, 2):
        assert group[str(level)].shape[2:] == image[:: 2**level, :: 2**level].shape[:2]
        assert np.isin(group[str(level)][:], expected).all()
    assert attributes(store / "labels")["labels"] == ["first", "second"]
    said = attributes(out)
    multiscale = said["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "z", "y", "x"]
    scales = [one["coordinateTransformations"][0]["scale"] for one in multiscale["datasets"]]
    assert scales == [[1, 1, 0.5, 0.5], [1, 1, 1, 1], [1, 1, 2, 2]]
    assert said["image-label"]["source"] == {"image": "../../"}
    assert [one["label-value"] for one in said["image-label"]["colors"]] == list(range(5))
    assert [path.name for path in tmp_path.iterdir()] == ["field.zarr"]
    assert not [
        path.name
        for path in (store / "labels").iterdir()
        if path.name.startswith(".it") or "partial" in path.name
    ]


def test_the_dense_model_sees_the_level_that_is_enough(tmp_path: Path) -> None:
    """That is smaller than the image, so that a gigapixel need not be read for it."""
    image, model = picture(*SIZE), make_raster_model(dense_size=(24, 32))
    store = write_zarr(tmp_path / "field.zarr", image, "0.5", omero=RGB_CHANNELS)
    for name in ("0", "1"):  # these are not read by the dense pass, or labels would be others
        array = zarr.open_array(str(store / name), mode="a")
        if name == "1":
            array[:] = 0
    sr.predict_raster(model, store, store / "labels" / "it", side=64)
    images = np.ascontiguousarray(image[::4, ::4].transpose(2, 0, 1))[None]
    import torch

    low = sr.DensePass(model.dense_logits(torch.from_numpy(images), model.dense_size.resized(SIZE)))
    with use_backend(exact=True):
        expected = model.predict(image, low=low).labels
    assert np.array_equal(zarr.open_array(str(store / "labels/it/0"), mode="r")[0, 0], expected)


def test_a_copy_of_the_metadata_knows_of_new_labels(tmp_path: Path) -> None:
    store = write_zarr(tmp_path / "field.zarr", picture(*SIZE), "0.4", omero=RGB_CHANNELS)
    zarr.consolidate_metadata(str(store), zarr_format=2)
    sr.predict_raster(make_raster_model(), store, store / "labels" / "it", side=300)
    assert "0" in zarr.open_consolidated(str(store))["labels/it"]


def test_an_image_smaller_than_the_dense_model_s_input_is_enlarged(tmp_path: Path) -> None:
    image, model = picture(40, 52), make_raster_model(dense_size=(48, 64))
    model.dense_size = replace(model.dense_size, fit="stretch")
    store = write_zarr(tmp_path / "small.zarr", image, "0.5", omero=RGB_CHANNELS)
    sr.predict_raster(model, store, store / "labels" / "it")
    with use_backend(exact=True):
        expected = model.predict(image).labels
    assert np.array_equal(zarr.open_array(str(store / "labels/it/0"), mode="r")[0, 0], expected)


# What a stopped run leaves.


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_labels_that_the_image_does_not_name_yet_are_named_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_raster_model()
    store = write_zarr(tmp_path / "field.zarr", picture(40, 52), "0.4", omero=RGB_CHANNELS)
    zarr.consolidate_metadata(str(store), zarr_format=2)
    out = store / "labels" / "it"
    with monkeypatch.context() as patch:
        patch.setattr(ome_zarr, "list_labels", stop)
        with pytest.raises(KeyboardInterrupt):
            sr.predict_raster(model, store, out)
        patch.undo()
        patch.setattr(ome_zarr, "_consolidate_again", full)
        with pytest.raises(OSError, match=r"it: No space left on device; .*the same command goes"):
            sr.predict_raster(model, store, out)
        with pytest.raises(ValueError, match=r"another image, model or settings"):
            sr.predict_raster(make_raster_model(max_density=0.1), store, out)
    written = (out / "0").stat().st_mtime_ns
    sr.predict_raster(model, store, out)
    assert (out / "0").stat().st_mtime_ns == written  # they were whole
    assert attributes(store / "labels")["labels"] == ["it"]
    assert "0" in zarr.open_consolidated(str(store))["labels/it"]
    assert [path.name for path in tmp_path.iterdir()] == ["field.zarr"]
    with pytest.raises(ValueError, match=r"exists. Delete it"):
        sr.predict_raster(model, store, out)


def test_what_is_finished_is_not_that_of_a_store_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_raster_model()
    store = write_zarr(tmp_path / "field.zarr", picture(40, 52), "0.5", omero=RGB_CHANNELS)
    out = store / "labels" / "it"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "keep_labels", stop)
        sr.predict_raster(model, store, out)
    sr.predict_raster(model, store, store / "labels" / "other")  # changes nothing that is read
    array = zarr.open_array(str(store / "0"), mode="a")
    array[:] = 255 - array[:]
    with pytest.raises(ValueError, match=r"another image, model or settings.*delete it"):
        sr.predict_raster(model, store, out)
    assert not out.exists()


def test_what_is_no_image_or_says_too_little_is_refused(tmp_path: Path) -> None:
    model, image = make_raster_model(), picture(64, 64)
    store = write_zarr(tmp_path / "plain.zarr", image, "0.5")
    out = store / "labels" / "it"
    with pytest.raises(ValueError, match=r"has 3 bands and does not say which are red"):
        sr.predict_raster(model, store, out)
    with pytest.raises(ValueError, match=r"belongs to the image .*plain.zarr, but .* is to be seg"):
        sr.predict_raster(model, tmp_path / "other.zarr", out)
    with pytest.raises(ValueError, match=r"is no Zarr group that can be read"):
        missing = tmp_path / "missing.zarr"
        missing.mkdir()
        sr.predict_raster(model, missing, missing / "labels" / "it")
    zarr.open_group(str(tmp_path / "bare.zarr"), mode="w")
    with pytest.raises(ValueError, match=r"says nothing of multiscales"):
        sr.predict_raster(model, tmp_path / "bare.zarr", tmp_path / "bare.zarr/labels/it")
    deep = write_zarr(tmp_path / "deep.zarr", image, "0.5")
    array = zarr.open_group(str(deep), mode="a")
    del array["0"]
    array.create_array("0", shape=(1, 3, 4, 64, 64), dtype="uint8")
    with pytest.raises(ValueError, match=r"several planes along z, expected one image"):
        sr.predict_raster(model, deep, deep / "labels" / "it")
    part = write_zarr(tmp_path / "part.zarr", image, "0.5", omero=RGB_CHANNELS)
    shutil.rmtree(part / "1")
    with pytest.raises(
        ValueError, match=r"names the level 1, but has no such array. Was it copied"
    ):
        sr.predict_raster(model, part, part / "labels" / "it")
