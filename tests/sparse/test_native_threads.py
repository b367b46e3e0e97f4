"""The compiled kernels under several Python threads, and in forked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    SparseTensor,
    build_pyramid,
    native,
    sparse_conv2d,
    sparse_inverse_conv2d,
)
from sparserefine.sparse.native import library, plan

pytestmark = pytest.mark.skipif(isinstance(library.load(), str), reason=str(library.load()))
METHODS: tuple[plan.Method, ...] = ("direct", "winograd2", "winograd4")


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Python changes between its threads as often as it can: most races then show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run_at_once(works: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own, from one moment on; raise what the first to fail raises."""
    start, errors = threading.Barrier(len(works)), []

    def run(work: Callable[[], None]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


def test_python_threads_do_not_disturb_each_other() -> None:
    pixels = ActivePixels.from_mask(torch.rand(1, 60, 60) < 0.5)
    problems = [(torch.randn(len(pixels), c), torch.randn(9, c, c)) for c in (8, 16, 48, 80)]
    expected = [native.convolve_submanifold(*problem, pixels) for problem in problems]

    def work(number: int) -> None:
        for _ in range(20):
            y = native.convolve_submanifold(*problems[number], pixels)
            assert torch.equal(y, expected[number])

    run_at_once([lambda n=number: work(n) for number in range(len(problems))])


@pytest.mark.usefixtures("_frequent_switches")
def test_threads_build_the_maps_of_one_set_of_pixels() -> None:
    mask = torch.rand(1, 60, 60) < 0.4
    number = int(mask.sum())
    feats, weight, grad = torch.randn(number, 6), torch.randn(9, 6, 8), torch.randn(number, 8)

    def results(pixels: ActivePixels, method: plan.Method) -> list[Tensor]:
        y = native.convolve_submanifold(feats, weight, pixels, method=method)
        of_weight = native.submanifold_weight_gradient(feats, grad, pixels, method)
        down = sparse_conv2d(SparseTensor(y, pixels), weight.transpose(1, 2), backend="native")
        up = sparse_inverse_conv2d(down, pixels, weight, backend="native")
        return [y, of_weight, down.feats, up.feats]

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # of gradients, whose last digits depend on it
    try:
        expected = {m: results(ActivePixels.from_mask(mask), m) for m in METHODS}
        for _ in range(30):
            pixels = ActivePixels.from_mask(mask)

            def work(method: plan.Method, pixels: ActivePixels = pixels) -> None:
                for y, wanted in zip(results(pixels, method), expected[method], strict=True):
                    assert torch.equal(y, wanted)

            # Two of each, one of which may find the maps half built.
            run_at_once([lambda m=method: work(m) for method in (*METHODS, *METHODS)])
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("_frequent_switches")
def test_threads_find_one_pyramid() -> None:
    """An inverse convolution goes back from exactly the pixels that its way down made."""
    mask = torch.rand(1, 40, 40) < 0.4
    for round in range(50):
        x = SparseTensor(torch.randn(int(mask.sum()), 2), ActivePixels.from_mask(mask))
        found = _coarse_pixels_that_threads_find(x, at_once=round % 2 == 0)
        assert len(found) == 6 and all(coarse is found[0] for coarse in found)


def _coarse_pixels_that_threads_find(x: SparseTensor, *, at_once: bool) -> list[ActivePixels]:
    found: list[ActivePixels] = []

    def work() -> None:
        if at_once:
            build_pyramid(x, 3, backend="native")
        found.append(x.pixels.downsampling().coarse)

    run_at_once([work] * 6)
    return found


FORK = """
import os, signal, torch
from sparserefine.sparse import ActivePixels, native

METHODS = ("direct", "winograd2", "winograd4")


def results(pixels, feats, weight):
    found = []
    for method in METHODS:
        y = native.convolve_submanifold(feats, weight, pixels, method=method)
        back = native.convolve_submanifold(y, weight, pixels, transposed=True, method=method)
        step = pixels.downsampling()
        down = native.convolve_step(y, weight, step, up=False)
        gradient = native.submanifold_weight_gradient(feats, y, pixels, method)
        found += [y, back, down, native.convolve_step(down, weight, step, up=True), gradient]
    levels = native.build_levels(ActivePixels(pixels.coords, (60, 60), 1), 3, "floor", 1)
    return [*found, *(level.padded_index_grid for level in levels)]


def problem(seed):
    torch.manual_seed(seed)
    pixels = ActivePixels.from_mask(torch.rand(1, 60, 60) < 0.5)
    return pixels, torch.randn(len(pixels), 16), torch.randn(9, 16, 16)


def agree(found, expected):
    # A child has one thread: the gradients of the weight, summed per thread, round otherwise.
    return all((a - b).abs().max() <= 1e-5 * b.abs().max() for a, b in zip(found, expected))


torch.set_num_threads(2)
given = problem(0)
expected = [results(*given), results(*problem(1))]
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that waits for a thread which is not there would wait forever
    same = agree(results(*given), expected[0])
    own = agree(results(*problem(1)), expected[1])
    os._exit(0 if same and own else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert agree(results(*given), expected[0])  # the parent goes on
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_with_maps_and_weights_of_its_parent_and_with_its_own() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"
