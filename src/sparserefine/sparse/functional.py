"""The sparse convolutions as differentiable functions."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparserefine.sparse import gemm, native, reference
from sparserefine.sparse.backends import resolve_backend
from sparserefine.sparse.choice import Backend, is_exact, use_backend
from sparserefine.sparse.operands import Norm, Operands
from sparserefine.sparse.pixels import ActivePixels, Downsampling, DownsamplingMode
from sparserefine.sparse.tensor import SparseTensor

_TAPS = 9


def submanifold_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    norm: Norm | None = None,
    skip: SparseTensor | None = None,
    add: SparseTensor | None = None,
    backend: Backend = "auto",
) -> SparseTensor:
    """Convolve 3×3 at the active pixels only; the set of active pixels does not change.

    y[n] = bias + sum over v of x[neighbor(n, v)] @ weight[v], absent neighbors counting as zero.
    Equal to dense `conv2d` of the zero-filled image with padding 1, read at the active pixels.

    Args:
        x: Active pixels with C_in features.
        weight: One matrix per kernel offset, row-major over (dy, dx).
        bias: Added at active pixels only.
        norm: Scale and shift per input channel; x becomes max(x · scale + shift, 0) first: batch
            norm and ReLU. This takes no pass of its own where the backend can do it on the fly and
            no gradient is asked for.
        skip: A second input at the same pixels; its channels follow those of x, as if
            concatenated. C_in counts both.
        add: Added to the result: a residual.
        backend: Name of the backend: "triton" are kernels for NVIDIA GPUs, "native" compiled ones
            for CPUs, "torch" the fast plain-torch path, "reference" the definition; "auto" takes
            the fastest that can run. See `use_backend`.

    Returns:
        The same pixels with C_out features in the dtype of `x.feats`.

    Raises:
        ValueError: C_in differs between the input and `weight`, tensors have different pixels, or
            the backend is unknown or cannot run.

    Source: Graham & van der Maaten 2017, arXiv:1706.01307.
    """
    given = _given(Operands(x, weight, bias, norm, skip, add))
    x, weight, bias = given.x, given.weight, given.bias
    name = resolve_backend(backend, x.feats, weight)
    if name == "native" and not given.needs_grad():
        return x.replace(
            native.convolve_submanifold(
                x.feats,
                weight,
                x.pixels,
                second=None if given.skip is None else given.skip.feats,
                bias=bias,
                norm=norm,
                add=None if given.add is None else given.add.feats,
            )
        )
    feats = given.rows()
    if name == "triton":
        from sparserefine.sparse.gpu import convolution

        y = convolution.convolve_submanifold(feats, weight, bias, x.pixels)
        return x.replace(y if given.add is None else y + given.add.feats)
    if name == "reference":
        y = reference.convolve(feats, weight, x.pixels.submanifold_map)
    else:
        y = _SubmanifoldConvolution.apply(feats, weight, x.pixels, _ENGINES[name])
    return x.replace(given.plus(y))


def sparse_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    mode: DownsamplingMode = "dilate",
    padding: int = 1,
    norm: Norm | None = None,
    backend: Backend = "auto",
) -> SparseTensor:
    """Convolve 3×3 with stride 2, onto the coarser active pixels.

    y[q] = bias + sum over v of x[2q + v - padding] @ weight[v], absent pixels counting as zero.
    Equal to dense strided `conv2d` of the zero-filled image, read at the coarse active pixels.

    Args:
        x: Active pixels with C_in features.
        weight: One matrix per kernel offset, row-major over (dy, dx).
        bias: Added at the coarse active pixels.
        mode: How coarse pixels are chosen: with "dilate" a coarse pixel is active where its 3×3
            kernel touches an active pixel, with "floor" only where one of its own 2×2 pixels is.
        padding: Zero padding at each edge of the image, 0 or 1; "floor" needs 1.
        norm: Scale and shift per input channel, applied with a ReLU to the input first.
        backend: Name of the backend; see `submanifold_conv2d`.

    Returns:
        The coarse pixels (twice the stride) with C_out features.

    Raises:
        ValueError: C_in differs between `x` and `weight`; mode or padding is unknown; or the
            backend is unknown or cannot run.
    """
    given = _given(Operands(x, weight, bias, norm))
    step = x.pixels.downsampling(mode, padding)
    return SparseTensor(_take_step(given, step, False, backend), step.coarse)


def sparse_inverse_conv2d(
    x: SparseTensor,
    onto: ActivePixels,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    mode: DownsamplingMode = "dilate",
    padding: int = 1,
    norm: Norm | None = None,
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
        mode: Downsampling mode of the strided convolution that made `x`.
        padding: Zero padding of the strided convolution that made `x`.
        norm: Scale and shift per input channel, applied with a ReLU to the input first.
        backend: Name of the backend; see `submanifold_conv2d`.

    Returns:
        The pixels `onto` with C_out features.

    Raises:
        ValueError: `x` was not made from `onto`; C_in differs between `x` and `weight`; mode or
            padding is unknown; or the backend is unknown or cannot run.
    """
    given = _given(Operands(x, weight, bias, norm))
    step = onto.downsampling(mode, padding)
    if step.coarse is not x.pixels:
        raise ValueError(
            f"the coarse pixels at stride {x.stride} were not made from the pixels at stride "
            f"{onto.stride} with mode={mode!r}, padding={padding}. Pass the pixels, mode and "
            f"padding of the sparse_conv2d that made them."
        )
    return SparseTensor(_take_step(given, step, True, backend), onto)


