"""The fixed size of an ONNX file, and what frees it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from sparserefine.atomic import atomic_write
from sparserefine.dense.adapters.onnx_graph import (
    Shape,
    Shapes,
    Size,
    drop_unused,
    find_shapes,
    forget_sizes,
    image_input,
    set_input_size,
    sort_nodes,
)
from sparserefine.dense.readable import read_head
from sparserefine.extras import require

# How onnxruntime names the node that failed while it ran, and while it was loaded.
_FAILED = (
    re.compile(r"running (?P<op>\w+) node\. Name:'(?P<name>[^']*)'"),
    re.compile(r"Node \((?P<name>[^)]*)\) Op \((?P<op>\w+)\)"),
)
# Nodes that take a shape or bounds as numbers, which an exporter may have written down.
_BOUNDED = frozenset({"Expand", "Reshape", "Resize", "Slice", "Upsample"})
_JOINS = frozenset({"Add", "Concat", "Div", "Max", "Mean", "Min", "Mul", "Sub", "Sum", "Where"})


def free_size(path: str | Path, out: str | Path | None = None) -> Path:
    """Write an ONNX file of one size again, so that it takes images of any size.

    Sizes that the exporter wrote into its `Resize` nodes are computed from the map that the
    enlarged one is joined with, or from the image. At the file's own size the outputs stay what
    they were. At others the sides must be multiples of whatever the network itself needs, which
    `from_onnx` takes as `size_divisor`.

    Args:
        path: The file, whose first input is [B, 3, h, w] with a fixed height and width.
        out: File to write; default: NAME_free.onnx beside `path`. One that holds the same already
            is left as it is.

    Returns:
        The file that was written.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        FileNotFoundError: There is no such file.
        FileExistsError: Another file is at `out`.
        ValueError: The file cannot be read, takes several sizes already, or has a node that works
            at one size only; the message names the first.
    """
    file, _ = read_head(path, "ONNX file")
    target = Path(out).expanduser() if out else file.with_name(f"{file.stem}_free{file.suffix}")
    onnx = require("onnx", "onnx")
    try:
        model = onnx.load(str(file))
        dims = image_input(model.graph).type.tensor_type.shape.dim
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} is not an ONNX model ({reason}). Export it again.") from error
    if (
        len(dims) != 4
        or dims[1].dim_value not in (0, 3)
        or not (dims[2].dim_value and dims[3].dim_value)
    ):
        sides = [dim.dim_value or dim.dim_param or "?" for dim in dims]
        raise ValueError(
            f"{file} takes {sides}, expected images [B, 3, h, w] of one height and width. If it "
            f"takes several sizes, open it as it is."
        )
    try:
        _free(onnx, model, (dims[2].dim_value, dims[3].dim_value))
    except _ForbiddenError as error:
        raise ValueError(
            f"{file} cannot take other sizes: {error}. Export it with dynamic height and width."
        ) from error
    content = model.SerializeToString(deterministic=True)
    if not target.exists():
        atomic_write(target, lambda partial: partial.write_bytes(content))
    elif target.read_bytes() != content:
        raise FileExistsError(f"{target} is there and is another file. Give another `out`.")
    return target


class _ForbiddenError(Exception):
    """A node works at one size only."""


def _free(onnx: Any, model: Any, size: Size) -> None:
    """Let a model of one size take any, in place.

    Raises:
        _ForbiddenError: A node does not allow it.
    """
    graph = model.graph
    sort_nodes(graph)
    for node in graph.node:  # so that messages can name it
        node.name = node.name or node.output[0]
    model.ir_version = max(model.ir_version, 4)  # before, every constant had to be an input too
    larger = (2 * size[0], 3 * size[1])  # what is cropped does not show in smaller images
    shapes, changed = (find_shapes(onnx, model, each) for each in (size, larger))
    # What is behind a fixed size can be told only when that one is free.
    while fixed := [node for node in graph.node if _is_fixed_resize(node, shapes, changed)]:
        for node in fixed:
            like = _find_like(graph, node, shapes, size)
            if like is None:
                raise _forbidden(node, shapes[node.output[0]])
            _resize_like(onnx, graph, node, like)
        changed = find_shapes(onnx, model, larger)
    for node in graph.node:
        if _is_bounded(node, shapes, changed):
            raise _forbidden(node, shapes[node.output[0]])
    set_input_size(graph, "height", "width")
    forget_sizes(graph, shapes, changed)
    drop_unused(graph)
    others = _other_sizes(size)
    makers = {name: node for node in graph.node for name in node.output}
    runs = _run(model, others)
    for name in runs[0]:
        # One whose shape could not be told beforehand is compared with itself.
        known = (shapes[name], size) if name in shapes else (runs[0][name], others[0])
        if not all(
            _follows(*known, made[name], other) for made, other in zip(runs, others, strict=True)
        ):
            raise _forbidden(makers[name], known[0])


def _forbidden(node: Any, shape: Shape) -> _ForbiddenError:
    what = f"{node.op_type} {node.name!r} gives {list(shape)}"
    return _ForbiddenError(f"{what} whatever the image's size")


def _other_sizes(size: Size) -> tuple[Size, Size]:
    """Two other sizes to try, multiples of what the network can be thought to need."""
    step = gcd(*size)
    step = 64 if step % 64 == 0 else step
    short, long = [step * times for times in range(2, 6) if step * times not in size][:2]
    return (short, long), (long, short)


def _is_fixed_resize(node: Any, shapes: Shapes, changed: Shapes) -> bool:
    """Whether a `Resize` brings maps to a size that is written down."""
    if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
        return False
    made = shapes.get(node.output[0], ())
    return len(made) == 4 and made == changed.get(node.output[0])


def _is_bounded(node: Any, shapes: Shapes, changed: Shapes) -> bool:
    """Whether a node gives the same shape as at the file's size, though it takes another."""
    if node.op_type not in _BOUNDED:
        return False
    names = (node.input[0], node.output[0])
    if not all(name in known for name in names for known in (shapes, changed)):
        return False
    taken, made = (tuple(zip(shapes[name], changed[name], strict=True)) for name in names)
    if node.op_type == "Reshape":
        return all(a == b for a, b in made) and any(a != b for a, b in taken)
    # A part, such as the first token, may stay of one size; what was all of it may not.
    return len(taken) == len(made) and any(
        a != b and c == d and (node.op_type != "Slice" or a == c)
        for (a, b), (c, d) in zip(taken, made, strict=True)
    )


