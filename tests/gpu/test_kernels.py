"""Every kernel against the definition, values and gradients, in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from masks import MASKS
from oracle import Answer, assert_answers, assert_within_bound
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    SparseTensor,
    reference,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.gpu import launch

pytestmark = pytest.mark.interpreter

NAMES = ("empty_mask", "one_pixel", "full_mask", "border_only", "two_images_one_empty")
SOME_MASK = pytest.mark.parametrize("name", NAMES)
DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
# Which pixels there are and how their numbers are stored have little to do with one another: with
# half precision one mask in the fast tests.
DTYPE_AND_MASK = pytest.mark.parametrize(
    ("dtype", "name"),
    [
        *((torch.float32, name) for name in (*NAMES, "one_by_one")),
        (torch.float16, "two_images_one_empty"),
        *(
            pytest.param(torch.float16, name, marks=pytest.mark.slow)
            for name in (*NAMES, "one_by_one")
            if name != "two_images_one_empty"
        ),
    ],
    ids=str,
)
DOWN = pytest.mark.parametrize(
    ("mode", "padding"), [("dilate", 1), ("dilate", 0), ("floor", 1)], ids=str
)


def leaves(rows: int, c_in: int, c_out: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    feats = torch.randn(rows, c_in, dtype=dtype, requires_grad=True)
    weight = torch.randn(9, c_in, c_out, dtype=dtype, requires_grad=True)
    bias = torch.randn(c_out, dtype=dtype, requires_grad=True)
    return feats, weight, bias


def check(y: Tensor, inputs: tuple[Tensor, Tensor, Tensor], kernel_map) -> None:
    grad = torch.randn_like(y)
    y.backward(grad)
    feats, weight, bias = (t.grad for t in inputs)
    assert feats is not None and weight is not None and bias is not None
    given = (*(t.detach() for t in inputs), grad)
    assert_answers(Answer(y.detach(), feats, weight, bias), given, kernel_map)


@DTYPE
@SOME_MASK
def test_submanifold(name: str, dtype: torch.dtype) -> None:
    pixels = ActivePixels.from_mask(MASKS[name])
    inputs = leaves(len(pixels), 20, 24, dtype)
    x = SparseTensor(inputs[0], pixels)
    y = submanifold_conv2d(x, *inputs[1:], backend="triton")
    check(y.feats, inputs, pixels.submanifold_map)


@pytest.mark.parametrize(
    ("c_in", "c_out"),
    [(1, 1), (3, 32), (17, 5), (70, 33), pytest.param(16, 260, marks=pytest.mark.slow)],
    ids=str,
)
def test_any_number_of_channels(c_in: int, c_out: int) -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    inputs = leaves(len(pixels), c_in, c_out, torch.float16)
    x = SparseTensor(inputs[0], pixels)
    y = submanifold_conv2d(x, *inputs[1:], backend="triton")
    check(y.feats, inputs, pixels.submanifold_map)


@pytest.mark.slow
def test_many_blocks_at_odd_sizes() -> None:
    pixels = ActivePixels.from_mask(MASKS["odd_63x127"])
    assert len(pixels) > 10 * 128
    inputs = leaves(len(pixels), 3, 8, torch.float16)
    y = submanifold_conv2d(SparseTensor(inputs[0], pixels), *inputs[1:], backend="triton")
    check(y.feats, inputs, pixels.submanifold_map)


@DTYPE_AND_MASK
@DOWN
def test_strided_and_inverse(name: str, mode: str, padding: int, dtype: torch.dtype) -> None:
    pixels = ActivePixels.from_mask(MASKS[name])
    step = pixels.downsampling(mode, padding)
    options = {"mode": mode, "padding": padding, "backend": "triton"}
    inputs = leaves(len(pixels), 5, 18, dtype)
    down = sparse_conv2d(SparseTensor(inputs[0], pixels), *inputs[1:], **options)
    assert down.pixels is step.coarse
    check(down.feats, inputs, step.down)
    inputs = leaves(len(step.coarse), 18, 5, dtype)
    up = sparse_inverse_conv2d(SparseTensor(inputs[0], step.coarse), pixels, *inputs[1:], **options)
    check(up.feats, inputs, step.up)


@pytest.mark.slow
@pytest.mark.parametrize("padding", [0, 1])
def test_ways_to_copy_that_no_table_has_yet(padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbors found a step ahead, and narrow copies, which `make gpu-tune` tries too."""
    table = launch.convolution_shape
    monkeypatch.setattr(
        launch, "convolution_shape", lambda *args: replace(table(*args), ahead=True, narrow=True)
    )
    for name in ("border_only", "two_images_one_empty"):
        pixels = ActivePixels.from_mask(MASKS[name])
        inputs = leaves(len(pixels), 70, 18, torch.float16)  # several steps per tap
        y = submanifold_conv2d(SparseTensor(inputs[0], pixels), *inputs[1:], backend="triton")
        check(y.feats, inputs, pixels.submanifold_map)
        step = pixels.downsampling("dilate", padding)
        options = {"padding": padding, "backend": "triton"}
        inputs = leaves(len(pixels), 5, 18, torch.float16)
        down = sparse_conv2d(SparseTensor(inputs[0], pixels), *inputs[1:], **options)
        check(down.feats, inputs, step.down)
        inputs = leaves(len(step.coarse), 18, 5, torch.float16)
        x = SparseTensor(inputs[0], step.coarse)
        up = sparse_inverse_conv2d(x, pixels, *inputs[1:], **options)
        check(up.feats, inputs, step.up)


