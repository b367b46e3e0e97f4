"""`edges` and the methods without training on street scenes of several classes, class by class.

    python benchmarks/edges/street.py --shared ../shared [--weights FILE] [--every 14]

CamVid (experiments only: no picture of it is in this repository): frames of its train and val
splits, which nothing here was trained on; ESPNetv2-2.0 as published, at 256×192, its classes
merged into CamVid's, against labels at 480×360. Also the demo's scene, against what the model says
at full size. "full_res" is the model at 512×384, or on the whole scene. Writes
results/edges_street.json and docs/refine.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense import DenseModel
from sparserefine.environment import Environment
from sparserefine.evaluation.metrics import Quality, Truth
from sparserefine.images import read_image
from sparserefine.photos.shipped import shipped_photo
from sparserefine.refinement.edge_net import EdgeNet
from sparserefine.refinement.label_bands import LabelMethod, refine_labels
from sparserefine.refinement.shipped_edges import shipped_net

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from espnetv2_camvid import CAMVID_CLASSES, CAMVID_OF_CITYSCAPES
from section import with_section

from evaluate import read_net, without_paths  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "edges_street.json"
PAGE = ROOT / "docs" / "refine.md"
CLASSES = (
    *("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence", "car"),
    *("pedestrian", "cyclist"),
)
METHODS: tuple[LabelMethod, ...] = ("guided", "closed-form", "edges")
WEIGHTS = "espnetv2_s_2.0_city_1024x512.pth"
LOW, FULL = (192, 256), (384, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="with data/ in it")
    parser.add_argument("--page", action="store_true", help="only write the table into the docs")
    parser.add_argument("--weights", type=Path, help="default: those that ship")
    parser.add_argument("--every", type=int, default=14, help="of the frames one in so many")
    options = parser.parse_args()
    if options.page:
        write_page(json.loads(RESULT.read_text()))
        return
    net = shipped_net() if options.weights is None else read_net(options.weights)
    data = options.shared / "data"
    model = sr.dense.create("espnetv2-2.0", data / "espnet-weights" / WEIGHTS, allow_pickle=True)
    document = {
        "camvid": camvid(model, net, data / "camvid-360p", options.every),
        "demo": demo(net),
        "command": " ".join(["python benchmarks/edges/street.py", *without_paths(sys.argv[1:])]),
        "environment": Environment.current().to_json(),
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    write_page(document)
    print("\n".join(table(document)))
    print(RESULT)


def write_page(document: dict[str, Any]) -> None:
    """Replace the table in the docs."""
    figures = "\n".join(table(document))
    PAGE.write_text(with_section(PAGE.read_text(), "benchmarks/edges/street.py", figures))


def table(document: dict[str, Any]) -> list[str]:
    """Scores of both scenes by way, and of CamVid's classes."""
    ways = list(document["camvid"]["rows"])
    lines = ["| | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]

    def line(title: str, values: list[float | None]) -> str:
        cells = ("-" if value is None else f"{100 * value:.1f}" for value in values)
        return f"| {title} | {' | '.join(cells)} |"

    for name in ("camvid", "demo"):
        rows = document[name]["rows"]
        for score in ("miou", "boundary_iou"):
            title = {"miou": "mIoU", "boundary_iou": "boundary IoU"}[score]
            lines.append(line(f"{name}, {title}", [rows[way][score] for way in ways]))
    for name, classes in (("camvid", CLASSES), ("demo", document["demo"]["classes"])):
        rows = document[name]["rows"]
        for index, label in enumerate(classes):
            if rows["low_res"]["iou"][index] is not None:
                values = [rows[way]["iou"][index] for way in ways]
                lines.append(line(f"{name}, {label}", values))
    frames, commit = document["camvid"]["frames"], document["environment"]["commit"]
    return [*lines, "", f"{frames} frames, percent; `make edges-street`, commit {commit}."]


@torch.inference_mode()
def camvid(model: DenseModel, net: EdgeNet, root: Path, every: int) -> dict[str, object]:
    """All ways on frames of CamVid."""
    frames = [
        (split, stem)
        for split in ("train", "val")
        for stem in sorted((root / f"{split}.txt").read_text().split())[::every]
    ]
    ways = {way: Quality(CAMVID_CLASSES) for way in ("low_res", *METHODS, "full_res")}
    for split, stem in frames:
        image = torch.from_numpy(read_image(root / "images" / split / f"{stem}.jpg"))
        images = image.permute(2, 0, 1)[None]
        labels = np.array(Image.open(root / "labels" / split / f"{stem}.png"))
        truth = Truth(torch.from_numpy(labels).long(), CAMVID_CLASSES)
        low, full = (merged(model, images, size) for size in (LOW, FULL))
        found = labels_of(images, low, full, net)
        for way, own in found.items():
            ways[way].update(own.long(), truth)
    return {
        "frames": len(frames),
        "rows": {way: quality.to_json() for way, quality in ways.items()},
    }


@torch.inference_mode()
def demo(net: EdgeNet) -> dict[str, object]:
    """All ways on the demo's scene; labels are the dense model's at full size."""
    model = sr.load("demo")
    image = torch.from_numpy(read_image(shipped_photo("lund")))
    images = image.permute(2, 0, 1)[None]
    size = (images.shape[2], images.shape[3])
    low = model.dense_pass(images).logits.softmax(1)
    full = model.dense_logits(images, size).softmax(1)
    truth = Truth(full.argmax(1)[0], model.num_classes)
    rows = {}
    for way, own in labels_of(images, low, full, net).items():
        quality = Quality(model.num_classes)
        quality.update(own.long(), truth)
        rows[way] = quality.to_json()
    return {"classes": list(model.preset.class_names), "rows": rows}


def merged(model: DenseModel, images: Tensor, size: tuple[int, int]) -> Float[Tensor, "1 K h w"]:
    """Probabilities of CamVid's classes by a model of Cityscapes'."""
    small = F.interpolate(images.float() / 255, size, mode="bilinear", antialias=True).clamp(0, 1)
    cityscapes = model(small).softmax(1)
    classes = cityscapes.new_zeros(1, CAMVID_CLASSES, *cityscapes.shape[2:])
    return classes.index_add(1, CAMVID_OF_CITYSCAPES, cityscapes)


def labels_of(
    images: Tensor, low: Float[Tensor, "1 K h w"], full: Float[Tensor, "1 K h w"], net: EdgeNet
) -> dict[str, Integer[Tensor, "H W"]]:
    """Labels at full resolution by each way."""
    size = (images.shape[2], images.shape[3])
    found = {
        "low_res": F.interpolate(low, size, mode="bilinear").argmax(1)[0],
        "full_res": F.interpolate(full, size, mode="bilinear").argmax(1)[0],
    }
    for method in METHODS:
        own = net if method == "edges" else None
        found[method] = refine_labels(images, low, method=method, net=own).labels
    return found


if __name__ == "__main__":
    main()