def _find_like(graph: Any, node: Any, shapes: Shapes, size: Size) -> str | Size | None:
    """What the size of the maps that a `Resize` makes should follow.

    Returns:
        The name of the tensor that they are joined with; else that of the image, where they leave
        the network as large as it; else the factors by which its own input is enlarged, where
        they are whole; else None.
    """
    taken, made = node.input[0], node.output[0]
    sides = shapes[made][2:]
    # Only what is computed before: nothing may come to depend on itself.
    earlier = takewhile(lambda each: made not in each.output, graph.node)
    before = {name for each in earlier for name in each.output}
    outputs = {output.name for output in graph.output}
    leaves = False
    for name, joined in _followed(graph, made, shapes):
        leaves = leaves or name in outputs
        for other in joined:
            if other in before and len(shapes.get(other, ())) == 4 and shapes[other][2:] == sides:
                return other
    if leaves and sides == size:
        return image_input(graph).name
    given = shapes.get(taken, ())[2:]
    if len(given) == 2 and sides[0] % given[0] == 0 and sides[1] % given[1] == 0:
        return sides[0] // given[0], sides[1] // given[1]
    return None


def _followed(graph: Any, start: str, shapes: Shapes) -> Iterator[tuple[str, list[str]]]:
    """What becomes of a tensor while its height and width stay, the nearest first.

    Yields:
        The name of each tensor that it becomes, and of those that this one is joined with.
    """
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    queue, seen = deque([start]), {start}
    while queue:
        name = queue.popleft()
        nodes = users.get(name, [])
        yield name, [other for node in nodes if node.op_type in _JOINS for other in node.input]
        for made in (output for node in nodes for output in node.output):
            if made not in seen and shapes.get(made, ())[2:] == shapes[start][2:]:
                seen.add(made)
                queue.append(made)


