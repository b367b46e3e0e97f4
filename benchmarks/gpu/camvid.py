"""The paper's own case on a GPU, from scratch: HRNet-W48 on CamVid, and a refiner on the low one.

    make gpu-camvid OUT=out CAMVID="--data FOLDER [--seconds 500]"

Trains HRNet-W48 with random weights at full resolution (512×384), for as many steps at low
resolution (256×192), then the paper's sparse U-Net and gate on the pixels that the low one is least
sure of. The seconds are shared among these, so that it ends in time whatever the machine. FOLDER is
CamVid as benchmarks/labels/pack.py packs it; trained on are the frames of "train" but those of
0006R0. Reported are "val" and, if time is left, those. Rows are written as they are made. With
--dry-run on the CPU, tiny networks, two steps of each, on noise unless there is a FOLDER.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import traceback
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense_step import DenseStep, Frames
from dry_run import DEVICE, DRY_RUN
from PIL import Image
from pipeline import captured
from rows import Rows
from safetensors.torch import save_file
from timing import interleaved_ms, percentile
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.data import Sample
from sparserefine.dense import DenseModel
from sparserefine.dense.hrnet import HRNet
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.refinement.ensembler import GatedEnsembler
from sparserefine.sparse import ActivePixels
from sparserefine.training.loss import refinement_loss
from sparserefine.training.network import TrainedNetwork

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "labels"))
from dataset import CAMVID, Experiment, class_weights
from refiners import THRESHOLD
from scoring import Contenders, dense_labels, gap_closed, score

# Shares of the seconds at whose end each part is over; low takes the steps that full took.
ENDS = {"full": 0.36, "low": 0.64, "refiner": 0.8}
LIMIT = 2 if DRY_RUN else 10**6
BATCH = 2 if DRY_RUN else 16
WIDTH = 4 if DRY_RUN else 48
PRESET = "tiny" if DRY_RUN else "paper"
RATES = {"full": 1e-3, "low": 1e-3, "refiner": 1e-3}
# Of frames that dense models, and the refiner, are trained on.
DENSE_SCALES, SCALES = (0.75, 2.0), (1.0, 1.4)
TOLD_EVERY = 0.0 if DRY_RUN else 15.0
BATCHES, ROUNDS, REPEATS = ((1,), 1, 1) if DRY_RUN else ((1, 8), 7, 5)


# What is timed, by the name of its scores.
WAYS = {"low_res_bilinear": "low_res", "full_res": "full_res", "refined": "refined"}


class Clock:
    """The seconds that there are.

    Args:
        seconds: All of them, from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start = seconds, time.monotonic()

    def left(self, until: float = 1.0) -> float:
        """Seconds until a share of them has passed."""
        return self.start + until * self.seconds - time.monotonic()


class Progress:
    """How far a training is, by steps or by time, whichever is further, and its learning rate.

    Args:
        name: What is trained.
        clock: The seconds that there are.
        steps: Number of steps after which it is over.
    """

    def __init__(self, name: str, clock: Clock, steps: int) -> None:
        self.name, self.steps = name, steps
        self.start, self.seconds = time.monotonic(), max(clock.left(ENDS[name]), 1e-3)
        self.step, self.told = 0, 0.0

    @property
    def taken(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.start

    @property
    def done(self) -> float:
        """Share that is done, 0..1; at least one step is taken."""
        if not self.step:
            return 0.0
        return min(max(self.step / self.steps, self.taken / self.seconds), 1.0)

    @property
    def rate(self) -> float:
        """The learning rate of the next step: it rises, then falls as a cosine does."""
        done = self.done
        return RATES[self.name] * min(done / 0.03 + 0.01, 1) * 0.5 * (1 + math.cos(math.pi * done))

    def advance(self, rows: Rows, loss: float, **more: Any) -> None:
        """Count a step, and tell of it now and then."""
        if not math.isfinite(loss):
            raise ValueError(f"the loss of step {self.step + 1} is {loss}, expected a number.")
        self.step += 1
        if self.taken - self.told >= TOLD_EVERY or self.done == 1:
            self.told = self.taken
            each = 1000 * self.taken / self.step
            rows.add(train=self.name, step=self.step, loss=loss, done=self.done, ms=each, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--data", type=Path, help="CamVid, packed; needed but for --dry-run")
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.data is None and not DRY_RUN:
        parser.error("which frames? --data FOLDER, which benchmarks/labels/pack.py makes.")
    clock = Clock(options.seconds)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    experiment = CAMVID
    if DRY_RUN:
        experiment = replace(CAMVID, full=(64, 96), low=(32, 64))
    rows = Rows(
        options.out,
        "gpu_camvid",
        width=WIDTH,
        extractor=PRESET,
        batch=BATCH,
        seed=options.seed,
        seconds=options.seconds,
        full=experiment.full,
        low=experiment.low,
        density=experiment.density,
        threshold=THRESHOLD,
    )
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or noise(Path(folder))
        trained, splits = experiment.training(data), {"val": experiment.reported(data, "val")}
        splits["0006R0"] = experiment.development(data)
    rows.add(read={"train": len(trained)} | {name: len(own) for name, own in splits.items()})
    found: dict[str, Any] = {}
    try:
        found = run(rows, clock, experiment, trained, splits, options.out)
    except Exception as error:  # what was found until then stays, and the table is shown
        traceback.print_exc()
        found["failed"] = f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0]}"[:300]
    rows.table(["split", "what", "miou", "boundary_iou", "eager_ms", "graph_ms"])
    rows.close(**found, seconds=round(clock.seconds - clock.left()))
    sys.exit(1 if "failed" in found else 0)


