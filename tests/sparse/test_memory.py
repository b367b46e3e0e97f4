"""Memory: used again, but never by two arrays at once, and free as soon as nothing needs it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Iterator

import pytest
import torch

from sparserefine.sparse import (
    ActivePixels,
    Backend,
    SparseTensor,
    memory,
    reuse_memory,
    sparse_conv2d,
    sparse_inverse_conv2d,
)
from sparserefine.sparse.backends import can_run_native
from sparserefine.sparse.memory import empty_rows

ROWS, CHANNELS = 1 << 11, 1 << 8  # 2 MiB of float32; from 1 MiB on it is kept


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_memory_that_is_gone_is_used_again_and_none_is_kept() -> None:
    with reuse_memory():
        first = empty_rows(ROWS, CHANNELS)
        address = first.data_ptr()
        view = first[5:, :3]
        del first
        assert empty_rows(ROWS, CHANNELS).data_ptr() != address  # a view still holds it
        del view
        again = empty_rows(ROWS, CHANNELS - 1)
        assert again.data_ptr() == address
        assert again.shape == (ROWS, CHANNELS - 1) and again.is_contiguous()
        with reuse_memory():  # changes nothing
            assert empty_rows(ROWS, CHANNELS).data_ptr() != address
    assert memory._pool.get() is None
    assert torch._C._storage_Use_Count(again.untyped_storage()._cdata) <= 2  # and no pool's


def test_small_arrays_and_other_devices_are_torchs() -> None:
    with reuse_memory():
        assert empty_rows(3, 4).shape == (3, 4)
        assert empty_rows(ROWS, CHANNELS, torch.float64, "meta").is_meta


@pytest.mark.usefixtures("_frequent_switches")
def test_threads_of_one_context_never_get_the_same_memory() -> None:
    def work(number: int) -> int:
        """How often somebody else wrote into an array of this thread."""
        wrong = 0
        for _ in range(200):
            array = empty_rows(ROWS, CHANNELS).fill_(number)
            wrong += int((array != number).any())
        return wrong

    async def work_at_once() -> list[int]:
        # Each thread runs in a copy of this context: all share the pool.
        return await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(4)))

    with reuse_memory():
        empty_rows(ROWS, CHANNELS)
        assert sum(asyncio.run(work_at_once())) == 0


def test_nobody_waits_for_a_thread_that_chooses() -> None:
    """Which in a forked child may not exist any more."""
    with reuse_memory():
        pool = memory._pool.get()
        assert pool is not None
        with pool._lock:
            assert empty_rows(ROWS, CHANNELS).shape == (ROWS, CHANNELS)
        assert not pool._blocks


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_the_maps_of_an_image_go_with_it(backend: Backend) -> None:
    """By their last name, not when Python looks for cycles: those may be gigabytes later."""
    x = SparseTensor(torch.randn(40, 4), ActivePixels.from_mask(torch.ones(1, 5, 8) > 0))
    weight = torch.randn(9, 4, 4)
    if backend == "native" and can_run_native(x.feats, weight) is not None:
        pytest.skip("needs the compiled kernels")
    gc.disable()
    try:
        coarse = sparse_conv2d(x, weight, backend=backend)
        sparse_inverse_conv2d(coarse, x.pixels, weight, backend=backend)
        fine, step = weakref.ref(x.pixels), x.pixels.downsampling()
        assert step.down is x.pixels.downsampling().down
        del x, coarse, step
        assert fine() is None
    finally:
        gc.enable()
