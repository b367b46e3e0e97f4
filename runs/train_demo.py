"""Train the shipped pair "demo" from unlabeled street photos, evaluate it, and write its files.

    python runs/train_demo.py PHOTOS [--out out/demo-train]

PHOTOS is a folder with the photos named in HELD_OUT and others, and possibly videos, of which
every third frame is used. The dense model at full resolution is the teacher: no labels. The photos
in HELD_OUT are never trained on; the scores are theirs. See src/sparserefine/assets/demo/README.md
for what the run that made the shipped files measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch

import sparserefine as sr
from sparserefine.data import ImageFolder
from sparserefine.data.video import VideoFrames
from sparserefine.environment import Environment
from sparserefine.images import list_images
from sparserefine.refine.features import Input, count_channels

# Two of them ship with the package: lund_11 and highway_test3.
HELD_OUT = (
    "berlin_03",
    "highway_straight_lines2",
    "highway_test3",
    "lund_03",
    "lund_11",
    "lund_18",
    "lund_26",
)
INPUTS: tuple[Input, ...] = ("rgb", "probabilities")
SELECTOR = sr.EntropySelector(threshold=0.2, max_density=0.25)
CONFIG = sr.TrainConfig(
    targets="dense",
    steps=2000,
    batch_size=3,
    crop_size=(384, 384),
    scales=(0.75, 1.0, 1.25),
    learning_rate=2e-3,
    checkpoint_every=100,
)


def main() -> None:
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/demo-train"))
    parser.add_argument("--weights", type=Path, help="of ESPNetv2-2.0; default: the shipped ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    images = list_images(options.photos)
    held_out = ImageFolder([path for path in images if path.stem in HELD_OUT])
    training = ImageFolder([path for path in images if path.stem not in HELD_OUT])
    videos = [VideoFrames(path, every=3) for path in sorted(options.photos.rglob("*.mp4"))]
    samples = [source[i] for source in (training, *videos) for i in range(len(source))]
    print(f"{len(samples)} images to train on, {len(held_out)} held out")

    torch.manual_seed(CONFIG.seed)
    model = make_model(options.weights)
    start = time.monotonic()
    sr.train(model, samples, CONFIG, options.out)
    minutes = (time.monotonic() - start) / 60
    scores = sr.evaluate(model, held_out).to_json()
    scores["command"] = f"python runs/train_demo.py {options.photos.name}"
    scores["training"] = {"minutes": round(minutes, 1), "steps": CONFIG.steps}
    scores["environment"] = Environment.current().to_json()
    (options.out / "held_out.json").write_text(json.dumps(scores, indent=2) + "\n")
    shutil.rmtree(options.out / "cache")
    print(options.out / "held_out.json")
    print(options.out / "model")


def make_model(weights: Path | None) -> sr.SparseRefiner:
    """The untrained pair."""
    if weights is None:
        dense = sr.SparseRefiner.from_pretrained("demo").dense
    else:
        dense = sr.dense.create("espnetv2-2.0", weights, allow_pickle=True)
    extractor = sr.SparseUNet.from_preset(
        "tiny",
        dense.num_classes,
        in_channels=count_channels(INPUTS, dense.num_classes),
        pyramid="floor",
    )
    return sr.SparseRefiner(dense, selector=SELECTOR, extractor=extractor, inputs=INPUTS)


if __name__ == "__main__":
    main()
