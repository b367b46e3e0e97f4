"""Pictures of what `edges` fails at: hair on ground of its color, glass, blur, missing parts.

    python benchmarks/edges/failures.py

Foregrounds are rendered, the ground is the photo of a wren that ships, so the picture may ship too.
Writes docs/refine_failures.jpg: photo, mask enlarged, closed form, edges, and the truth.
"""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import uniform_filter1d

from sparserefine.photos.shipped import shipped_photo
from sparserefine.refinement.alpha import Method, refine_alpha

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout" / "foregrounds"))
from composites import Composite, Scene
from pictures import Picture
from procedural import render

from masks import sam_like_mask  # isort: skip

PAGE = Path(__file__).resolve().parents[2] / "docs" / "refine_failures.jpg"
WAYS: tuple[Method, ...] = ("bilinear", "closed-form", "edges")
PANEL, WINDOW = 300, 0.35
# Kind of the foreground, its number, and what makes it hard.
CASES = (
    ("hair", 3, "hair on ground of its color"),
    ("glass", 2, "glass"),
    ("feather", 1, "motion blur"),
    ("leaf", 4, "a part that the mask misses"),
)


def main() -> None:
    rows = [np.concatenate(panels(*case), 1) for case in CASES]
    Image.fromarray(np.concatenate(rows)).save(PAGE, quality=88)
    print(PAGE)


def panels(kind: str, number: int, title: str) -> list[UInt8[np.ndarray, "p p 3"]]:
    """Photo, and the alpha of each way, where the last differs most from the truth."""
    composite = scene(kind, number, title)
    given = composite.alpha
    if title.startswith("a part"):
        given = given.copy()
        given[: given.shape[0] // 2, : given.shape[1] // 2] = 0
    low = sam_like_mask(torch.from_numpy(given), random.Random(0))
    images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
    alphas = [
        refine_alpha(images, low, method=way, clean_colors=False).alpha.numpy() for way in WAYS
    ]
    difference = np.abs(alphas[-1] - composite.alpha)
    side = int(WINDOW * min(difference.shape))
    means = uniform_filter1d(uniform_filter1d(difference, side, axis=0), side, axis=1)
    y, x = np.unravel_index(int(means.argmax()), means.shape)
    top, left = (
        min(max(int(at) - side // 2, 0), length - side)
        for at, length in zip((y, x), difference.shape, strict=True)
    )
    part = np.s_[top : top + side, left : left + side]
    shown = [_panel(composite.image[part])]
    shown += [_panel(_gray(alpha[part])) for alpha in (*alphas, composite.alpha)]
    picture = Image.fromarray(shown[0])
    ImageDraw.Draw(picture).text((5, 5), title, (255, 255, 0), stroke_width=2, stroke_fill=0)
    return [np.asarray(picture), *shown[1:]]


def scene(kind: str, number: int, title: str) -> Composite:
    """A rendered foreground on the photo, with what makes it hard."""
    foreground = render(kind, number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "foreground.jpg"
        Image.fromarray(foreground.rgb).save(path, quality=95)
        Image.fromarray(foreground.alpha).save(path.with_suffix(".png"))
        drawn = Scene.draw(1, [Picture(path, kind, kind)], [Picture(shipped_photo("wren"), "wren")])
        plain = replace(drawn, likeness=0.0, blur_front=0.0, blur_back=0.0, size=0.9, angle=0.0)
        if title.startswith("hair"):
            plain = replace(plain, likeness=1.0)
        composite = plain.render(1.0)
    if title.startswith("motion"):
        length = composite.alpha.shape[1] // 60
        image, alpha = (
            uniform_filter1d(one.astype(np.float32), length, axis=1)
            for one in (composite.image, composite.alpha)
        )
        composite = Composite(image.round().astype(np.uint8), alpha)
    return composite


def _gray(alpha: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat((255 * alpha).round().astype(np.uint8)[..., None], 3, 2)


def _panel(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "p p 3"]:
    resized = Image.fromarray(pixels).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    return np.asarray(resized)


if __name__ == "__main__":
    main()
