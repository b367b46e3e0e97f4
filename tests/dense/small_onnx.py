"""A small ONNX file of any signature, and what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

FREE = ("b", "h", "w")


def weights(classes: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Of a convolution of 3×3 with a stride of 2."""
    generator = torch.Generator().manual_seed(classes)
    return (
        torch.randn(classes, channels, 3, 3, generator=generator),
        torch.randn(classes, generator=generator),
    )


def logits(images: Tensor, classes: int) -> Tensor:
    """What the file computes of images in 0..1, before the activation."""
    return F.conv2d(images, *weights(classes), stride=2, padding=1)


def write(
    path: Path,
    classes: int = 5,
    *,
    sizes: tuple[Any, Any, Any] = FREE,
    channels: int = 3,
    last: bool = False,
    said: bool = True,
    dtype: int = TensorProto.FLOAT,
    activation: str = "",
    outputs: tuple[str, ...] = ("output",),
    inputs: tuple[str, ...] = (),
) -> Path:
    """Write the file.

    Args:
        path: File to write.
        classes: Number of output channels.
        sizes: Batch, height and width, fixed or named.
        channels: Number of input channels.
        last: Channels come last, of input and output.
        said: The shape of the input names its channels.
        dtype: Precision of the input; uint8 is divided by 255 inside.
        activation: "Sigmoid" or "Softmax".
        outputs: Names of the outputs, all alike.
        inputs: Names of further inputs.
    """
    nodes, name = [], "input"

    def add(kind: str, *others: str, **attributes: Any) -> None:
        nonlocal name
        made = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, [name, *others], [made], **attributes))
        name = made

    if last:
        add("Transpose", perm=[0, 3, 1, 2])
    if dtype != TensorProto.FLOAT:
        add("Cast", to=TensorProto.FLOAT)
    if dtype == TensorProto.UINT8:
        add("Div", "most")
    add("Conv", "weight", "bias", strides=[2, 2], pads=[1, 1, 1, 1])
    if activation:
        add(activation, **({"axis": 1} if activation == "Softmax" else {}))
    if last:
        add("Transpose", perm=[0, 2, 3, 1])
    nodes += [helper.make_node("Identity", [name], [each]) for each in outputs]
    shown = channels if said else "c"
    batch, height, width = sizes
    shape = [batch, height, width, shown] if last else [batch, shown, height, width]
    weight, bias = (part.numpy() for part in weights(classes, channels))
    constants = [("weight", weight), ("bias", bias)]
    if dtype == TensorProto.UINT8:
        constants.append(("most", np.array(255, np.float32)))
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("input", dtype, shape),
            *(helper.make_tensor_value_info(each, TensorProto.FLOAT, [1]) for each in inputs),
        ],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, [None] * 4) for each in outputs],
        [numpy_helper.from_array(value, each) for each, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path
