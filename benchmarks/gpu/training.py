"""One training run on a GPU, then what it gained.

    make gpu-train OUT=out
    make gpu-train OUT=out TRAIN="--data FOLDER --model NAME --weights FILE --steps 4000"

Without --data it trains on drawn streets with the shipped dense model, which shows that training
works there and how long a step takes, and nothing about photographs. With --dry-run on the CPU,
two steps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from dry_run import DEVICE, DRY_RUN
from rows import Rows

import sparserefine as sr
from sparserefine.data import open_dataset
from sparserefine.data.source import SampleSource
from sparserefine.sparse import SparseTensor, submanifold_conv2d
from synthetic_street.scene import SyntheticStreet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--data", type=Path, help="folder to train on; default: drawn streets")
    parser.add_argument("--heldout", type=Path, help="folder to evaluate on; default: more streets")
    parser.add_argument("--targets", choices=("labels", "dense"), default="labels")
    parser.add_argument("--model", help="dense model; default: the shipped one")
    parser.add_argument("--weights", type=Path, help="of the dense model")
    parser.add_argument("--extractor", default="tiny")
    parser.add_argument("--steps", type=int, default=2 if DRY_RUN else 1500)
    parser.add_argument("--batch-size", type=int, default=1 if DRY_RUN else 8)
    parser.add_argument("--crop", type=int, default=64 if DRY_RUN else 512)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = Rows(options.out, "gpu_train", steps=options.steps, data=str(options.data))
    if options.model is None:
        dense = sr.SparseRefiner.from_pretrained("demo").dense
    else:
        dense = sr.dense.create(options.model, options.weights)
    model = sr.SparseRefiner(
        dense,
        selector=sr.EntropySelector(dense.preset.threshold, max_density=0.25),
        extractor=sr.SparseUNet.from_preset(options.extractor, dense.num_classes, pyramid="floor"),
    ).to(DEVICE)
    _training_step(rows, options.extractor)
    config = sr.TrainConfig(
        targets=options.targets,
        steps=options.steps,
        batch_size=options.batch_size,
        crop_size=(options.crop, options.crop),
        views=1 if DRY_RUN else 4,
    )
    start = time.perf_counter()
    result = sr.train(model, _data(options.data, seed=0), config, out=options.out / "gpu_train")
    rows.add(
        what="training",
        seconds=time.perf_counter() - start,
        stages_ms={name: round(ms) for name, ms in result.stages_ms.items()},
        first=dict(result.summary()[0]),
        last=dict(result.summary()[1]),
    )
    scores = sr.evaluate(model.eval(), _data(options.heldout, seed=1))
    rows.add(what="evaluation", **{k: v for k, v in scores.to_json().items() if k != "images"})
    rows.close(miou=scores.miou, agreement=scores.agreement, density=scores.density)


def _data(folder: Path | None, seed: int) -> SampleSource:
    if folder is not None:
        return open_dataset(folder)
    if DRY_RUN:
        return SyntheticStreet(1, (64, 128), seed)
    return SyntheticStreet(60 if seed == 0 else 20, (1024, 2048), seed)


def _training_step(rows: Rows, preset: str) -> None:
    """Forward and backward of one layer and of the extractor, beside the forward alone."""
    size = (24, 32) if DRY_RUN else (1024, 1024)
    mask = torch.rand(1, *size, device=DEVICE) < 0.2
    x = SparseTensor.from_dense(torch.randn(1, 3, *size, device=DEVICE), mask)
    net = sr.SparseUNet.from_preset(preset, 19, pyramid="floor").to(DEVICE)
    weight = torch.randn(9, 3, 16, device=DEVICE, requires_grad=True)
    for what, run in (
        ("layer", lambda: submanifold_conv2d(x, weight).feats),
        ("extractor", lambda: net(x)),
    ):
        times = {"forward": [], "step": []}
        for _ in range(1 if DRY_RUN else 20):
            for name, backward in (("forward", False), ("step", True)):
                _synchronize()
                start = time.perf_counter()
                y = run()
                if backward:
                    y.square().mean().backward()
                _synchronize()
                times[name].append(1000 * (time.perf_counter() - start))
        middle = {f"{name}_ms": sorted(found)[len(found) // 2] for name, found in times.items()}
        rows.add(what=f"one {what}", pixels=len(x.feats), **middle)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
