"""How much `edges` gains by how wrong the mask is, on composites of people and products.

    python benchmarks/edges/mask_error.py --foregrounds FOLDER --photos FOLDER [--isnet FILE]
        [--scenes 150]
    python benchmarks/edges/mask_error.py --page          # only write the table into the docs

A mask that misses a part pulls every way down alike, so a median over all masks says more of the
masks than of the ways. Scenes and scores are those of evaluate.py, at one megapixel; the
masks are grouped by their own mean error. Writes results/edges_mask_error.json and docs/refine.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sparserefine.environment import Environment
from sparserefine.refinement.shipped_edges import shipped_net

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout"))
from composites import Scene
from pictures import read_backgrounds, read_foregrounds
from scores import Truth
from ways import make_source

from section import with_section

from evaluate import (  # isort: skip
    FIRST_SEED,
    ISNET,
    PAGE,
    RIGHT,
    ROOT,
    U2NETP,
    WAYS,
    compare,
    mask_error,
    masks,
    summary,
    without_paths,
)

RESULT = ROOT / "benchmarks" / "results" / "edges_mask_error.json"
# Upper ends of the groups, in mean absolute error of the mask; the last is where a mask is taken
# to be of another thing.
GROUPS = (0.01, 0.02, RIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--foregrounds", type=Path, nargs="+")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--isnet", type=Path)
    parser.add_argument("--scenes", type=int, default=150, help="composites that are tried")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if not options.page:
        if options.foregrounds is None or options.photos is None:
            parser.error("--foregrounds and --photos say where the pictures are")
        RESULT.write_text(json.dumps(measured(options), indent=1) + "\n")
        print(RESULT)
    write_page(json.loads(RESULT.read_text()))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Scores of all ways by source and by how wrong the mask is."""
    foregrounds = read_foregrounds(options.foregrounds, "test")
    backgrounds = read_backgrounds(options.photos, "test")
    small = make_source("u2netp", 320, None)
    large = None if options.isnet is None else make_source("isnet", 512, options.isnet)
    sources = [U2NETP] if large is None else [U2NETP, ISNET]
    net = shipped_net()
    found: dict[str, list[tuple[float, dict[str, Any]]]] = {name: [] for name in sources}
    for seed in range(FIRST_SEED, FIRST_SEED + options.scenes):
        composite = Scene.draw(seed, foregrounds, backgrounds).render(1.0)
        images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
        truth = Truth(torch.from_numpy(composite.alpha))
        for name, low in masks(images, truth.alpha, sources, small, large, seed):
            error = mask_error(low, truth.alpha)
            if error < RIGHT:
                found[name].append((error, compare(images, low, truth, net)))
        counts = {name: len(rows) for name, rows in found.items()}
        print(f"{seed - FIRST_SEED + 1} scenes: {counts}", file=sys.stderr, flush=True)
    arguments = shlex.join(without_paths(sys.argv[1:]))
    return {
        "sources": {name: grouped(rows) for name, rows in found.items()},
        "command": f"python benchmarks/edges/mask_error.py {arguments}",
        "environment": Environment.current().to_json(),
    }


def grouped(rows: list[tuple[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Medians of each group that has a mask."""
    groups = []
    for low, high in zip((0.0, *GROUPS), GROUPS, strict=False):
        own = [(error, scores) for error, scores in rows if low <= error < high]
        if own:
            wrong = 1000 * median(error for error, _ in own)
            groups.append({"mask_error": wrong, **summary([scores for _, scores in own])})
    return groups


def write_page(document: dict[str, Any]) -> None:
    """Replace the table in the docs."""
    lines = ["| from | mask's error | " + " | ".join(WAYS) + " | `edges` better than closed-form |"]
    lines += ["|---|---|" + "---|" * (len(WAYS) + 1)]
    for name, groups in document["sources"].items():
        for group in groups:
            cells = [f"{group[way]['boundary_iou']:.3f} · {group[way]['mae']:.1f}" for way in WAYS]
            closed = group["closed-form"]
            better = f"{closed['edges_better']}, {closed['edges_nearer']} of {group['composites']}"
            lines.append(f"| {name} | {group['mask_error']:.1f} | {' | '.join(cells)} | {better} |")
    lines += ["", f"`{document['command']}`, commit {document['environment']['commit']}."]
    figures = "\n".join(lines)
    PAGE.write_text(with_section(PAGE.read_text(), "benchmarks/edges/mask_error.py", figures))


if __name__ == "__main__":
    main()
