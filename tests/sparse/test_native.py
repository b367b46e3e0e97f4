"""The compiled kernels: values and gradients against the reference, on every instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from bounds import assert_within_bound, assert_within_winograd_bound
from masks import MASKS
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    DownsamplingMode,
    SparseTensor,
    SubMConv2d,
    build_pyramid,
    native,
    reference,
    submanifold_conv2d,
    use_backend,
)
from sparserefine.sparse.backends import can_run_native
from sparserefine.sparse.native import library, maps, plan
from sparserefine.sparse.native.weights import packed

LOADED = library.load()
ISAS = LOADED.supported_isas if isinstance(LOADED, library.Library) else ()
METHODS: tuple[plan.Method, ...] = ("direct", "winograd2", "winograd4")

pytestmark = pytest.mark.skipif(not ISAS, reason=str(LOADED))
ANY_MASK = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
STEP = pytest.mark.parametrize(
    ("mode", "padding"), [("dilate", 1), ("dilate", 0), ("floor", 1)], ids=str
)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    found = library.loaded()
    before = found.isas[found.isa]
    found.use_isa(request.param)
    yield request.param
    found.use_isa(before)


def reference_of(feats: Tensor, weight: Tensor, kernel_map: object) -> tuple[Tensor, Tensor]:
    """The result in float64, and the sum of the magnitudes of its terms."""
    convolve = reference.convolve
    y64 = convolve(feats.double(), weight.double(), kernel_map)  # type: ignore[arg-type]
    magnitude = convolve(feats.double().abs(), weight.double().abs(), kernel_map)  # type: ignore[arg-type]
    return y64, magnitude


def gradients_of(
    feats: Tensor, weight: Tensor, grad: Tensor, kernel_map: object
) -> list[tuple[Tensor, Tensor]]:
    """Of feats and weight, each in float64 with the sum of the magnitudes of its terms."""
    found = []
    for change in (Tensor.double, lambda tensor: tensor.double().abs()):
        inputs = [change(tensor).requires_grad_() for tensor in (feats, weight)]
        y = reference.convolve(*inputs, kernel_map)  # type: ignore[arg-type]
        found.append(torch.autograd.grad(y, inputs, change(grad)))
    return list(zip(*found, strict=True))


def assert_close(y: Tensor, y64: Tensor, magnitude: Tensor, terms: int, method: str) -> None:
    if method == "winograd4":
        assert_within_winograd_bound(y, y64)
    else:
        assert_within_bound(y, y64, magnitude, terms)


@ANY_MASK
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("c_in", "c_out"), [(1, 1), (3, 8), (32, 16), (20, 33), (130, 17)])
def test_values(isa: str, mask: Tensor, method: plan.Method, c_in: int, c_out: int) -> None:
    pixels = ActivePixels.from_mask(mask)
    feats, weight = torch.randn(len(pixels), c_in), torch.randn(9, c_in, c_out)
    y = native.convolve_submanifold(feats, weight, pixels, method=method)
    y64, magnitude = reference_of(feats, weight, pixels.submanifold_map)
    assert_close(y, y64, magnitude, 9 * c_in, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c_out", [40, 48])
def test_an_output_larger_than_the_cache(isa: str, method: plan.Method, c_out: int) -> None:
    """Written past the cache where the processor can and rows of 48 channels are aligned."""
    pixels = ActivePixels.from_mask(torch.rand(1, 128, 131) < 0.6)
    feats, weight = torch.randn(len(pixels), 3), torch.randn(9, 3, c_out)
    assert len(pixels) * c_out > 1 << 18
    y = native.convolve_submanifold(feats, weight, pixels, method=method)
    y64, magnitude = reference_of(feats, weight, pixels.submanifold_map)
    assert_close(y, y64, magnitude, 27, method)


@ANY_MASK
@pytest.mark.parametrize("size", [2, 4])
def test_blocks_hold_every_pixel_once(mask: Tensor, size: int) -> None:
    pixels = ActivePixels.from_mask(mask)
    blocks = maps.blocks_2x2(pixels) if size == 2 else maps.blocks_4x4(pixels)
    width = blocks.grid.shape[2]
    inside = torch.arange(1, size + 1)
    cells = blocks.origins[:, None, None] + width * inside[:, None] + inside
    held = blocks.grid.flatten()[cells.long().flatten()]
    assert held[held >= 0].sort().values.tolist() == list(range(len(pixels)))
    # A block's window neither leaves its row nor the grid, and there are no more than aligned ones.
    assert bool((blocks.origins % width + size + 2 <= width).all())
    assert bool((blocks.origins + (size + 1) * width + size + 2 <= blocks.grid.numel()).all())
    aligned = torch.nn.functional.max_pool2d(mask[:, None].float(), size, ceil_mode=True)
    assert len(blocks.origins) <= int(aligned.sum())


@ANY_MASK
@STEP
def test_all_levels_at_once_are_those_found_one_by_one(
    mask: Tensor, mode: DownsamplingMode, padding: int
) -> None:
    one_by_one = ActivePixels.from_mask(mask)
    at_once = native.build_levels(ActivePixels.from_mask(mask), 4, mode, padding)
    assert len(at_once) == 4
    for pixels in at_once:
        assert torch.equal(pixels.coords, one_by_one.coords)
        assert torch.equal(pixels.padded_index_grid, one_by_one.padded_index_grid)
        assert (pixels.spatial_shape, pixels.stride) == (
            one_by_one.spatial_shape,
            one_by_one.stride,
        )
        if pixels is not at_once[-1]:
            assert pixels.has_coarser(mode, padding)
            assert pixels.downsampling(mode, padding).coarse in at_once
        one_by_one = one_by_one.downsampling(mode, padding).coarse


def test_levels_of_pixels_in_any_order() -> None:
    mask = torch.rand(2, 19, 23) < 0.3
    coords = ActivePixels.from_mask(mask).coords
    shuffled = coords[torch.randperm(len(coords))]
    first, second = (
        native.build_levels(ActivePixels(rows, (19, 23), 2), 2, "floor", 1)
        for rows in (coords, shuffled)
    )
    assert torch.equal(first[1].coords, second[1].coords)
    assert torch.equal(second[0].coords, shuffled)


def test_levels_are_built_where_the_kernels_run_and_only_once() -> None:
    mask = torch.ones(1, 9, 9, dtype=torch.bool)
    x = SparseTensor.from_dense(torch.rand(1, 3, 9, 9), mask)
    build_pyramid(x, 3, backend="torch")
    assert not x.pixels.has_coarser("dilate", 1)
    build_pyramid(x, 3)
    coarse = x.pixels.downsampling().coarse
    build_pyramid(x, 3)
    assert x.pixels.downsampling().coarse is coarse and coarse.has_coarser("dilate", 1)


def test_levels_of_pixels_outside_the_images_are_refused() -> None:
    pixels = ActivePixels(torch.tensor([[0, 3, 5]], dtype=torch.int32), (4, 5), 1)
    with pytest.raises(ValueError, match="outside 1 images of 4×5"):
        native.build_levels(pixels, 2, "floor", 1)


@ANY_MASK
@pytest.mark.parametrize("method", METHODS)
def test_everything_fused(isa: str, mask: Tensor, method: plan.Method) -> None:
    pixels = ActivePixels.from_mask(mask)
    first, second = torch.randn(len(pixels), 16), torch.randn(len(pixels), 24)[:, :21]
    weight, bias, add = torch.randn(9, 37, 19), torch.randn(19), torch.randn(len(pixels), 19)
    scale, shift = torch.randn(37), torch.randn(37)
    y = native.convolve_submanifold(
        first,
        weight,
        pixels,
        second=second,
        bias=bias,
        norm=(scale, shift),
        add=add,
        method=method,
    )
    feats = torch.relu(torch.cat([first, second], 1).double() * scale.double() + shift.double())
    y64, magnitude = reference_of(feats, weight, pixels.submanifold_map)
    assert_close(y, y64 + bias + add, magnitude + 1, 9 * 37, method)


@ANY_MASK
@pytest.mark.parametrize("method", METHODS)
def test_gradients(isa: str, mask: Tensor, method: plan.Method) -> None:
    pixels = ActivePixels.from_mask(mask)
    feats, weight = torch.randn(len(pixels), 5), torch.randn(9, 5, 18)
    grad = torch.randn(len(pixels), 18)
    expected = gradients_of(feats, weight, grad, pixels.submanifold_map)
    of_feats = native.convolve_submanifold(grad, weight, pixels, transposed=True, method=method)
    of_weight = native.submanifold_weight_gradient(feats, grad, pixels, method)
    assert_close(of_feats, *expected[0], 9 * 18, method)
    if method == "winograd2":  # of the weight, its transforms mix the taps
        assert_within_winograd_bound(of_weight, expected[1][0], share=5e-6)
    else:
        assert_close(of_weight, *expected[1], len(pixels), method)


@ANY_MASK
@STEP
def test_steps_and_their_gradients(isa: str, mask: Tensor, mode: str, padding: int) -> None:
    step = ActivePixels.from_mask(mask).downsampling(mode, padding)  # type: ignore[arg-type]
    weight, bias = torch.randn(9, 7, 20), torch.randn(20)
    for up, kernel_map in ((False, step.down), (True, step.up)):
        feats = torch.randn(kernel_map.num_inputs, 7)
        norm = torch.randn(7), torch.randn(7)
        y = native.convolve_step(feats, weight, step, up=up, bias=bias, norm=norm)
        normalized = torch.relu(feats.double() * norm[0] + norm[1])
        y64, magnitude = reference_of(normalized, weight, kernel_map)
        assert_within_bound(y, y64 + bias, magnitude + bias.abs(), 9 * 7)

        grad = torch.randn(kernel_map.num_outputs, 20)
        expected = gradients_of(feats, weight, grad, kernel_map)
        of_feats = native.convolve_step(grad, weight, step, up=not up, transposed=True)
        of_weight = native.step_weight_gradient(feats, grad, step, up=up)
        assert_within_bound(of_feats, *expected[0], 9 * 20)
        assert_within_bound(of_weight, *expected[1], len(grad))


@pytest.mark.parametrize("rows", [0, 1, 13, 500])
def test_pointwise(isa: str, rows: int) -> None:
    first, second = torch.randn(rows, 16), torch.randn(rows, 5)
    weight, bias, norm = torch.randn(19, 21), torch.randn(19), (torch.randn(21), torch.randn(21))
    y = native.convolve_pointwise(first, weight, second=second, bias=bias, norm=norm)
    feats = torch.relu(torch.cat([first, second], 1).double() * norm[0] + norm[1])
    y64 = feats @ weight.double().t() + bias
    magnitude = feats.abs() @ weight.double().abs().t() + bias.abs()
    assert_within_bound(y, y64, magnitude, 21)


def test_nan_reaches_the_output_through_the_fused_relu(isa: str) -> None:
    pixels = ActivePixels.from_mask(torch.ones(1, 9, 9, dtype=torch.bool))
    feats = torch.zeros(81, 16)
    feats[40, 3] = torch.nan
    for method in METHODS:
        norm = torch.ones(16), torch.zeros(16)
        weight = torch.ones(9, 16, 16)
        y = native.convolve_submanifold(feats, weight, pixels, norm=norm, method=method)
        assert y.isnan().any()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_result_does_not_depend_on_the_threads(threads: int) -> None:
    pixels = ActivePixels.from_mask(torch.rand(2, 90, 70) < 0.4)
    feats, weight = torch.randn(len(pixels), 24), torch.randn(9, 24, 40)
    before = torch.get_num_threads()
    try:
        results = []
        for count in (1, threads, threads):
            torch.set_num_threads(count)
            results.append(
                [native.convolve_submanifold(feats, weight, pixels, method=m) for m in METHODS]
            )
            grad = results[0][0]
            results[-1] += [
                native.submanifold_weight_gradient(feats, grad, pixels, m) for m in METHODS
            ]
    finally:
        torch.set_num_threads(before)
    one, first, again = results
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one[:3], first[:3], strict=True):
        assert torch.equal(a, b)


def test_a_changed_weight_is_packed_anew() -> None:
    weight = torch.randn(9, 4, 4)
    first = packed(weight, "direct")
    assert packed(weight, "direct") is first
    weight.data[8, 3, 3] += 1  # which torch's version counter does not notice
    assert not torch.equal(packed(weight, "direct"), first)
    with torch.inference_mode():
        frozen = torch.randn(9, 4, 4)
        assert packed(frozen, "direct") is packed(frozen, "direct")


def test_training_and_evaluation_use_the_kernels_and_agree_with_plain_torch() -> None:
    layer = SubMConv2d(6, 10)
    pixels = ActivePixels.from_mask(torch.rand(1, 30, 30) < 0.4)
    x = SparseTensor(torch.randn(len(pixels), 6, requires_grad=True), pixels)
    gradients = {}
    for backend in ("native", "torch"):
        with use_backend(backend):  # type: ignore[arg-type]
            y = layer(x).feats
        gradients[backend] = torch.autograd.grad(y.square().sum(), (x.feats, layer.weight))
    for a, b in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_reasons_against_the_kernels() -> None:
    feats, weight = torch.zeros(1, 2), torch.zeros(9, 2, 2)
    assert can_run_native(feats, weight) is None
    assert "take float32" in str(can_run_native(feats.double(), weight))
    assert "run on the CPU" in str(can_run_native(feats.to("meta"), weight))
    x = SparseTensor(feats.double(), ActivePixels.from_mask(torch.ones(1, 1, 1, dtype=torch.bool)))
    with pytest.raises(ValueError, match=r'backend "native" cannot run: feats are torch\.float64'):
        submanifold_conv2d(x, weight.double(), backend="native")
