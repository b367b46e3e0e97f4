"""Every kernel compiles for every architecture, and no thread runs out of registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from cubin import SHARED_LIMIT, Recorder, compile_call

from sparserefine.refinement.cuda.fused_unet import FusedUNet
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse.gpu import checksum, launch, levels
from sparserefine.sparse.gpu.shapes import ARCHITECTURES, CHANNELS

pytestmark = pytest.mark.compiler

ROWS = 1024
FORMATS = {
    "bf16": (torch.bfloat16, False),
    "fp16": (torch.float16, False),
    "tf32": (torch.float32, True),
    "ieee": (torch.float32, False),
}
KERNELS = ("convolution_kernel", "partial_gradient_kernel", "sum_partials_kernel")
MAP_KERNELS = (
    "coarsen_kernel",
    "number_kernel",
    "submanifold_kernel",
    "strided_kernel",
    "gather_kernel",
)
ON_EVERY_ARCHITECTURE = pytest.mark.parametrize("capability", ARCHITECTURES)
# In the fast tests on the newest alone.
NEWEST_IS_FAST = pytest.mark.parametrize(
    "capability",
    [
        pytest.param(c, marks=() if c == max(ARCHITECTURES) else pytest.mark.slow)
        for c in ARCHITECTURES
    ],
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def calls(
    capability: int, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple]:
    """The kernel calls that `run` makes on such a device."""
    recorders: list[Recorder] = []
    modules = ((launch, KERNELS), (levels, MAP_KERNELS), (checksum, ("checksum_kernel",)))
    with monkeypatch.context() as patched:
        patched.setattr(launch, "INTERPRETED_CAPABILITY", capability)
        for module, names in modules:
            for name in names:
                recorders.append(Recorder(getattr(module, name)))
                patched.setattr(module, name, recorders[-1])
        run()
    for recorder in recorders:
        for args, kwargs in recorder.calls:
            yield recorder.kernel, args, kwargs


def assert_fits(kernel, args, kwargs, capability: int) -> None:
    cubin = compile_call(kernel, args, kwargs, capability)
    where = f"{kernel.__name__} on sm_{capability} with {kwargs}"
    assert cubin.spilled == 0, f"{where} spills {cubin.spilled} bytes"
    assert cubin.shared <= SHARED_LIMIT[capability], f"{where} needs {cubin.shared} bytes"


def convolution(form: str, c_in: int, c_out: int, variant: str) -> None:
    dtype, allow_tf32 = FORMATS[form]
    x, out = torch.empty(ROWS, c_in, dtype=dtype), torch.empty(ROWS, c_out, dtype=dtype)
    weight = torch.empty(9, c_in, c_out, dtype=dtype)
    table = torch.empty(9, ROWS, dtype=torch.int32)
    compact = torch.empty(3, ROWS, dtype=torch.int16)
    row, count = torch.empty(c_out), torch.empty((), dtype=torch.int32)
    activation = launch.Activation(row, row, out)
    if variant == "plain":
        launch.convolve(x, weight, table, ROWS, raw=out, bias=row, allow_tf32=allow_tf32)
    elif variant == "fused":
        launch.convolve(
            x,
            weight,
            compact,
            ROWS,
            raw=out,
            activations=(activation, activation),
            residual=out,
            skip=launch.Skip(x, weight[0]),
            count=count,
            allow_tf32=allow_tf32,
        )
    elif variant == "inverse":
        inverse = launch.Inverse(table, 4 * ROWS, 1)
        launch.convolve(
            x,
            weight,
            compact,
            ROWS,
            raw=out,
            activations=(activation,),
            inverse=inverse,
            count=count,
            allow_tf32=allow_tf32,
        )
    elif variant == "inverse of a table":
        inverse = launch.Inverse(table, 4 * ROWS, 0)
        launch.convolve(x, weight, table, ROWS, raw=out, inverse=inverse, allow_tf32=allow_tf32)
    elif variant == "pointwise":
        launch.convolve(x, weight[:1], None, ROWS, raw=out, bias=row, allow_tf32=allow_tf32)
    else:
        launch.weight_gradient(x, out, table, allow_tf32=allow_tf32)


VARIANTS = (
    "plain",
    "fused",
    "inverse",
    "inverse of a table",
    "pointwise",
    "weight gradient",
)


@pytest.mark.slow
@ON_EVERY_ARCHITECTURE
def test_a_sample_of_the_table(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One width per number format, another on each architecture."""
    first = ARCHITECTURES.index(capability)
    for i, form in enumerate(("bf16", "tf32", "ieee")):
        channels = CHANNELS[(first + 2 * i) % len(CHANNELS)]
        for variant in ("fused", "weight gradient"):
            run = lambda: convolution(form, channels, channels, variant)  # noqa: B023, E731
            for call in calls(capability, run, monkeypatch):
                assert_fits(*call, capability)


