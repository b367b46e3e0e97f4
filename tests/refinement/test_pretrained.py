"""Saving and loading, and what cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_dense import TinyDense

import sparserefine as sr
from sparserefine.refinement.load import check_refiner


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
    assert again.describe() == model.describe()
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}
    images = torch.rand(1, 3, 70, 90)
    assert torch.equal(model(images).labels, again(images).labels)
    torch.testing.assert_close(model(images).pixels.refined, again(images).pixels.refined)


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
        ("dense", {}, "lacks or misnames a setting"),
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
        ValueError,
        match=r"no model at 'nothing-here'\. Expected demo, edges, a folder.*segformer-b5",
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


def as_format_1(folder: Path, **changes: object) -> None:
    """Rewrite a configuration as the version before wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["format"] = 1
    del config["num_classes"]
    for part in ("selector", "extractor", "ensembler"):
        config[part] = {k: v for k, v in config[part].items() if k not in ("kind", "identity")}
    keep = ("name", "license", "files")
    config["dense"] = {k: v for k, v in config["dense"].items() if k in keep}
    path.write_text(json.dumps({**config, "second_look": 0.0, **changes}))


def test_folders_of_the_format_before_are_read(model: sr.SparseRefiner, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    as_format_1(tmp_path)
    assert sr.SparseRefiner.from_pretrained(tmp_path).describe() == model.describe()


@pytest.mark.parametrize("changes", [{"second_look": 0.35}, {"inputs": ["rgb", "stem"]}])
def test_what_this_version_cannot_do_is_said(
    model: sr.SparseRefiner, tmp_path: Path, changes: dict[str, object]
) -> None:
    model.save_pretrained(tmp_path)
    as_format_1(tmp_path, **changes)
    with pytest.raises(ValueError, match=r"no longer has\. Train it again"):
        sr.SparseRefiner.from_pretrained(tmp_path)


def test_without_a_dense_model(tmp_path: Path) -> None:
    model = sr.SparseRefiner(None, num_classes=3, extractor=sr.SparseUNet(3, widths=(4,), blocks=1))
    model.save_pretrained(tmp_path)
    again = sr.SparseRefiner.from_pretrained(tmp_path)
    assert again.dense is None and again.selector == sr.EdgeSelector(1.0)
    assert again.describe() == model.describe()


class TopLeft:
    """A selector of a user's own."""

    def __call__(self, low: sr.DensePass, size: tuple[int, int]) -> torch.Tensor:
        mask = torch.zeros(len(low.logits), *size, dtype=torch.bool)
        mask[:, : size[0] // 2, : size[1] // 2] = True
        return mask

    def describe(self) -> dict[str, object]:
        return {"kind": "top left"}


def test_a_selector_of_ones_own_is_given_again(model: sr.SparseRefiner, tmp_path: Path) -> None:
    own = model.with_selector(TopLeft())
    own.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'top left', which is not one of this package's.*Pass"):
        sr.SparseRefiner.from_pretrained(tmp_path)
    again = sr.SparseRefiner.from_pretrained(tmp_path, selector=TopLeft())
    assert float(again(torch.rand(1, 3, 40, 60)).mask.float().mean()) == 0.25


def test_an_extractor_of_ones_own_is_given_again(tmp_path: Path) -> None:
    from sparserefine.experiments.point_head import PointMLP

    dense = TinyDense()
    model = sr.SparseRefiner(dense, extractor=PointMLP(5, hidden=16))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"extractor 'points', which is not one"):
        sr.SparseRefiner.from_pretrained(tmp_path, dense=dense)
    other = PointMLP(5, hidden=16)
    again = sr.SparseRefiner.from_pretrained(tmp_path, dense=dense, extractor=other)
    images = torch.rand(1, 3, 40, 50)
    assert torch.equal(model(images).pixels.refined, again(images).pixels.refined)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            "demo",
            r"the model is 'demo', expected a SparseRefiner\. Open it: sparserefine\.load\('demo'",
        ),
        (None, "the model is a NoneType, expected a SparseRefiner"),
        (
            torch.nn.Linear(2, 2),
            r"the model is a Linear, .*Wrap a dense model: SparseRefiner\(dense\)",
        ),
    ],
)
def test_what_is_no_refiner(given: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_refiner(given)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes is 0, expected a whole number of 2 or more"):
        sr.load("edges", num_classes=0)
