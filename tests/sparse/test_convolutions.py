"""Values and gradients: torch's conv2d → reference → every fast method."""

from __future__ import annotations

import pytest
import torch
from bounds import assert_within_bound, assert_within_winograd_bound
from masks import MASKS
from torch import Tensor
from torch.nn import functional as F

from sparserefine.sparse import (
    ActivePixels,
    Backend,
    SparseTensor,
    chunks,
    gemm,
    layouts,
    native,
    reference,
    reuse_memory,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
    winograd,
)
from sparserefine.sparse.native import library

ANY_MASK = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
DOWN = pytest.mark.parametrize(
    ("mode", "padding"), [("dilate", 1), ("dilate", 0), ("floor", 1)], ids=str
)
DIRECT = ("im2col", "pairs", "strips", "winograd2")


def problem(mask: Tensor, c_in: int, c_out: int, dtype: torch.dtype) -> tuple[SparseTensor, Tensor]:
    pixels = ActivePixels.from_mask(mask)
    feats = torch.randn(len(pixels), c_in, dtype=dtype)
    weight = torch.randn(9, c_in, c_out, dtype=dtype)
    return SparseTensor(feats, pixels), weight


def as_kernel(weight: Tensor) -> Tensor:
    """[9, C_in, C_out] as torch's [C_out, C_in, 3, 3]."""
    return weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1)


def read(images: Tensor, pixels: ActivePixels) -> Tensor:
    batch, y, x = pixels.coords.long().unbind(1)
    return images[batch, :, y, x]


@ANY_MASK
def test_reference_is_conv2d_read_at_the_active_pixels(mask: Tensor) -> None:
    x, weight = problem(mask, 3, 5, torch.float64)
    y = submanifold_conv2d(x, weight, backend="reference")
    dense = F.conv2d(x.to_dense(), as_kernel(weight), padding=1)
    torch.testing.assert_close(y.feats, read(dense, x.pixels), rtol=1e-12, atol=1e-12)


@ANY_MASK
@DOWN
def test_strided_reference_is_strided_conv2d(mask: Tensor, mode: str, padding: int) -> None:
    x, weight = problem(mask, 3, 5, torch.float64)
    if padding == 0 and min(mask.shape[1:]) < 3:
        assert len(sparse_conv2d(x, weight, mode="dilate", padding=0).feats) == 0
        return
    y = sparse_conv2d(x, weight, mode=mode, padding=padding, backend="reference")
    dense = F.conv2d(x.to_dense(), as_kernel(weight), stride=2, padding=padding)
    assert y.spatial_shape == tuple(dense.shape[2:])
    assert y.stride == 2
    torch.testing.assert_close(y.feats, read(dense, y.pixels), rtol=1e-12, atol=1e-12)
    if mode == "dilate":
        touched = F.max_pool2d(F.pad(mask[:, None].double(), [padding] * 4), 3, 2)[:, 0].bool()
        assert torch.equal(y.coords.long(), touched.nonzero())


