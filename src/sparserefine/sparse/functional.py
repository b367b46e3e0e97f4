"""The sparse convolutions as differentiable functions."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse import gemm, native, reference
from sparserefine.sparse.backends import resolve_backend
from sparserefine.sparse.choice import Backend
from sparserefine.sparse.pixels import ActivePixels, Downsampling, DownsamplingMode
from sparserefine.sparse.tensor import SparseTensor

Norm = tuple[Float[Tensor, " C_norm"], Float[Tensor, " C_norm"]]


def submanifold_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    norm: Norm | None = None,
    beside: SparseTensor | None = None,
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
            norm and ReLU. In the same pass where the backend can and no gradient is asked for.
        beside: A second input at the same pixels; its channels follow those of x, as if
            concatenated. C_in counts both.
        add: Added to the result: a residual.
        backend: "triton" are kernels for NVIDIA GPUs, "native" compiled ones for CPUs, "torch" the
            fast plain-torch path, "reference" the definition; "auto" takes the fastest that can
            run. See `use_backend`.

    Returns:
        The same pixels with C_out features in the dtype of `x.feats`.

    Raises:
        ValueError: C_in differs between the input and `weight`, tensors have different pixels, or
            the backend is unknown or cannot run.

    Source: Graham & van der Maaten 2017, arXiv:1706.01307.
    """
    x, weight, bias, beside, add = _cast(x, weight, bias, beside, add)
    _check(x, weight, beside, add)
    name = resolve_backend(backend, x.feats, weight)
    if name == "native" and not _needs_grad(x, weight, bias, beside, add):
        return x.replace(
            native.convolve_submanifold(
                x.feats,
                weight,
                x.pixels,
                second=None if beside is None else beside.feats,
                bias=bias,
                norm=norm,
                add=None if add is None else add.feats,
            )
        )
    feats = _input(x, beside, norm)
    if name == "triton":
        from sparserefine.sparse.gpu import convolution

        return x.replace(
            _plus(convolution.convolve_submanifold(feats, weight, bias, x.pixels), None, add)
        )
    if name == "reference":
        y = reference.convolve(feats, weight, x.pixels.submanifold_map)
    else:
        y = _SubmanifoldConvolution.apply(feats, weight, x.pixels, _ENGINES[name])
    return x.replace(_plus(y, bias, add))


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
        mode: "dilate": a coarse pixel is active where its window touches an active pixel;
            "floor": only where one of its own 2×2 pixels is.
        padding: As in torch, 0 or 1; "floor" needs 1.
        norm: As in `submanifold_conv2d`.
        backend: As in `submanifold_conv2d`.

    Returns:
        The coarse pixels (twice the stride) with C_out features.

    Raises:
        ValueError: C_in differs between `x` and `weight`; mode or padding is unknown; or the
            backend is unknown or cannot run.
    """
    x, weight, bias, _, _ = _cast(x, weight, bias)
    _check(x, weight)
    step = x.pixels.downsampling(mode, padding)
    return SparseTensor(_take_step(x, weight, bias, norm, step, False, backend), step.coarse)


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
        mode: That of the way down.
        padding: That of the way down.
        norm: As in `submanifold_conv2d`.
        backend: As in `submanifold_conv2d`.

    Returns:
        The pixels `onto` with C_out features.

    Raises:
        ValueError: `x` was not made from `onto`, or as in `sparse_conv2d`.
    """
    x, weight, bias, _, _ = _cast(x, weight, bias)
    _check(x, weight)
    step = onto.downsampling(mode, padding)
    if step.coarse is not x.pixels:
        raise ValueError(
            f"the coarse pixels at stride {x.stride} were not made from the pixels at stride "
            f"{onto.stride} with mode={mode!r}, padding={padding}. Pass the pixels, mode and "
            f"padding of the sparse_conv2d that made them."
        )
    return SparseTensor(_take_step(x, weight, bias, norm, step, True, backend), onto)


def pointwise_conv2d(
    x: SparseTensor,
    weight: Float[Tensor, "C_out C_in"],
    bias: Float[Tensor, " C_out"] | None = None,
    *,
    norm: Norm | None = None,
    beside: SparseTensor | None = None,
    backend: Backend = "auto",
) -> SparseTensor:
    """Convolve 1×1: y = x @ weightᵀ + bias at every active pixel, as `linear` does with rows.

    Args:
        x: Active pixels with C_in features.
        weight: As torch's `linear` has it.
        bias: Added to each row.
        norm: As in `submanifold_conv2d`.
        beside: As in `submanifold_conv2d`.
        backend: As in `submanifold_conv2d`.

    Returns:
        The same pixels with C_out features.

    Raises:
        ValueError: As in `submanifold_conv2d`.
    """
    x, weight, bias, beside, _ = _cast(x, weight, bias, beside)
    matrix = weight[None]
    _check(x, matrix.transpose(1, 2), beside)
    name = resolve_backend(backend, x.feats, weight)
    if name == "native" and not _needs_grad(x, weight, bias, beside):
        second = None if beside is None else beside.feats
        return x.replace(
            native.convolve_pointwise(x.feats, weight, second=second, bias=bias, norm=norm)
        )
    return x.replace(torch.nn.functional.linear(_input(x, beside, norm), weight, bias))


