"""Real photos to look at: photo, enlarged mask, closed form and `edges`, where these differ most.

    python benchmarks/edges/look.py PHOTOS --out FOLDER [--weights FILE] [--count 40]

PHOTOS holds MANIFEST.csv with the columns file and content, and images/; photos are taken from as
many contents as there are. Masks are those of U²-Net-p at 320. Writes sheets of five photos, each
laid on a plain color, and look.json with what changed where; nothing judges them but eyes.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import uniform_filter

from sparserefine.images import read_image
from sparserefine.refinement.alpha import Method, refine_alpha
from sparserefine.refinement.edge_net import EdgeNet
from sparserefine.refinement.shipped_edges import shipped_net

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout"))
from ways import make_source

from evaluate import read_net  # isort: skip

WAYS: tuple[Method, ...] = ("bilinear", "closed-form", "edges")
PER_SHEET, PANEL, BEHIND = 5, 360, (225, 60, 180)
# Side of the window that is shown, as a share of the shorter side of the photo.
WINDOW = 0.4


@dataclass(frozen=True, eq=False)
class Look:
    """One photo as all ways have it.

    Attributes:
        row: Panels side by side.
        facts: Where the window lies, and how far ways differ.
    """

    row: UInt8[np.ndarray, "h w 3"]
    facts: dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="default: those that ship")
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    net = shipped_net() if options.weights is None else read_net(options.weights)
    looks = []
    for number, (path, content) in enumerate(chosen(options.photos, options.count), 1):
        looks.append(look_at(path, f"{number} {path.stem} ({content})", net))
        print(json.dumps(looks[-1].facts), flush=True)
    for first in range(0, len(looks), PER_SHEET):
        rows = np.concatenate([look.row for look in looks[first : first + PER_SHEET]])
        Image.fromarray(rows).save(options.out / f"sheet_{first // PER_SHEET + 1}.png")
    facts = [look.facts for look in looks]
    (options.out / "look.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(options.out)


def chosen(folder: Path, count: int) -> list[tuple[Path, str]]:
    """Photos with what they show, one of each content in turn."""
    by_content = defaultdict(list)
    with (folder / "MANIFEST.csv").open(newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: row["file"]):
            by_content[row["content"]].append((folder / "images" / row["file"], row["content"]))
    turns = zip_longest(*(by_content[content] for content in sorted(by_content)))
    return [one for one in chain.from_iterable(turns) if one is not None][:count]


def look_at(path: Path, title: str, net: EdgeNet) -> Look:
    """All ways on one photo, in the window where `edges` differs most from closed form."""
    image = read_image(path)
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    low, _ = make_source("u2netp", 320, None).predict(images)
    mattes = {
        way: refine_alpha(images, low, method=way, net=net if way == "edges" else None)
        for way in WAYS
    }
    alphas = {way: matte.alpha.numpy() for way, matte in mattes.items()}
    side = max(int(WINDOW * min(image.shape[:2])), 1)
    top, left = _window(np.abs(alphas["edges"] - alphas["closed-form"]), side)
    part = np.s_[top : top + side, left : left + side]
    panels = [image[part]]
    for way, matte in mattes.items():
        alpha = alphas[way][part][..., None]
        panels.append(alpha * matte.cleaned(image)[part] + (1 - alpha) * np.array(BEHIND))
    whole = alphas["edges"][..., None]
    panels.append(whole * mattes["edges"].cleaned(image) + (1 - whole) * np.array(BEHIND))
    row = np.concatenate([_panel(panel) for panel in panels], 1)
    picture = Image.fromarray(row)
    ImageDraw.Draw(picture).text((4, 4), title, (255, 255, 0), stroke_width=2, stroke_fill=0)
    facts: dict[str, object] = {"photo": path.stem, "window": [top, left, side]}
    facts["density"] = round(mattes["edges"].density, 4)
    for way in ("bilinear", "closed-form"):
        difference = np.abs(alphas["edges"] - alphas[way]).mean()
        facts[f"from {way}"] = round(1000 * float(difference), 2)
    return Look(np.asarray(picture), facts)


def _window(difference: Float[np.ndarray, "H W"], side: int) -> tuple[int, int]:
    """Top and left of the square of most difference."""
    means = uniform_filter(difference, side, mode="constant")
    height, width = difference.shape
    y, x = np.unravel_index(int(means.argmax()), means.shape)
    top, left = (
        min(max(int(at) - side // 2, 0), length - side) for at, length in ((y, height), (x, width))
    )
    return top, left


def _panel(pixels: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """A square panel; what is not square stands on gray."""
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    scale = PANEL / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    panel = Image.new("RGB", (PANEL, PANEL), (90, 90, 90))
    panel.paste(picture.resize(size, Image.Resampling.LANCZOS), (0, 0))
    return np.asarray(panel)


if __name__ == "__main__":
    main()