@ANY_MASK
def test_floor_mode_keeps_exactly_the_parents(mask: Tensor) -> None:
    pixels = ActivePixels.from_mask(mask)
    parents = {(b, y // 2, x // 2) for b, y, x in pixels.coords.tolist()}
    coarse = pixels.downsampling("floor").coarse
    assert {tuple(row) for row in coarse.coords.tolist()} == parents
    assert len(coarse) == len(parents)


@ANY_MASK
@DOWN
def test_inverse_reference_is_conv_transpose2d(mask: Tensor, mode: str, padding: int) -> None:
    pixels = ActivePixels.from_mask(mask)
    step = pixels.downsampling(mode, padding)
    coarse = SparseTensor(torch.randn(len(step.coarse), 4, dtype=torch.float64), step.coarse)
    weight = torch.randn(9, 4, 3, dtype=torch.float64)
    y = sparse_inverse_conv2d(
        coarse, pixels, weight, mode=mode, padding=padding, backend="reference"
    )
    assert y.pixels is pixels
    if min(step.coarse.spatial_shape) == 0:
        assert not y.feats.any()
        return
    kernel = weight.view(3, 3, 4, 3).permute(2, 3, 0, 1)  # torch wants [C_in, C_out, 3, 3]
    dense = F.conv_transpose2d(coarse.to_dense(), kernel, stride=2)  # padding is a cut, done below
    dense = F.pad(dense, [0, 2, 0, 2])[:, :, padding:, padding:]
    torch.testing.assert_close(y.feats, read(dense, pixels), rtol=1e-12, atol=1e-12)


@ANY_MASK
@pytest.mark.parametrize("method", [*DIRECT, "winograd4"])
@pytest.mark.parametrize(("c_in", "c_out"), [(3, 8), (32, 16)])
def test_every_method_agrees_with_the_reference(
    mask: Tensor, method: gemm.Method, c_in: int, c_out: int
) -> None:
    x, weight = problem(mask, c_in, c_out, torch.float32)
    y = gemm.convolve_submanifold(x.feats, weight, x.pixels, method)
    kernel_map = x.pixels.submanifold_map
    y64 = reference.convolve(x.feats.double(), weight.double(), kernel_map)
    if method == "winograd4":  # its transforms amplify rounding; bounded by the output's maximum
        assert_within_winograd_bound(y, y64)
        return
    magnitude = reference.convolve(x.feats.double().abs(), weight.double().abs(), kernel_map)
    assert_within_bound(y, y64, magnitude, terms=9 * c_in)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_many_channels_keep_the_bounds(backend: Backend) -> None:
    """As the deepest stage of the extractor has them."""
    x, weight = problem(MASKS["random_30pct"], 512, 48, torch.float32)
    engine = gemm if backend == "torch" else native
    if backend == "native" and isinstance(library.load(), str):
        pytest.skip(f"no compiled library: {library.load()}")
    kernel_map = x.pixels.submanifold_map
    y64 = reference.convolve(x.feats.double(), weight.double(), kernel_map)
    magnitude = reference.convolve(x.feats.double().abs(), weight.double().abs(), kernel_map)
    y = engine.convolve_submanifold(x.feats, weight, x.pixels, method="winograd4")
    assert_within_winograd_bound(y, y64)
    y = engine.convolve_submanifold(x.feats, weight, x.pixels, method="winograd2")
    assert_within_bound(y, y64, magnitude, terms=9 * 512)


@ANY_MASK
@pytest.mark.parametrize("size", [2, 4])
def test_aligned_blocks_serve_where_greedy_ones_are_slow_to_list(
    mask: Tensor, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = problem(mask, 6, 7, torch.float64)
    blocks = {}
    for name in ("_greedy_starts", "_aligned_starts"):
        monkeypatch.setattr(layouts, "_greedy_starts", getattr(layouts, name))
        pixels = ActivePixels(x.coords, x.spatial_shape, x.batch_size)
        blocks[name] = layouts.build_blocks(pixels.padded_index_grid, pixels.coords, size)
        y = gemm.convolve_winograd(x.feats, weight, blocks[name])
        y64 = reference.convolve(x.feats, weight, pixels.submanifold_map)
        torch.testing.assert_close(y, y64, rtol=1e-9, atol=1e-9)
    aligned = F.max_pool2d(mask[:, None].float(), size, ceil_mode=True).sum()
    greedy, other = (len(b.neighbors.t()) for b in blocks.values())
    assert greedy <= other == int(aligned)


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_results_take_the_memory_of_results_that_are_gone(backend: Backend) -> None:
    x, weight = problem(torch.rand(1, 256, 256) < 0.5, 16, 16, torch.float32)
    expected = submanifold_conv2d(x, weight, backend=backend).feats
    with reuse_memory():
        kept = submanifold_conv2d(x, weight, backend=backend).feats
        gone = submanifold_conv2d(x, weight, backend=backend).feats.data_ptr()
        again = submanifold_conv2d(x, weight, backend=backend).feats
    assert again.data_ptr() == gone != kept.data_ptr()
    assert torch.equal(kept, expected) and torch.equal(again, expected)


@pytest.mark.parametrize("method", ["winograd2", "winograd4"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_chunks_are_cut_for_any_number_of_threads(
    threads: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(winograd, "_CHUNK_BLOCKS", 15)  # several chunks and a rest
    x, weight = problem(MASKS["random_30pct"], 8, 12, torch.float64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = gemm.convolve_submanifold(x.feats, weight, x.pixels, method)
    finally:
        torch.set_num_threads(before)
    expected = reference.convolve(x.feats, weight, x.pixels.submanifold_map)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@ANY_MASK
@DOWN
def test_strided_and_inverse_agree_with_the_reference(
    mask: Tensor, mode: str, padding: int
) -> None:
    x, weight = problem(mask, 8, 6, torch.float32)
    back = torch.randn(9, 6, 8)
    down = sparse_conv2d(x, weight, mode=mode, padding=padding)
    up = sparse_inverse_conv2d(down, x.pixels, back, mode=mode, padding=padding)
    step = x.pixels.downsampling(mode, padding)
    for y, feats, kernel, kernel_map in (
        (down.feats, x.feats, weight, step.down),
        (up.feats, down.feats, back, step.up),
    ):
        y64 = reference.convolve(feats.double(), kernel.double(), kernel_map)
        magnitude = reference.convolve(feats.double().abs(), kernel.double().abs(), kernel_map)
        assert_within_bound(y, y64, magnitude, terms=9 * kernel.shape[1])


def test_the_bound_notices_one_lost_neighbor() -> None:
    x, weight = problem(MASKS["random_30pct"], 32, 32, torch.float32)
    kernel_map = x.pixels.submanifold_map
    y64 = reference.convolve(x.feats.double(), weight.double(), kernel_map)
    magnitude = reference.convolve(x.feats.double().abs(), weight.double().abs(), kernel_map)
    y = reference.convolve(x.feats, weight, kernel_map)
    tap, inputs, outputs = kernel_map.pairs[0]
    y[outputs[0]] -= x.feats[inputs[0]] @ weight[tap]
    with pytest.raises(AssertionError, match="exceeds its bound"):
        assert_within_bound(y, y64, magnitude, terms=9 * 32)


@pytest.mark.parametrize("name", ["one_pixel", "border_only", "two_images_one_empty"])
@pytest.mark.parametrize("method", [*DIRECT, "winograd4"])
def test_submanifold_gradients(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "choose_method", lambda *_: method)
    x, weight = problem(MASKS[name][:, :8, :9], 2, 3, torch.float64)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def run(feats: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return submanifold_conv2d(x.replace(feats), weight, bias).feats

    inputs = (x.feats.requires_grad_(), weight.requires_grad_(), bias)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)  # along random directions


@DOWN
def test_strided_and_inverse_gradients(mode: str, padding: int) -> None:
    x, weight = problem(MASKS["two_images_one_empty"][:, :7, :8], 2, 3, torch.float64)
    back = torch.randn(9, 3, 2, dtype=torch.float64, requires_grad=True)

    def run(feats: Tensor, weight: Tensor, back: Tensor) -> Tensor:
        down = sparse_conv2d(x.replace(feats), weight, mode=mode, padding=padding)
        return sparse_inverse_conv2d(down, x.pixels, back, mode=mode, padding=padding).feats

    inputs = (x.feats.requires_grad_(), weight.requires_grad_(), back)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@DOWN
def test_a_batch_never_changes_an_image(mode: str, padding: int) -> None:
    mask = MASKS["random_30pct"].clone()
    mask[1, 20:] = False  # the second image needs fewer coarse rows than its batch mate
    x, weight = problem(mask, 4, 4, torch.float64)
    alone = SparseTensor(x.feats[x.coords[:, 0] == 1], ActivePixels.from_mask(mask[1:]))
    for convolve in (
        lambda x: submanifold_conv2d(x, weight),
        lambda x: sparse_conv2d(x, weight, mode=mode, padding=padding),
    ):
        together = convolve(x)
        single = convolve(alone)
        of_second = together.coords[:, 0] == 1
        assert torch.equal(together.coords[of_second, 1:], single.coords[:, 1:])
        # The order of a matrix product's sums depends on its number of rows, in the last digit.
        torch.testing.assert_close(together.feats[of_second], single.feats, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("channels", [16, 64, 128, 256])
def test_half_precision_rounds_once(dtype: torch.dtype, channels: int) -> None:
    x, weight = problem(torch.rand(1, 40, 40) < 0.5, channels, channels, dtype)
    y = gemm.convolve_submanifold(x.feats, weight, x.pixels)
    kernel_map = x.pixels.submanifold_map
    y64 = reference.convolve(x.feats.double(), weight.double(), kernel_map)
    magnitude = reference.convolve(x.feats.double().abs(), weight.double().abs(), kernel_map)
    assert_within_bound(y, y64, magnitude, terms=9 * channels)


def test_permuting_the_pixels_permutes_the_result() -> None:
    x, weight = problem(MASKS["random_30pct"], 4, 8, torch.float64)
    order = torch.randperm(len(x.feats))
    shuffled = SparseTensor(
        x.feats[order], ActivePixels.from_coords(x.coords[order], x.spatial_shape, x.batch_size)
    )
    expected = submanifold_conv2d(x, weight).feats[order]
    for method in (*DIRECT, "winograd4"):
        y = gemm.convolve_submanifold(shuffled.feats, weight, shuffled.pixels, method)
        torch.testing.assert_close(y, expected)
