"""A case to time: a model, a method, and the conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Method = Literal["dense", "dense_low", "sparserefine"]
Precision = Literal["fp32", "fp16", "bf16"]

# What a processor must have to compute in a precision, and not only to convert from it.
_FLAGS = {"bf16": {"avx512_bf16", "amx_bf16"}, "fp16": {"avx512_fp16", "amx_fp16"}}


@dataclass(frozen=True, kw_only=True)
class LatencyCase:
    """What a worker process builds and times.

    Attributes:
        model: Name of a dense model, with random weights unless `weights` are given; or a refiner:
            "demo", a folder, or a hub id.
        weights: Weights of the dense model, as `dense.create` takes them; empty for random ones.
        method: What is run: "dense" at full resolution, "dense_low" at low resolution, or
            "sparserefine".
        precision: Precision of the computation: "fp32", "fp16" or "bf16".
        batch: Number of images at a time.
        size: (height, width) of the images.
        pyramid: How the extractor chooses coarser pixels; empty where none runs.
        widths: Preset of the extractor, where no refiner is trained.
        density: Share of the pixels that is refined. An untrained refiner takes that of a boundary
            mask; a trained one its most uncertain pixels, or with 0 what its own selector chooses.
        image: Path of a photo for a trained refiner; empty for a shipped one.
        device: Device to run on, "cpu" or "cuda".
        threads: Number of threads that torch has on a CPU.
        memory_gib: Most GiB that the process may allocate; 0 for no limit.
        seed: Seeds random weights and masks.
        optimize: Run the dense model as `dense.optimize` does.
        channels_last: The layout that another case of the same size has tried; None tries. It is no
            condition: cases that differ in it are equal.
    """

    model: str
    method: Method
    precision: Precision = "fp32"
    batch: int = 1
    size: tuple[int, int] = (1024, 2048)
    weights: str = ""
    pyramid: str = ""
    widths: str = "paper"
    density: float = 0.2
    image: str = ""
    device: str = "cpu"
    threads: int = 1
    memory_gib: float = 0.0
    seed: int = 0
    optimize: bool = True
    channels_last: bool | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.method not in get_args(Method) or self.precision not in get_args(Precision):
            raise ValueError(
                f"method {self.method!r} in {self.precision!r}: expected one of "
                f"{', '.join(get_args(Method))} in one of {', '.join(get_args(Precision))}."
            )
        if self.batch < 1 or min(self.size) < 1:
            raise ValueError(f"batch {self.batch} of {self.size}: expected 1 or more, and a size.")


def why_not(precision: str, device: str) -> str:
    """Why a device does not compute in a precision; empty if it does.

    Converting back and forth would give times that nobody should use.
    """
    if precision == "fp32":
        return ""
    if device.startswith("cuda"):
        import torch

        if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return "this GPU does not compute in bf16"
        return ""
    needed = _FLAGS[precision]
    if not needed & _processor_flags():
        return f"this processor has none of {', '.join(sorted(needed))}"
    return ""


def _processor_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return set()
    for line in cpuinfo.read_text(errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()
