"""Saving and loading, and what cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_dense import TinyDense

import sparserefine as sr


@pytest.fixture
def model() -> sr.SparseRefiner:
    dense = sr.dense.create("espnetv2-0.5")
    return sr.SparseRefiner(
        dense,
        selector=sr.EntropySelector(1.2, 0.3),
        extractor=sr.SparseUNet.from_preset("tiny", 19, pyramid="floor"),
        dense_size=(64, 128),
    ).eval()


def test_round_trip(model: sr.SparseRefiner, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    again = sr.SparseRefiner.from_pretrained(tmp_path / "model")
    assert again.settings() == model.settings()
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}
    images = torch.rand(1, 3, 70, 90)
    assert torch.equal(model(images).labels, again(images).labels)
    torch.testing.assert_close(model(images).pixels.fused, again(images).pixels.fused)


def test_a_dense_model_of_ones_own_is_given_again(tmp_path: Path) -> None:
    dense = TinyDense()
    model = sr.SparseRefiner(dense, extractor=sr.SparseUNet.from_preset("tiny", 5)).eval()
    model.save_pretrained(tmp_path)
    again = sr.SparseRefiner.from_pretrained(tmp_path, dense=dense)
    images = torch.rand(1, 3, 40, 50)
    assert torch.equal(model(images).labels, again(images).labels)
    assert not any(key.startswith("dense.") for key in load_file(tmp_path / "model.safetensors"))
    with pytest.raises(ValueError, match=r"without its dense model. Pass the model"):
        sr.SparseRefiner.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dense", None, "lacks or misnames a setting"),
        ("extractor", {"depth": 3}, "lacks or misnames a setting"),
    ],
)
def test_a_config_with_wrong_settings(
    model: sr.SparseRefiner, tmp_path: Path, key: str, value: object, message: str
) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        sr.SparseRefiner.from_pretrained(tmp_path)


def test_no_such_model() -> None:
    with pytest.raises(
        ValueError, match=r"no model at 'nothing-here'\. Expected demo, a folder.*segformer-b5"
    ):
        sr.SparseRefiner.from_pretrained("nothing-here")


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        sr.SparseRefiner.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "has format 'list'"), ('{"format": 99}', "has format 99")],
)
def test_a_foreign_config(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        sr.SparseRefiner.from_pretrained(tmp_path)


def test_truncated_weights(model: sr.SparseRefiner, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        sr.SparseRefiner.from_pretrained(tmp_path)


def test_weights_of_another_size(model: sr.SparseRefiner, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["dense"]["name"] = "espnetv2-1.0"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="weights do not fit SparseRefiner"):
        sr.SparseRefiner.from_pretrained(tmp_path)
