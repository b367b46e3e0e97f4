"""The network of `edges` as it ships with the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from sparserefine.dense.weights import load_weights, read_weights
from sparserefine.refinement.edge_net import EdgeNet

FOLDER = Path(str(files("sparserefine") / "assets" / "edges"))

PREFIX = "extractor.net."
"""Before the names of its weights in the file, which is that of a whole refiner."""


@cache
def shipped_net() -> EdgeNet:
    """The trained network, in evaluation mode; every call returns the same object."""
    net = EdgeNet().requires_grad_(False).eval()
    state = read_weights(FOLDER / "model.safetensors")
    load_weights(net, {name.removeprefix(PREFIX): value for name, value in state.items()})
    return net
