"""`--model`: what a path is decides how it is opened, and the error says what was looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from command_line import run
from small_models import make_model

LOOKED_FOR = (
    "a folder or hub id .* of transformers, an ONNX file, or with its weights one of espnet"
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("transformers", reason="needs the extra hf")
    from small_transformers import SMALL

    SMALL["segformer"]().save_pretrained(tmp_path / "segformer")  # type: ignore[operator]
    return tmp_path / "segformer"


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    import onnx
    from onnx import helper
    from small_onnx import write

    file = write(tmp_path / "net.onnx", 5)
    model = onnx.load(str(file))
    shape = ["b", 5, "h2", "w2"]
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shape)
    )
    onnx.save(model, str(file))
    return file


def shown(photo: Path, *arguments: object) -> tuple[int, str, Path]:
    out = photo.parent / "out"
    done = run("predict", photo, "--out", out, *arguments)
    return done.returncode, done.stderr, out / "photo" / "labels.png"


def low_labels(dense: sr.dense.DenseModel, photo: Path) -> Any:
    """The labels of a model at low resolution, brought to that of the photo."""
    nothing = sr.EntropySelector(0.1, max_density=0.0)
    extractor = sr.SparseUNet(dense.num_classes, widths=(4,), blocks=1)
    return sr.SparseRefiner(dense, selector=nothing, extractor=extractor).predict(photo).labels


@pytest.mark.parametrize("part", ["", "model.safetensors", "config.json"])
def test_a_folder_of_transformers_is_a_model(folder: Path, photo: Path, part: str) -> None:
    model = folder / part
    if part == "":
        code, said, labels = shown(photo, "--model", model)
        assert code == 0 and "no refiner is trained for" in said, said
        expected = low_labels(sr.dense.from_transformers(folder), photo)
        # What is refined by nobody keeps its label: a refiner of random weights changes none.
        assert np.array_equal(np.asarray(Image.open(labels)), expected)
    else:
        assert sr.dense.open_model(model).num_classes == 5


def test_an_onnx_file_is_a_model(onnx_file: Path, photo: Path) -> None:
    code, said, _ = shown(photo, "--model", onnx_file)
    assert code == 1 and "what net.onnx returns is not said. Give the kind (--kind)" in said
    settings = ("--kind", "logits", "--mean", ".5", ".5", ".5", "--std", ".2", ".2", ".2")
    code, said, labels = shown(photo, "--model", onnx_file, *settings)
    assert code == 0, said
    half, fifth = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    dense = sr.dense.from_onnx(onnx_file, "logits", 5, mean=half, std=fifth)
    assert np.array_equal(np.asarray(Image.open(labels)), low_labels(dense, photo))


def test_a_folder_of_one_onnx_file_is_a_model(onnx_file: Path) -> None:
    model = sr.dense.open_model(onnx_file.parent, kind="logits")
    assert model.num_classes == 5
    onnx_file.with_name("other.onnx").write_bytes(onnx_file.read_bytes())
    with pytest.raises(ValueError, match=r"has 2 ONNX files \(net.onnx, other.onnx\)\. Name the"):
        sr.dense.open_model(onnx_file.parent, kind="logits")


def test_a_refiner_without_its_dense_model_takes_it_as_weights(
    onnx_file: Path, photo: Path, tmp_path: Path
) -> None:
    dense = sr.dense.from_onnx(onnx_file, "logits", 5)
    refiner = sr.SparseRefiner(dense, extractor=sr.SparseUNet(5, widths=(4,), blocks=1))
    refiner.save_pretrained(tmp_path / "run" / "model")
    code, said, _ = shown(photo, "--model", tmp_path / "run")
    assert code == 1 and "without its dense model" in said
    given = ("--weights", onnx_file, "--kind", "logits")
    code, said, labels = shown(photo, "--model", tmp_path / "run", *given)
    assert code == 0, said
    assert np.array_equal(np.asarray(Image.open(labels)), refiner.predict(photo).labels)


@pytest.mark.parametrize("inside", ["run/model", "model", "a/run/model"])
def test_the_folder_that_training_wrote_is_a_model(inside: str, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / inside)
    for depth in range(len(Path(inside).parts) if inside != "a/run/model" else 2):
        folder = (tmp_path / inside).parents[depth - 1] if depth else tmp_path / inside
        assert sr.SparseRefiner.from_pretrained(folder).num_classes == 19


def test_of_several_refiners_none_is_chosen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_model().save_pretrained(tmp_path / name / "model")
    with pytest.raises(ValueError, match=r"holds 2 refiners \(a/model, b/model\)\. Name one"):
        sr.SparseRefiner.from_pretrained(tmp_path)


def test_a_dense_model_is_no_refiner(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"dense model of transformers \(segformer\), expected"):
        sr.SparseRefiner.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.onnx", rf"no dense model at .*gone\.onnx'\. Looked for {LOOKED_FOR}"),
        ("photo.png", rf"photo\.png is no model that is known here\. Looked for {LOOKED_FOR}"),
        ("net.pth", r"holds weights, which do not say of which network.*--model NAME --weights"),
        ("empty", rf"has no config\.json and no ONNX file\. Looked for {LOOKED_FOR}"),
        ("steps", r"Below it are checkpoint-1, checkpoint-2: name one"),
        ("other", r"config\.json names no model_type"),
    ],
)
def test_what_is_none_says_what_was_looked_for(
    name: str, message: str, photo: Path, tmp_path: Path
) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "net.pth")
    (tmp_path / "empty").mkdir()
    for step in ("1", "2"):
        (tmp_path / "steps" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "steps" / f"checkpoint-{step}" / "config.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"a": 1}))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sr.dense.open_model(tmp_path / name)


def test_nothing_is_no_model() -> None:
    for open_it in (sr.dense.open_model, sr.SparseRefiner.from_pretrained):
        with pytest.raises(ValueError, match=r"the model is empty|a path is empty"):
            open_it("")
    assert not sr.dense.is_dense("")


def test_settings_of_onnx_files_are_for_them_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"kind is not for .*segformer.*Leave it out"):
        sr.dense.open_model(folder, kind="logits")
    with pytest.raises(ValueError, match="weights belong to a dense model by name"):
        sr.dense.open_model(folder, "weights.safetensors")
    done = run("predict", "x.jpg", "--model", "demo", "--kind", "logits")
    assert done.returncode == 1 and "those of an ONNX file, but --model is 'demo'" in done.stderr


def test_a_file_of_a_folder_stands_for_it(photo: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        code, said, _ = shown(photo, "--model", folder / name)
        assert code == 0, said
    make_model().save_pretrained(tmp_path / "refiner")
    found = sr.SparseRefiner.from_pretrained(tmp_path / "refiner/model.safetensors")
    assert found.num_classes == 19


@pytest.mark.parametrize("name", ["best.pth", "best.safetensors", "best.ckpt"])
def test_weights_as_the_model(photo: Path, name: str) -> None:
    (photo.parent / name).write_bytes(b"x" * 99)
    code, said, _ = shown(photo, "--model", photo.parent / name)
    assert code == 1 and f"{name} holds weights, which do not say of which network" in said
    assert f"--model NAME --weights {name}" in said


def test_a_file_that_is_no_refiner(photo: Path, onnx_file: Path) -> None:
    with pytest.raises(ValueError, match=r"photo\.png is no model that is known here"):
        sr.SparseRefiner.from_pretrained(photo)
    with pytest.raises(ValueError, match=r"net\.onnx is a dense model, expected a refiner"):
        sr.SparseRefiner.from_pretrained(onnx_file)


def test_onnx_files_that_do_not_run_say_why(onnx_file: Path) -> None:
    import onnx

    network = onnx.load(str(onnx_file))
    onnx.save(
        network, str(onnx_file), save_as_external_data=True, location="net.data", size_threshold=0
    )
    (onnx_file.parent / "net.data").unlink()
    with pytest.raises(ValueError, match=r"External data path does not exist: .*net\.data"):
        sr.dense.open_model(onnx_file, kind="logits")
    network.opset_import[0].version = 99
    onnx.save(network, str(onnx_file))
    with pytest.raises(ValueError, match=r"Opset 99 is under development") as raised:
        sr.dense.open_model(onnx_file, kind="logits")
    assert "onnxruntime_src" not in str(raised.value)
    onnx_file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"net\.onnx is empty \(0 bytes\)"):
        sr.dense.open_model(onnx_file, kind="logits")
