"""The graph of an ONNX model: the order of its nodes, what of it is used, and its shapes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from typing import Any

Size = tuple[int, int]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

# Since this opset onnx can follow sizes through the nodes that compute with them.
_TRACED = 13
# A constant of more numbers than this is a weight; no shape depends on it.
_LARGEST_SHAPE = 64


def image_input(graph: Any) -> Any:
    """The first input that is no constant; old files list those too."""
    constants = {tensor.name for tensor in graph.initializer}
    return next(each for each in graph.input if each.name not in constants)


def set_input_size(graph: Any, height: int | str, width: int | str) -> None:
    """Set the height and width of the images, as numbers or as names of what is free."""
    dims = image_input(graph).type.tensor_type.shape.dim
    for dim, side in ((dims[2], height), (dims[3], width)):
        if isinstance(side, int):
            dim.dim_value = side
        else:
            dim.dim_param = side


def sort_nodes(graph: Any) -> None:
    """Put each node behind those that it depends on, and else leave the order as it is.

    Converters to half precision put their casts at the end, and runtimes sort for themselves.
    """
    nodes = list(graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    users: list[list[int]] = [[] for _ in nodes]
    missing = [0] * len(nodes)
    for place, node in enumerate(nodes):
        for maker in {makers[name] for name in _names_used(node) if name in makers}:
            users[maker].append(place)
            missing[place] += 1
    ready = [place for place, count in enumerate(missing) if not count]  # ascending: a heap
    del graph.node[:]
    while ready:
        place = heapq.heappop(ready)
        graph.node.append(nodes[place])
        for user in users[place]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, user)


def drop_unused(graph: Any) -> None:
    """Drop the nodes and constants that no output depends on; onnxruntime complains of them."""
    used = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(_names_used(node))
    for tensor in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(tensor)


def _names_used(node: Any) -> Iterator[str]:
    """The tensors that a node takes, those inside its branches and loops too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for each in graph.node:
                yield from _names_used(each)


def find_shapes(onnx: Any, model: Any, size: Size) -> dict[str, Shape]:
    """The shape of each tensor whose shape can be told beforehand, for images of one size."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    set_input_size(graph, *size)
    batch = image_input(graph).type.tensor_type.shape.dim[0]
    batch.dim_value = batch.dim_value or 1
    forget_sizes(graph, {}, {})
    # Weights are replaced by inputs of their shape, which saves copying them to and fro.
    inputs = {each.name for each in graph.input}
    for tensor in [each for each in graph.initializer if prod(each.dims) > _LARGEST_SHAPE]:
        if tensor.name not in inputs:
            make = onnx.helper.make_tensor_value_info
            graph.input.append(make(tensor.name, tensor.data_type, tensor.dims))
        graph.initializer.remove(tensor)
    if any(each.domain in ("", "ai.onnx") and each.version < _TRACED for each in copy.opset_import):
        with suppress(Exception):  # converters do not know every node; then less can be told
            copy = onnx.version_converter.convert_version(copy, _TRACED)
    _fold_constants(onnx, copy)
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    found: dict[str, Shape] = {}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = info.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            found[info.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return found


def _fold_constants(onnx: Any, model: Any) -> None:
    """Compute what depends on no input, such as the widths of a padding; `onnx` does not."""
    from onnx.reference import ReferenceEvaluator

    to_array, from_array = onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    known = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    opsets = {each.domain: each.version for each in model.opset_import}
    for node in list(model.graph.node):
        if any(name and name not in known for name in node.input):
            continue
        values = {name: known[name] for name in node.input if name}
        with suppress(Exception):  # then what depends on it cannot be told
            found: Any = ReferenceEvaluator(node, opsets=opsets).run(None, values)
            if all(array.size <= _LARGEST_SHAPE for array in found):
                known.update(zip(node.output, found, strict=True))
                model.graph.initializer.extend(map(from_array, found, node.output))
                model.graph.node.remove(node)


def forget_sizes(graph: Any, shapes: Shapes, changed: Shapes) -> None:
    """Drop the sizes that the file states of its tensors, but for those of outputs that stay."""
    del graph.value_info[:]
    for output in graph.output:
        before, after = shapes.get(output.name, ()), changed.get(output.name, ())
        output.type.tensor_type.ClearField("shape")
        if before and len(before) == len(after):
            for axis, (side, other) in enumerate(zip(before, after, strict=True)):
                dim = output.type.tensor_type.shape.dim.add()
                if axis and side == other:
                    dim.dim_value = side
                else:
                    dim.dim_param = f"{output.name}_{axis}"
