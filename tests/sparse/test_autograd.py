"""What autograd asks of the convolutions besides right gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    Backend,
    NormReLU,
    SparseTensor,
    SubMConv2d,
    sparse_conv2d,
    submanifold_conv2d,
    use_backend,
)
from sparserefine.sparse.native import library

BACKEND = pytest.mark.parametrize("backend", ["native", "torch"])
CHANNELS = 96


@pytest.fixture(autouse=True)
def _needs_the_library(request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["backend"] == "native" and isinstance(library.load(), str):
        pytest.skip(f"no compiled library: {library.load()}")


def full(side: int = 32) -> ActivePixels:
    """Where every method but the direct one is cheaper."""
    return ActivePixels.from_mask(torch.ones(1, side, side, dtype=torch.bool))


@BACKEND
def test_a_norm_alone_gets_its_gradient(backend: Backend) -> None:
    """Frozen convolutions, trainable norms in evaluation mode: as in fine-tuning."""
    pixels = full(6)
    conv = SubMConv2d(CHANNELS, 8).requires_grad_(False)
    norm = NormReLU(CHANNELS).eval()
    x = SparseTensor(torch.randn(len(pixels), CHANNELS), pixels)

    def gradients(name: Backend) -> tuple[Tensor, ...]:
        with use_backend(name):
            y = conv(x, norm=norm).feats
        return torch.autograd.grad(y.square().sum(), list(norm.parameters()))

    for found, right in zip(gradients(backend), gradients("reference"), strict=True):
        assert right.abs().max() > 1
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-3)


@BACKEND
def test_gradients_of_gradients_are_refused_not_wrong(backend: Backend) -> None:
    pixels = full(6)
    x = SparseTensor(torch.randn(len(pixels), 4, requires_grad=True), pixels)
    weight = torch.randn(9, 4, 4, requires_grad=True)
    for y in (
        submanifold_conv2d(x, weight, backend=backend),
        sparse_conv2d(x, weight, backend=backend),
    ):
        (grad,) = torch.autograd.grad(y.feats.square().sum(), weight, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


@BACKEND
def test_a_backward_pass_is_as_exact_as_its_forward_pass(backend: Backend) -> None:
    """Wherever it is called."""
    pixels = full()
    feats = torch.randn(len(pixels), CHANNELS, requires_grad=True)
    weight = torch.randn(9, CHANNELS, CHANNELS, requires_grad=True)

    def gradients(*, exact: bool, inside: bool) -> tuple[Tensor, ...]:
        with use_backend(exact=exact):
            y = submanifold_conv2d(SparseTensor(feats, pixels), weight, backend=backend)
            loss = y.feats.sin().sum()
            if inside:
                return torch.autograd.grad(loss, (feats, weight))
        return torch.autograd.grad(loss, (feats, weight))

    right = gradients(exact=True, inside=True)
    for found, same, other in zip(
        gradients(exact=True, inside=False),
        right,
        gradients(exact=False, inside=False),
        strict=True,
    ):
        assert torch.equal(found, same)
        assert not torch.equal(other, same)  # else nothing was shown: another method, other bits
