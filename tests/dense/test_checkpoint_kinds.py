"""The files that weights come in, as training programs and users write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.dense.state_names import bare_names, names_within
from sparserefine.dense.weights import load_weights, read_weights, save_weights

State = dict[str, Tensor]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def under(before: str, state: State) -> State:
    return {before + name: tensor for name, tensor in state.items()}


LOSS = {name: torch.ones(4) for name in ("criterion.weight", "loss_fn.weight", "val_iou.seen")}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda s: {"epoch": 3, "model": s},
        lambda s: {"model_state_dict": s, "loss": torch.ones(1)},
        lambda s: {"checkpoint": {"net": s}},
        lambda s: {"only_of_this_name": s},
        lambda s: under("module.", s),
        lambda s: under("_orig_mod.", s),
        lambda s: under("module._orig_mod.", s),
        lambda s: {"state_dict": under("model.", s) | LOSS, "pytorch-lightning_version": "2.5"},
        lambda s: {"state_dict": under("net.", s), "hyper_parameters": {"lr": 0.1}},
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "net.pth.tar", "net.weights"])
def test_weights_are_found_in_what_training_saved(
    wrap: Callable[[State], Any], name: str, tmp_path: Path
) -> None:
    state = network().state_dict()
    torch.save(wrap(state), tmp_path / name)
    with pytest.raises(ValueError, match="is a pickle, expected"):
        read_weights(tmp_path / name)
    found = bare_names(read_weights(tmp_path / name, allow_pickle=True))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_checkpoint_of_lightning_makes_a_model(tmp_path: Path) -> None:
    model = sr.dense.create("espnetv2-0.5", seed=3)
    content = {
        "state_dict": under("segmentor.net.", dict(model.state_dict())) | LOSS,
        "callbacks": {"best": Path("anywhere")},  # torch's own restricted reader refuses this
    }
    torch.save(content, tmp_path / "last.ckpt")
    read = sr.dense.create("espnetv2-0.5", tmp_path / "last.ckpt", allow_pickle=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor)


def test_weights_of_a_compiled_part_lose_its_name() -> None:
    found = bare_names({"backbone._orig_mod.0.weight": torch.ones(1), "head.bias": torch.ones(1)})
    assert list(found) == ["backbone.0.weight", "head.bias"]


def test_names_that_belong_to_the_network_stay() -> None:
    state = {"model.a": torch.ones(1), "head.b": torch.ones(1)}
    assert bare_names(state) == state


def test_a_network_that_is_there_twice_is_named() -> None:
    state = under("student.", network().state_dict()) | under("teacher.", network().state_dict())
    with pytest.raises(ValueError, match=r"there 2 times, under student\., teacher\."):
        names_within(state, network().state_dict())


def test_several_sets_of_weights_are_named(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save({"generator": state, "discriminator": state}, tmp_path / "gan.pth")
    with pytest.raises(ValueError, match=r"several sets of weights \(generator, discriminator\)"):
        read_weights(tmp_path / "gan.pth", allow_pickle=True)


def test_weights_of_before_batches_were_counted_are_taken() -> None:
    old = {k: v + 1 for k, v in network().state_dict().items() if "num_batches" not in k}
    profiled = {"0.total_ops": torch.ones(1), "total_params": torch.ones(1)}
    model = network()
    load_weights(model, old | profiled)
    assert all(torch.equal(model.state_dict()[name], old[name]) for name in old)
    with pytest.raises(ValueError, match=r"1 missing \(0\.bias\)"):
        load_weights(model, {name: old[name] for name in old if name != "0.bias"})


@pytest.mark.parametrize("content", [lambda m: m, lambda m: {"epoch": 1, "model": m}])
def test_a_whole_model_is_named_and_not_built(
    content: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    torch.save(content(network()), tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"whole model \(Sequential\).*model\.state_dict\(\)"):
        read_weights(tmp_path / "whole.pth", allow_pickle=True)


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_is_named_with_what_runs_it(tmp_path: Path, allow_pickle: bool) -> None:
    torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "net.pt"))
    with pytest.raises(ValueError, match=r"TorchScript archive.*from_callable\(torch\.jit\.load"):
        read_weights(tmp_path / "net.pt", allow_pickle=allow_pickle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer.*pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_what_only_stands_for_a_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "net.safetensors")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder, expected a weights file"):
        read_weights(tmp_path)


def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(network().state_dict(), path)
    if os.geteuid() == 0:  # who may read all files

        def refuse(self: Path, *_: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.chmod(0)
    with pytest.raises(PermissionError, match=r"is there but may not be read.*chmod"):
        read_weights(path)
