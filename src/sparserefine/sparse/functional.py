"""The three sparse convolutions as differentiable functions."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse import gemm, reference
from sparserefine.sparse.backends import Backend, resolve_backend
from sparserefine.sparse.kernel_map import KernelMap
from sparserefine.sparse.pixels import ActivePixels, DownsamplingMode
from sparserefine.sparse.tensor import SparseTensor


def submanifold_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    backend: Backend = "auto",
) -> SparseTensor:
    """Convolve 3×3 at the active pixels only; the set of active pixels does not change.

    y[n] = bias + sum over v of x[neighbor(n, v)] @ weight[v], absent neighbors counting as zero.
    Equal to dense `conv2d` of the zero-filled image with padding 1, read at the active pixels.

    Args:
        x: Active pixels with C_in features.
        weight: One matrix per kernel offset, row-major over (dy, dx).
        bias: Added at active pixels only.
        backend: "reference" is the definition, "torch" the fast plain-torch path, "triton" kernels
            for NVIDIA GPUs; "auto" takes the fastest that can run.

    Returns:
        The same pixels with C_out features in the dtype of `x.feats`.

    Raises:
        ValueError: C_in differs between `x` and `weight`, or the backend is unknown.

    Source: Graham & van der Maaten 2017, arXiv:1706.01307.
    """
    x, weight, bias = _cast(x, weight, bias)
    _check(x, weight)
    chosen = resolve_backend(backend, x.feats, weight)
    if chosen == "triton":
        from sparserefine.sparse.gpu import convolution

        return x.replace(convolution.convolve_submanifold(x.feats, weight, bias, x.pixels))
    if chosen == "reference":
        feats = reference.convolve(x.feats, weight, x.pixels.submanifold_map)
    else:
        feats = _SubmanifoldConvolution.apply(x.feats, weight, x.pixels)
    return x.replace(feats if bias is None else feats + bias)


def sparse_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    mode: DownsamplingMode = "dilate",
    padding: int = 1,
    backend: Backend = "auto",
) -> SparseTensor:
    """Convolve 3×3 with stride 2, onto the coarser active pixels.

    y[q] = bias + sum over v of x[2q + v - padding] @ weight[v], absent pixels counting as zero.
    Equal to dense strided `conv2d` of the zero-filled image, read at the coarse active pixels.

    Args:
        x: Active pixels with C_in features.
        weight: One matrix per kernel offset, row-major over (dy, dx).
        bias: Added at the coarse active pixels.
        mode: "dilate": a coarse pixel is active where its window touches an active pixel;
            "floor": only where one of its own 2×2 pixels is.
        padding: As in torch, 0 or 1; "floor" needs 1.
        backend: As in `submanifold_conv2d`.

    Returns:
        The coarse pixels (twice the stride) with C_out features.

    Raises:
        ValueError: C_in differs between `x` and `weight`; mode, padding or backend is unknown.
    """
    x, weight, bias = _cast(x, weight, bias)
    _check(x, weight)
    step = x.pixels.downsampling(mode, padding)
    chosen = resolve_backend(backend, x.feats, weight)
    if chosen == "triton":
        from sparserefine.sparse.gpu import convolution

        feats = convolution.convolve_strided(x.feats, weight, bias, step, padding)
    else:
        feats = _convolve(x.feats, weight, bias, step.down, step.up, chosen)
    return SparseTensor(feats, step.coarse)


def sparse_inverse_conv2d(
    x: SparseTensor,
    onto: ActivePixels,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    mode: DownsamplingMode = "dilate",
    padding: int = 1,
    backend: Backend = "auto",
) -> SparseTensor:
    """Go back through a strided convolution, onto exactly the pixels it came from.

    y[p] = bias + sum of x[q] @ weight[v] over the pairs with p = 2q + v - padding: the kernel map
    of the way down, read backwards. Equal to dense `conv_transpose2d`, read at `onto`.

    Args:
        x: Coarse pixels with C_in features.
        onto: The fine pixels that `x` was made from.
        weight: One matrix per kernel offset, row-major over (dy, dx).
        bias: Added at every fine pixel.
        mode: That of the way down.
        padding: That of the way down.
        backend: As in `submanifold_conv2d`.

    Returns:
        The pixels `onto` with C_out features.

    Raises:
        ValueError: `x` was not made from `onto`, or as in `sparse_conv2d`.
    """
    x, weight, bias = _cast(x, weight, bias)
    _check(x, weight)
    step = onto.downsampling(mode, padding)
    if step.coarse is not x.pixels:
        raise ValueError(
            f"the coarse pixels at stride {x.stride} were not made from the pixels at stride "
            f"{onto.stride} with mode={mode!r}, padding={padding}. Pass the pixels, mode and "
            f"padding of the sparse_conv2d that made them."
        )
    chosen = resolve_backend(backend, x.feats, weight)
    if chosen == "triton":
        from sparserefine.sparse.gpu import convolution

        feats = convolution.convolve_inverse(x.feats, weight, bias, step, len(onto), padding)
    else:
        feats = _convolve(x.feats, weight, bias, step.up, step.down, chosen)
    return SparseTensor(feats, onto)


def _convolve(
    feats: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel_map: KernelMap,
    transposed: KernelMap,
    backend: str,
) -> Tensor:
    if backend == "reference":
        out = reference.convolve(feats, weight, kernel_map)
    else:
        out = _MappedConvolution.apply(feats, weight, kernel_map, transposed)
    return out if bias is None else out + bias


def _cast(
    x: SparseTensor, weight: Tensor, bias: Tensor | None
) -> tuple[SparseTensor, Tensor, Tensor | None]:
    """Under autocast, everything in its dtype, as torch's own convolutions do."""
    device = x.feats.device.type
    if not torch.is_autocast_enabled(device) or x.feats.dtype == torch.float64:
        return x, weight, bias
    dtype = torch.get_autocast_dtype(device)
    bias = None if bias is None else bias.to(dtype)
    return x.replace(x.feats.to(dtype)), weight.to(dtype), bias


