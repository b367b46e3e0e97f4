"""Closed-form matting in the band beside pymatting on the whole grid, on photos.

    python benchmarks/closed_form.py PHOTOS [--grid 512] [--most 20]      # pip install pymatting

Both get the trimap of U²-Net-p's prediction on the same grid, one thread each, in turns;
pymatting's first call, which compiles, is not counted. Writes results/closed_form.json.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.environment import Environment
from sparserefine.images import list_images, read_image
from sparserefine.matting import Trimap, closed_form_alpha
from spread import spread

RESULT = Path(__file__).parent / "results" / "closed_form.json"
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--grid", type=int, default=512)
    parser.add_argument("--most", type=int, default=20, help="photos, evenly chosen")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    from pymatting import estimate_alpha_cf

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of its incomplete factorization
    model = sr.SparseRefiner(
        sr.dense.create("u2netp"), extractor=sr.SparseUNet(2, widths=(4,), blocks=1)
    )
    paths = list_images(options.photos)
    rows = []
    for path in paths[:: max(len(paths) // options.most, 1)][: options.most]:
        images = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None].float() / 255
        height, width = images.shape[2:]
        scale = options.grid / max(height, width)
        size = (round(height * scale), round(width * scale))
        small = F.interpolate(images, size, mode="bilinear", antialias=True)[0].clamp(0, 1)
        probability = model.dense_pass(images).logits.softmax(1)[:, 1:]
        coarse = F.interpolate(probability, size, mode="bilinear")[0, 0]
        trimap = Trimap.of(coarse)
        if not trimap.is_solvable:
            continue
        sure = torch.where(trimap.foreground, 1.0, torch.where(trimap.background, 0.0, 0.5))
        image, known = small.permute(1, 2, 0).double().numpy(), sure.double().numpy()
        times: dict[str, list[float]] = {"ours": [], "pymatting": []}
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            alpha = closed_form_alpha(small, sure, trimap.unknown)
            times["ours"].append(time.perf_counter() - start)
            start = time.perf_counter()
            theirs = estimate_alpha_cf(image, known)
            times["pymatting"].append(time.perf_counter() - start)
        difference = np.abs(theirs - alpha.numpy())[trimap.unknown.numpy()]
        row = {
            "photo": path.stem,
            "unknown": float(trimap.unknown.float().mean()),
            "difference_p99": float(np.quantile(difference, 0.99)),
            **{
                key: 1000 * seconds
                for name, taken in times.items()
                for key, seconds in spread(taken[1:], f"{name}_ms").items()
            },
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    summary = {
        "ours_ms": median(row["ours_ms"] for row in rows),
        "pymatting_ms": median(row["pymatting_ms"] for row in rows),
        "p95_ours_ms": median(row["p95_ours_ms"] for row in rows),
        "p95_pymatting_ms": median(row["p95_pymatting_ms"] for row in rows),
        "faster": median(row["pymatting_ms"] / row["ours_ms"] for row in rows),
        "difference_p99": median(row["difference_p99"] for row in rows),
        "unknown": median(row["unknown"] for row in rows),
    }
    document = {
        "grid": options.grid,
        "rounds": ROUNDS,
        "threads": 1,
        "median": summary,
        "rows": rows,
        "environment": Environment.current().to_json(),
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(summary))
    print(options.out)


if __name__ == "__main__":
    main()