def run(
    rows: Rows,
    clock: Clock,
    experiment: Experiment,
    trained: list[Sample],
    splits: dict[str, list[Sample]],
    out: Path,
) -> dict[str, Any]:
    """Train the three, then score and time them."""
    weight = class_weights(trained, experiment.num_classes).to(DEVICE)
    models: dict[str, HRNet] = {}
    steps = LIMIT
    for name, size in (("full", experiment.full), ("low", experiment.low)):
        frames = Frames.of(trained, size)
        model = HRNet(experiment.num_classes, width=WIDTH).to(DEVICE)
        steps = train_dense(rows, Progress(name, clock, steps), model, frames, weight, experiment)
        models[name] = model.eval().requires_grad_(False)
        save(model, out / f"camvid_{name}.safetensors")
        miou = quick_miou(model, size, splits["val"], experiment.num_classes)
        rows.add(trained=name, steps=steps, miou_of_val=miou)
    refiner = sr.SparseRefiner(
        models["low"],
        selector=sr.EntropySelector(THRESHOLD, experiment.density),
        extractor=sr.SparseUNet.from_preset(PRESET, experiment.num_classes, pyramid="floor"),
        ensembler=GatedEnsembler(experiment.num_classes),
        dense_size=experiment.low,
    ).to(DEVICE)
    train_refiner(rows, Progress("refiner", clock, LIMIT), refiner, Frames.of(trained))
    refiner.eval()
    save(TrainedNetwork(refiner, "fp32"), out / "camvid_refiner.safetensors")
    contenders = Contenders(models["full"], models["low"], {"unet-rgb": refiner})
    # Before the dense models are recorded for the rest.
    times = {"eager_ms": time_all(rows, "eager", contenders, experiment, splits["val"])}
    recorded = [record(rows, name, model, experiment) for name, model in models.items()]
    times["graph_ms"] = {}
    if all(recorded):
        times["graph_ms"] = time_all(rows, "graph", contenders, experiment, splits["val"])
    closed, longest = {}, 0.0
    # First a quarter of what is reported: there is time for that.
    for split, samples in {"val, one in 4": splits["val"][::4], **splits}.items():
        if longest and clock.left() < longest * len(samples):
            rows.add(split=split, left_out="no time")
            continue
        started = time.monotonic()
        with lower_precision():
            found = score(contenders, experiment, samples, 0)
        longest = (time.monotonic() - started) / len(samples)
        shown = {key: found[key] for key in ("density", "images", "errors", "equal_time_size")}
        rows.add(split=split, **shown)
        for name, own in found["rows"].items():
            taken = {}
            if name in WAYS:
                taken = {key: times[key].get(WAYS[name]) for key in ("eager_ms", "graph_ms")}
            rows.add(split=split, what=name, **own, **taken)
        for key in ("miou", "boundary_iou"):
            closed[f"{split}: {key}, gap closed"] = gap_closed(found["rows"], key)
    return closed


