"""Batch normalization over the active pixels of all processes; torch's own needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from sparserefine.sparse.layers import BatchNorm


class SynchronizedNorm(BatchNorm):
    """Normalizes rows by the mean and variance of those of all processes.

    Every process must call it as often, with any number of rows.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize rows of features."""
        if not self.training:
            return super().forward(input)
        mean, squares, count = _statistics(input)
        if count < 2:
            scale, shift = self.scale_and_shift()
            return input * scale + shift
        return _normalized(self, input, mean, squares, count)


class SynchronizedGridNorm(nn.BatchNorm2d):
    """The same of grids [B, C, h, w], whose cells are the rows."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize the cells of grids."""
        if not self.training:
            return super().forward(input)
        cells = input.permute(0, 2, 3, 1)
        rows = cells.reshape(-1, input.shape[1])
        found = _normalized(self, rows, *_statistics(rows))
        return found.view(cells.shape).permute(0, 3, 1, 2)


_TWINS = {BatchNorm: SynchronizedNorm, nn.BatchNorm2d: SynchronizedGridNorm}


@contextmanager
def synchronized_norms(module: nn.Module, count: int) -> Iterator[None]:
    """Let all batch norms of a module work over all processes.

    Args:
        module: The module; its own norms are back at the end.
        count: Number of processes; of one nothing changes.
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    if count > 1:
        for parent in list(module.modules()):
            for name, child in parent.named_children():
                if (kind := _TWINS.get(type(child))) is not None:
                    replaced.append((parent, name, child))
                    setattr(parent, name, _sharing(child, kind))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _sharing(norm: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A norm of another kind that shares all tensors with one of this process."""
    other = kind.__new__(kind)
    other.__dict__ = dict(norm.__dict__)
    return other


def _normalized(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, rows: Tensor, mean: Tensor, squares: Tensor, count: int
) -> Tensor:
    """Rows by the statistics of those of all processes, which the running ones take in."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.momentum is not None and norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(squares / max(count - 1, 1), norm.momentum)
    spread = torch.rsqrt(squares / count + norm.eps)
    weight, bias = norm.weight, norm.bias
    if not norm.affine:
        weight, bias = torch.ones_like(mean), torch.zeros_like(mean)
    normalized: Any = _Normalize.apply(rows, weight, bias, mean, spread, count)
    return normalized


@torch.no_grad()
def _statistics(rows: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean, sum of squared distances from it, and number of the rows of all processes."""
    count = len(rows)
    rows = rows.float()
    mean = rows.sum(0) / max(count, 1)
    squares = (rows - mean).square().sum(0)
    own = torch.cat([mean, squares, mean.new_tensor([count])])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    means, sums, counts = torch.stack(parts).double().split([len(mean), len(mean), 1], 1)
    total = counts.sum().clamp(min=1)
    whole = (means * counts).sum(0) / total
    squares = sums.sum(0) + (counts * (means - whole).square()).sum(0)
    return whole.float(), squares.float(), int(counts.sum())


class _Normalize(torch.autograd.Function):
    """(x − mean) · spread · weight + bias, where mean and spread depend on all rows."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        spread: Tensor,
        count: int,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight, mean, spread)
        ctx.count = count
        return ((rows.float() - mean) * (spread * weight) + bias).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, weight, mean, spread = ctx.saved_tensors
        normal, grad32 = (rows.float() - mean) * spread, grad.float()
        own_bias, own_weight = grad32.sum(0), (grad32 * normal).sum(0)
        sums = torch.cat([own_bias, own_weight])
        dist.all_reduce(sums)
        bias, scale = (sums / ctx.count).chunk(2)
        grad_rows = (spread * weight) * (grad32 - bias - normal * scale)
        return grad_rows.to(rows.dtype), own_weight, own_bias, None, None, None
