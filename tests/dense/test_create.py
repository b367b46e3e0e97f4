import os
from pathlib import Path

import pytest
import torch

from sparserefine.dense import DenseModel, create, names
from sparserefine.dense.weights import save_weights

NAME = "espnetv2-0.5"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(create(NAME, seed=7).state_dict(), path)
    return path


def assert_same_weights(a: DenseModel, b: DenseModel) -> None:
    assert all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def test_names_are_pinned():
    assert names() == (
        "espnetv2-0.5",
        "espnetv2-1.0",
        "espnetv2-1.5",
        "espnetv2-2.0",
        "hrnet-w48",
        "segnext-l",
        "u2netp",
        "u2net",
        "isnet",
        "segformer-b5",
        "mask2former-swin-tiny",
        "mask2former-swin-large",
    )


LARGE = ("mask2former-swin-large", "u2net", "isnet")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in names()]
)
def test_models_come_frozen_and_in_eval_mode(name: str):
    model = create(name)
    assert isinstance(model, DenseModel)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert bool(model.preset.license) == (name == "u2netp")  # whose weights come with the package


def test_the_seed_decides_the_weights():
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    first, again, other = create(NAME, seed=1), create(NAME, seed=1), create(NAME, seed=2)
    assert_same_weights(first, again)
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))


def test_global_randomness_is_untouched():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    create(NAME, seed=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_weights_from_a_file_or_its_folder(weights: Path):
    original = create(NAME, seed=7)
    for source in (weights, str(weights.parent)):
        model = create(NAME, source)
        assert_same_weights(model, original)
        assert "non-commercial" in model.preset.license
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_home_is_expanded(weights: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(weights.parent))
    assert_same_weights(create(NAME, f"~{os.sep}{weights.name}"), create(NAME, seed=7))


def test_pickles_need_permission(tmp_path: Path):
    path = tmp_path / "net.pth"
    original = create(NAME, seed=7)
    torch.save(original.state_dict(), path)
    with pytest.raises(ValueError, match="allow_pickle=True"):
        create(NAME, path)
    assert_same_weights(create(NAME, path, allow_pickle=True), original)


def test_unknown_name_is_answered_with_a_suggestion():
    message = r"unknown dense model 'espnetv2-1\.5x', expected one of espnetv2-0\.5, .*Did you mean"
    with pytest.raises(ValueError, match=message + r" 'espnetv2-1\.5'\?"):
        create("espnetv2-1.5x")


def test_far_off_name_gets_no_suggestion():
    with pytest.raises(ValueError, match=r"mask2former-swin-large\.$"):
        create("yolo")


def test_hub_id_has_no_source():
    message = r"'nvidia/segformer-b0' is no file or folder here, and 'espnetv2-0\.5' has no hub"
    with pytest.raises(ValueError, match=message):
        create(NAME, "nvidia/segformer-b0")


@pytest.mark.parametrize("path", ["folder/gone.safetensors", "./gone", "/gone", "a/b/gone"])
def test_missing_path_is_no_hub_id(path: str):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone"):
        create(NAME, path)


def test_folder_without_weights_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        create(NAME, tmp_path)


def test_weights_of_another_width_are_named_with_their_file(weights: Path):
    message = r"model\.safetensors for 'espnetv2-1\.0': weights do not fit ESPNetv2.*base_net\."
    with pytest.raises(ValueError, match=message):
        create("espnetv2-1.0", weights)
