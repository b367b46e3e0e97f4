"""What is done to the graph of an exported file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparserefine.exporting.graph import resize_in_place

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


def resizing(first: list[int], size: list[int]) -> Any:
    """A file that permutes, resizes, and permutes back."""
    node, port = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Transpose", ["rows"], ["images"], perm=first),
            node("Resize", ["images", "", "", "size"], ["resized"], mode="linear"),
            node("Transpose", ["resized"], ["found"], perm=[0, 2, 3, 1]),
        ],
        "resizing",
        [port("rows", onnx.TensorProto.FLOAT, [1, 3, 4, 5])],
        [port("found", onnx.TensorProto.FLOAT, [None] * 4)],
        [onnx.numpy_helper.from_array(np.array(size, np.int64), "size")],
    )
    opset = onnx.helper.make_opsetid("", 18)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)


def found_by(document: Any) -> np.ndarray:
    onnx.checker.check_model(document)
    session = onnxruntime.InferenceSession(
        document.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rows = np.random.default_rng(0).random((1, 3, 4, 5), np.float32)
    return session.run(None, {"rows": rows})[0]


def test_what_is_permuted_for_resizing_alone_stays_as_it_is() -> None:
    document = resizing([0, 3, 1, 2], [1, 5, 6, 8])
    expected = found_by(document)
    resize_in_place(document)
    (node,), (size,) = document.graph.node, document.graph.initializer
    assert node.op_type == "Resize" and node.input[3] == size.name
    found = found_by(document)
    assert found.shape == (1, 6, 8, 5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_another_permutation_is_left_alone() -> None:
    document = resizing([0, 2, 1, 3], [1, 4, 6, 8])
    resize_in_place(document)
    assert [node.op_type for node in document.graph.node] == ["Transpose", "Resize", "Transpose"]
