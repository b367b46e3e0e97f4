"""Every GPU kernel against the definition in float64: all number formats, values and gradients.

    make gpu-test OUT=out

Each row gives the largest error as a share of its bound, |y − y64| ≤ eps(out)·|y64| +
n·eps(fp32)·(|x| conv |w|), per element; above 1 is a failure. With --dry-run the kernels run in
Triton's interpreter, on a few pixels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch
from interpreter import DEVICE, DRY_RUN
from rows import Rows
from torch import Tensor

from sparserefine.refinement.cuda.graph import GraphUNet
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import (
    ActivePixels,
    KernelMap,
    SparseTensor,
    reference,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.gpu import ops
from sparserefine.sparse.gpu.levels import DeviceLevels

EPS32 = torch.finfo(torch.float32).eps
TF32_EPS = 2.0**-10
FORMATS: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "tf32": torch.float32,
    "fp32": torch.float32,
}
STEPS = (("dilate", 1),) if DRY_RUN else (("dilate", 1), ("dilate", 0), ("floor", 1))
LEVELS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = Rows(options.out, "gpu_test", dry_run=DRY_RUN)
    failed = 0
    for check in (convolutions, device_maps, extractors, compiled):
        for row in check():
            failed += not row["ok"]
            rows.add(check=check.__name__, **row)
    rows.close(failed=failed)
    sys.exit(1 if failed else 0)


def masks() -> dict[str, Tensor]:
    """The cases that sparse code fails on, small enough for float64 products."""
    size = (7, 10) if DRY_RUN else (30, 46)
    blank = torch.zeros(1, *size, dtype=torch.bool)
    two = torch.rand(2, size[0] + 1, size[1] - 1) < 0.4
    two[0] = False
    if DRY_RUN:
        return {"empty": blank, "two_one_empty": two}
    one = blank.clone()
    one[0, 7, 9] = True
    border = ~blank
    border[:, 1:-1, 1:-1] = False
    found = {"empty": blank, "one_pixel": one, "border": border, "two_one_empty": two}
    return {**found, "full": ~blank, "odd_63x127": torch.rand(1, 63, 127) < 0.2}


def convolutions() -> Iterator[dict]:
    """The three convolutions, values and all gradients, through the public functions."""
    formats = ("fp16", "fp32") if DRY_RUN else FORMATS
    channels = ((3, 8),) if DRY_RUN else ((3, 32), (32, 32), (64, 128), (128, 19), (256, 256))
    if not DRY_RUN:
        channels += ((512, 512),)
    for name, mask in masks().items():
        pixels = ActivePixels.from_mask(mask.to(DEVICE))
        for form in formats:
            # Three lists of numbers for products by tensor cores, which round their inputs.
            torch.set_float32_matmul_precision("high" if form == "tf32" else "highest")
            for c_in, c_out in channels:
                case = {"mask": name, "format": form, "c_in": c_in, "c_out": c_out}
                for kind, run, rows, kernel_map in _kinds(pixels):
                    worst = _worst(run, rows, kernel_map, c_in, c_out, form)
                    yield {**case, "kind": kind, **worst, "ok": max(worst.values()) <= 1}
    torch.set_float32_matmul_precision("highest")


def _kinds(pixels: ActivePixels) -> Iterator[tuple[str, Callable, int, KernelMap]]:
    def submanifold(feats: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = SparseTensor(feats, pixels)
        return submanifold_conv2d(x, weight, bias, backend="triton").feats

    yield "submanifold", submanifold, len(pixels), pixels.submanifold_map
    for mode, padding in STEPS:
        step = pixels.downsampling(mode, padding)
        options = {"mode": mode, "padding": padding, "backend": "triton"}

        def strided(feats: Tensor, weight: Tensor, bias: Tensor, options=options) -> Tensor:
            return sparse_conv2d(SparseTensor(feats, pixels), weight, bias, **options).feats

        def inverse(
            feats: Tensor, weight: Tensor, bias: Tensor, options=options, step=step
        ) -> Tensor:
            x = SparseTensor(feats, step.coarse)
            return sparse_inverse_conv2d(x, pixels, weight, bias, **options).feats

        yield f"strided {mode} {padding}", strided, len(pixels), step.down
        yield f"inverse {mode} {padding}", inverse, len(step.coarse), step.up


def _worst(
    run: Callable, rows: int, kernel_map: KernelMap, c_in: int, c_out: int, form: str
) -> dict[str, float]:
    dtype = FORMATS[form]
    leaves = [
        torch.randn(*shape, device=DEVICE).to(dtype).requires_grad_()
        for shape in ((rows, c_in), (9, c_in, c_out), (c_out,))
    ]
    y = run(*leaves)
    grad = torch.randn_like(y)
    found = (y.detach(), *torch.autograd.grad(y, leaves, grad))
    right, size = (
        _definition([change(t) for t in (*leaves, grad)], kernel_map)
        for change in (lambda t: t.detach().double(), lambda t: t.detach().double().abs())
    )
    terms = (9 * c_in + 1, 9 * c_out, max(kernel_map.num_outputs, 1), max(len(y), 1))
    product_eps = TF32_EPS if form == "tf32" else 0.0
    worst = {}
    for name, ours, y64, magnitude, n in zip(
        ("values", "grad_feats", "grad_weight", "grad_bias"), found, right, size, terms, strict=True
    ):
        finfo = torch.finfo(dtype)
        # Below its smallest normal number a format's steps stay as wide as they are there.
        stored = finfo.eps * y64.abs().clamp(min=finfo.smallest_normal)
        bound = stored + (n * EPS32 + product_eps) * magnitude
        share = (ours.double() - y64).abs() / bound.clamp(min=1e-300)
        # max() passes a NaN on, and a NaN is not at most 1.
        worst[name] = float(share.max()) if share.numel() else 0.0
    return worst


def _definition(given: list[Tensor], kernel_map: KernelMap) -> tuple[Tensor, ...]:
    leaves = [t.requires_grad_() for t in given[:3]]
    y = reference.convolve(leaves[0], leaves[1], kernel_map) + leaves[2]
    return (y.detach(), *torch.autograd.grad(y, leaves, given[3]))


def device_maps() -> Iterator[dict]:
    """Maps built on the device, in both forms, against those that torch builds."""
    for name, mask in masks().items():
        mask = mask.to(DEVICE)
        for (mode, padding), compact in product(STEPS, (0, LEVELS)):
            levels = DeviceLevels(
                len(mask),
                (mask.shape[1], mask.shape[2]),
                [4096] * LEVELS,
                mode=mode,
                padding=padding,
                compact_levels=compact,
                device=DEVICE,
            )
            levels.update(mask)
            yield {
                "mask": name,
                "pyramid": f"{mode} {padding}",
                "map": "compact" if compact else "table",
                "ok": _same_maps(levels, ActivePixels.from_mask(mask)),
            }


def _same_maps(levels: DeviceLevels, pixels: ActivePixels) -> bool:
    same = not bool(levels.overflow)
    for level in range(LEVELS):
        number = len(pixels)
        same &= int(levels.count(level)) == int(levels.found[level]) == number
        same &= torch.equal(levels.coords(level)[:number], pixels.coords)
        own = levels.submanifold_map(level)[:, :number]
        own = _expanded(own) if own.dtype == torch.int16 else own
        same &= torch.equal(own, _absent_is_negative(pixels.submanifold_map))
        if level + 1 < LEVELS:
            step = pixels.downsampling(levels.mode, levels.padding)
            window = levels.strided_map(level + 1)[:, : len(step.coarse)]
            same &= torch.equal(window, _absent_is_negative(step.down))
            pixels = step.coarse
    return same


def _expanded(compact: Tensor) -> Tensor:
    """The table [9, rows] that a compact map [3, rows] stands for; see `DeviceLevels`."""
    up, down, code = compact.int()
    row = torch.arange(len(up), dtype=torch.int32, device=compact.device)
    # The first active neighbor in the image row above, in the pixel's own, and below.
    found = [row + up, row - (code >> 3 & 1), row + down]
    taps = []
    for tap in range(9):
        present = code >> tap & 1
        taps.append(torch.where(present == 1, found[tap // 3], -1))
        found[tap // 3] = found[tap // 3] + present
    return torch.stack(taps)


def _absent_is_negative(kernel_map: KernelMap) -> Tensor:
    neighbors = kernel_map.groups[0].neighbors
    return torch.where(neighbors == kernel_map.num_inputs, -1, neighbors)


def extractors() -> Iterator[dict]:
    """The captured extractor against the same network in float64; many frames, one too large."""
    widths = (8, 16) if DRY_RUN else (32, 64, 128, 256)
    size = (8, 9) if DRY_RUN else (160, 240)
    densities = (0.1, 0.9) if DRY_RUN else (0.1, 0.0, 0.7)
    frames = [torch.rand(1, *size) < density for density in densities]
    formats = {"fp16": 3e-3}
    if not DRY_RUN:
        formats = {"bf16": 3e-2, "fp16": 4e-3, "tf32": 4e-3, "fp32": 2e-5}
    for mode, padding in STEPS:
        net = SparseUNet(19, widths=widths, blocks=1, pyramid=mode, padding=padding)
        net = net.eval().to(DEVICE)
        for form, tolerance in formats.items():
            torch.set_float32_matmul_precision("high" if form == "tf32" else "highest")
            extractor = GraphUNet(
                net, 1, size, density=0.01 if DRY_RUN else 0.15, dtype=FORMATS[form]
            )
            for i, mask in enumerate(frames):
                images, mask = torch.randn(1, 3, *size, device=DEVICE), mask.to(DEVICE)
                logits, _ = extractor(images, mask)
                net.double()
                with torch.no_grad():
                    y64 = net(SparseTensor.from_dense(images.double(), mask))
                net.float()
                top = float(y64.abs().max()) if y64.numel() else 1.0
                error = float((logits - y64).abs().max()) / top if y64.numel() else 0.0
                yield {
                    "pyramid": f"{mode} {padding}",
                    "format": form,
                    "frame": i,
                    "pixels": len(y64),
                    "error_of_max": error,
                    "ok": logits.shape == y64.shape and error <= tolerance,
                }
    torch.set_float32_matmul_precision("highest")


def compiled() -> Iterator[dict]:
    """torch.compile and autocast around the operators."""
    pixels = ActivePixels.from_mask(masks()["two_one_empty"].to(DEVICE))
    own = pixels.submanifold_map.groups[0].neighbors
    feats = torch.randn(len(pixels), 16, device=DEVICE)
    weight = torch.randn(9, 16, 32, device=DEVICE)

    def step(feats: Tensor, weight: Tensor) -> Tensor:
        rows = feats.shape[0]
        return ops.convolve(feats, weight, None, own, None, "submanifold", rows, 1, False).relu()

    backend = "aot_eager" if DRY_RUN else "inductor"
    y = torch.compile(step, fullgraph=True, backend=backend)(feats, weight)
    yield {"case": f"torch.compile {backend}", "ok": torch.allclose(y, step(feats, weight))}
    x, dtype = SparseTensor(feats, pixels), torch.float16 if DRY_RUN else torch.bfloat16
    with torch.autocast(DEVICE, dtype=dtype):
        y = submanifold_conv2d(x, weight, backend="triton").feats
    same = submanifold_conv2d(x.replace(feats.to(dtype)), weight.to(dtype), backend="triton").feats
    yield {"case": f"autocast {dtype}", "ok": y.dtype == dtype and torch.equal(y, same)}


if __name__ == "__main__":
    main()