def _check(x: SparseTensor, weight: Tensor) -> None:
    if x.feats.shape[1] != weight.shape[1]:
        raise ValueError(
            f"x has {x.feats.shape[1]} features, but the weight expects {weight.shape[1]}. "
            f"Make the layer with in_channels={x.feats.shape[1]}."
        )
    if x.feats.dtype != weight.dtype or x.feats.device != weight.device:
        raise ValueError(
            f"x is {x.feats.dtype} on {x.feats.device}, but the weight is {weight.dtype} on "
            f"{weight.device}. Move both to one dtype and device."
        )


class _SubmanifoldConvolution(torch.autograd.Function):
    """The backward pass is again a submanifold convolution, so it is as fast as the forward."""

    @staticmethod
    def forward(ctx: Any, feats: Tensor, weight: Tensor, pixels: ActivePixels) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(feats, weight)
        ctx.pixels = pixels
        return gemm.convolve_submanifold(feats, weight, pixels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_feats = grad_weight = None
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(0).transpose(1, 2).contiguous()
            grad_feats = gemm.convolve_submanifold(grad, flipped, ctx.pixels)
        if ctx.needs_input_grad[1]:
            grad_weight = gemm.weight_gradient(feats, grad, ctx.pixels.submanifold_map)
        return grad_feats, grad_weight, None


class _MappedConvolution(torch.autograd.Function):
    """Strided and inverse convolution: each is the gradient of the other."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, feats: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: KernelMap
    ) -> Tensor:
        ctx.save_for_backward(feats, weight)
        ctx.maps = kernel_map, transposed
        return gemm.convolve_im2col(feats, weight, kernel_map)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight = ctx.saved_tensors
        kernel_map, transposed = ctx.maps
        grad = grad.contiguous()
        grad_feats = grad_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.transpose(1, 2).contiguous()
            grad_feats = gemm.convolve_im2col(grad, turned, transposed)
        if ctx.needs_input_grad[1]:
            grad_weight = gemm.weight_gradient(feats, grad, kernel_map)
        return grad_feats, grad_weight, None, None