@pytest.mark.slow
@NEWEST_IS_FAST
def test_maps(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        mask = torch.zeros(1, 64, 96, dtype=torch.bool)
        made = levels.DeviceLevels(1, (64, 96), [1000, 500], compact_levels=1, device="cpu")
        made.update(mask)
        feats = torch.empty(made.levels[0].capacity, 8, dtype=torch.bfloat16)
        made.gather(torch.zeros(1, 3, 64, 96), feats)

    compiled = set()
    for call in calls(capability, run, monkeypatch):
        assert_fits(*call, capability)
        compiled.add(call[0].__name__)
    assert compiled == set(MAP_KERNELS)


@pytest.mark.slow
@NEWEST_IS_FAST
def test_offsets_of_64_bits(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_MAX_INT32", 0)
    for variant in ("fused", "inverse", "plain", "weight gradient"):
        run = lambda: convolution("bf16", 64, 64, variant)  # noqa: B023, E731
        (first, *_) = calls(capability, run, monkeypatch)
        assert first[2]["WIDE"]
        assert_fits(*first, capability)


def test_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    run = checksum.Checksum([torch.zeros(5)]).start
    (call,) = calls(80, run, monkeypatch)
    assert_fits(*call, 80)


def test_hopper_multiplies_with_its_own_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gathered rows reach shared memory 16 bytes at a time, where the tensor cores read them."""
    run = lambda: convolution("bf16", 64, 64, "fused")  # noqa: E731
    ((kernel, args, kwargs),) = calls(90, run, monkeypatch)
    ptx = compile_call(kernel, args, kwargs, 90).ptx
    assert "wgmma.mma_async" in ptx
    assert "cp.async.cg.shared.global" in ptx and ", 0x10," in ptx


def test_more_copies_are_under_way_with_neighbors_found_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many buffers as stages, where a table's addresses take two stages of five otherwise."""
    run = lambda: convolution("bf16", 256, 256, "plain")  # noqa: E731
    ((kernel, args, kwargs),) = calls(90, run, monkeypatch)
    buffer = 2 * kwargs["BLOCK_K"] * (kwargs["BLOCK_M"] + kwargs["BLOCK_N"])
    plain = compile_call(kernel, args, kwargs, 90)
    ahead = compile_call(kernel, args, {**kwargs, "AHEAD": True}, 90)
    assert plain.shared // buffer == kwargs["num_stages"] - 2
    assert ahead.shared // buffer == kwargs["num_stages"]
    assert ahead.spilled == 0


def test_narrow_copies_go_through_the_first_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    run = lambda: convolution("bf16", 64, 64, "fused")  # noqa: E731
    ((kernel, args, kwargs),) = calls(90, run, monkeypatch)
    ptx = compile_call(kernel, args, {**kwargs, "NARROW": True}, 90).ptx
    assert "cp.async.ca.shared.global" in ptx and ", 0x8," in ptx


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@ON_EVERY_ARCHITECTURE
def test_the_whole_table(capability: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [(c, c) for c in (*CHANNELS, 512)]
    widths += [(3, 32), (32, 64), (64, 32), (512, 256), (19, 30), (32, 19)]
    for (c_in, c_out), variant in product(widths, VARIANTS):
        run = lambda: convolution(form, c_in, c_out, variant)  # noqa: B023, E731
        for call in calls(capability, run, monkeypatch):
            assert_fits(*call, capability)


@pytest.mark.slow
@ON_EVERY_ARCHITECTURE
def test_every_kernel_of_the_extractor(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        network = FusedUNet(SparseUNet(19).eval(), torch.bfloat16)
        made = levels.DeviceLevels(1, (128, 256), [4096, 2048, 1024, 512, 256], device="cpu")
        network(torch.empty(4096, network.in_width, dtype=torch.bfloat16), made)

    number = 0
    for call in calls(capability, run, monkeypatch):
        assert_fits(*call, capability)
        number += 1
    assert number == 46  # 45 convolutions and the head
