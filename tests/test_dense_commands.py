"""The paper's models through the commands, on a real photo, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import sparserefine as sr
from sparserefine.cli import main
from sparserefine.dense.weights import save_weights
from sparserefine.photos.shipped import shipped_photo

pytest.importorskip("transformers", reason="needs the extra hf")

NAMES = ("hrnet-w48", "segnext-l", "segformer-b5", "mask2former-swin-tiny")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    with Image.open(shipped_photo("lund")) as image:
        image.resize((384, 288)).save(path)
    return path


def write_weights(name: str, folder: Path) -> Path:
    model = sr.dense.create(name, seed=3)
    folder.mkdir()
    if model.files:
        model.save_files(folder)
    else:
        save_weights(model.state_dict(), folder / "model.safetensors")
    return folder


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "mask2former-swin-large"])
def test_predict_with_each_of_the_five(
    name: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = write_weights(name, tmp_path / "weights"), tmp_path / "out"
    where = ["--weights", str(weights), "--max-density", "0.02", "--out", str(out)]
    run("predict", str(photo), "--model", name, *where)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(out / "photo" / "overlay.png")
    facts = json.loads((out / "photo" / "result.json").read_text())
    assert 0.01 < facts["density"] <= 0.02
    assert printed.err.count("license of the dense weights") == 1
    assert "non-commercial" in printed.err
    assert f"no refiner is trained for {name}" in printed.err
    with Image.open(out / "photo" / "labels.png") as labels:
        assert labels.size == (384, 288)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "segformer-b5"], "'segformer-b5' is a dense model. Give its --weights"),
        (["--model", "demo", "--weights", "x"], "but --model is 'demo'. Expected one of espnet"),
        (["--model", "hrnet-w48", "--weights", "owner/repo"], "'hrnet-w48' has no hub source"),
        (["--model", "hrnet-w48", "--weights", "gone.pth"], "no weights file at gone.pth"),
    ],
)
def test_bad_models_get_one_line(
    arguments: list[str], message: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(photo), *arguments])
    assert caught.value.code == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.slow
def test_a_refiner_for_a_model_of_transformers_is_trained_and_used(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights("mask2former-swin-tiny", tmp_path / "weights")
    folder = tmp_path / "run"
    settings = ["--steps", "1", "--batch-size", "1", "--crop-size", "64", "64", "--views", "1"]
    dense = ["--dense", "mask2former-swin-tiny", "--weights", str(weights), "--targets", "dense"]
    run("train", str(photo), *dense, *settings, "--max-density", "0.1", "--out", str(folder))
    assert (folder / "model" / "dense" / "config.json").is_file()
    run("predict", str(photo), "--model", str(folder / "model"), "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "photo" / "overlay.png").is_file()
    assert "non-commercial" in capsys.readouterr().err
