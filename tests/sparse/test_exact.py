"""`use_backend(exact=True)` never takes Winograd's method, for values and for gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    Backend,
    SparseTensor,
    gemm,
    submanifold_conv2d,
    use_backend,
)
from sparserefine.sparse.choice import is_exact
from sparserefine.sparse.native import library, plan

SIDE, CHANNELS = 48, 128  # where both backends take F(4×4, 3×3) if they may
PARTS = ("values", "gradient of the input", "gradient of the weight")
BACKENDS = [
    pytest.param(
        "native",
        marks=pytest.mark.skipif(isinstance(library.load(), str), reason=str(library.load())),
    ),
    "torch",
]


def loud_rows(rows: int) -> Tensor:
    """Random rows, few of them a thousand times as large.

    Winograd's method adds the pixels of a block before it multiplies: the rounding errors of a loud
    pixel reach outputs that do not touch it, which a direct sum never does.
    """
    values = torch.randn(rows, CHANNELS)
    values[torch.rand(rows) < 0.02] *= 1000
    return values


class Problem:
    """A convolution, its exact results, and the size of their rounding errors."""

    def __init__(self) -> None:
        self.pixels = ActivePixels.from_mask(torch.ones(1, SIDE, SIDE, dtype=torch.bool))
        number = len(self.pixels)
        self.tensors = [loud_rows(number), torch.randn(9, CHANNELS, CHANNELS), loud_rows(number)]
        doubles = [tensor.double() for tensor in self.tensors]
        self.wanted = self._results("reference", doubles)
        squares = self._results("reference", [tensor.square() for tensor in doubles])
        # A sum of n terms, each rounding of it as often up as down.
        terms = (9 * CHANNELS, 9 * CHANNELS, number)
        eps = torch.finfo(torch.float32).eps
        self.rounding = [
            eps * math.sqrt(n) * square.sqrt() for n, square in zip(terms, squares, strict=True)
        ]

    def _results(
        self, backend: Backend, tensors: list[Tensor], exact: bool = False
    ) -> list[Tensor]:
        feats, weight = (tensor.clone().requires_grad_() for tensor in tensors[:2])
        with use_backend(backend, exact=exact):
            y = submanifold_conv2d(SparseTensor(feats, self.pixels), weight).feats
        # The way back is that of the way there, also outside the block.
        return [y.detach(), *torch.autograd.grad(y, (feats, weight), tensors[2])]

    def errors(self, backend: Backend, *, exact: bool) -> dict[str, float]:
        """The largest error of each result, as a multiple of its element's `rounding`."""
        found = self._results(backend, self.tensors, exact)
        return {
            part: float(((y - wanted).abs() / rounding).max())
            for part, y, wanted, rounding in zip(
                PARTS, found, self.wanted, self.rounding, strict=True
            )
        }


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """With more, plain torch takes F(2×2), whose values are as exact as direct sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem() -> Problem:
    torch.manual_seed(0)
    return Problem()


def test_exactness_ends_with_its_block() -> None:
    assert not is_exact()
    with use_backend(exact=True):
        assert is_exact()
    assert not is_exact()


@pytest.mark.parametrize("backend", BACKENDS)
def test_exact_results_round_as_direct_sums_do(backend: Backend, problem: Problem) -> None:
    errors = problem.errors(backend, exact=True)
    assert max(errors.values()) < 4, errors


@pytest.mark.parametrize("backend", BACKENDS)
def test_winograd_would_be_noticed(backend: Backend, problem: Problem) -> None:
    """The test above would fail if exactness were ignored."""
    errors = problem.errors(backend, exact=False)
    assert errors["values"] > 100
    assert errors["gradient of the input"] > 100


@pytest.mark.parametrize("exact", [False, True])
def test_native_kernels_that_run(
    exact: bool, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(library.load(), str):
        pytest.skip(str(library.load()))
    found, called = library.loaded(), set()

    class Spy:
        def __init__(self, c: Any) -> None:
            self._c = c

        def __getattr__(self, name: str) -> Any:
            called.add(name)
            return getattr(self._c, name)

    monkeypatch.setattr(found, "c", Spy(found.c))
    problem.errors("native", exact=exact)
    direct = {"sr_direct", "sr_direct_weight_gradient"}
    winograd = {"sr_winograd", "sr_winograd_weight_gradient"}
    assert called & (direct | winograd) == (direct if exact else winograd)


@pytest.mark.parametrize("exact", [False, True])
def test_plain_torch_methods_that_run(
    exact: bool, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def spied(name: str) -> Callable[..., Tensor]:
        method = getattr(gemm, name)

        def spy(*arguments: Any) -> Tensor:
            called.append(name)
            return method(*arguments)

        return spy

    for name in ("convolve_im2col", "convolve_strips", "convolve_pairs", "convolve_winograd"):
        monkeypatch.setattr(gemm, name, spied(name))
    problem.errors("torch", exact=exact)
    assert len(called) == 2  # the way there and the gradient of the input
    assert called.count("convolve_winograd") == (0 if exact else 2)


def test_the_native_plan_is_direct() -> None:
    pixels = ActivePixels.from_mask(torch.ones(1, 64, 64, dtype=torch.bool))
    assert plan.choose_method(pixels, 64, 64) == "winograd4"
    for gradient in (False, True):
        with use_backend(exact=True):
            assert plan.choose_method(pixels, 64, 64, gradient=gradient) == "direct"