def _resize_like(onnx: Any, graph: Any, node: Any, like: str | Size) -> None:
    """Let a `Resize` take its size from a tensor, or enlarge by whole factors."""
    name = node.output[0]
    # Since opset 18 a `Resize` may list some axes, and takes the sizes of just those.
    axes = next((list(each.ints) for each in node.attribute if each.name == "axes"), [0, 1, 2, 3])

    def constant(suffix: str, values: Sequence[int], dtype: type = np.int64) -> str:
        array = np.array(values, dtype)
        graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}_{suffix}"))
        return f"{name}_{suffix}"

    if not isinstance(like, str):
        scales = [(1, 1, *like)[axis] for axis in axes]
        node.input[2] = constant("scales", scales, np.float32)
        del node.input[3:]
        return
    added: list[Any] = []

    def add(op: str, inputs: list[str], suffix: str, **attributes: Any) -> str:
        added.append(
            onnx.helper.make_node(
                op, inputs, [f"{name}_{suffix}"], f"{name}_{suffix}", **attributes
            )
        )
        return f"{name}_{suffix}"

    own, theirs = add("Shape", [node.input[0]], "own"), add("Shape", [like], "theirs")
    # Batch and channels are its own, height and width those of the other.
    picked = [
        add("Gather", [shape, constant(f"{suffix}_axes", part)], f"{suffix}_sides")
        for shape, suffix, part in (
            (own, "own", [axis for axis in axes if axis < 2]),
            (theirs, "their", [axis for axis in axes if axis >= 2]),
        )
        if part
    ]
    node.input[3] = add("Concat", picked, "size", axis=0)
    place = next(place for place, each in enumerate(graph.node) if each.output[0] == name)
    for offset, each in enumerate(added):
        graph.node.insert(place + offset, each)


def _run(model: Any, sizes: Sequence[Size]) -> list[dict[str, Shape]]:
    """Run a model on black images and return the shapes of its outputs, for each size.

    Raises:
        _ForbiddenError: A node fails.
    """
    onnxruntime = require("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    # The nodes as they are, so that the one that fails has the name that the file gives it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        image = session.get_inputs()[0]
        batch, channels = (side if isinstance(side, int) else 1 for side in image.shape[:2])
        dtype = np.float16 if "float16" in image.type else np.float32
        names = [output.name for output in session.get_outputs()]
        found = []
        for size in sizes:
            made = session.run(None, {image.name: np.zeros((batch, channels, *size), dtype)})
            found.append({n: tuple(a.shape) for n, a in zip(names, made, strict=True)})
        return found
    except Exception as error:
        message = " ".join(str(error).split())
        for pattern in _FAILED:
            if failed := pattern.search(message):
                text = f"{failed['op']} {failed['name']!r} fails for them"
                raise _ForbiddenError(text) from error
        raise _ForbiddenError(f"onnxruntime says {message[:200]}") from error


def _follows(shape: Shape, size: Size, made: Shape, other: Size) -> bool:
    """Whether an output grows with the image, up to rounding; of one cell it need not."""
    if len(shape) != 4 or shape[2:] == (1, 1):
        return True
    expected = [side * to / of for side, to, of in zip(shape[2:], other, size, strict=True)]
    close = [abs(side - near) <= 1 for side, near in zip(made[2:], expected, strict=True)]
    return made[:2] == shape[:2] and all(close)
