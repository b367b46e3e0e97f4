"""Random problems for the native kernels: right or one clear error, never a crash.

`make fuzz` runs 10,000 cases of each under AddressSanitizer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    SparseTensor,
    native,
    pointwise_conv2d,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.native import library

CASES = int(os.environ.get("FUZZ_CASES", "100"))
LOADED = library.load()
pytestmark = pytest.mark.skipif(isinstance(LOADED, str), reason=str(LOADED))
ISAS = LOADED.supported_isas if isinstance(LOADED, library.Library) else ("none",)
SIZES = st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40))
CHANNELS = st.integers(1, 70)
STEPS = st.sampled_from([("dilate", 1), ("dilate", 0), ("floor", 1)])
MACHINES = st.tuples(st.sampled_from(ISAS), st.sampled_from([1, 2]))
SEEDS = st.integers(0, 2**31)
fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES < 1000,
    suppress_health_check=[HealthCheck.too_slow],
)


@contextmanager
def _on(machine: tuple[str, int]) -> Iterator[None]:
    """With the kernels of an instruction set, and so many threads."""
    found, threads = library.loaded(), torch.get_num_threads()
    isa = found.isas[found.isa]
    found.use_isa(machine[0])
    torch.set_num_threads(machine[1])
    try:
        yield
    finally:
        found.use_isa(isa)
        torch.set_num_threads(threads)


def _rows(count: int, channels: int, layout: str) -> Tensor:
    """Rows as callers may have them: contiguous, in a wider array, or column by column."""
    if layout == "wide":
        return torch.randn(count, channels + 5)[:, 2 : channels + 2]
    if layout == "columns":
        return torch.randn(channels, count).t()
    return torch.randn(count, channels)


def _assert_agree(found: Tensor, wanted: Tensor, share: float) -> None:
    assert found.shape == wanted.shape
    # What is summed is of size one, even where the only pixel there is happens to cancel.
    if found.numel():
        scale = max(float(wanted.abs().max()), 1.0)
        assert (found - wanted).abs().max() <= share * scale


@fuzzed
@given(
    size=SIZES,
    density=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
    channels=st.tuples(CHANNELS, st.integers(0, 40), CHANNELS),
    layout=st.sampled_from(["contiguous", "wide", "columns"]),
    options=st.fixed_dictionaries(
        {name: st.booleans() for name in ("bias", "norm", "add", "gradients", "pyramid")}
    ),
    step=STEPS,
    machine=MACHINES,
    seed=SEEDS,
)
def test_any_problem_agrees_with_the_reference(
    size: tuple[int, int, int],
    density: float,
    channels: tuple[int, int, int],
    layout: str,
    options: dict[str, bool],
    step: tuple[str, int],
    machine: tuple[str, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    first, second, c_out = channels
    mask = torch.rand(size) < density
    pixels = ActivePixels.from_mask(mask)
    x = SparseTensor(_rows(len(pixels), first, layout), pixels)
    skip = SparseTensor(_rows(len(pixels), second, layout), pixels) if second else None
    add = SparseTensor(_rows(len(pixels), c_out, layout), pixels) if options["add"] else None
    c_in = first + second
    bias, bias_back = (torch.randn(c) if options["bias"] else None for c in (c_out, c_in))
    norm, norm_back = (
        (torch.randn(c), torch.randn(c)) if options["norm"] else None for c in (c_in, c_out)
    )
    weight, matrix = torch.randn(9, c_in, c_out), torch.randn(c_out, c_in)
    mode, padding = step
    if options["pyramid"]:
        one_by_one = ActivePixels.from_mask(mask)
        for level in native.build_levels(pixels, 4, mode, padding):  # type: ignore[arg-type]
            assert torch.equal(level.padded_index_grid, one_by_one.padded_index_grid)
            one_by_one = one_by_one.downsampling(mode, padding).coarse  # type: ignore[arg-type]
    if options["gradients"]:
        x.feats.requires_grad_()
        weight.requires_grad_()

    def run(backend: str) -> list[Tensor]:
        keyed = {"backend": backend, "bias": bias, "norm": norm}
        fine = submanifold_conv2d(x, weight, add=add, skip=skip, **keyed)  # type: ignore[arg-type]
        point = pointwise_conv2d(x, matrix, skip=skip, **keyed)  # type: ignore[arg-type]
        results = [fine.feats, point.feats]
        if not second:
            way = {"mode": mode, "padding": padding, "backend": backend}
            down = sparse_conv2d(x, weight, bias, norm=norm, **way)  # type: ignore[arg-type]
            back = weight.transpose(1, 2)
            up = sparse_inverse_conv2d(down, pixels, back, bias_back, norm=norm_back, **way)  # type: ignore[arg-type]
            results += [down.feats, up.feats]
        if options["gradients"]:
            total = sum(result.square().sum() for result in results)
            results += torch.autograd.grad(total, (x.feats, weight))  # type: ignore[arg-type]
        return [result.detach() for result in results]

    with _on(machine):
        results = run("native")
    # Squared results make larger gradients of their rounding errors.
    share = 3e-4 if options["gradients"] else 3e-5
    for found, wanted in zip(results, run("reference"), strict=True):
        _assert_agree(found, wanted, share)


# What may be wrong with an operand. Some of it is not wrong with every operand: then it is right.
FLAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "one more": lambda t: torch.cat([t, t[:1]]),
    "one less": lambda t: t[:-1],
    "none": lambda t: t[:0],
    "wider": lambda t: torch.cat([t, t[..., :1]], -1),
    "narrower": lambda t: t[..., :-1],
    "flat": lambda t: t.flatten(),
    "deeper": lambda t: t[..., None],
    "first alone": lambda t: t[0],
    "int32": lambda t: t.int(),
    "int64": lambda t: t.long(),
    "float64": lambda t: t.double(),
    "float16": lambda t: t.half(),
    "bool": lambda t: t.bool(),
    "conjugate": lambda t: t.to(torch.complex64).conj(),
    "repeated": lambda t: t[torch.randint(len(t), (len(t),))] if len(t) else t,
    "spread": lambda t: t[:1].expand(t.shape),
}
# Of all but coords: they bring their device along.
DEVICE_FLAWS: dict[str, Callable[[Tensor], Tensor]] = {"elsewhere": lambda t: t.to("meta")}
COORDINATE_FLAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "below zero": lambda t: t - 1,
    "beyond": lambda t: t + 1,
    "far": lambda t: t + 2**30,
    "negated": lambda t: t.neg(),
    "the least": lambda t: torch.full_like(t, -(2**31)),
    "swapped": lambda t: t.flip(1),
}
OPERANDS = ("feats", "weight", "bias", "scale", "shift", "skip", "add")
CONVOLUTIONS = ("submanifold", "strided", "inverse", "pointwise")


def _flawed(operand: str) -> st.SearchStrategy[tuple[str, str]]:
    names = [*FLAWS, *(COORDINATE_FLAWS if operand == "coords" else DEVICE_FLAWS)]
    return st.tuples(st.just(operand), st.sampled_from(names))


@fuzzed
@given(
    size=st.tuples(st.integers(0, 2), st.integers(1, 12), st.integers(1, 12)),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
    kind=st.sampled_from(CONVOLUTIONS),
    flaws=st.lists(
        st.sampled_from(("coords", *OPERANDS)).flatmap(_flawed),
        min_size=1,
        max_size=2,
        unique_by=lambda flaw: flaw[0],
    ),
    taps=st.sampled_from([9, 9, 9, 0, 1, 8, 10, 25]),
    options=st.fixed_dictionaries(
        {name: st.booleans() for name in ("skip", "checked", "gradients", "pyramid")}
    ),
    step=STEPS,
    machine=MACHINES,
    seed=SEEDS,
)
def test_bad_operands_are_refused_or_harmless(
    size: tuple[int, int, int],
    channels: tuple[int, int, int],
    kind: str,
    flaws: list[tuple[str, str]],
    taps: int,
    options: dict[str, bool],
    step: tuple[str, int],
    machine: tuple[str, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    batch, *shape = size
    first, second, c_out = channels
    second = second if options["skip"] and kind in ("submanifold", "pointwise") else 0
    c_in = first + second
    coords = (torch.rand(size) < 0.5).nonzero().int()
    mode, padding = step
    number = len(coords)
    if kind == "inverse":
        given_pixels = ActivePixels(coords, (shape[0], shape[1]), batch)
        number = len(given_pixels.downsampling(mode, padding).coarse)  # type: ignore[arg-type]
    parts = {
        "coords": coords,
        "feats": torch.randn(number, first),
        "weight": torch.randn(c_out, c_in)
        if kind == "pointwise"
        else torch.randn(taps, c_in, c_out),
        "bias": torch.randn(c_out),
        "scale": torch.randn(c_in),
        "shift": torch.randn(c_in),
        "skip": torch.randn(number, second),
        "add": torch.randn(number, c_out),
    }

    def run(backend: str) -> list[Tensor]:
        pixels = (ActivePixels.from_coords if options["checked"] else ActivePixels)(
            parts["coords"], (shape[0], shape[1]), batch
        )
        way = {"mode": mode, "padding": padding}
        if kind == "inverse":
            x = SparseTensor(parts["feats"], pixels.downsampling(**way).coarse)  # type: ignore[arg-type]
        else:
            x = SparseTensor(parts["feats"], pixels)
        if options["pyramid"] and backend == "native" and kind != "inverse":
            native.build_levels(pixels, 3, mode, padding)  # type: ignore[arg-type]
        weight, bias = parts["weight"], parts["bias"]
        if options["gradients"] and weight.is_floating_point():
            weight = weight.detach().requires_grad_()
        rest = {"norm": (parts["scale"], parts["shift"]), "backend": backend}
        if second:
            rest["skip"] = x.replace(parts["skip"])
        if kind == "submanifold":
            y = submanifold_conv2d(x, weight, bias, add=x.replace(parts["add"]), **rest)  # type: ignore[arg-type]
        elif kind == "pointwise":
            y = pointwise_conv2d(x, weight, bias, **rest)  # type: ignore[arg-type]
        elif kind == "strided":
            y = sparse_conv2d(x, weight, bias, **way, **rest)  # type: ignore[arg-type]
        else:
            y = sparse_inverse_conv2d(x, pixels, weight, bias, **way, **rest)  # type: ignore[arg-type]
        results = [y.feats]
        if weight.requires_grad:
            results += torch.autograd.grad(y.feats.square().sum(), weight)
        return [result.detach() for result in results]

    # Checks of annotations are of the tests only; users have none.
    annotated, jaxtyping.config.jaxtyping_disable = jaxtyping.config.jaxtyping_disable, True
    try:
        for operand, flaw in flaws:
            try:
                parts[operand] = (FLAWS | DEVICE_FLAWS | COORDINATE_FLAWS)[flaw](parts[operand])
            except IndexError:  # there is no first one
                return
        try:
            with _on(machine):
                results = run("native")
        except (ValueError, TypeError) as error:
            assert "\n" not in str(error)
            return
        for found, wanted in zip(results, run("reference"), strict=True):
            _assert_agree(found, wanted, 3e-4)
    finally:
        jaxtyping.config.jaxtyping_disable = annotated
