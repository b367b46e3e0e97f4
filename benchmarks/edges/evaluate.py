"""A trained network beside closed form, on composites that nobody trained on.

    python benchmarks/edges/evaluate.py WEIGHTS --foregrounds FOLDER ... --photos FOLDER \\
        [--isnet FILE] [--count 30] [--megapixels 1]

Foregrounds and photos are of the test split; of the masks of a dense model those count on which it
sees the right thing. "simulated" are masks of masks.py. Writes WEIGHTS_scores.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file

import sparserefine as sr
from sparserefine.environment import Environment
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.edge_net import EdgeNet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout"))
from composites import Scene
from pictures import read_backgrounds, read_foregrounds
from scores import AlphaScores, Truth
from ways import make_source

from masks import simulated_mask  # isort: skip

FIRST_SEED = 60_000_000
RIGHT = 0.04
WAYS = ("bilinear", "guided", "closed-form", "edges")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--foregrounds", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--isnet", type=Path)
    parser.add_argument("--count", type=int, default=30, help="composites of each source of masks")
    parser.add_argument("--megapixels", type=float, default=1.0)
    options = parser.parse_args()
    net = read_net(options.weights)
    foregrounds = read_foregrounds(options.foregrounds, "test")
    backgrounds = read_backgrounds(options.photos, "test")
    models = {"u2netp 320": make_source("u2netp", 320, None)}
    if options.isnet is not None:
        models["isnet 512"] = make_source("isnet", 512, options.isnet)
    scores: dict[str, list[dict[str, AlphaScores]]] = defaultdict(list)
    milliseconds: dict[str, list[float]] = defaultdict(list)
    seed = FIRST_SEED
    while any(len(scores[name]) < options.count for name in (*models, "simulated")):
        scene = Scene.draw(seed, foregrounds, backgrounds)
        composite = scene.render(options.megapixels)
        images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
        truth = Truth(torch.from_numpy(composite.alpha))
        predictions = {
            name: model.predict(images)[0]
            for name, model in models.items()
            if len(scores[name]) < options.count
        }
        if len(scores["simulated"]) < options.count:
            predictions["simulated"] = simulated_mask(truth.alpha, random.Random(seed))
        for name, low in predictions.items():
            found = compare(images, low, truth, net, milliseconds)
            if found["bilinear"].mae < 1000 * RIGHT:
                scores[name].append(found)
        seed += 1
    document = {
        "sources": {name: summary(rows) for name, rows in scores.items()},
        "refinement_ms": {way: median(values) for way, values in milliseconds.items()},
        "megapixels": options.megapixels,
        "tried": seed - FIRST_SEED,
        "environment": Environment.current().to_json(),
    }
    out = options.weights.with_name(f"{options.weights.stem}_scores.json")
    out.write_text(json.dumps(document, indent=1) + "\n")
    for name, ways in document["sources"].items():
        print(name)
        for way, row in ways.items():
            print(f"  {way:12} {row}")
    print(document["refinement_ms"], out)


def read_net(weights: Path) -> EdgeNet:
    """A network of the widths that stand beside its weights."""
    settings = json.loads(weights.with_suffix(".json").read_text())
    net = EdgeNet(settings["widths"])
    net.load_state_dict(load_file(weights))
    return net.eval()


def compare(
    images: torch.Tensor,
    low: sr.DensePass,
    truth: Truth,
    net: EdgeNet,
    milliseconds: dict[str, list[float]],
) -> dict[str, AlphaScores]:
    """Scores of each way on one composite."""
    found = {}
    for way in WAYS:
        start = time.perf_counter()
        if way == "edges":
            matte = refine_alpha(images, low, method="edges", net=net, clean_colors=False)
        else:
            matte = refine_alpha(images, low, method=way, clean_colors=False)
        milliseconds[way].append(1000 * (time.perf_counter() - start))
        found[way] = truth.score(matte.alpha)
    return found


def summary(rows: list[dict[str, AlphaScores]]) -> dict[str, dict[str, float | str]]:
    """Medians of each way, and on how many composites `edges` is better."""
    ways: dict[str, dict[str, float | str]] = {}
    for way in WAYS:
        ious = [row[way].boundary_iou for row in rows]
        errors = [row[way].mae for row in rows]
        better = sum(row["edges"].boundary_iou > row[way].boundary_iou for row in rows)
        nearer = sum(row["edges"].mae < row[way].mae for row in rows)
        ways[way] = {
            "boundary_iou": round(median(ious), 3),
            "mae": round(median(errors), 2),
            "edges_better": f"{better} and {nearer} of {len(rows)}",
        }
    return ways


if __name__ == "__main__":
    main()
