"""The kernels as operators: fake tensors, autograd, torch.compile, torch.export, autocast."""

from __future__ import annotations

import pytest
import torch
from masks import MASKS
from torch import Tensor, nn

from sparserefine.sparse import (
    ActivePixels,
    SparseConv2d,
    SparseInverseConv2d,
    SparseTensor,
    SubMConv2d,
    submanifold_conv2d,
    use_backend,
)
from sparserefine.sparse.gpu import ops

pytestmark = pytest.mark.interpreter

SLOW = pytest.mark.slow
KINDS = pytest.mark.parametrize(
    "kind",
    ["submanifold", pytest.param("strided", marks=SLOW), pytest.param("inverse", marks=SLOW)],
)


def arguments(kind: str, mask: Tensor, c_in: int = 5, c_out: int = 6) -> tuple:
    pixels = ActivePixels.from_mask(mask)
    step = pixels.downsampling()
    own = pixels if kind == "submanifold" else step.coarse
    rows = len(step.coarse) if kind == "inverse" else len(pixels)
    return (
        torch.randn(rows, c_in, requires_grad=True),
        torch.randn(9, c_in, c_out, requires_grad=True),
        torch.randn(c_out, requires_grad=True),
        own.submanifold_map.groups[0].neighbors,
        None if kind == "submanifold" else step.down.groups[0].neighbors,
        kind,
        len(pixels),
        1,
        False,
    )


@KINDS
def test_torch_accepts_the_operator(kind: str) -> None:
    torch.library.opcheck(ops.convolve, arguments(kind, MASKS["two_images_one_empty"]))


def test_torch_accepts_the_weight_gradient() -> None:
    given = arguments("submanifold", MASKS["two_images_one_empty"])
    grad = torch.randn(len(given[0]), 6)
    torch.library.opcheck(ops.weight_gradient, (given[0].detach(), grad, given[3], False))


@pytest.mark.slow
@KINDS
def test_compiled_is_eager(kind: str) -> None:
    """At several numbers of pixels with one program, values and gradients."""

    def step(*given) -> Tensor:
        return torch.relu(ops.convolve(*given)) * 2

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for name in ("two_images_one_empty", "border_only", "checkerboard"):
        given = arguments(kind, MASKS[name])
        results = []
        for function in (step, compiled):
            y = function(*given)
            y.square().sum().backward()
            results.append((y.detach(), *(t.grad for t in given[:3])))
            for tensor in given[:3]:
                tensor.grad = None
        for eager, other in zip(*results, strict=True):
            torch.testing.assert_close(other, eager)


class _Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 5, 6))

    def forward(self, feats: Tensor, own: Tensor) -> Tensor:
        number = feats.shape[0]
        return ops.convolve(
            feats, self.weight, None, own, None, "submanifold", number, 1, False
        ).relu()


def test_exported_with_any_number_of_pixels() -> None:
    module = _Step()
    feats, _, _, own, *_ = arguments("submanifold", MASKS["two_images_one_empty"])
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(
        module, (feats.detach(), own), dynamic_shapes=({0: rows}, {1: rows})
    )
    for name in ("two_images_one_empty", "checkerboard"):
        feats, _, _, own, *_ = arguments("submanifold", MASKS[name])
        torch.testing.assert_close(program.module()(feats, own), module(feats, own))


def test_autocast_computes_in_its_dtype_and_trains_float32_weights() -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    x = SparseTensor(torch.randn(len(pixels), 6), pixels)
    conv = SubMConv2d(6, 8, backend="triton")
    with torch.autocast("cpu", dtype=torch.float16):
        y = conv(x)
    assert y.feats.dtype == torch.float16
    y.feats.float().sum().backward()
    assert conv.weight.grad is not None and conv.weight.grad.dtype == torch.float32
    half = submanifold_conv2d(
        x.replace(x.feats.half()), conv.weight.half(), conv.bias.half(), backend="triton"
    )
    assert torch.equal(y.feats, half.feats)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = SubMConv2d(3, 8)
        self.down = SparseConv2d(8, 12)
        self.up = SparseInverseConv2d(12, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: SparseTensor) -> Tensor:
        x = self.stem(x)
        x = x.replace(x.feats.relu())
        low = self.down(x)
        y = self.up(low.replace(low.feats.relu()), x.pixels)
        return self.head(y.feats + x.feats)


@pytest.mark.slow
def test_training_takes_the_same_way_as_with_the_definition() -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    x = SparseTensor(torch.randn(len(pixels), 3), pixels)
    labels = (x.feats.sum(1) > 0).long()
    losses = {}
    for backend in ("triton", "reference"):
        net = _Net()
        optimizer = torch.optim.AdamW(net.parameters(), 0.03)
        with use_backend(backend):
            found = []
            for _ in range(5):
                loss = nn.functional.cross_entropy(net(x), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        losses[backend] = found
    assert losses["triton"] == pytest.approx(losses["reference"], rel=1e-4)
    assert losses["triton"][-1] < 0.8 * losses["triton"][0]
