"""Published weights of U²-Net, U²-Net-p and IS-Net, brought to the names of our modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparserefine.dense.readable import read_head
from sparserefine.dense.state_names import bare_names
from sparserefine.dense.u2net import HEIGHTS, U2Net
from sparserefine.dense.weights import read_weights
from sparserefine.extras import require

# Of torch's BatchNorm2d, which the authors left as it is.
EPSILON = 1e-5
ONNX_SUFFIX = ".onnx"
# A name that all of the authors' checkpoints have, and no file of ours.
FIRST_NAME = "stage1.rebnconvin.conv_s1.weight"


def read_u2net(path: Path, network: U2Net, allow_pickle: bool) -> dict[str, Tensor]:
    """Read weights for a network of the family.

    Args:
        path: An ONNX file; an authors' checkpoint (.pth); or a safetensors file of ours.
        network: The network that they are for.
        allow_pickle: Accept torch's pickled files; see `read_weights`.

    Returns:
        Tensors under our names.

    Raises:
        ImportError: It is an ONNX file, and the package onnx is not installed.
        ValueError: The file cannot be read, or is of another network.
    """
    if path.suffix.lower() == ONNX_SUFFIX:
        return onnx_state(read_head(path, "ONNX file")[0], network)
    state = bare_names(read_weights(path, allow_pickle=allow_pickle))
    return folded_state(state, network) if FIRST_NAME in state else state


def folded_state(state: Mapping[str, Tensor], network: U2Net) -> dict[str, Tensor]:
    """An authors' checkpoint under our names, each batch norm folded into its convolution.

    Args:
        state: Tensors under the authors' names.
        network: The network that they are for.

    Raises:
        ValueError: A tensor is missing: the checkpoint is of another network of the family.
    """
    found: dict[str, Tensor] = {}
    for (name, conv), theirs in zip(_convolutions(network), _published_names(network), strict=True):
        try:
            weight, bias = state[f"{theirs.conv}.weight"], state[f"{theirs.conv}.bias"]
            if theirs.norm:
                weight, bias = _fold(weight, bias, state, theirs.norm)
        except KeyError as error:
            raise ValueError(
                f"the checkpoint lacks {error.args[0]!r}, so it is not one of {network.kind!r}. "
                f"Check which network of the family it is of."
            ) from None
        if weight.shape != conv.weight.shape:
            raise ValueError(
                f"{theirs.conv} has the shape {list(weight.shape)}, expected "
                f"{list(conv.weight.shape)} of {network.kind!r}. Check which network of the family "
                f"the checkpoint is of."
            )
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, bias
    return found


def onnx_state(path: Path, network: U2Net) -> dict[str, Tensor]:
    """The weights in an ONNX file of the family, matched by the order of its convolutions.

    Exporters fold the batch norms and lose the names, but keep the order.

    Args:
        path: The file, in float32 or float16.
        network: The network that they are for.

    Returns:
        float32 tensors under our names.

    Raises:
        ImportError: The package onnx is not installed.
        ValueError: The file cannot be read, or its convolutions are those of another network.
    """
    onnx = require("onnx", "onnx")
    try:
        model = onnx.load(str(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not an ONNX file ({reason}). Copy it again.") from error
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    # A Cast in front of a convolution changes the precision, not the numbers.
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}

    def read(name: str) -> Tensor:
        while name in source and name not in values:
            name = source[name]
        if name not in values:
            raise ValueError(
                f"{path} computes the weights {name!r} instead of holding them. Simplify the file, "
                f"or wrap it: from_onnx(path, kind, num_classes)."
            )
        array = onnx.numpy_helper.to_array(values[name])
        return torch.from_numpy(array.astype("float32"))

    nodes = [node for node in graph.node if node.op_type == "Conv"]
    ours = list(_convolutions(network))
    found: dict[str, Tensor] = {}
    for place, (name, conv) in enumerate(ours):
        arrays = [read(name) for name in nodes[place].input[1:3]] if place < len(nodes) else []
        shape = list(arrays[0].shape) if len(arrays) == 2 else None
        if shape != list(conv.weight.shape) or len(nodes) != len(ours):
            raise ValueError(
                f"{path} has {len(nodes)} convolutions, number {place + 1} with weights {shape}; "
                f"{network.kind!r} has {len(ours)}, that one with {list(conv.weight.shape)} and a "
                f"bias. Check which network it is of, or wrap it: from_onnx(path, kind, "
                f"num_classes)."
            )
        found[f"{name}.weight"], found[f"{name}.bias"] = arrays
    return found


def _convolutions(network: U2Net) -> Iterator[tuple[str, nn.Conv2d]]:
    """All convolutions with their names, in the order in which they run."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            yield name, module


class _Published:
    """The authors' names of a convolution and of the batch norm behind it, if there is one."""

    def __init__(self, conv: str, norm: str = "") -> None:
        self.conv, self.norm = conv, norm


def _published_names(network: U2Net) -> Iterator[_Published]:
    """The authors' names, in the order in which the convolutions run."""
    if network.stem is not None:
        yield _Published("conv_in")
    for stage in range(1, 7):
        yield from _names_of_block(f"stage{stage}", HEIGHTS[stage - 1] if stage < 5 else 4)
    for stage in range(5, 0, -1):
        yield from _names_of_block(f"stage{stage}d", HEIGHTS[stage - 1] if stage < 5 else 4)
    for side in range(1, 7):
        yield _Published(f"side{side}")
    if network.combine is not None:
        yield _Published("outconv")


def _names_of_block(stage: str, height: int) -> Iterator[_Published]:
    steps = [*map(str, range(1, height + 1)), *(f"{step}d" for step in range(height - 1, 0, -1))]
    for step in ("in", *steps):
        part = f"{stage}.rebnconv{step}"
        yield _Published(f"{part}.conv_s1", f"{part}.bn_s1")


def _fold(
    weight: Tensor, bias: Tensor, state: Mapping[str, Tensor], norm: str
) -> tuple[Tensor, Tensor]:
    gamma, beta, mean, variance = (
        state[f"{norm}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / torch.sqrt(variance + EPSILON)
    folded = weight.double() * scale[:, None, None, None]
    return folded.to(weight.dtype), ((bias.double() - mean) * scale + beta).to(weight.dtype)