def pointwise_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "C_out C_in"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    norm: Norm | None = None,
    skip: SparseTensor | None = None,
    backend: Backend = "auto",
) -> SparseTensor:
    """Convolve 1×1: y = x @ weightᵀ + bias at every active pixel, as `linear` does with rows.

    Args:
        x: Active pixels with C_in features.
        weight: One matrix, outputs by inputs, as torch's `linear` takes it.
        bias: Added to each row.
        norm: Scale and shift per input channel, applied with a ReLU to the input first.
        skip: A second input at the same pixels, as if concatenated to `x`; C_in counts both.
        backend: Name of the backend; see `submanifold_conv2d`.

    Returns:
        The same pixels with C_out features.

    Raises:
        ValueError: The weight is no matrix, C_in differs between the input and `weight`, tensors
            have different pixels, or the backend is unknown or cannot run.
    """
    if weight.ndim != 2:
        raise ValueError(
            f"the weight of a 1×1 convolution has shape {tuple(weight.shape)}, expected "
            f"[C_out, C_in]."
        )
    given = _given(Operands(x, weight.t()[None], bias, norm, skip), taps=1)
    x, weight, bias = given.x, weight.to(given.weight.dtype), given.bias
    name = resolve_backend(backend, x.feats, weight)
    if name == "native" and not given.needs_grad():
        second = None if given.skip is None else given.skip.feats
        return x.replace(
            native.convolve_pointwise(x.feats, weight, second=second, bias=bias, norm=norm)
        )
    return x.replace(torch.nn.functional.linear(given.rows(), weight, bias))


def _given(operands: Operands, taps: int = _TAPS) -> Operands:
    operands = operands.cast()
    operands.check(taps)
    return operands


def _take_step(given: Operands, step: Downsampling, up: bool, backend: Backend) -> Tensor:
    feats, weight, bias = given.x.feats, given.weight, given.bias
    name = resolve_backend(backend, feats, weight)
    if name == "native" and not given.needs_grad():
        return native.convolve_step(feats, weight, step, up=up, bias=bias, norm=given.norm)
    feats = given.rows()
    if name == "triton":
        from sparserefine.sparse.gpu import convolution

        return convolution.convolve_step(feats, weight, bias, step, up=up)
    if name == "reference":
        y = reference.convolve(feats, weight, step.up if up else step.down)
    else:
        y = _StepConvolution.apply(feats, weight, step, up, _ENGINES[name])
    return given.plus(y)


@runtime_checkable
class _Engine(Protocol):
    """What a backend computes, for values and gradients; `transposed` means the input gradient."""

    def convolve_submanifold(
        self, feats: Tensor, weight: Tensor, pixels: ActivePixels, *, transposed: bool = False
    ) -> Tensor: ...

    def convolve_step(
        self,
        feats: Tensor,
        weight: Tensor,
        step: Downsampling,
        *,
        up: bool,
        transposed: bool = False,
    ) -> Tensor: ...

    def submanifold_weight_gradient(
        self, feats: Tensor, grad: Tensor, pixels: ActivePixels
    ) -> Tensor: ...

    def step_weight_gradient(
        self, feats: Tensor, grad: Tensor, step: Downsampling, *, up: bool
    ) -> Tensor: ...


_ENGINES = {"torch": cast(_Engine, gemm), "native": cast(_Engine, native)}


# The backward passes run in the mode of the forward one, wherever `backward` is called; there are
# no gradients of gradients, and asking for them is an error.


class _SubmanifoldConvolution(torch.autograd.Function):
    """The backward pass is again a submanifold convolution, so it is as fast as the forward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, feats: Tensor, weight: Tensor, pixels: ActivePixels, engine: _Engine
    ) -> Tensor:
        ctx.save_for_backward(feats, weight)
        ctx.pixels, ctx.engine, ctx.exact = pixels, engine, is_exact()
        return engine.convolve_submanifold(feats, weight, pixels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_feats = grad_weight = None
        with use_backend(exact=ctx.exact):
            if ctx.needs_input_grad[0]:
                grad_feats = ctx.engine.convolve_submanifold(
                    grad, weight, ctx.pixels, transposed=True
                )
            if ctx.needs_input_grad[1]:
                grad_weight = ctx.engine.submanifold_weight_gradient(feats, grad, ctx.pixels)
        return grad_feats, grad_weight, None, None


class _StepConvolution(torch.autograd.Function):
    """Strided and inverse convolution: each is the gradient of the other."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, feats: Tensor, weight: Tensor, step: Downsampling, up: bool, engine: _Engine
    ) -> Tensor:
        ctx.save_for_backward(feats, weight)
        ctx.step, ctx.up, ctx.engine, ctx.exact = step, up, engine, is_exact()
        return engine.convolve_step(feats, weight, step, up=up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_feats = grad_weight = None
        with use_backend(exact=ctx.exact):
            if ctx.needs_input_grad[0]:
                grad_feats = ctx.engine.convolve_step(
                    grad, weight, ctx.step, up=not ctx.up, transposed=True
                )
            if ctx.needs_input_grad[1]:
                grad_weight = ctx.engine.step_weight_gradient(feats, grad, ctx.step, up=ctx.up)
        return grad_feats, grad_weight, None, None, None
