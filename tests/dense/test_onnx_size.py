"""ONNX files of one size, freed: the same there, right at others, or the node that forbids it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparserefine as sr

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
SIZE = (64, 96)
exports = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript", "ignore:Constant folding"
)


class Joined(nn.Module):
    """Enlarges to the size of a map that it then meets, directly and behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.down(x)
        coarse = F.max_pool2d(fine, 2, 2, ceil_mode=True)
        lowest = F.max_pool2d(coarse, 2, 2, ceil_mode=True)
        added = self.up(_enlarge(lowest, coarse)) + coarse
        y = self.last(torch.cat([_enlarge(added, fine), fine], 1))
        return y, _enlarge(lowest[:, :1], x).sigmoid()


class Padded(nn.Module):
    """Pads by widths that the exporter computes in the graph, and leaves as large as the image."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(F.pad(x, (0, 0, 0, 0, 1, 0)), 2)
        return F.interpolate(y, (x.shape[2], x.shape[3]), mode="bilinear")


class Quarter(nn.Module):
    """Logits at a quarter of the image, enlarged from an eighth: joined with nothing."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, 8)
        return F.interpolate(y, (y.shape[2] * 2, y.shape[3] * 2), mode="bilinear")


class Pooled(nn.Module):
    """Pools all of the image, enlarges the one cell, and joins it with the map."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, _enlarge(F.adaptive_avg_pool2d(x, 1), x)], 1)


class Scaled(nn.Module):
    """Enlarges by a factor, as a file that is free in its middle does."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(x, 4), scale_factor=4.0, mode="bilinear")