def test_the_bound_notices_one_lost_neighbor() -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    feats, weight, bias = (t.detach() for t in leaves(len(pixels), 20, 24, torch.float16))
    table = pixels.submanifold_map.groups[0].neighbors.clone()
    row = int((table[0] < len(pixels)).nonzero()[0])
    table[0, row] = -1
    y = torch.empty(len(pixels), 24, dtype=torch.float16)
    launch.convolve(feats, weight, table, len(pixels), raw=y, bias=bias)
    given = (feats.double(), weight.double())
    y64 = reference.convolve(*given, pixels.submanifold_map) + bias
    size = reference.convolve(*(t.abs() for t in given), pixels.submanifold_map) + bias.abs()
    with pytest.raises(AssertionError, match="exceed their bound"):
        assert_within_bound(y, y64, size, 181)


@DTYPE
def test_pointwise(dtype: torch.dtype) -> None:
    x = torch.randn(300, 20, dtype=dtype)
    weight = torch.randn(1, 20, 24, dtype=dtype)
    y = torch.empty(300, 24, dtype=dtype)
    launch.convolve(x, weight, None, 300, raw=y)
    given = (x.double(), weight[0].double())
    assert_within_bound(y, given[0] @ given[1], given[0].abs() @ given[1].abs(), 20)
    grad = torch.randn(300, 24, dtype=dtype)
    found = launch.weight_gradient(x, grad, None)
    given = (x.double().t(), grad.double())
    assert_within_bound(found[0], given[0] @ given[1], given[0].abs() @ given[1].abs(), 300)


def test_the_weight_gradient_is_split_and_the_same_every_time() -> None:
    rows = 600
    x, grad = torch.randn(rows, 16), torch.randn(rows, 16)
    table = torch.randint(-1, rows + 1, (9, rows), dtype=torch.int32)
    first = launch.weight_gradient(x, grad, table)
    assert torch.equal(first, launch.weight_gradient(x, grad, table))
    whole = torch.cat([x, x.new_zeros(1, 16)]).double()[table.clamp(max=rows).long()]
    y64 = whole.transpose(1, 2) @ grad.double()
    size = whole.abs().transpose(1, 2) @ grad.double().abs()
    assert_within_bound(first, y64, size, rows)


def test_slices_of_wider_rows_are_read_and_written_in_place() -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    wide = torch.randn(len(pixels), 40)
    out = torch.full((len(pixels), 50), 7.0)
    weight = torch.randn(9, 16, 20)
    table = pixels.submanifold_map.groups[0].neighbors
    launch.convolve(wide[:, 8:24], weight, table, len(pixels), raw=out[:, 10:30])
    alone = torch.empty(len(pixels), 20)
    launch.convolve(wide[:, 8:24].contiguous(), weight, table, len(pixels), raw=alone)
    assert torch.equal(out[:, 10:30], alone)
    assert (out[:, :10] == 7).all() and (out[:, 30:] == 7).all()


def test_features_of_any_strides() -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    columns = torch.randn(6, len(pixels)).t()  # column-major
    weight = torch.randn(9, 6, 4)
    x = SparseTensor(columns, pixels)
    y = submanifold_conv2d(x, weight, backend="triton").feats
    same = submanifold_conv2d(x.replace(columns.contiguous()), weight, backend="triton").feats
    assert torch.equal(y, same)


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = ActivePixels.from_mask(MASKS["two_images_one_empty"])
    monkeypatch.setattr(launch, "_MAX_INT32", 0)
    inputs = leaves(len(pixels), 8, 8, torch.float32)
    y = submanifold_conv2d(SparseTensor(inputs[0], pixels), *inputs[1:], backend="triton")
    check(y.feats, inputs, pixels.submanifold_map)
    step = pixels.downsampling("dilate", 0)
    inputs = leaves(len(step.coarse), 8, 8, torch.float32)
    x = SparseTensor(inputs[0], step.coarse)
    y = sparse_inverse_conv2d(x, pixels, *inputs[1:], padding=0, backend="triton")
    check(y.feats, inputs, step.up)
