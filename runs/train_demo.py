"""Train the shipped pair "demo" from unlabeled street photos, evaluate it, and write its files.

    python runs/train_demo.py PHOTOS [--out out/demo-train] [--without ORIGIN]

PHOTOS is a folder with the photos named in HELD_OUT and others. The dense model at full resolution
is the teacher: no labels. The photos in HELD_OUT are never trained on; the scores are theirs.

--without leaves out the photos of an origin too, and scores its held-out photos only. What the run
that made the shipped files measured is in the model card, src/sparserefine/assets/demo/README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

import sparserefine as sr
from sparserefine.atomic import make_folder
from sparserefine.cli.console import progress_bars
from sparserefine.data import ImageFolder
from sparserefine.data.held_out import content_hashes
from sparserefine.images import list_images
from sparserefine.refinement.features import Input, count_channels

ORIGINS = ("berlin", "highway", "lund")
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
SELECTOR = sr.EntropySelector(threshold=0.5, max_density=0.3)
CONFIG = sr.TrainConfig(
    targets="dense",
    steps=400,
    batch_size=8,
    crop_size=(192, 192),
    views=14,
    scales=(0.8, 1.1),
    jitter=0.0,
    learning_rate=3e-3,
    checkpoint_every=50,
    set_aside=0.0,
    dense_logits="cached",
)


def main() -> None:
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/demo-train"))
    parser.add_argument("--without", choices=ORIGINS, help="origin to leave out")
    parser.add_argument("--weights", type=Path, help="of ESPNetv2-2.0; default: the shipped ones")
    parser.add_argument("--model", type=Path, help="only evaluate this trained model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    images = list_images(options.photos)
    held_out = [path for path in images if path.stem in HELD_OUT]
    training = [path for path in images if path.stem not in HELD_OUT]
    if options.without:
        training = [path for path in training if not path.stem.startswith(options.without)]
        held_out = [path for path in held_out if path.stem.startswith(options.without)]
    print(f"{len(training)} photos to train on, {len(held_out)} held out")

    if options.model:
        model = sr.SparseRefiner.from_pretrained(options.model)
    else:
        torch.manual_seed(CONFIG.seed)
        model = make_model(options.weights)
        with progress_bars() as progress:
            sr.train(model, ImageFolder(training), CONFIG, out=options.out, progress=progress)
        shutil.rmtree(options.out / "cache")
    with progress_bars() as progress:
        scores = sr.evaluate(model, ImageFolder(held_out), progress=progress).to_json()
    scores["training"] = {"photos": len(training), "without": options.without}
    scores["command"] = (
        f"python runs/train_demo.py {options.photos.name}"
        + (f" --without {options.without}" if options.without else "")
        + (f" --model {options.model.name}" if options.model else "")
    )
    make_folder(options.out)
    (options.out / "held_out.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(options.out / "held_out.json")
    if not options.without:
        model.trained_on = frozenset(content_hashes(ImageFolder(training)))
        model.save_pretrained(options.out / "model")
        (options.out / "model" / "README.md").write_text(model_card(scores))
        print(options.out / "model")


def make_model(weights: Path | None) -> sr.SparseRefiner:
    """The untrained pair."""
    if weights is None:
        dense = sr.SparseRefiner.from_pretrained("demo").dense
        assert dense is not None
    else:
        dense = sr.dense.create("espnetv2-2.0", weights, allow_pickle=True)
    extractor = sr.SparseUNet(
        dense.num_classes,
        in_channels=count_channels(INPUTS, dense.num_classes),
        widths=(16, 32, 64),
        blocks=1,
        pyramid="floor",
    )
    return sr.SparseRefiner(dense, selector=SELECTOR, extractor=extractor, inputs=INPUTS)


def model_card(scores: dict[str, Any]) -> str:
    """What a user must know of the files, with the figures of this run."""
    rows = scores["rows"]
    low, refined = (1 - rows[row]["agreement"] for row in ("low_res_bilinear", "refined"))
    gains = "\n".join(
        f"| {image['name']} | {image['density']:.1%} | {image['low_res_bilinear']:.2%} | "
        f"{image['refined']:.2%} |"
        for image in scores["images"]
    )
    environment = scores["environment"]
    return f"""# Model card of the pair "demo"

ESPNetv2-2.0 (0.79 M parameters, frozen) at half resolution, and a refiner for it.

- **Task**: 19 classes of Cityscapes, street scenes.
- **Training data**: {scores["training"]["photos"]} unlabeled photos of Lund and Berlin
  (mapillary/OpenSfM, BSD-2-Clause) and of a Californian highway (Udacity CarND, MIT).
- **Teacher**: the same dense model at full resolution. No label was used, so the refiner learns
  what that model would say, its mistakes included.
- **Command**: `{scores["command"]}` (seed {CONFIG.seed}, {CONFIG.steps} steps); evaluated at
  commit {environment["commit"]} on {environment["device"]}, torch {environment["torch"]}. When it
  was trained, and what else was tried, is in dev/LOG.md.
- **Licenses**: the dense weights are MIT (sacmehta/EdgeNets, LICENSE.EdgeNets beside this file) and
  were trained on Cityscapes, whose images are licensed for non-commercial use only. No
  non-commercial image was used to train the refiner, but the dense weights taught it. Decide
  yourself what that means for your use.

Agreement with the full-resolution dense model on photos held out of training: disagreement falls
from {low:.2%} to {refined:.2%} (by {1 - refined / low:.0%}) at a mean density of
{scores["density"]:.1%}; with every selected pixel right it would be
{1 - rows["oracle"]["agreement"]:.2%}. Against the labels of the full-resolution model the mIoU goes
from {rows["low_res_bilinear"]["miou"]:.2%} to {rows["refined"]["miou"]:.2%}; the sparse U-Net alone
has {rows["refinement_only"]["miou"]:.2%}.

| held-out photo | density | low resolution | refined |
|---|---|---|---|
{gains}

**Limits**: three places, daylight; the held-out photos are other views of the same places. Of the
runs made with other settings some were looked at on these very photos (dev/LOG.md), which flatters
the figures. On other scenes it may gain nothing; measure with `sparserefine evaluate FOLDER`.
"""


if __name__ == "__main__":
    main()
