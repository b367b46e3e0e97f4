"""Exported files: what they are made of, and how they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Of the operators of opset 18, those that TensorRT reads (docs/operators.md of onnx-tensorrt) and
# onnxruntime-web has; none makes shapes of values, and none is a loop.
OPERATORS = {
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip",
    "Concat", "ConstantOfShape", "Conv", "CumSum", "Div", "Einsum", "Equal", "Erf", "Exp",
    "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "Greater",
    "GreaterOrEqual", "GridSample", "Identity", "InstanceNormalization", "LayerNormalization",
    "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pad", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu",
    "Reshape", "Resize", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign", "Slice",
    "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def operators(path: Path) -> set[str]:
    """Names of the operators, all of ONNX itself, none with a graph of its own."""
    import onnx

    graph = onnx.load(path).graph
    assert {node.domain for node in graph.node} <= {""}
    assert not any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)
    return {node.op_type for node in graph.node}
