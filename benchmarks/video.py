"""Videos: what holding labels where the picture does not change saves, and what it costs.

    python benchmarks/video.py [--frames 24] [--rounds 7] [--size 720]
    python benchmarks/video.py --page           # only write the figures into the docs

Two clips: a drive (highway.mp4 of the experiment data; without it the shipped photo of a highway,
panned), and a still camera: a shipped photo with sensor noise, before which a patch of another
photo moves for the first half of the time and then rests. Each is segmented with several least
changes of a cell, and predicting every n-th frame; all of that beside predicting every frame.

Time is processor time, as other programs may run beside. What holding costs is the share of labels
that are not those of predicting every frame. Accuracy is the share that is as the dense model says
of the frame at full resolution, of the still camera without its noise. Flicker is the share of
labels that differ from those of the frame before where the picture does not: off the patch of the
still camera; in the drive where the means of 8×8 pixels and of their neighbors differ by less than
2 levels of 255. Writes results/video.json and docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image

import sparserefine as sr
from section import made_on, with_section
from sparserefine.environment import Environment
from sparserefine.photos.shipped import shipped_photo
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.video.changes import CHANGE, cell_means, pixels_of, widened
from sparserefine.video.held import HeldPrediction
from sparserefine.video.source import Frame, VideoSource
from spread import shown, spread

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "video.json"
PAGE = ROOT / "docs" / "scale.md"
DRIVE = ROOT.parent / "shared" / "data" / "street-free" / "highway.mp4"
CHANGES, EVERY = (0.0, 2.0, 3.0, 4.0, 6.0, 8.0), (2, 4)
NOISES = (3.0, 6.0)
UNCHANGED = 2.0
PATCH = (120, 160)

Mask = Callable[[int], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each setting")
    parser.add_argument("--size", type=int, default=720, help="height of the frames; 16:9")
    parser.add_argument("--drive", type=Path, default=DRIVE)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page:
        model = with_fast_dense(sr.load("demo"))
        size = (options.size, options.size * 16 // 9)
        frames, name = drive(options.drive, options.frames, size)
        rounds, truth = options.rounds, at_full_size(model, frames)
        clips = [measured(model, name, frames, unchanged(frames), truth, rounds)]
        clean, _ = still_camera(options.frames, size, 0.0)
        truth = at_full_size(model, clean)
        for noise in NOISES:
            frames, still = still_camera(options.frames, size, noise)
            name = f"Still camera, noise {noise:g}"
            clips.append(measured(model, name, frames, still, truth, rounds))
        document = {
            "frames": options.frames,
            "rounds": rounds,
            "size": size,
            "default": CHANGE,
            "clips": clips,
            "environment": Environment.current().to_json(),
        }
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(figures())


def drive(path: Path, count: int, size: tuple[int, int]) -> tuple[list[np.ndarray], str]:
    """The first frames of the clip, or of a photo that is panned; and what they are called."""
    if path.is_file():
        frames: list[np.ndarray] = []
        with VideoSource(path) as source:
            for item in source.read():
                if isinstance(item, Frame):
                    frames.append(resized(Image.fromarray(item.image), size))
                if len(frames) == count:
                    break
        return frames, path.name
    photo = (
        Image.open(shipped_photo("highway")).convert("RGB").resize((size[1] + 8 * count, size[0]))
    )
    crops = [photo.crop((8 * i, 0, 8 * i + size[1], size[0])) for i in range(count)]
    return [np.asarray(crop).copy() for crop in crops], "a photo, panned"


def still_camera(count: int, size: tuple[int, int], noise: float) -> tuple[list[np.ndarray], Mask]:
    """Frames of a still camera, and where each shows what the one before does."""
    generator = np.random.default_rng(0)
    behind = resized(Image.open(shipped_photo("lund")).convert("RGB"), size)
    patch = resized(Image.open(shipped_photo("wren")).convert("RGB"), PATCH)
    top = size[0] // 2
    lefts = [40 + 12 * min(index, count // 2) for index in range(count)]

    def at(left: int, margin: int = 0) -> tuple[slice, slice]:
        rows = slice(top - margin, top + PATCH[0] + margin)
        return rows, slice(left - margin, left + PATCH[1] + margin)

    frames = []
    for left in lefts:
        frame = behind.astype(np.float64)
        frame[at(left)] = patch
        frame += generator.normal(0, noise, frame.shape)
        frames.append(frame.round().clip(0, 255).astype(np.uint8))

    def still(index: int) -> np.ndarray:
        mask = np.ones(size, bool)
        if lefts[index] != lefts[index - 1]:
            mask[at(lefts[index], 16)] = mask[at(lefts[index - 1], 16)] = False
        return mask

    return frames, still


def unchanged(frames: Sequence[np.ndarray]) -> Mask:
    """Where each frame shows what the one before does, as far as means of cells tell."""

    def still(index: int) -> np.ndarray:
        pair = np.stack([frames[index - 1], frames[index]])
        means = cell_means(torch.from_numpy(pair).permute(0, 3, 1, 2))
        moved = ((means[1] - means[0]).abs() >= UNCHANGED).any(0)
        return ~pixels_of(widened(moved), pair.shape[1:3]).numpy()

    return still


def resized(photo: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(photo.resize((size[1], size[0]), Image.Resampling.LANCZOS)).copy()


def at_full_size(model: sr.SparseRefiner, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Labels of the dense model at full resolution, of each frame."""
    labels = []
    for frame in frames:
        images = torch.from_numpy(frame).permute(2, 0, 1)[None]
        with torch.no_grad():
            labels.append(model.full_resolution_labels(images)[0].numpy())
    return labels


