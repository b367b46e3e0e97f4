"""What makes a dense model faster on a CPU without changing its answers."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sparserefine.dense.fast_run import FastRun, Pair, has_convolutions, make_network, watched_pairs
from sparserefine.dense.protocol import DenseModel, dtype_of
from sparserefine.dense.u2net import U2Net
from sparserefine.dense.u2net_engine import OnnxEngine, why_no_engine
from sparserefine.memory_pages import keep_pages

# Pixels of the images that a model is tried on: of fewer all lies in the caches, where a layout
# hardly matters.
_TRIAL_PIXELS = 1 << 16
_TRIAL_SIZE = (128, 256)
# Runs with each layout, and the seconds after which the fewest are enough. Of each the shortest
# counts: what runs beside makes some longer, so two are not enough of short ones.
_FEWEST_RUNS, _MOST_RUNS, _TRIAL_S = 2, 8, 1.5
# Shares of the time between which further runs may decide otherwise.
_UNCLEAR = (0.85, 1.1)
# Less is what two runs differ by anyway.
_WORTH = 0.95
# Share of the largest logit that folding may change a logit by: sums round otherwise.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """What was done to make a dense model faster, and what was not and why.

    Attributes:
        pages: Whether the process keeps the pages of freed arrays.
        norms: Batch norms that were folded into convolutions.
        layout: Order of the numbers of images and weights in memory.
        engine: What runs the network.
    """

    pages: str
    norms: str
    layout: str
    engine: str = "torch"

    def to_json(self) -> dict[str, str]:
        """The sentences by name."""
        return asdict(self)

    @property
    def channels_last(self) -> bool:
        """Whether channels come last in memory."""
        return self.layout.startswith("channels_last:")


def optimize(
    model: DenseModel, size: tuple[int, int] | None = None, *, channels_last: bool | None = None
) -> DenseModel:
    """The same model, run faster on a CPU.

    The process keeps the pages of freed arrays (`keep_pages`). Batch norms are folded into the
    convolutions before them, where a run on a small image then gives the same logits. Channels come
    last in memory where runs on a small image take less time so. Networks of the U²-Net family run
    inside onnxruntime instead, if the extra onnx is installed.

    The model stays what it is: weights, description, identity and saved files are those of the one
    that was given, and gradients, training, GPUs and hooks are left to torch. Logits differ by the
    rounding of sums, up to 1e-3 of the largest in float32. What was done is `model.optimization`.

    Args:
        model: Any dense model, in its precision and on its device; it is left as it was. The
            weights are shared with it; those that are folded are held twice.
        size: (h, w) that it will run at; layouts are tried on a smaller image of these
            proportions. None tries none.
        channels_last: The layout, where it is to be that of another run; None tries.
    """
    optimized = copy.copy(model)
    optimized._fast = None
    optimized.optimization = _left(model) or _optimize(optimized, size, channels_last)
    return optimized


def explain_optimization() -> dict[str, str]:
    """What `optimize` does to models on this machine, by the names of `Optimization`."""
    return Optimization(
        pages=_pages(),
        norms="folded into convolutions where a run on a small image gives the same logits",
        layout=f"channels_last where a run then takes less than {_WORTH:.0%} of the time",
        engine=why_no_engine() or "onnxruntime for U²-Net and IS-Net, torch for all others",
    ).to_json()


def _left(model: DenseModel) -> Optimization | None:
    """The record of a model that is left as it is; None for others."""
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    if any(one.training for one in model.modules()):
        reason = "left: the model is in training mode"
    elif devices - {"cpu"}:
        reason = f"left: the model is on {', '.join(sorted(devices - {'cpu'}))}"
    else:
        return None
    return Optimization(pages=reason, norms=reason, layout=reason)


def _pages() -> str:
    reason = keep_pages()
    return f"returned to the system: {reason}" if reason else "kept"


def _optimize(
    model: DenseModel, size: tuple[int, int] | None, channels_last: bool | None
) -> Optimization:
    pages = _pages()
    if isinstance(model, U2Net):
        # It has no batch norm, and chooses its layout itself.
        reason = why_no_engine()
        model._engine = None if reason else OnnxEngine()
        engine = f"torch: {reason}" if reason else "onnxruntime"
        return Optimization(pages=pages, norms="none", layout="the network's own", engine=engine)
    if not has_convolutions(model):
        return Optimization(pages=pages, norms="none", layout="no convolutions")
    shape = _trial_size(size or _TRIAL_SIZE, model.size_divisor)
    images = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    images = images.to(dtype_of(model))
    try:
        with torch.no_grad():
            pairs, norms = _foldable(model, images)
            if channels_last is not None:
                layout = f"{'channels_last' if channels_last else 'as it was'}: as asked"
            elif size is None:
                channels_last, layout = False, "as it was: not tried"
            else:
                channels_last, layout = _faster_layout(model, pairs, images)
    except Exception as error:  # whatever a stranger's network raises: it stays as it is
        reason = f"left: {' '.join(str(error).split())[:200] or type(error).__name__}"
        return Optimization(pages=pages, norms=reason, layout=reason)
    if pairs or channels_last:
        model._fast = FastRun(pairs, channels_last)
    return Optimization(pages=pages, norms=norms, layout=layout)


def _trial_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    scale = min(1.0, math.sqrt(_TRIAL_PIXELS / (size[0] * size[1])))
    height, width = (max(round(scale * side / divisor), 1) * divisor for side in size)
    return height, width


def _foldable(model: DenseModel, images: Tensor) -> tuple[tuple[Pair, ...], str]:
    """Batch norms that can be folded, and a sentence about them."""
    with watched_pairs(model) as pairs:
        expected = model(images)
    if not pairs:
        return (), "none"
    found = make_network(model, pairs, False)(images)
    largest = float(expected.abs().max())
    error = float((found - expected).abs().max())
    if not error <= _TOLERANCE.get(images.dtype, 0.0) * largest:
        return (), f"left: folded, logits differ by {error:.2g} of {largest:.2g}"
    return tuple(pairs), f"{len(pairs)} folded"


def _faster_layout(model: DenseModel, pairs: tuple[Pair, ...], images: Tensor) -> tuple[bool, str]:
    """Whether channels last take less time, and a sentence about it."""
    networks = {last: make_network(model, pairs, last) for last in (False, True)}
    formats = {False: torch.contiguous_format, True: torch.channels_last}
    least = dict.fromkeys(networks, math.inf)
    start = time.perf_counter()
    for turn in range(_MOST_RUNS + 1):
        if turn > _FEWEST_RUNS and (
            time.perf_counter() - start > _TRIAL_S
            or not _UNCLEAR[0] < least[True] / least[False] < _UNCLEAR[1]
        ):
            break
        for last, network in networks.items():
            given = images.contiguous(memory_format=formats[last])
            seconds = _seconds(network, given)
            if turn:
                least[last] = min(least[last], seconds)
    share = least[True] / least[False]
    size = "×".join(map(str, images.shape[2:]))
    better = share < _WORTH
    return better, (
        f"{'channels_last' if better else 'as it was'}: channels_last takes {share:.2f} of the "
        f"time at {size}"
    )


def _seconds(network: nn.Module, images: Tensor) -> float:
    start = time.perf_counter()
    network(images)
    return time.perf_counter() - start
