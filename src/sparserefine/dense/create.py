"""Construction of dense models by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparserefine.arguments import text
from sparserefine.dense import cityscapes
from sparserefine.dense.adapters import published
from sparserefine.dense.checkpoints import hrnet_state, segnext_state
from sparserefine.dense.espnetv2 import ENCODER_CHANNELS, WEIGHTS_LICENSE, ESPNetv2
from sparserefine.dense.hrnet import HRNet
from sparserefine.dense.protocol import DenseModel
from sparserefine.dense.segnext import SegNeXt
from sparserefine.dense.state_names import bare_names, names_within
from sparserefine.dense.u2net import TABLES, U2Net
from sparserefine.dense.u2net_files import read_u2net
from sparserefine.dense.weights import (
    PICKLE_SUFFIXES,
    SAFETENSORS_SUFFIX,
    load_weights,
    read_weights,
)

WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True)
class _Network:
    """A network that is implemented here.

    Attributes:
        build: Makes the network; takes the options that `options` names.
        license: What a user must know about the published weights.
        state: Renames the tensors of published checkpoints to our names.
        options: Names of the options that a checkpoint does not tell.
        fit: Finds the options that the names in a checkpoint do tell.
        read: Reads a file for a network that is built already, where names alone do not tell.
        shipped: Folder of the weights that come with the package; empty where none do.
    """

    build: Callable[..., DenseModel]
    license: str
    state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    options: tuple[str, ...] = ()
    fit: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda _: {}
    read: Callable[[Path, Any, bool], dict[str, Tensor]] | None = None
    shipped: str = ""


_NETWORKS = {
    **{
        f"espnetv2-{width}": _Network(partial(ESPNetv2, width), WEIGHTS_LICENSE)
        for width in ENCODER_CHANNELS
    },
    "hrnet-w48": _Network(
        HRNet,
        f"HRNet (MIT) or mmsegmentation (Apache-2.0); {cityscapes.LICENSE}",
        hrnet_state,
        ("align_corners", "head_bias"),
        lambda state: {"head_bias": "head.0.bias" in state},
    ),
    "segnext-l": _Network(
        SegNeXt,
        "SegNeXt (Apache-2.0, its authors ask to be contacted before commercial use); "
        f"{cityscapes.LICENSE}",
        segnext_state,
        ("rank", "seed"),
    ),
    **{
        kind: _Network(
            partial(U2Net, kind),
            f"{'IS-Net' if kind == 'isnet' else 'U²-Net'} (Apache-2.0)",
            read=read_u2net,
            shipped="u2netp" if kind == "u2netp" else "",
        )
        for kind in TABLES
    },
}


def names() -> tuple[str, ...]:
    """The names that `create` knows."""
    return (*_NETWORKS, *published.MODELS)


def weights_license(name: str) -> str:
    """What a user must know of the published weights of one of `names()`."""
    return _NETWORKS[name].license if name in _NETWORKS else published.MODELS[name].license


def create(
    name: str,
    weights: str | Path | None = None,
    *,
    seed: int = 0,
    allow_pickle: bool = False,
    device: str = "cpu",
    **options: Any,
) -> DenseModel:
    """Build a dense model, frozen and in eval mode.

    Args:
        name: Name of the model, one of `names()`.
        weights: A file, a folder with a model.safetensors, or for the models of transformers a
            hub id, which is downloaded. None takes the weights that come with the package
            (u2netp), else random ones, and downloads nothing. Checkpoints of mmsegmentation and of
            the official repositories are read as they are, and ONNX files of U²-Net and IS-Net.
        seed: Seeds the random weights, without touching torch's global random state.
        allow_pickle: Accept torch's pickled files (.pth) too; see `read_weights`.
        device: Device of the model; "meta" builds it without memory, to count with.
        options: Settings that a checkpoint does not tell: `align_corners` (hrnet-w48), `rank` and
            `seed` of the bases (segnext-l).

    Returns:
        The model, no parameter requiring gradients. `preset.license` is set if weights were
        loaded.

    Raises:
        FileNotFoundError: There is no such file, or no model.safetensors in the folder.
        ValueError: The name or an option is unknown, `weights` is a hub id of a model without a
            hub source or the hub cannot be reached, or the file cannot be read or does not fit.
        ImportError: The model is one of transformers, which is not installed.
    """
    name = text("name", name, "u2netp")
    if name in published.MODELS:
        _check_options(name, options, ())
        build = partial(published.create, name, weights, allow_pickle)
        model = _build_seeded(build, seed, device if weights is None else "cpu")
    elif name in _NETWORKS:
        model = _create_network(name, weights, seed, allow_pickle, device, options)
    else:
        close = get_close_matches(name, names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown dense model {name!r}, expected one of {', '.join(names())}.{hint}"
        )
    model.name = name
    return model.to(device).eval().requires_grad_(False)


def _create_network(
    name: str,
    weights: str | Path | None,
    seed: int,
    allow_pickle: bool,
    device: str,
    options: dict[str, Any],
) -> DenseModel:
    network = _NETWORKS[name]
    _check_options(name, options, network.options)
    if "seed" in network.options:
        options = {**options, "seed": seed}
    if weights is None and network.shipped and device != "meta":
        weights = Path(str(files("sparserefine") / "assets" / network.shipped))
    if weights is None:
        model = _build_seeded(partial(network.build, **options), seed, device)
        model.options = options
        return model
    file = _find_file(name, weights)
    if network.read is not None:
        model = _build_seeded(partial(network.build, **options), seed, "cpu")
        return _filled(model, network.read(file, model, allow_pickle), file, name, network)
    state = network.state(bare_names(read_weights(file, allow_pickle=allow_pickle)))
    options = {**network.fit(state), **options}
    model = _build_seeded(partial(network.build, **options), seed, "cpu")
    model.options = options
    return _filled(model, state, file, name, network)


def _filled(
    model: DenseModel, state: Mapping[str, Tensor], file: Path, name: str, network: _Network
) -> DenseModel:
    """The model with the weights of a file, and what a user must know of them."""
    try:
        load_weights(model, names_within(state, model.state_dict()))
    except ValueError as error:
        raise ValueError(f"{file} for {name!r}: {error}") from error
    model.preset = replace(model.preset, license=network.license)
    return model


def _check_options(name: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = [option for option in options if option not in known]
    if unknown:
        expected = f"expected some of {', '.join(known)}" if known else "which takes none"
        raise ValueError(f"option {unknown[0]!r} is unknown to {name!r}, {expected}.")


def _build_seeded(build: Callable[[], DenseModel], seed: int, device: str) -> DenseModel:
    # Not torch.manual_seed: it would reseed the GPUs too, which nothing here restores. Weights are
    # drawn on the CPU, so that a seed means the same numbers everywhere.
    place = "meta" if device == "meta" else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(place):
        torch.default_generator.manual_seed(seed)
        return build()


def _find_file(name: str, weights: str | Path) -> Path:
    path = Path(weights).expanduser()
    if path.is_dir():
        file = path / WEIGHTS_NAME
        if not file.is_file():
            raise FileNotFoundError(
                f"the folder {path} has no {WEIGHTS_NAME}, which {name!r} is read from. "
                "Give the weights file itself."
            )
        return file
    if not path.exists() and _looks_like_hub_id(weights):
        raise ValueError(
            f"{str(weights)!r} is no file or folder here, and {name!r} has no hub source. "
            "Download the weights yourself and give their path."
        )
    return path


def _looks_like_hub_id(weights: str | Path) -> bool:
    if isinstance(weights, Path) or weights.endswith((SAFETENSORS_SUFFIX, *PICKLE_SUFFIXES)):
        return False
    owner, _, repository = weights.partition("/")
    return bool(owner.strip(".~") and repository) and "/" not in repository