def measured(
    model: sr.SparseRefiner,
    name: str,
    frames: Sequence[np.ndarray],
    still: Mask,
    truth: Sequence[np.ndarray],
    rounds: int,
) -> dict[str, Any]:
    model.predict(frames[0])  # warms up
    masks = [still(index) for index in range(1, len(frames))]
    settings = [{"change": change, "every": 1} for change in CHANGES]
    settings += [{"change": 0.0, "every": every} for every in EVERY]
    settings += [{"change": CHANGE, "every": EVERY[0]}]
    reference: list[np.ndarray] = []
    rows = []
    again = [
        [segmented(model, frames, **setting)[1]["cpu_ms"] for setting in settings]
        for _ in range(rounds - 1)
    ]
    for index, setting in enumerate(settings):
        labels, row = segmented(model, frames, **setting)
        times = [row["cpu_ms"], *(turn[index] for turn in again)]
        reference = reference or labels
        pairs = zip(labels[1:], labels[:-1], masks, strict=True)
        flicker = [float((now != before)[mask].mean()) for now, before, mask in pairs if mask.any()]
        rows.append(
            setting
            | row
            | spread(times, "cpu_ms")
            | {
                "agreement": alike(labels, reference),
                "accuracy": alike(labels, truth),
                "flicker": mean(flicker),
            }
        )
        print(name, rows[-1], flush=True)
    return {"name": name, "still": mean(float(mask.mean()) for mask in masks), "rows": rows}


def alike(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Share of equal labels, mean of the frames."""
    return mean(float((a == b).mean()) for a, b in zip(some, others, strict=True))


def segmented(
    model: sr.SparseRefiner, frames: Sequence[np.ndarray], change: float, every: int
) -> tuple[list[np.ndarray], dict[str, float]]:
    """Labels of each frame, and what they cost."""
    held = HeldPrediction(model, alpha=False, change=change)
    labels, renewed, density, dense = [], 0.0, 0.0, 0
    start = time.process_time()
    for index, frame in enumerate(frames):
        found = held.last
        if found is None or index % every == 0:
            found = held.predict(frame)
        labels.append(found.labels)
        renewed += found.renewed
        density += found.density
        dense += found.renewed > 0
    count = len(frames)
    return labels, {
        "cpu_ms": 1000 * (time.process_time() - start) / count,
        "dense": dense / count,
        "renewed": renewed / count,
        "density": density / count,
    }


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result file."""
    return with_section(text, "benchmarks/video.py", figures())


def figures() -> str:
    result = json.loads(RESULT.read_text())
    lines = []
    for clip in result["clips"]:
        rows = clip["rows"]
        names = ["`--change`", "`--every`", "dense runs", "labeled anew", "refined", "ms a frame"]
        names += ["saved", "labels as of every frame", "as at full resolution", "flicker"]
        lines += [
            f"**{clip['name']}**: {clip['still']:.0%} of the picture is as in the frame before.",
            "",
            f"| {' | '.join(names)} |",
            "|---" * len(names) + "|",
        ]
        for row in rows:
            cells = [f"{row['change']:g}", str(row["every"]), f"{row['dense']:.0%}"]
            cells += [f"{row['renewed']:.0%}", f"{row['density']:.1%}", shown(row, "cpu_ms")]
            cells.append(f"{1 - row['cpu_ms'] / rows[0]['cpu_ms']:.0%}")
            shares = (row.get(name) for name in ("agreement", "accuracy", "flicker"))
            cells += ["–" if share is None else f"{share:.2%}" for share in shares]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        f"{result['frames']} frames of {result['size'][1]}×{result['size'][0]} each, the pair "
        f"`demo`, medians (95th percentiles) of {result['rounds']} runs; processor time, "
        f"without decoding and encoding. The default is `--change {result['default']:g}`. "
        f"{made_on(result['environment'])}",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
