"""The graph of an ONNX file, as the exporter wrote it, put in order."""

from __future__ import annotations

from typing import Any

import numpy as np

# Stages of an exported file by the names of its modules; each node is named after its stage.
STAGES = {
    "resize'": "resize",
    "dense": "dense",
    "refiner.selection": "select",
    "selection": "select",
    "refiner.numbering": "number",
    "numbering": "number",
    "refiner.unet": "extract",
    "unet": "extract",
}
GATHER = "gather and fuse"
_SCOPES = "pkg.torch.onnx.name_scopes"
# Of a permutation, channels to the front and back.
_FRONT, _BACK = [0, 3, 1, 2], [0, 2, 3, 1]


def name_stages(document: Any) -> None:
    """Name each node after the stage that it is of, which profiles then show."""
    for number, node in enumerate(document.graph.node):
        scopes = {one.key: one.value for one in node.metadata_props}.get(_SCOPES, "")
        stage = next((stage for part, stage in STAGES.items() if f"'{part}" in scopes), GATHER)
        node.name = f"{stage}/{node.op_type}_{number}"


def strip(document: Any) -> None:
    """Drop what the exporter notes of each node: places in the code on this machine."""
    graph = document.graph
    for one in (document, graph, *graph.node, *graph.value_info, *graph.initializer):
        one.ClearField("metadata_props")
        one.ClearField("doc_string")
    for one in (*graph.input, *graph.output, *document.functions):
        one.ClearField("metadata_props")


def resize_in_place(document: Any) -> None:
    """Resize images whose channels come last as they are, where the exporter permutes twice.

    torch resizes with channels first only; ONNX resizes any dimensions.
    """
    graph = document.graph
    made = {name: node for node in graph.node for name in node.output}
    for node in [one for one in graph.node if one.op_type == "Resize"]:
        before = made.get(node.input[0])
        readers = [one for one in graph.node if node.output[0] in one.input]
        if before is None or not _permutes(before, _FRONT):
            continue
        if len(readers) != 1 or not _permutes(readers[0], _BACK):
            continue
        constants = [name for name in node.input[2:] if name]  # scales or sizes
        for place, name in enumerate(node.input):
            if name in constants:
                node.input[place] = _permuted(graph, made, name)
        node.input[0] = before.input[0]
        gone = node.output[0]
        node.output[0] = readers[0].output[0]
        graph.node.remove(readers[0])
        if not any(before.output[0] in one.input for one in graph.node):
            graph.node.remove(before)
        for one in [one for one in graph.value_info if one.name in (gone, before.output[0])]:
            graph.value_info.remove(one)
        read = {name for one in graph.node for name in one.input}
        for one in [one for one in graph.initializer if one.name in {*constants} - read]:
            graph.initializer.remove(one)


def _permutes(node: Any, order: list[int]) -> bool:
    return node.op_type == "Transpose" and list(node.attribute[0].ints) == order


def _permuted(graph: Any, made: dict[str, Any], name: str) -> str:
    """Four constants of which the channels' are to come last."""
    from onnx import numpy_helper

    stored = next((one for one in graph.initializer if one.name == name), None)
    stored = made[name].attribute[0].t if stored is None else stored
    values = np.take(numpy_helper.to_array(stored), _BACK)
    graph.initializer.append(numpy_helper.from_array(values, f"{name}_in_place"))
    return f"{name}_in_place"
