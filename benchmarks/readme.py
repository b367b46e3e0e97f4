"""Write the figures of the README and of docs/own-refiner.md from result files.

    make demo
    python benchmarks/readme.py --demo out/demo --held-out out/demo-train/held_out.json

The files are kept: results/demo.json, results/demo_held_out.json (demo_without_lund.json … of runs
without an origin), docs/detail.jpg, docs/cutout_wren.jpg. Without options the sections are made
anew from those and from results/large_photo.json, edges.json and refine.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image

from section import with_section
from spread import shown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OWN = ROOT / "docs" / "own-refiner.md"
SCRIPT = "benchmarks/readme.py"
# Rows and columns of the README's table of masks; docs/refine.md has all.
SIZES, SOURCES = ("1", "12"), ("U²-Net-p 320", "IS-Net 512", "SAM-like 256", "drawn by hand")
# What the demo draws, and what the pages show of it.
PICTURES = {"detail.png": "detail.jpg", "cutout_before_after.png": "cutout_wren.jpg"}
PEER = "ViTMatte-S"
SHOWN = {"bilinear": "enlarged", "guided": "guided filter", "edges": "`sparserefine`"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="folder that `sparserefine demo` wrote")
    parser.add_argument(
        "--held-out", type=Path, nargs="*", default=[], help="files that runs/train_demo.py wrote"
    )
    options = parser.parse_args()
    if options.demo:
        shutil.copy(options.demo / "result.json", RESULTS / "demo.json")
        for name, kept in PICTURES.items():
            with Image.open(options.demo / name) as picture:
                picture.thumbnail((1600, 1600))
                picture.convert("RGB").save(ROOT / "docs" / kept, quality=88)
    for path in options.held_out:
        _, _, without = json.loads(path.read_text())["command"].partition("--without ")
        name = f"demo_without_{without}.json" if without else "demo_held_out.json"
        shutil.copy(path, RESULTS / name)
    readme = ROOT / "README.md"
    readme.write_text(with_section(readme.read_text(), SCRIPT, masks()))
    OWN.write_text(with_section(OWN.read_text(), SCRIPT, figures()))


def masks() -> str:
    """What refining is worth by where a mask is from, and what it takes."""
    quality, speed = (
        json.loads((RESULTS / f"{name}.json").read_text()) for name in ("edges", "refine")
    )
    lines = [("boundary IoU at 3 px · mean error × 1000", *SHOWN.values()), ("---",) * 4]
    for megapixels in SIZES:
        for name in SOURCES:
            ways = quality["sizes"][megapixels]["sources"][name]
            cells = (f"{ways[way]['boundary_iou']:.2f} · {ways[way]['mae']:.1f}" for way in SHOWN)
            lines.append((f"{name}, {megapixels} MP", *cells))
    counts = " and ".join(
        str(quality["sizes"][size]["sources"][SOURCES[0]]["composites"]) for size in SIZES
    )
    found = [
        (megapixels, one) for megapixels, masks in speed["sizes"].items() for one in masks.values()
    ]
    times = ", ".join(
        f"{megapixels} MP in {_seconds(one, 'edges'):.2f} s ({one['density']:.0%} of it refined)"
        for megapixels, one in found
    )
    ratios = [f"{_seconds(one, PEER) / _seconds(one, 'edges'):.0f}" for _, one in found]
    text = (
        f"Medians of {counts} composites with known alpha that training has not seen "
        f"([docs/refine.md](docs/refine.md), commit {quality['environment']['commit']}); {times} "
        f"on {speed['environment']['device']}, {speed['threads']} threads, where {PEER}, with "
        f"random weights and always at 1024², takes {', '.join(ratios)} times as long."
    )
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    words = (text, where_it_does_not_pay())
    return "\n" + table + "\n" + "\n\n".join(textwrap.fill(one, 118) for one in words) + "\n\n"


def _seconds(found: dict[str, Any], way: str) -> float:
    return found["ways"][way]["p50_ms"] / 1000


def where_it_does_not_pay() -> str:
    """A sentence on light dense models, from the frontier of the shipped pair."""
    frontier = json.loads((RESULTS / "frontier_street.json").read_text())
    demo = json.loads((RESULTS / "demo.json").read_text())
    ends = [
        f"{win['start']:.0f} ms on" if win["end"] is None
        else f"{win['start']:.0f} to {win['end']:.0f} ms"
        for win in frontier["wins"]
    ]  # fmt: skip
    but = f", but for budgets of {' and '.join(ends)}," if ends else ""
    times = demo["full_res"]["total_ms"] / demo["total_ms"]
    return (
        f"**It does not pay** to refine a dense model as light as ESPNetv2-2.0, which at full "
        f"resolution takes only {times:.1f} times as long as refined: in the same time{but} a "
        "larger input is at least as accurate ([docs/frontier.md](docs/frontier.md))."
    )


def figures() -> str:
    demo, held_out, large = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("demo", "demo_held_out", "large_photo")
    )
    left_out = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("demo_without_*"))]
    return (
        "\n" + _table(demo, held_out, large) + "\n" + _notes(demo, held_out, large, left_out) + "\n"
    )


def _table(demo: dict[str, Any], held_out: dict[str, Any], large: dict[str, Any]) -> str:
    rows, images = held_out["rows"], len(held_out["images"])
    stages = demo["stages_ms"]
    low_ms = stages["resize"] + stages["dense"]
    shares = ("agreement", "miou")
    agreement, miou = (
        [f"{rows[row][share]:.1%}" for row in ("low_res_bilinear", "refined")] for share in shares
    )
    ms = [f"{low_ms:.0f} ms", *(f"{shown(one, 'total_ms')} ms" for one in (demo, demo["full_res"]))]
    seconds = [f"{shown(large['ms'], s, '.1f', 1e-3)} s" for s in ("refined", "full_res")]
    lines = [
        ("ESPNetv2-2.0, the shipped pair", "low resolution", "refined", "full resolution"),
        ("---",) * 4,
        (f"labels as at full resolution, {images} held-out photos", *agreement, "100%"),
        ("mIoU, taking those labels for the truth", *miou, "100%"),
        (f"one photo of {demo['width']}×{demo['height']}", *ms),
        (f"one photo of {large['width']}×{large['height']}", "", *seconds),
    ]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _notes(
    demo: dict[str, Any],
    held_out: dict[str, Any],
    large: dict[str, Any],
    left_out: list[dict[str, Any]],
) -> str:
    rows, images = held_out["rows"], held_out["images"]
    gained = sum(image["refined"] > image["low_res_bilinear"] for image in images)
    environment = demo["environment"]
    text = (
        f"{environment['device']}, {environment['threads']} threads, torch "
        f"{environment['torch']}, commit {environment['commit']}; medians "
        f"(95th percentiles) of {demo['rounds']} and {large['rounds']} rounds; mean density "
        f"{held_out['density']:.1%}; better on {gained} of {len(images)} photos. The sparse U-Net "
        f"alone has {rows['refinement_only']['agreement']:.1%} and mIoU "
        f"{rows['refinement_only']['miou']:.1%}; every selected pixel right would be "
        f"{rows['oracle']['agreement']:.1%}. Peak memory of the large photo "
        f"{large['peak_mib']['refined'] / 1024:.1f} GiB, at full resolution "
        f"{large['peak_mib']['full_res'] / 1024:.1f}."
    )
    if left_out:
        places = ", ".join(_left_out(run) for run in left_out)
        text += f" Trained without a place, on that place: {places}."
    return textwrap.fill(text, 100) + "\n"


def _left_out(run: dict[str, Any]) -> str:
    low, refined = (run["rows"][row]["agreement"] for row in ("low_res_bilinear", "refined"))
    return f"{run['training']['without']} {low:.1%} to {refined:.1%}"


if __name__ == "__main__":
    main()
