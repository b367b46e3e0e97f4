"""Crops to train `edges` on: a new composite each time, its coarse masks, features on the whole.

    python benchmarks/edges/crops.py --foregrounds FOLDER ... --photos FOLDER --out FOLDER \\
        [--masks models] [--count 1500] [--isnet FILE] [--worker 0 --workers 2]

The dense models run on every composite that they see the right thing in, and closed form on the
whole of it before it is cropped: masks and features of another picture teach nothing that holds
(dev/LOG.md). With --masks simulated, masks are simulated whatever a model would see. Writes 500
crops a file.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.matting import LocalLinear
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.edge_net import edge_maps
from sparserefine.refinement.grid_matte import GridMatte, enlarge_cells

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cutout"))
from composites import Composite, Scene
from pictures import read_backgrounds, read_foregrounds
from ways import Source, make_source

from masks import simulated_mask  # isort: skip

SIDE, COLORS = 256, 32
PER_FILE, PER_MASK = 500, 4
FIRST_SEED = 7_000_000
# Share of the scenes with foregrounds of the first folder alone: photos of people and products,
# which is what most masks are of; the others have kinds that these lack.
FIRST_FOLDER = 0.4
# Masks further from the truth see another thing.
RIGHT = 0.06
# Scenes that are tried for one that U²-Net-p sees the right thing in, and the size to try them at.
TRIES, TRIED_MEGAPIXELS = 8, 0.2
MEGAPIXELS = (0.7, 1.0, 1.0, 1.0, 1.6, 1.6, 4.0)
# Sides of other runs of the dense models, by how often.
U2NETP_SIDES, ISNET_SIDES = (224, 256, 416), (512, 512, 512, 384, 384, 768, 1024)
# Least and most share of the pixels in the band.
BAND = (0.0005, 0.35)


@dataclass(frozen=True, eq=False)
class Features:
    """What is known of a whole composite and one coarse mask of it, at full size.

    Attributes:
        planes: Coarse, closed form, guided, the band, and the mask as it was given, 0..1.
        sides: Mean colors of the sure foreground and background, on the grid.
    """

    planes: Float[Tensor, "5 H W"]
    sides: Float[Tensor, "6 h w"]

    @classmethod
    def of(cls, images: Tensor, low: sr.DensePass) -> Features | None:
        """None where the mask has no band, or one side only."""
        size = (images.shape[2], images.shape[3])
        said = ClassPrediction.of(low)
        matte = GridMatte.of(images, said.probabilities)
        if not matte.trimap.is_solvable:
            return None
        band = enlarge_cells(matte.trimap.unknown, size).float()
        if not BAND[0] < float(band.mean()) < BAND[1]:
            return None
        maps = edge_maps(matte.solved())
        full = F.interpolate(torch.cat([maps[:, :8], maps[:, 14:]], 1), size, mode="bilinear")[0]
        colors = images[0].float().flatten(1).t() / 255
        closed, guided = (
            LocalLinear.alpha(part.flatten(1).t(), colors).view(size)
            for part in (full[:4], full[4:8])
        )
        given = said.probabilities[0, 0] if said.labels is None else (said.labels == 0).float()
        given = F.interpolate(given[None, None], size, mode="bilinear")[0, 0]
        return cls(torch.stack([full[8], closed, guided, band, given]), maps[0, 8:14])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--foregrounds", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--isnet", type=Path)
    parser.add_argument("--masks", choices=("models", "simulated"), default="models")
    parser.add_argument("--count", type=int, default=1500, help="composites of all workers")
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    pools = [
        read_foregrounds(folders, options.split)
        for folders in (options.foregrounds[:1], options.foregrounds)
    ]
    backgrounds = read_backgrounds(options.photos, options.split)
    # One network of each for all sizes: two would hold gigabytes.
    small = make_source("u2netp", 320, None)
    large = None if options.isnet is None else make_source("isnet", 512, options.isnet)
    made: list[dict[str, np.ndarray]] = []
    part, start = 0, time.perf_counter()
    for index in range(options.worker, options.count, options.workers):
        seed = FIRST_SEED + TRIES * index + (10_000_000 if options.split == "test" else 0)
        r = random.Random(seed)
        pool = pools[r.random() >= FIRST_FOLDER]
        scenes = [simpler(Scene.draw(seed + k, pool, backgrounds), r) for k in range(TRIES)]
        megapixels = r.choice(MEGAPIXELS)
        if options.masks == "simulated":
            composite = scenes[0].render(megapixels)
            truth = torch.from_numpy(composite.alpha)
            predictions = [simulated_mask(truth, r) for _ in range(2)]
        else:
            scene = next((scene for scene in scenes if is_seen(scene, small)), None)
            if scene is None:
                continue
            composite = scene.render(megapixels)
            predictions = masks_of(composite, small, large, r)
        made += crops_of(composite, predictions, r)
        last = index + options.workers >= options.count
        if len(made) >= PER_FILE or (last and made):
            path = options.out / f"{options.worker}_{part}.npz"
            np.savez(path, **{name: np.stack([one[name] for one in made]) for name in made[0]})
            seconds = time.perf_counter() - start
            print(f"{path}: {len(made)} crops, {index + 1} composites, {seconds:.0f} s", flush=True)
            made, part = [], part + 1


def simpler(scene: Scene, r: random.Random) -> Scene:
    """Every other scene on a nearer and softer part of its photo, without another thing in it."""
    if r.random() < 0.5:
        return scene
    return replace(scene, zoom=r.uniform(1.3, 2.5), blur_back=r.uniform(0.5, 5))


def is_seen(scene: Scene, model: Source) -> bool:
    """Whether a dense model sees the right thing in a scene, tried at a small size."""
    composite = scene.render(TRIED_MEGAPIXELS)
    low, _ = model.predict(torch.from_numpy(composite.image).permute(2, 0, 1)[None])
    truth = torch.from_numpy(composite.alpha)
    coarse = F.interpolate(low.logits.softmax(1)[:, 1:], tuple(truth.shape), mode="bilinear")
    return float((coarse[0, 0] - truth).abs().mean()) < RIGHT


def masks_of(
    composite: Composite, small: Source, large: Source | None, r: random.Random
) -> list[sr.DensePass]:
    """Predictions of the dense models at several sizes, and one in three times a simulated mask."""
    images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
    runs = [small]
    if r.random() < 0.4:
        runs.append(replace(small, side=r.choice(U2NETP_SIDES)))
    if large is not None and r.random() < 0.6:
        runs.append(replace(large, side=r.choice(ISNET_SIDES)))
    found = [run.predict(images)[0] for run in runs]
    if r.random() < 0.33:
        found.append(simulated_mask(torch.from_numpy(composite.alpha), r))
    return found


def crops_of(
    composite: Composite, predictions: list[sr.DensePass], r: random.Random
) -> Iterator[dict[str, np.ndarray]]:
    """Crops on the band of some coarse masks of one composite."""
    images = torch.from_numpy(composite.image).permute(2, 0, 1)[None]
    truth = torch.from_numpy(composite.alpha)
    for low in predictions:
        with torch.no_grad():
            features = Features.of(images, low)
        if features is None or float((features.planes[0] - truth).abs().mean()) > RIGHT:
            continue
        yield from _cropped(images, truth, features, r)


def _cropped(
    images: Tensor, truth: Tensor, features: Features, r: random.Random
) -> Iterator[dict[str, np.ndarray]]:
    height, width = truth.shape
    rows, columns = features.planes[3].nonzero(as_tuple=True)
    for _ in range(PER_MASK):
        at = r.randrange(len(rows))
        top, left = (
            min(max(int(place[at]) - SIDE // 2 + r.randint(-60, 60), 0), side - SIDE)
            for place, side in ((rows, height), (columns, width))
        )
        part = np.s_[..., top : top + SIDE, left : left + SIDE]
        cells = features.sides.shape[1] / height, features.sides.shape[2] / width
        # Corners of the crop on the grid; the colors are smooth.
        y = (top + (torch.arange(COLORS) + 0.5) * SIDE / COLORS) * cells[0] - 0.5
        x = (left + (torch.arange(COLORS) + 0.5) * SIDE / COLORS) * cells[1] - 0.5
        near_y = y.round().long().clamp(0, features.sides.shape[1] - 1)
        near_x = x.round().long().clamp(0, features.sides.shape[2] - 1)
        yield {
            "rgb": images[0][part].numpy().copy(),  # a view would hold the whole composite
            "planes": _bytes(torch.cat([truth[None], features.planes])[part]),
            "sides": _bytes(features.sides[:, near_y][:, :, near_x]),
        }


def _bytes(values: Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


if __name__ == "__main__":
    main()
