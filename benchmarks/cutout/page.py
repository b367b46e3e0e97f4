"""docs/cutout.md, from what benchmark.py measured.

    python benchmarks/cutout/page.py
    python benchmarks/cutout/page.py --photos FOLDER        # its pictures too

The folder has the photos of PICTURES, of BuddiesOfBudgie/budgie-backgrounds (CC0 1.0).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

import sparserefine as sr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from section import with_section

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "cutout.json"
PAGE = ROOT / "docs" / "cutout.md"
MODELS = {"u2netp": "U²-Net-p", "isnet": "IS-Net"}
WAYS = {
    "bilinear": "alone, bilinear",
    "guided": "guided filter in the band",
    "closed-form": "closed form, reduced grid",
    "edges": "**`edges`**, as `cutout` does",
    "closed-form, full size": "closed form in the band, full size",
    "oracle": "upper bound of the band",
    "rembg": "rembg, alone",
    "rembg -a": "rembg `-a`",
    "rembg -dc": "rembg `-dc`",
    "rembg -vm": "rembg `-vm`",
}
SUMMED = ("bilinear", "closed-form", "edges")
PICTURES = {
    "wren": "canyon-wren.jpg",
    "osprey": "perched-osprey.jpg",
    "otters": "oakland-zoo-otters.jpg",
}
DENSE_STAGES = ("resize", "dense")
HEADINGS = (
    "", "boundary IoU, 3 px", "0.2 %", "SAD", "gradient", "MAE × 1000", "better", "density",
    "dense, ms", "rest, ms", "peak, MiB",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path)
    options = parser.parse_args()
    if options.photos:
        for name, photo in PICTURES.items():
            picture = Image.fromarray(sr.cutout(options.photos / photo).before_after())
            picture.thumbnail((1600, 1600))
            picture.save(PAGE.parent / f"cutout_{name}.jpg", quality=85)
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result file."""
    return with_section(text, "benchmarks/cutout/page.py", figures(json.loads(RESULT.read_text())))


def figures(result: dict[str, Any]) -> str:
    """A table for each size, and what it was measured with."""
    parts = ["\n", _summary(result), "\n"]
    for megapixels, size in result["sizes"].items():
        number = max(row["composites"] for row in size["rows"])
        parts.append(f"### {megapixels} megapixels, {number} composites\n\n")
        parts.append(_table(size["rows"]) + "\n")
        vitmatte, environment = size["vitmatte"], size["environment"]
        if vitmatte:
            parts.append(
                f"ViTMatte-S as rembg `-vm` runs it (random weights, for time and memory alone): "
                f"{vitmatte['ms'] / 1000:.1f} s, {vitmatte['mib']:.0f} MiB. "
            )
        parts.append(
            f"{environment['device']}, {environment['threads']} threads, torch "
            f"{environment['torch']}, commit {environment['commit']}.\n\n"
        )
    found = ", ".join(f"{number} {kind}" for kind, number in result["kinds"].items())
    parts.append(
        f"The models saw the right thing in {len(result['seeds'])} of {result['tried']} "
        f"composites: {found}.\n\n"
    )
    return "".join(parts)


def _summary(result: dict[str, Any]) -> str:
    """What the tables say, in a sentence for each size."""
    lines = []
    for megapixels, size in result["sizes"].items():
        found = {(row["model"], row["side"], row["way"]): row for row in size["rows"]}
        alone, matte, refined = (found["u2netp", 320, way] for way in SUMMED)
        line = (
            f"- {megapixels} megapixels: U²-Net-p (320²) alone {alone['boundary_iou']:.2f}, with "
            f"closed form {matte['boundary_iou']:.2f}, in {_rest(matte):.0f} ms more, with "
            f"`edges` {refined['boundary_iou']:.2f}, in {_rest(refined):.0f} ms more"
        )
        if ("isnet", 1024, "bilinear") in found:
            ious = [found["isnet", 1024, way]["boundary_iou"] for way in SUMMED]
            line += (
                f"; IS-Net (1024²) alone {ious[0]:.2f}, with closed form {ious[1]:.2f}, with "
                f"`edges` {ious[2]:.2f}"
            )
        matting = found.get(("u2netp", 320, "rembg -a"))
        if matting is not None:
            line += (
                f"; rembg `-a` of the same prediction {matting['boundary_iou']:.2f}, in "
                f"{_rest(matting):.0f} ms"
            )
        bound = found["u2netp", 320, "oracle"]["boundary_iou"]
        lines.append(f"{line}. All of the band right would be {bound:.2f}.")
    return "Boundary IoU at 3 px:\n\n" + "\n".join(lines) + "\n"


def _rest(row: dict[str, Any]) -> float:
    """Milliseconds of all stages after the dense model."""
    return sum(ms for stage, ms in row["stages_ms"].items() if stage not in DENSE_STAGES)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- " * len(HEADINGS) + "|"]
    for row in rows:
        name = f"{MODELS[row['model']]} {row['side']}², {WAYS[row['way']]}"
        low, high = row["quartiles"]["boundary_iou"]
        dense, rest = sum(row["stages_ms"].values()) - _rest(row), _rest(row)
        number = row["composites"]
        better = "" if row["way"] == "bilinear" else f"{row['better']['boundary_iou']} of {number}"
        cells = [
            name,
            f"{row['boundary_iou']:.3f} ({low:.2f}–{high:.2f})",
            f"{row['boundary_iou_share']:.3f}",
            f"{row['sad']:.1f}",
            f"{row['gradient']:.1f}",
            f"{row['mae']:.1f}",
            better,
            f"{row['density']:.1%}" if 0 < row["density"] < 1 else "",
            f"{dense:.0f}",
            f"{rest:.0f}" if rest else "",
            "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
