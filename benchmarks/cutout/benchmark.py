"""Alpha at full resolution from a low-resolution prediction: ways compared on known alpha.

    make cutout-bench FOREGROUNDS="FOLDER ..." BACKGROUNDS=FOLDER [ISNET=FILE] [VITMATTE=FOLDER]

The composites (composites.py) are of foregrounds and photos of the test split, and those on which
each model sees the right thing: where it does not, no refinement helps. Rows of rembg need rembg,
peaks are of a fresh process each. Writes results/cutout.json; page.py makes docs/cutout.md of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from composites import MEGAPIXEL, Composite, Scene
from pictures import read_backgrounds, read_foregrounds
from scores import AlphaScores, Truth
from ways import (
    MOST_PIXELS_OF_CLOSED_FORM,
    REMBG_MODES,
    WAYS,
    Found,
    PeerWay,
    Source,
    closed_form_at_full_size,
    oracle,
    rembg,
    sources,
    vitmatte,
)

from sparserefine.environment import Environment

HERE = Path(__file__).parent
RESULT = HERE.parent / "results" / "cutout.json"
# Megapixels, and how many composites of each.
SIZES = {1.0: 30, 4.0: 16, 12.0: 8}
# Mean absolute error of the enlarged prediction, below which a model sees the right thing.
RIGHT = 0.04
# A band so wide takes minutes at full size.
WIDE = 0.25
FIRST_SEED = 40_000_000
# Its time and memory, as those of a way; the model's name does not matter.
VITMATTE = ("", 1024, "vitmatte")
ORDER = (
    "bilinear", "guided", "closed-form", "edges", "closed-form, full size", "oracle", "rembg",
    "rembg -a", "rembg -dc", "rembg -vm",
)  # fmt: skip


@dataclass
class Row:
    """What one way reached with one model at one size, composite by composite.

    Attributes:
        scores: Scores by the number of the composite.
        densities: Shares of the pixels that were looked at.
        stages_ms: Milliseconds of each stage, the dense model's included.
    """

    scores: dict[int, AlphaScores] = field(default_factory=dict)
    densities: list[float] = field(default_factory=list)
    stages_ms: list[dict[str, float]] = field(default_factory=list)

    def add(self, index: int, scores: AlphaScores, found: Found) -> None:
        """Add a composite."""
        self.scores[index] = scores
        self.densities.append(found.density)
        self.stages_ms.append(found.stages_ms)

    def to_json(self, alone: Row) -> dict[str, Any]:
        """Medians and quartiles, and how many composites are better than the model alone."""
        names = next(iter(self.scores.values())).to_json()
        columns = {name: [getattr(one, name) for one in self.scores.values()] for name in names}
        spread = {name: np.quantile(values, (0.25, 0.75)) for name, values in columns.items()}
        pairs = [(one, alone.scores[index]) for index, one in self.scores.items()]
        stages = {
            stage: median(each.get(stage, 0.0) for each in self.stages_ms)
            for stage in max(self.stages_ms, key=len)
        }
        return {
            "composites": len(self.scores),
            **{name: median(values) for name, values in columns.items()},
            "quartiles": {name: both.tolist() for name, both in spread.items()},
            "better": {
                "boundary_iou": sum(one.boundary_iou > other.boundary_iou for one, other in pairs),
                "mae": sum(one.mae < other.mae for one, other in pairs),
            },
            "density": median(self.densities),
            "stages_ms": stages,
            "total_ms": median(sum(each.values()) for each in self.stages_ms),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--foregrounds", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True, help="backgrounds")
    parser.add_argument("--isnet", type=Path, help="IS-Net's weights, .onnx or .safetensors")
    parser.add_argument("--vitmatte", type=Path, help="folder with ViTMatte-S; else only its time")
    parser.add_argument("--again", type=Path, help="result whose scenes and peaks are taken")
    parser.add_argument("--most", type=int, help="composites of each size; fewer for a trial")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    models = sources(options.isnet)
    kept = json.loads(options.again.read_text()) if options.again else {"sizes": {}}
    if options.again:
        scenes, tried = scenes_of(kept["seeds"], options), kept["tried"]
    else:
        scenes, tried = choose_scenes(models, options)
    document: dict[str, Any] = {
        "tried": tried,
        "seeds": [scene.seed for scene in scenes],
        "kinds": dict(count(scene.foreground.kind for scene in scenes)),
        "sizes": {},
    }
    for megapixels, number in SIZES.items():
        name = f"{megapixels:g}"
        chosen = scenes[: min(number, options.most or number)]
        peaks = peaks_in(kept["sizes"].get(name))
        document["sizes"][name] = measure(megapixels, chosen, models, peaks, options)
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(options.out)


def measure(
    megapixels: float,
    scenes: Sequence[Scene],
    models: Sequence[Source],
    peaks: dict[tuple[str, int, str], dict[str, float]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """All rows of one size. Peaks that are known are not measured again."""
    rows: dict[tuple[str, int, str], Row] = defaultdict(Row)
    has_rembg = importlib.util.find_spec("rembg") is not None
    peers = peer_ways(megapixels, options.vitmatte) if has_rembg else {}
    for index, scene in enumerate(scenes):
        for key, scores, found in compare(scene.render(megapixels), models, peers):
            rows[key].add(index, scores, found)
        told(f"{megapixels:g} megapixels", index + 1, len(scenes))
    wanted = [key for key in rows if key[2] in WAYS or key[2] in ("rembg", "rembg -a", "rembg -dc")]
    missing = [key for key in (*wanted, VITMATTE) if key not in peaks]
    if missing:
        told(f"{megapixels:g} megapixels, memory", 0, len(missing))
        peaks = peaks | peaks_of(scenes[0], megapixels, missing, options.isnet)
    return {
        "rows": [
            {
                "model": model,
                "side": side,
                "way": way,
                **row.to_json(rows[model, side, "bilinear"]),
                "peak_mib": peaks.get((model, side, way), {}).get("mib"),
            }
            for (model, side, way), row in sorted(rows.items(), key=lambda item: order(item[0]))
        ],
        "vitmatte": peaks.get(VITMATTE),
        "environment": Environment.current().to_json(),
    }


def order(key: tuple[str, int, str]) -> tuple[bool, int, int]:
    """Where a row stands: U²-Net-p first, by size, the model alone before what is made of it."""
    model, side, way = key
    return model != "u2netp", side, ORDER.index(way)


def peaks_in(size: dict[str, Any] | None) -> dict[tuple[str, int, str], dict[str, float]]:
    """The peaks that a result file has of one size."""
    if size is None:
        return {}
    found = {
        (row["model"], row["side"], row["way"]): {"mib": row["peak_mib"]}
        for row in size["rows"]
        if row["peak_mib"] is not None
    }
    return found | ({VITMATTE: size["vitmatte"]} if size["vitmatte"] else {})


def scenes_of(seeds: Sequence[int], options: argparse.Namespace) -> list[Scene]:
    """The scenes of some seeds."""
    foregrounds = read_foregrounds(options.foregrounds, "test")
    backgrounds = read_backgrounds(options.photos, "test")
    return [Scene.draw(seed, foregrounds, backgrounds) for seed in seeds]


def choose_scenes(models: Sequence[Source], options: argparse.Namespace) -> tuple[list[Scene], int]:
    """Scenes in the order of their seeds on which each model sees the right thing; how many tried.

    IS-Net is asked at its own size.
    """
    foregrounds = read_foregrounds(options.foregrounds, "test")
    backgrounds = read_backgrounds(options.photos, "test")
    judges = [source for source in models if source.side in (320, 1024)]
    wanted = min(max(SIZES.values()), options.most or max(SIZES.values()))
    scenes, tried = [], 0
    while len(scenes) < wanted:
        if tried > 50 * wanted:
            raise SystemExit(f"the models see the right thing in {len(scenes)} of {tried} scenes")
        scene = Scene.draw(FIRST_SEED + tried, foregrounds, backgrounds)
        tried += 1
        composite = scene.render(1.0)
        images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
        truth = torch.from_numpy(composite.alpha)
        if bool((truth > 0.5).any()) and all(
            sees_the_right_thing(judge, images, truth) for judge in judges
        ):
            scenes.append(scene)
            told("choosing scenes", len(scenes), wanted)
    return scenes, tried


def sees_the_right_thing(source: Source, images: torch.Tensor, truth: torch.Tensor) -> bool:
    """Whether what a model predicts, enlarged, is near the truth."""
    low, _ = source.predict(images)
    return float((WAYS["bilinear"](images, low).alpha - truth).abs().mean()) < RIGHT


def compare(
    composite: Composite, models: Sequence[Source], peers: Mapping[str, PeerWay]
) -> Iterator[tuple[tuple[str, int, str], AlphaScores, Found]]:
    """Every way of every model on one composite."""
    images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
    truth = Truth(torch.from_numpy(composite.alpha))
    small = truth.alpha.numel() <= MOST_PIXELS_OF_CLOSED_FORM
    for source in models:
        low, dense_ms = source.predict(images)
        found = {way: run(images, low) for way, run in WAYS.items()}
        if small and found["closed-form"].density < WIDE:
            found["closed-form, full size"] = closed_form_at_full_size(images, low)
        found["oracle"] = oracle(found["closed-form"], truth.alpha)
        if source.name == "u2netp":
            found |= {way: run(composite.image, low) for way, run in peers.items()}
        for way, one in found.items():
            timed = replace(one, stages_ms={**dense_ms, **one.stages_ms})
            yield (source.name, source.side, way), truth.score(one.alpha), timed


def peer_ways(megapixels: float, weights: Path | None) -> dict[str, PeerWay]:
    """What rembg makes of a prediction, by name."""
    small = megapixels * MEGAPIXEL <= MOST_PIXELS_OF_CLOSED_FORM
    ways: dict[str, PeerWay] = {
        f"rembg {mode}".strip(): partial(rembg, mode=mode)
        for mode in REMBG_MODES
        if small or mode != "-a"
    }
    return ways if weights is None else {**ways, "rembg -vm": vitmatte(weights)}


def peaks_of(
    scene: Scene, megapixels: float, ways: Iterable[tuple[str, int, str]], isnet: Path | None
) -> dict[tuple[str, int, str], dict[str, float]]:
    """MiB and milliseconds of each way in a process of its own, by model, side and way."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.npy"
        np.save(image, scene.render(megapixels).image)
        for model, side, way in ways:
            command = [sys.executable, str(HERE / "peak.py"), str(image), model, str(side), way]
            if isnet is not None:
                command += ["--isnet", str(isnet)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                found[model, side, way] = json.loads(done.stdout)
            else:
                print(done.stderr.splitlines()[-1:], file=sys.stderr)
    return found


def count(names: Iterator[str]) -> Iterator[tuple[str, int]]:
    """Each name and how often it comes, sorted."""
    values, counts = np.unique(list(names), return_counts=True)
    return zip(values.tolist(), counts.tolist(), strict=True)


def told(what: str, done: int, total: int) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {what}: {done} of {total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
