"""Dense models by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from sparserefine.dense.espnetv2 import ENCODER_CHANNELS, WEIGHTS_LICENSE, ESPNetv2
from sparserefine.dense.protocol import DenseModel
from sparserefine.dense.weights import (
    PICKLE_SUFFIXES,
    SAFETENSORS_SUFFIX,
    load_weights,
    read_weights,
)

WEIGHTS_NAME = "model.safetensors"


class _Entry(NamedTuple):
    build: Callable[[], DenseModel]
    weights_license: str


_MODELS = {
    f"espnetv2-{width}": _Entry(partial(ESPNetv2, width), WEIGHTS_LICENSE)
    for width in ENCODER_CHANNELS
}


def names() -> tuple[str, ...]:
    """The names that `create` knows."""
    return tuple(_MODELS)


def create(
    name: str,
    weights: str | Path | None = None,
    *,
    seed: int = 0,
    allow_pickle: bool = False,
) -> DenseModel:
    """Build a dense model, frozen and in eval mode. Nothing is downloaded.

    Args:
        name: One of `names()`.
        weights: A file, or a folder with a model.safetensors. None gives random weights.
        seed: Of the random weights. The same seed gives the same weights; torch's global random
            state stays as it was.
        allow_pickle: Accept torch's pickled files (.pth) too; see `read_weights`.

    Returns:
        The model on the CPU, no parameter requiring gradients. `preset.license` is set if
        weights were loaded.

    Raises:
        FileNotFoundError: There is no such file, or no model.safetensors in the folder.
        ValueError: The name is unknown, `weights` is a hub id of a model without a hub source, or
            the file cannot be read or does not fit.
    """
    if name not in _MODELS:
        close = get_close_matches(name, _MODELS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown dense model {name!r}, expected one of {', '.join(_MODELS)}.{hint}"
        )
    file = None if weights is None else _find_file(name, weights)
    entry = _MODELS[name]
    model = _build_seeded(entry.build, seed)
    model.name = name
    if file is not None:
        state = read_weights(file, allow_pickle=allow_pickle)
        try:
            load_weights(model, state)
        except ValueError as error:
            raise ValueError(f"{file} for {name!r}: {error}") from error
        model.preset = replace(model.preset, license=entry.weights_license)
    return model.eval().requires_grad_(False)


def _build_seeded(build: Callable[[], DenseModel], seed: int) -> DenseModel:
    # Not torch.manual_seed: it would reseed the GPUs too, which nothing here restores.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
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