def _take_step(
    x: SparseTensor,
    weight: Tensor,
    bias: Tensor | None,
    norm: Norm | None,
    step: Downsampling,
    up: bool,
    backend: Backend,
) -> Tensor:
    name = resolve_backend(backend, x.feats, weight)
    if name == "native" and not _needs_grad(x, weight, bias):
        return native.convolve_step(x.feats, weight, step, up=up, bias=bias, norm=norm)
    feats = _input(x, None, norm)
    if name == "triton":
        from sparserefine.sparse.gpu import convolution

        return convolution.convolve_step(feats, weight, bias, step, up=up)
    if name == "reference":
        y = reference.convolve(feats, weight, step.up if up else step.down)
    else:
        y = _StepConvolution.apply(feats, weight, step, up, _ENGINES[name])
    return _plus(y, bias)


def _input(x: SparseTensor, beside: SparseTensor | None, norm: Norm | None) -> Tensor:
    feats = x.feats if beside is None else torch.cat([x.feats, beside.feats], 1)
    if norm is not None:
        scale, shift = norm
        feats = torch.relu(feats * scale + shift).to(feats.dtype)
    return feats


def _plus(y: Tensor, bias: Tensor | None, add: SparseTensor | None = None) -> Tensor:
    if bias is not None:
        y = y + bias
    return y if add is None else y + add.feats


def _needs_grad(*parts: SparseTensor | Tensor | None) -> bool:
    if not torch.is_grad_enabled():
        return False
    tensors = (part.feats if isinstance(part, SparseTensor) else part for part in parts)
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _cast(
    x: SparseTensor,
    weight: Tensor,
    bias: Tensor | None,
    beside: SparseTensor | None = None,
    add: SparseTensor | None = None,
) -> tuple[SparseTensor, Tensor, Tensor | None, SparseTensor | None, SparseTensor | None]:
    """Under autocast, everything in its dtype, as torch's own convolutions do."""
    device = x.feats.device.type
    if not torch.is_autocast_enabled(device) or x.feats.dtype == torch.float64:
        return x, weight, bias, beside, add
    dtype = torch.get_autocast_dtype(device)
    return (
        x.replace(x.feats.to(dtype)),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        None if beside is None else beside.replace(beside.feats.to(dtype)),
        None if add is None else add.replace(add.feats.to(dtype)),
    )


def _check(
    x: SparseTensor,
    weight: Tensor,
    beside: SparseTensor | None = None,
    add: SparseTensor | None = None,
) -> None:
    for other in (beside, add):
        if other is not None and other.pixels is not x.pixels:
            raise ValueError(
                "the second tensor has other active pixels than x. Pass one that comes from the "
                "same SparseTensor at the same stride."
            )
    if weight.ndim != 3 or not weight.is_floating_point():
        raise ValueError(
            f"the weight is {weight.dtype} of shape {tuple(weight.shape)}, expected floating-point "
            f"numbers, one [C_in, C_out] matrix for each kernel offset."
        )
    channels = x.feats.shape[1] + (0 if beside is None else beside.feats.shape[1])
    if channels != weight.shape[1]:
        raise ValueError(
            f"x has {channels} features, but the weight expects {weight.shape[1]}. "
            f"Make the layer with in_channels={channels}."
        )
    if add is not None and add.feats.shape[1] != weight.shape[2]:
        raise ValueError(
            f"add has {add.feats.shape[1]} features, but the result has {weight.shape[2]}. Both "
            f"must have as many."
        )
    if x.feats.dtype != weight.dtype or x.feats.device != weight.device:
        raise ValueError(
            f"x is {x.feats.dtype} on {x.feats.device}, but the weight is {weight.dtype} on "
            f"{weight.device}. Move both to one dtype and device."
        )


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


class _SubmanifoldConvolution(torch.autograd.Function):
    """The backward pass is again a submanifold convolution, so it is as fast as the forward."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, feats: Tensor, weight: Tensor, pixels: ActivePixels, engine: _Engine
    ) -> Tensor:
        ctx.save_for_backward(feats, weight)
        ctx.pixels, ctx.engine = pixels, engine
        return engine.convolve_submanifold(feats, weight, pixels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_feats = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_feats = ctx.engine.convolve_submanifold(grad, weight, ctx.pixels, transposed=True)
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
        ctx.step, ctx.up, ctx.engine = step, up, engine
        return engine.convolve_step(feats, weight, step, up=up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_feats = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_feats = ctx.engine.convolve_step(
                grad, weight, ctx.step, up=not ctx.up, transposed=True
            )
        if ctx.needs_input_grad[1]:
            grad_weight = ctx.engine.step_weight_gradient(feats, grad, ctx.step, up=ctx.up)
        return grad_feats, grad_weight, None, None, None
