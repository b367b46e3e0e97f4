"""U²-Net and IS-Net inside onnxruntime, which runs them faster on CPUs than torch does."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparserefine.dense.u2net import ConvReLU, DilatedU, NestedU, U2Net

# Known to every onnxruntime that the extra allows.
_OPSET, _IR_VERSION = 18, 10


def why_no_engine() -> str:
    """Why networks run inside torch here; empty where onnxruntime runs them."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    return f"{' and '.join(missing)} are not installed (the extra onnx)" if missing else ""


class OnnxEngine:
    """Runs the convolutions of a network inside onnxruntime; its session is made when needed.

    The network stays what it is, and what onnxruntime cannot do (gradients, GPUs, half precision)
    torch does. Logits differ by less than 1e-3, probabilities by less than 1e-4.
    """

    def __init__(self) -> None:
        self._session: tuple[tuple[Any, ...], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:  # for copies and pickles: a session has none
        return {"_session": None}

    def __call__(self, network: U2Net, images: Tensor) -> Tensor | None:
        """Logits of background and foreground; None where torch has to find them."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore
            return None
        tensors = (images, *network.parameters())
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return None
        if any(tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in tensors):
            return None
        state = (torch.get_num_threads(), *map(_version, tensors[1:]))
        kept = self._session
        if kept is None or kept[0] != state:
            kept = self._session = (state, _open(network))
        session = kept[1]
        # Not an operator of torch before or behind: its threads wait busily for a while, and the
        # two of them on two processors make a run a tenth slower.
        [logit] = session.run(None, {"images": images.contiguous().numpy()})
        logits = np.zeros((len(logit), 2, *logit.shape[2:]), logit.dtype)
        logits[:, 1:] = logit
        return torch.from_numpy(logits)


def _version(parameter: Tensor) -> tuple[int, int]:
    """What changes when the numbers of a parameter do."""
    return parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version


def _open(network: U2Net) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        to_onnx(network), options, providers=["CPUExecutionProvider"]
    )


def to_onnx(network: U2Net) -> bytes:
    """A network as an ONNX file: RGB in 0..1, [B, 3, h, w] of any size, to one logit.

    Args:
        network: The network; float32.
    """
    import onnx

    graph = _Graph(onnx.helper, onnx.numpy_helper)
    y = graph.network(network, "images")
    floats = onnx.TensorProto.FLOAT
    images = onnx.helper.make_tensor_value_info("images", floats, ["batch", 3, "height", "width"])
    logit = onnx.helper.make_tensor_value_info(y, floats, ["batch", 1, "rows", "columns"])
    made = onnx.helper.make_graph(graph.nodes, "u2net", [images], [logit], graph.weights)
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=_IR_VERSION)
    return model.SerializeToString()


class _Graph:
    """Nodes of ONNX; each method adds what the part of the network does, and names its result."""

    def __init__(self, helper: Any, arrays: Any) -> None:
        self.helper, self.arrays = helper, arrays
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, tensor: Tensor) -> str:
        name = f"{name}{len(self.weights)}"
        array = np.ascontiguousarray(tensor.detach().numpy())
        self.weights.append(self.arrays.from_array(array, name))
        return name

    def network(self, network: U2Net, x: str) -> str:
        y = self.add("Sub", x, self.constant("mean", network.normalize.mean))
        y = self.add("Div", y, self.constant("std", network.normalize.std))
        y = y if network.stem is None else self.conv(network.stem, y)
        kept: list[str] = []
        for stage in network.down:
            y = self.block(stage, self.halve(y) if kept else y)
            kept.append(y)
        maps = [kept.pop()]
        for stage in network.up:
            skip = kept.pop()
            y = self.block(stage, self.join(self.resize(y, skip), skip))
            maps.append(y)
        maps.reverse()
        logit = self.conv(network.sides[0], maps[0])
        if network.combine is None:
            return logit
        rest = zip(list(network.sides)[1:], maps[1:], strict=True)
        sides = [logit, *(self.resize(self.conv(side, y), logit) for side, y in rest)]
        return self.conv(network.combine, self.join(*sides))

    def block(self, block: nn.Module, x: str) -> str:
        assert isinstance(block, NestedU | DilatedU)
        pools = isinstance(block, NestedU)
        first = y = self.conv(block.first, x)
        kept: list[str] = []
        for conv in block.down:
            y = self.conv(conv, self.halve(y) if pools and kept else y)
            kept.append(y)
        y = self.conv(block.bottom, y)
        for conv, skip in zip(block.up, reversed(kept), strict=True):
            y = self.conv(conv, self.join(self.resize(y, skip) if pools else y, skip))
        return self.add("Add", first, y)

    def conv(self, module: nn.Module, x: str) -> str:
        conv = module.conv if isinstance(module, ConvReLU) else module
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        y = self.add(
            "Conv",
            x,
            self.constant("weight", conv.weight),
            self.constant("bias", conv.bias),
            pads=[int(side) for side in conv.padding] * 2,
            strides=list(conv.stride),
            dilations=list(conv.dilation),
        )
        return self.add("Relu", y) if isinstance(module, ConvReLU) else y

    def halve(self, x: str) -> str:
        return self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    def resize(self, x: str, like: str) -> str:
        size = self.add("Shape", like, start=2)
        return self.add("Resize", x, "", "", size, axes=[2, 3], mode="linear")

    def join(self, *parts: str) -> str:
        return self.add("Concat", *parts, axis=1)
