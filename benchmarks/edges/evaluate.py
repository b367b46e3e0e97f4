"""`edges` beside closed form, the guided filter and enlarging, on composites nobody trained on.

    python benchmarks/edges/evaluate.py --foregrounds FOLDER ... --photos FOLDER [--isnet FILE]
        [--weights FILE] [--megapixels 1 4 12] [--count 30 14 6] [--add [--sources NAME ...]]
    python benchmarks/edges/evaluate.py --page            # only write the tables into the docs

Foregrounds and photos are of the test split. Of the masks of a dense model those count on which it
sees the right thing; "hard" is U²-Net-p's, above one half or not; the other sources are those of
masks.py. Writes results/edges.json and docs/refine.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.environment import Environment
from sparserefine.refinement.alpha import Method, refine_alpha
from sparserefine.refinement.edge_net import EdgeNet
from sparserefine.refinement.shipped_edges import shipped_net

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout"))
from composites import Scene
from pictures import read_backgrounds, read_foregrounds
from scores import AlphaScores, Truth
from ways import Source, make_source

from section import with_section

from masks import drawn_mask, right_mask, sam_like_mask, simulated_mask  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "edges.json"
PAGE = ROOT / "docs" / "refine.md"

FIRST_SEED = 61_000_000
# Masks of dense models further from the truth, in mean absolute error, see another thing.
RIGHT = 0.04
WAYS: tuple[Method, ...] = ("bilinear", "guided", "closed-form", "edges")
U2NETP, HARD, ISNET = "U²-Net-p 320", "U²-Net-p 320, hard", "IS-Net 512"
DRAWN, SAM, SIMULATED = "drawn by hand", "SAM-like 256", "simulated"
HARD_TRUTH, SOFT_TRUTH = "right already, hard", "right already, soft"
SOURCES = (U2NETP, HARD, DRAWN, SAM, SIMULATED, HARD_TRUTH, SOFT_TRUTH, ISNET)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, help="default: those that ship")
    parser.add_argument("--foregrounds", type=Path, nargs="+", default=[])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--isnet", type=Path)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.0])
    text = "composites of each source of masks: of all sizes, or of each"
    parser.add_argument("--count", type=int, nargs="+", default=[30], help=text)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument(
        "--add", action="store_true", help="keep what --out has of other sizes and sources"
    )
    parser.add_argument(
        "--sources", nargs="+", choices=SOURCES, default=SOURCES, help="default: all"
    )
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if options.page:
        write_page(json.loads(RESULT.read_text()))
        return
    if options.isnet is None and options.sources == [ISNET]:
        parser.error(f"{ISNET} needs its file: --isnet")
    number = len(options.megapixels)
    counts = options.count * number if len(options.count) == 1 else options.count
    if len(counts) != number:
        parser.error(f"--count: got {len(counts)} for {number} sizes; give one, or one each")
    net = shipped_net() if options.weights is None else read_net(options.weights)
    kept = json.loads(options.out.read_text()) if options.add else {"sizes": {}}
    sizes = kept["sizes"]
    for size, count in zip(options.megapixels, counts, strict=True):
        found = evaluate(size, count, options, net)
        before = sizes.get(f"{size:g}", found)
        known = before["sources"] | found["sources"]
        own = {name: known[name] for name in SOURCES if name in known}
        # How many were tried, and the time, are of a run with all sources.
        facts = found if set(known) == set(found["sources"]) else before
        sizes[f"{size:g}"] = facts | {"sources": own}
    command = "python benchmarks/edges/evaluate.py " + shlex.join(without_paths(sys.argv[1:]))
    environment = Environment.current().to_json()
    if options.add:
        of_before = f"{kept['command']} at {kept['environment']['commit']}"
        command = f"{of_before}; then {command}"
    document = {
        "sizes": dict(sorted(sizes.items(), key=_megapixels)),
        "command": command,
        "environment": environment,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    if options.out == RESULT:
        write_page(document)
    print("\n".join(_tables(document)))
    print(options.out)


def _megapixels(size: tuple[str, object]) -> float:
    return float(size[0])


def read_net(weights: Path) -> EdgeNet:
    """A network of the widths that stand beside its weights."""
    settings = json.loads(weights.with_suffix(".json").read_text())
    net = EdgeNet(settings["widths"])
    net.load_state_dict(load_file(weights))
    return net.eval()


def evaluate(
    megapixels: float, count: int, options: argparse.Namespace, net: EdgeNet
) -> dict[str, Any]:
    """Scores of all ways and sources at one size, on `count` composites of each source."""
    foregrounds = read_foregrounds(options.foregrounds, "test")
    backgrounds = read_backgrounds(options.photos, "test")
    sources = [name for name in options.sources if name != ISNET or options.isnet is not None]
    small = make_source("u2netp", 320, None)
    large = make_source("isnet", 512, options.isnet) if ISNET in sources else None
    scores: dict[str, list[dict[str, AlphaScores]]] = defaultdict(list)
    milliseconds: dict[str, list[float]] = defaultdict(list)
    seed = FIRST_SEED
    while any(len(scores[name]) < count for name in sources):
        composite = Scene.draw(seed, foregrounds, backgrounds).render(megapixels)
        images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
        truth = Truth(torch.from_numpy(composite.alpha))
        wanted = [name for name in sources if len(scores[name]) < count]
        for name, low in masks(images, truth.alpha, wanted, small, large, seed):
            if mask_error(low, truth.alpha) < RIGHT:
                scores[name].append(compare(images, low, truth, net, milliseconds))
        seed += 1
        counts = {name: len(scores[name]) for name in sources}
        print(
            f"{megapixels:g} MP, {seed - FIRST_SEED} scenes: {counts}", file=sys.stderr, flush=True
        )
    return {
        "sources": {name: summary(scores[name]) for name in sources},
        "refinement_ms": {way: median(values) for way, values in milliseconds.items()},
        "tried": seed - FIRST_SEED,
    }


def masks(
    images: Tensor,
    alpha: Tensor,
    wanted: list[str],
    small: Source,
    large: Source | None,
    seed: int,
) -> Iterator[tuple[str, sr.DensePass]]:
    """Coarse masks of one composite by the name of their source."""
    if U2NETP in wanted or HARD in wanted:
        low, _ = small.predict(images)
        if U2NETP in wanted:
            yield U2NETP, low
        if HARD in wanted:
            yield HARD, sr.DensePass.of(low.logits.argmax(1) == 1, kind="mask")
    if ISNET in wanted and large is not None:
        yield ISNET, large.predict(images)[0]
    made = {DRAWN: drawn_mask, SAM: sam_like_mask, SIMULATED: simulated_mask}
    for name, make in made.items():
        if name in wanted:
            yield name, make(alpha, random.Random(seed))
    if HARD_TRUTH in wanted:
        yield HARD_TRUTH, sr.DensePass.of(alpha > 0.5, kind="mask")
    if SOFT_TRUTH in wanted:
        yield SOFT_TRUTH, right_mask(alpha)


def mask_error(low: sr.DensePass, alpha: Tensor) -> float:
    """Mean absolute error of a mask, enlarged bilinearly."""
    coarse = F.interpolate(low.logits.softmax(1)[:, 1:], tuple(alpha.shape), mode="bilinear")
    return float((coarse[0, 0] - alpha).abs().mean())


def compare(
    images: Tensor,
    low: sr.DensePass,
    truth: Truth,
    net: EdgeNet,
    milliseconds: dict[str, list[float]] | None = None,
) -> dict[str, AlphaScores]:
    """Scores of each way on one composite; adds how long each took to what is given."""
    found = {}
    for way in WAYS:
        start = time.perf_counter()
        own = net if way == "edges" else None
        matte = refine_alpha(images, low, method=way, net=own, clean_colors=False)
        if milliseconds is not None:
            milliseconds[way].append(1000 * (time.perf_counter() - start))
        found[way] = truth.score(matte.alpha)
    return found


def summary(rows: list[dict[str, AlphaScores]]) -> dict[str, Any]:
    """Medians of each way, and on how many composites `edges` is better and worse."""
    ways: dict[str, Any] = {"composites": len(rows)}
    for way in WAYS:
        ours, theirs = [row["edges"] for row in rows], [row[way] for row in rows]
        pairs = list(zip(ours, theirs, strict=True))
        ways[way] = {
            "boundary_iou": median(one.boundary_iou for one in theirs),
            "mae": median(one.mae for one in theirs),
            "edges_better": sum(one.boundary_iou > other.boundary_iou for one, other in pairs),
            "edges_worse": sum(one.boundary_iou < other.boundary_iou for one, other in pairs),
            "edges_nearer": sum(one.mae < other.mae for one, other in pairs),
        }
    return ways


def write_page(document: dict[str, Any]) -> None:
    """Replace the tables in the docs."""
    environment = document["environment"]
    lines = [*_tables(document), f"`{document['command']}`, commit {environment['commit']}."]
    figures = "\n".join(lines)
    PAGE.write_text(with_section(PAGE.read_text(), "benchmarks/edges/evaluate.py", figures))


def _tables(document: dict[str, Any]) -> list[str]:
    lines = []
    for megapixels, size in document["sizes"].items():
        lines += [f"| {megapixels} MP, from | " + " | ".join(WAYS) + " | `edges` better than |"]
        lines += ["|---|" + "---|" * (len(WAYS) + 1)]
        for name, ways in size["sources"].items():
            cells = [f"{ways[way]['boundary_iou']:.3f} · {ways[way]['mae']:.1f}" for way in WAYS]
            better = ", ".join(
                f"{way} {ways[way]['edges_better']}, {ways[way]['edges_nearer']}"
                for way in WAYS[:-1]
            )
            lines.append(f"| {name} | {' | '.join(cells)} | {better} of {ways['composites']} |")
        lines.append("")
    return lines


def without_paths(arguments: list[str]) -> list[str]:
    """The options, without where things lie on this machine."""
    return [Path(one).name or one if "/" in one else one for one in arguments]


if __name__ == "__main__":
    main()
