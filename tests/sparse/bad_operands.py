"""Operands that do not fit, and what the answer must say. Run as a program, it asks for them all.

    python bad_operands.py native torch

Our tests check the shapes of arguments as they are annotated, which users do not have: a process of
its own sees what they see, and a crash ends only that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    NormReLU,
    Pointwise,
    SparseConv2d,
    SparseInverseConv2d,
    SparseTensor,
    SubMConv2d,
    build_pyramid,
    pointwise_conv2d,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
    use_backend,
)

C_IN, C_OUT = 32, 48
PIXELS = ActivePixels.from_mask(torch.ones(1, 6, 8, dtype=torch.bool))
COARSE = PIXELS.downsampling().coarse
X = SparseTensor(torch.randn(48, C_IN), PIXELS)
DEEP = SparseTensor(torch.randn(len(COARSE), C_IN), COARSE)
HALF = SparseTensor(torch.randn(48, C_IN).half(), PIXELS)
DOUBLE = SparseTensor(torch.randn(48, C_OUT).double(), PIXELS)
WEIGHT = torch.randn(9, C_IN, C_OUT)
MATRIX = torch.randn(C_OUT, C_IN)
NORM = (torch.ones(C_IN), torch.zeros(C_IN))

Convolution = Callable[..., SparseTensor]
CONVOLUTIONS: dict[str, Convolution] = {
    "submanifold": lambda weight=WEIGHT, bias=None, **rest: submanifold_conv2d(
        X, weight, bias, **rest
    ),
    "strided": lambda weight=WEIGHT, bias=None, **rest: sparse_conv2d(X, weight, bias, **rest),
    "inverse": lambda weight=WEIGHT, bias=None, **rest: sparse_inverse_conv2d(
        DEEP, PIXELS, weight, bias, **rest
    ),
    "pointwise": lambda weight=MATRIX, bias=None, **rest: pointwise_conv2d(X, weight, bias, **rest),
}
Case = tuple[Callable[[], object], str]
CASES: dict[str, Case] = {}


def _coords(*rows: tuple[int, int, int], dtype: torch.dtype = torch.int32) -> Tensor:
    return torch.tensor(rows, dtype=dtype)


def _add_cases_of(name: str, convolve: Convolution) -> None:
    """What every convolution must refuse."""
    vectors = {
        "short": (torch.ones(5), r"has shape \(5,\), expected \(\d+,\): one number per channel"),
        "matrix": (torch.ones(1, C_OUT), r"has shape \(1, 48\), expected"),
        "scalar": (torch.tensor(1.0), r"has shape \(\), expected"),
        "far": (torch.ones(C_OUT, device="meta"), r"on meta, but the weight is"),
    }
    for kind, (vector, message) in vectors.items():
        CASES[f"{name}: {kind} bias"] = (lambda v=vector: convolve(bias=v), f"bias (is|{message})")
    CASES[f"{name}: bias of another dtype"] = (
        lambda: convolve(bias=torch.ones(C_OUT).double()),
        r"bias is torch\.float64 on cpu, but the weight is torch\.float32 on cpu",
    )
    for at, part in enumerate(("scale", "shift")):
        for kind, vector in {"short": torch.ones(5), "integer": torch.ones(C_IN).int()}.items():
            norm = tuple(vector if i == at else old for i, old in enumerate(NORM))
            CASES[f"{name}: {kind} {part}"] = (
                lambda n=norm: convolve(norm=n),
                rf"{part} (has shape \(5,\), expected \(32,\)|is torch\.int32 on cpu, but)",
            )
    CASES[f"{name}: weight of one dimension"] = (
        lambda: convolve(weight=torch.ones(9)),
        r"of shape \(9,\), expected|has shape \(9,\), expected",
    )


for _name, _convolve in CONVOLUTIONS.items():
    _add_cases_of(_name, _convolve)
    if _name != "pointwise":
        for _taps in (1, 8, 25):
            CASES[f"{_name}: {_taps} kernel offsets"] = (
                lambda c=_convolve, t=_taps: c(weight=torch.ones(t, C_IN, C_OUT)),
                rf"the weight has {_taps} matrices, expected 9: one for each offset of a 3×3",
            )

CASES |= {
    "integer weight": (
        lambda: submanifold_conv2d(X, WEIGHT.int()),
        r"the weight is torch\.int32 of shape \(9, 32, 48\), expected floating-point",
    ),
    "a half skip with float weights": (
        lambda: submanifold_conv2d(X, torch.ones(9, 2 * C_IN, C_OUT), skip=HALF),
        r"skip is torch\.float16 on cpu, but the weight is torch\.float32",
    ),
    "double added to float": (
        lambda: submanifold_conv2d(X, WEIGHT, add=DOUBLE),
        r"add is torch\.float64 on cpu, but the weight is torch\.float32",
    ),
    "norm of other channels": (
        lambda: SubMConv2d(C_IN, C_IN).eval()(X, norm=NormReLU(16).eval()),
        r"scale has shape \(16,\), expected \(32,\)",
    ),
    "norm of other channels, 1×1": (
        lambda: Pointwise(C_IN, C_IN).eval()(X, norm=NormReLU(16).eval()),
        r"scale has shape \(16,\), expected \(32,\)",
    ),
    "feats of one dimension": (
        lambda: SparseTensor(torch.ones(48), PIXELS),
        r"feats are torch\.float32 of shape \(48,\), expected floating-point numbers of shape \(N",
    ),
    "feats of three dimensions": (
        lambda: X.replace(torch.ones(48, C_IN, 2)),
        r"feats are torch\.float32 of shape \(48, 32, 2\)",
    ),
    "integer feats": (lambda: X.replace(torch.ones(48, C_IN).int()), r"feats are torch\.int32"),
    "feats elsewhere": (
        lambda: X.replace(torch.ones(48, C_IN, device="meta")),
        r"feats are on meta, but the active pixels are on cpu\. SparseTensor\.to moves both",
    ),
    "coords of 64 bits": (
        lambda: ActivePixels(_coords((0, 1, 1), dtype=torch.int64), (3, 4), 1),
        r"coords are torch\.int64 of shape \(1, 3\), expected torch\.int32 of shape \(N, 3\)\. Act",
    ),
    "coords of two columns": (
        lambda: ActivePixels(_coords((0, 1, 1))[:, :2], (3, 4), 1),
        r"coords are torch\.int32 of shape \(1, 2\), expected",
    ),
    "coords that are no integers": (
        lambda: ActivePixels.from_coords(torch.ones(1, 3), (3, 4), 1),
        r"coords are torch\.float32, expected integers",
    ),
    "coords that 32 bits would bring inside": (
        lambda: ActivePixels.from_coords(_coords((0, 2**32 + 1, 1), dtype=torch.int64), (3, 4), 1),
        r"which is outside 1 images of 3×4",
    ),
    "sizes below zero": (
        lambda: ActivePixels(_coords((0, 0, 0)), (-1, 4), 1),
        r"1 images of -1×4: expected sizes of 0 or more",
    ),
    "mask that is no mask": (
        lambda: ActivePixels.from_mask(torch.ones(1, 3, 4)),
        r"the mask is torch\.float32 of shape \(1, 3, 4\), expected torch\.bool of shape \(B, H, W",
    ),
    "mask of one image": (
        lambda: ActivePixels.from_mask(torch.ones(3, 4, dtype=torch.bool)),
        r"the mask is torch\.bool of shape \(3, 4\)",
    ),
    "mask smaller than the images": (
        lambda: SparseTensor.from_dense(
            torch.ones(1, 3, 5, 6), torch.ones(1, 4, 6, dtype=torch.bool)
        ),
        r"the images have shape \(1, 3, 5, 6\) and the mask \(1, 4, 6\), expected",
    ),
    "no level": (lambda: build_pyramid(X, 0), r"levels=0: expected 1 or more"),
    "kernel of another size": (lambda: SubMConv2d(32, 64, 5), r"kernel_size=5: there are only 3×3"),
    "kernel of size 1": (lambda: SubMConv2d(32, 64, 1), r"For 1×1 use Pointwise"),
    "flag for the kernel's size": (lambda: SubMConv2d(32, 64, True), r"kernel_size=True"),
    "strided and submanifold": (
        lambda: SubMConv2d(32, 64, 3, 2),
        r"stride=2: SubMConv2d has a stride of 1\. SubMConv2d has 1, SparseConv2d 2",
    ),
    "strided by 1": (lambda: SparseConv2d(32, 64, 3, 1), r"stride=1: SparseConv2d has a stride"),
    "unknown mode": (
        lambda: SparseInverseConv2d(32, 64, 3, mode="ceil"),  # type: ignore[arg-type]
        r"downsampling mode 'ceil' is unknown",
    ),
}


def _convolve_twice(build: Callable[[SparseTensor], object], *rows: tuple[int, int, int]) -> object:
    x = SparseTensor(torch.ones(len(rows), C_IN), ActivePixels(_coords(*rows), (3, 4), 1))
    build(x)
    return submanifold_conv2d(x, WEIGHT)


for _name, _rows, _message in (
    ("twice", ((0, 1, 1), (0, 2, 1), (0, 1, 1)), r"coords name some pixels more than once \(3"),
    ("outside", ((0, 1, 1), (0, 3, 1)), r"which is outside 1 images of 3×4"),
    ("below zero", ((0, 1, 1), (-1, 1, 1)), r"which is outside 1 images of 3×4"),
):
    for _where, _build in {
        "alone": lambda x: None,
        "pyramid": lambda x: build_pyramid(x, 2),
        "strided": lambda x: sparse_conv2d(x, WEIGHT),
    }.items():
        CASES[f"unchecked coords {_name}, {_where}"] = (
            lambda b=_build, r=_rows: _convolve_twice(b, *r),
            _message,
        )


def main() -> None:
    """Print what each case raises, as JSON; the name of each first, in case it is the last."""
    found: dict[str, dict[str, list[str]]] = {}
    for backend in sys.argv[1:]:
        raised = found[backend] = {}
        for name, (call, _) in CASES.items():
            print(f"{backend}: {name}", file=sys.stderr, flush=True)
            try:
                with use_backend(backend), torch.no_grad():  # type: ignore[arg-type]
                    call()
                raised[name] = ["no error", ""]
            except Exception as error:  # whatever it is, the test tells
                raised[name] = [type(error).__name__, str(error)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