def train_dense(
    rows: Rows,
    progress: Progress,
    model: nn.Module,
    frames: Frames,
    weight: Tensor,
    experiment: Experiment,
) -> int:
    """Train a dense model until its steps or its seconds are over; returns its steps."""
    model.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    height, width = frames.images.shape[2:]
    labels = (BATCH, *experiment.full)
    step = DenseStep(model, (BATCH, 3, height, width), labels, weight)
    while progress.done < 1:
        images, targets = frames.draw(BATCH, experiment.full, DENSE_SCALES)
        loss = step(images, targets, progress.rate)
        progress.advance(rows, loss, recorded=step.recorded)
    return progress.step


def train_refiner(rows: Rows, progress: Progress, model: sr.SparseRefiner, frames: Frames) -> None:
    """Train the sparse U-Net and the gate on whole frames, as `sr.train` does on crops."""
    network = TrainedNetwork(model, "bf16" if DEVICE == "cuda" else "fp32")
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    size = (frames.images.shape[2], frames.images.shape[3])
    network.train()
    while progress.done < 1:
        images, targets = frames.draw(BATCH, size, SCALES)
        with torch.no_grad(), lower_precision():
            low = model.dense_pass(images)
        mask = model.selector(low, size)
        pixels = ActivePixels.from_mask(mask)
        found = network(images, pixels, low.at(pixels.coords, size, model.upsampling))
        loss, figures = refinement_loss(found, targets[mask])
        for group in optimizer.param_groups:
            group["lr"] = progress.rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        before, after, _ = (figures[-3:] / figures[-1].clamp(min=1)).tolist()
        progress.advance(rows, float(loss.detach()), right_dense=before, right_refined=after)


def time_all(
    rows: Rows,
    runtime: str,
    contenders: Contenders,
    experiment: Experiment,
    samples: list[Sample],
) -> dict[str, float]:
    """Milliseconds of an image by each way; batches of more are rows alone."""
    first: dict[str, float] = {}
    for batch in BATCHES:
        chosen = (samples * batch)[:batch]
        images = torch.stack([one.image for one in chosen]).to(DEVICE)
        functions = {
            "low_res": lambda images=images: contenders.refiner.dense_pass(images),
            "full_res": lambda images=images: dense_labels(
                contenders.full, experiment.full, images
            ),
            "refined": lambda images=images: contenders.refiner(images),
        }
        with torch.inference_mode(), lower_precision():
            found = interleaved_ms(functions, ROUNDS, REPEATS)
        for what, times in found.items():
            p50 = percentile(times, 50) / batch
            rows.add(way=what, dense=runtime, batch=batch, ms_an_image=p50, runs=len(times))
            if batch == 1:
                first[what] = p50
    return first


def record(rows: Rows, name: str, model: DenseModel, experiment: Experiment) -> bool:
    """Let a dense model run as a CUDA graph from now on, if it can be recorded."""
    size, plain = {"full": experiment.full, "low": experiment.low}[name], model.forward
    if DEVICE == "cuda":
        model.forward = captured(model.forward)
    try:
        with torch.no_grad(), lower_precision():
            model(torch.rand(1, 3, *size, device=DEVICE))
    except RuntimeError as error:
        model.forward = plain
        rows.add(recorded=name, failed=(str(error).splitlines() or ["?"])[0][:200])
        return False
    return True


def quick_miou(
    model: DenseModel, size: tuple[int, int], samples: list[Sample], classes: int
) -> float:
    """mIoU of a dense model, without anything else."""
    matrix = ConfusionMatrix(classes)
    with torch.inference_mode(), lower_precision():
        for one in samples:
            assert one.labels is not None
            found = dense_labels(model, size, one.image[None].to(DEVICE))
            matrix.update(found[0], one.labels.to(DEVICE))
    return matrix.miou()


def lower_precision() -> AbstractContextManager[object]:
    """bfloat16 by autocast; nothing is kept cast, as weights change."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda", cache_enabled=False)


def save(module: nn.Module, path: Path) -> None:
    """Write weights, for whoever wants to go on from them on that machine."""
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)


def noise(folder: Path) -> Path:
    """A dataset of nothing in the layout of CamVid."""
    rng = np.random.default_rng(0)
    named = {"train": ("0001TP_1", "0001TP_2", "0001TP_3", "0006R0_1"), "val": ("0016E5_1",)}
    for split, names in named.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for name in names:
            image = rng.integers(256, size=(60, 80, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / "images" / split / f"{name}.jpg")
            labels = np.kron(rng.integers(11, size=(6, 8)), np.ones((10, 10))).astype(np.uint8)
            labels[:3] = 255
            Image.fromarray(labels).save(folder / "labels" / split / f"{name}.png")
    return folder


if __name__ == "__main__":
    main()
