"""Time and memory of the shipped pair on a large photo, beside the full-resolution dense model.

    python benchmarks/large_photo.py PHOTO [--rounds 7]

The two sides take turns in one process; peak memory is that of a process of its own for each, the
interpreter and torch included. Writes results/large_photo.json, from which the README is made.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

import sparserefine as sr
from sparserefine.environment import Environment
from sparserefine.images import read_image
from sparserefine.refinement.fast_dense import with_fast_dense
from spread import spread

RESULT = Path(__file__).parent / "results" / "large_photo.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--only", choices=("refined", "full_res"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = with_fast_dense(sr.SparseRefiner.from_pretrained("demo"))
    images = torch.from_numpy(read_image(options.photo)).permute(2, 0, 1)[None]
    if options.only:
        run(model, images, options.only)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    times: dict[str, list[float]] = {"refined": [], "full_res": []}
    # Before the timing: a process starts with the peak of the one that started it.
    command = [sys.executable, __file__, str(options.photo), "--only"]
    peak_kib = {side: int(subprocess.check_output([*command, side])) for side in times}
    for _ in range(options.rounds + 1):  # the first warms up
        for side, collected in times.items():
            start = time.perf_counter()
            density = run(model, images, side) or 0.0
            collected.append(1000 * (time.perf_counter() - start))
            if side == "refined":
                kept = density
    result = {
        "photo": options.photo.stem,
        "width": images.shape[3],
        "height": images.shape[2],
        "density": round(kept, 4),
        "rounds": options.rounds,
        "ms": {
            key: round(ms, 1)
            for side, collected in times.items()
            for key, ms in spread(collected[1:], side).items()
        },
        "peak_mib": {side: round(kib / 1024) for side, kib in peak_kib.items()},
        "model": model.describe(weights=False),
        "environment": Environment.current().to_json(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("ms", "peak_mib", "density")}, indent=2))
    print(options.out)


@torch.no_grad()
def run(model: sr.SparseRefiner, images: torch.Tensor, side: str) -> float | None:
    """Labels of the photo, by one of the two sides; the density where there is one."""
    if side == "full_res":
        model.full_resolution_labels(images)
        return None
    return float(model(images).mask.float().mean())


if __name__ == "__main__":
    main()