class Reshaped(nn.Module):
    """Counts its cells beforehand."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, 4).reshape(1, 3, SIZE[0] // 4 * (SIZE[1] // 4))
        return y.softmax(2).reshape(1, 3, SIZE[0] // 4, SIZE[1] // 4)


class Positioned(nn.Module):
    """Adds something to each of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(1, 3, SIZE[0] // 4, SIZE[1] // 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 4) + self.table


class Cropped(nn.Module):
    """Crops to the size of the export, which only larger images notice."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)[:, :, : SIZE[0], : SIZE[1]]


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, (like.shape[2], like.shape[3]), mode="bilinear")


def export(network: nn.Module, file: Path, *, opset: int = 17) -> Path:
    torch.onnx.export(
        network.eval(), (torch.rand(1, 3, *SIZE),), str(file), opset_version=opset, dynamo=False
    )
    return file


def run(file: Path, images: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})


@exports
@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (Joined(), ((61, 75), (128, 32), (200, 333))),
        (Quarter(), ((32, 128), (104, 80))),
        (Padded(), ((32, 128), (61, 75))),
        (Pooled(), ((9, 70),)),
        (Scaled(), ((32, 128), (100, 60))),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_freed_file_is_the_network_at_any_size(
    network: nn.Module, sizes: Sequence[tuple[int, int]], opset: int, tmp_path: Path
) -> None:
    file = export(network, tmp_path / "net.onnx", opset=opset)
    free = sr.dense.free_size(file)
    assert free == tmp_path / "net_free.onnx"
    images = torch.rand(1, 3, *SIZE)
    for found, expected in zip(run(free, images), run(file, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    for size in sizes:
        images = torch.rand(1, 3, *size)
        expected = network(images)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for found, right in zip(run(free, images), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(found), right, atol=1e-5, rtol=0)


@exports
@pytest.mark.parametrize(
    ("network", "node"),
    [
        (Reshaped(), r"Reshape '/Reshape' gives \[1, 3, 384\] whatever the image's size"),
        (Positioned(), r"Add '/Add' fails for them"),
        (Cropped(), r"Slice '/Slice' gives \[1, 3, 64, 96\] whatever the image's size"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_first_node_that_forbids_it_is_named(
    network: nn.Module, node: str, tmp_path: Path
) -> None:
    file = export(network, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=rf"net\.onnx cannot take other sizes: {node}\. Export it"):
        sr.dense.free_size(file)
    assert not (tmp_path / "net_free.onnx").exists()


@exports
def test_a_resize_that_nothing_tells_the_size_of_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x, (50, 50))

    file = export(Odd(), tmp_path / "odd.onnx")
    with pytest.raises(ValueError, match=r"Resize '/Resize' gives \[1, 3, 50, 50\] whatever"):
        sr.dense.free_size(file)


@exports
def test_casts_around_an_enlargement_are_looked_through(tmp_path: Path) -> None:
    """As converters to half precision leave a file: casts at its end, out of order."""

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = F.max_pool2d(x, 2, 2, ceil_mode=True).half()
            return torch.cat([_enlarge(y.float(), x).half(), x.half()], 1).float()

    network = Half()
    file = export(network, tmp_path / "half.onnx")
    model = onnx.load(str(file))
    nodes = sorted(model.graph.node, key=lambda node: node.op_type == "Cast")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(file))
    images = torch.rand(1, 3, 45, 70)
    found = run(sr.dense.free_size(file), images)[0]
    torch.testing.assert_close(torch.from_numpy(found), network(images), atol=1e-3, rtol=0)


@exports
def test_a_freed_file_opens_as_a_model_of_any_size(tmp_path: Path) -> None:
    network = Scaled()
    free = sr.dense.free_size(export(network, tmp_path / "net.onnx"), tmp_path / "any.onnx")
    # Says nothing: it has no size. Its outputs are between 0 and 1, as no logits are.
    model = sr.dense.from_onnx(free, "logits", 3, size_divisor=4, check=False)
    images = torch.rand(2, 3, 40, 80)
    torch.testing.assert_close(model(images), network(images))
    assert model.preset.dense_size == 0.5
    with pytest.raises(ValueError, match=r"takes \[1, 3, 'height', 'width'\], expected images"):
        sr.dense.free_size(free)


@exports
def test_no_other_file_is_written_over(tmp_path: Path) -> None:
    file = export(Scaled(), tmp_path / "net.onnx")
    assert sr.dense.free_size(file) == sr.dense.free_size(file)
    (tmp_path / "other.onnx").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is there and is another file"):
        sr.dense.free_size(file, tmp_path / "other.onnx")
    assert (tmp_path / "other.onnx").read_bytes() == b"mine"
    with pytest.raises(ValueError, match=r"is not an ONNX model .*Export it again"):
        sr.dense.free_size(tmp_path / "other.onnx")
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        sr.dense.free_size(tmp_path / "gone.onnx")


def build(file: Path, nodes: Sequence[Any], constants: dict[str, Any], batch: int | str) -> Path:
    """A file from x to y, both of the size of the export."""
    images = ["x", "y"]
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, 3, *SIZE])
        for name in images
    ]
    tensors = [onnx.numpy_helper.from_array(np.array(v), name) for name, v in constants.items()]
    graph = onnx.helper.make_graph(nodes, "net", infos[:1], infos[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(file))
    return file


def test_a_batch_that_was_free_stays_free(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("GlobalAveragePool", ["x"], ["mean"]),
        make("Resize", ["mean", "", "", "sizes"], ["wide"], axes=[2, 3], mode="nearest"),
        make("Add", ["x", "wide"], ["y"]),  # joined with the image itself, which no node makes
    ]
    free = sr.dense.free_size(build(tmp_path / "net.onnx", nodes, {"sizes": SIZE}, "batch"))
    images = torch.rand(2, 3, 20, 30)
    found = torch.from_numpy(run(free, images)[0])
    torch.testing.assert_close(found, images + images.mean((2, 3), keepdim=True))


def test_a_size_that_only_a_run_can_tell_is_not_taken_for_free(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("ReduceMax", ["x"], ["most"], keepdims=0),
        make("Cast", ["most"], ["zero"], to=onnx.TensorProto.INT64),  # of black images
        make("Add", ["sizes", "zero"], ["found"]),
        make("Resize", ["x", "", "", "found"], ["y"], axes=[2, 3], mode="nearest"),
    ]
    file = build(tmp_path / "net.onnx", nodes, {"sizes": SIZE}, 1)
    with pytest.raises(ValueError, match=r"Resize 'y' gives \[1, 3, 64, 96\] whatever the image's"):
        sr.dense.free_size(file)


@pytest.mark.slow
def test_the_file_of_u2net_p_is_freed(shared: Path, tmp_path: Path) -> None:
    file = shared / "dense" / "u2netp" / "u2netp.onnx"
    free = sr.dense.free_size(file, tmp_path / "free.onnx")
    images = torch.rand(1, 3, 320, 320)
    for found, expected in zip(run(free, images), run(file, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    model = sr.dense.create("u2netp", file)
    assert isinstance(model, sr.dense.U2Net)
    images = torch.rand(1, 3, 151, 203)
    expected = torch.from_numpy(run(free, model.normalize(images))[0])
    torch.testing.assert_close(model(images)[:, 1:].sigmoid(), expected, atol=1e-3, rtol=0)
