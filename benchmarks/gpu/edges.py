"""Train a larger network of `edges` on a GPU, for as long as it is lent.

    make gpu-edges OUT=out EDGES="--pack FILE.zip [--seconds 480] [--widths 32 64 96 128]"

FILE is what benchmarks/edges/pack.py packed. Writes the weights, their facts as JSON, and a row at
each look at the held-out crops. With --dry-run on the CPU, two steps on noise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from dry_run import DEVICE, DRY_RUN
from rows import Rows, gpu_environment
from safetensors.torch import save_file

from sparserefine.refinement.edge_net import EdgeNet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "edges"))
from pack import unpacked
from train import Recipe, held_out, training

# Held-out crops, one in so many.
HELD = 16
LOOK_EVERY = 1 if DRY_RUN else 500


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--pack", type=Path, help="crops; needed but for --dry-run")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--steps", type=int, default=2 if DRY_RUN else 10**6)
    parser.add_argument("--batch", type=int, default=2 if DRY_RUN else 16)
    parser.add_argument("--widths", type=int, nargs="+", default=[8] if DRY_RUN else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.pack is None and not DRY_RUN:
        parser.error("which crops? --pack FILE.zip, which benchmarks/edges/pack.py makes.")
    widths = options.widths or [32, 64, 96, 128]
    rng = np.random.default_rng(options.seed)
    crops = noise(rng) if options.pack is None else unpacked(options.pack)
    numbers = np.arange(len(crops["rgb"]))
    held, trained = numbers[::HELD], numbers[numbers % HELD > 0]
    torch.manual_seed(options.seed)
    net = EdgeNet(widths).to(DEVICE)
    recipe = Recipe(options.steps, options.batch, seconds=options.seconds)
    rows = Rows(options.out, "gpu_edges", widths=widths, crops=len(trained), batch=options.batch)
    weights = options.out / "edges.safetensors"
    start, step, scores = time.perf_counter(), 0, {}
    for state in training(net, crops, trained, recipe, rng):
        step = state.step
        if step % LOOK_EVERY == 0 or state.done == 1:
            scores = held_out(state.mean, widths, crops, held)
            rows.add(step=step, done=round(state.done, 3), loss=state.loss, **scores)
            save_file({name: value.cpu() for name, value in state.mean.items()}, weights)
    document = {
        "crops": len(trained),
        "steps": step,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "seed": options.seed,
        "widths": widths,
        "held_out": scores,
        "environment": gpu_environment(),
    }
    weights.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    rows.close(**scores, weights=str(weights))


def noise(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Crops of nothing, with a band across."""
    count, side = 20, 32
    planes = rng.integers(0, 256, (count, 6, side, side), np.uint8)
    planes[:, 4] = 0
    planes[:, 4, 8:24] = 255
    return {
        "rgb": rng.integers(0, 256, (count, 3, side, side), np.uint8),
        "planes": planes,
        "sides": rng.integers(0, 256, (count, 6, 8, 8), np.uint8),
    }


if __name__ == "__main__":
    main()
