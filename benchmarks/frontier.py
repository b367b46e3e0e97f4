"""Where refinement wins, for the shipped pair on street photos and for a pair trained on CamVid.

    python benchmarks/frontier.py --shared ../shared   # measure; some 30 minutes
    python benchmarks/frontier.py --page               # only docs/frontier.md

Street: six photos held out of the shipped pair's training, right is what the dense model says at
full resolution. CamVid: labels; the dense model is ESPNetv2 with the classes of Cityscapes merged
into CamVid's, not trained on CamVid; refiner and points are trained on the clips of its training
split that are not in its validation split, and measured on every 10th frame of that. CamVid is for
research only: no weights of that are kept, only the numbers and the plot.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

import sparserefine as sr
from section import with_section
from sparserefine.cli.console import progress_bars
from sparserefine.data import CamVid, ImageFolder
from sparserefine.data.source import SampleSource
from sparserefine.experiments.ablations import Variant, train_variant
from sparserefine.experiments.frontier import VARIANTS
from sparserefine.experiments.frontier_report import FILE, HEADINGS, PLOT, cells, markdown
from sparserefine.experiments.frontier_result import FrontierPoint
from sparserefine.extras import check_installed
from sparserefine.images import list_images
from sparserefine.refinement.features import Input, count_channels

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "frontier.md"
INPUTS: tuple[Input, ...] = ("rgb", "probabilities")
LARGE = "berlin_03"
TEST_EVERY = 10
# The validation split is one clip, of which the training split has other frames.
VALIDATION_CLIP = "0016E5"
WINDOW = 'in "ours" a window that the dense model sees at full resolution: "tiles" are that.'
LEFT_OUT = {
    "street": f"{LARGE}, which has eight times the pixels of the others; and {WINDOW}",
    "camvid": f"all frames of the validation clip but every {TEST_EVERY}th; and {WINDOW}",
}


class Subset:
    """Some samples of a dataset."""

    def __init__(self, dataset: CamVid, indices: list[int]) -> None:
        self.dataset, self.indices = dataset, indices
        self.names = [dataset.names[index] for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> sr.data.Sample:
        return self.dataset[self.indices[index]]


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, help="folder with data/ in it")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "frontier")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-points", action="store_true", help="train no points for the street")
    parser.add_argument("--only", choices=("street", "camvid"))
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.page:
        if options.shared is None:
            parser.error("--shared is needed to measure")
        check_installed("a frontier with training", "matplotlib", extra="train")
        sys.path[:0] = [str(ROOT / "runs"), str(ROOT / "benchmarks")]
        for name, measure in (("street", _street), ("camvid", _camvid)):
            if options.only in (None, name):
                _keep(name, measure(options.shared / "data", options))
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def _street(data: Path, options: argparse.Namespace) -> Path:
    from train_demo import HELD_OUT

    photos = list_images(data / "street-free" / "images")
    # Of about one size: berlin_03 has eight times the pixels, and its milliseconds would be all
    # that a mean shows.
    held_out = ImageFolder(
        [path for path in photos if path.stem in HELD_OUT and path.stem != LARGE]
    )
    training = ImageFolder([path for path in photos if path.stem not in HELD_OUT])
    model = sr.SparseRefiner.from_pretrained("demo")
    train = None if options.no_points else training
    return _measure("street", model, held_out, options, train=train, against="full")


def _camvid(data: Path, options: argparse.Namespace) -> Path:
    from espnetv2_camvid import CAMVID_OF_CITYSCAPES
    from threshold import CamVidDense, Every

    folder = data / "camvid-360p"
    espnet = sr.SparseRefiner.from_pretrained("demo").dense
    dense = CamVidDense(espnet, CAMVID_OF_CITYSCAPES)
    frames = CamVid(folder, "train", dense.num_classes)
    others = [i for i, name in enumerate(frames.names) if VALIDATION_CLIP not in name]
    training = Subset(frames, others)
    test = Every(CamVid(folder, "val", dense.num_classes), TEST_EVERY)
    # Beside the points, which `frontier` trains: they share what the dense model predicts.
    variants = _folder("camvid", options) / VARIANTS
    wide, narrow = _untrained(dense, (16, 32, 64)), _untrained(dense, (8, 16, 32))
    with progress_bars() as progress:
        trained = {
            name: train_variant(
                wide,
                Variant.of(model, name),
                training,
                variants,
                steps=options.steps,
                progress=progress,
            )
            for name, model in (("wide", wide), ("narrow", narrow))
        }
    narrow = {"narrow": trained["narrow"]}
    return _measure(
        "camvid", trained["wide"], test, options, compare=narrow, train=training, against="labels"
    )


def _untrained(dense: sr.dense.DenseModel, widths: tuple[int, ...]) -> sr.SparseRefiner:
    extractor = sr.SparseUNet(
        dense.num_classes,
        in_channels=count_channels(INPUTS, dense.num_classes),
        widths=widths,
        blocks=1,
        pyramid="floor",
    )
    selector = sr.EntropySelector(0.3, 0.3)
    return sr.SparseRefiner(dense, selector=selector, extractor=extractor, inputs=INPUTS)


def _measure(
    name: str,
    model: sr.SparseRefiner,
    dataset: SampleSource,
    options: argparse.Namespace,
    **more: Any,
) -> Path:
    """The folder with what was found."""
    out = _folder(name, options)
    with progress_bars() as progress:
        result = sr.frontier(
            model,
            dataset,
            steps=options.steps,
            rounds=options.rounds,
            out=out,
            progress=progress,
            **more,
        )
    print(markdown(result))
    return out


def _folder(name: str, options: argparse.Namespace) -> Path:
    return options.work / f"{name}_frontier"


def _keep(name: str, found: Path) -> None:
    (ROOT / "docs" / f"frontier_{name}.png").write_bytes((found / PLOT).read_bytes())
    (RESULTS / f"frontier_{name}.json").write_bytes((found / FILE).read_bytes())


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result files."""
    sections = []
    for name, title in (("street", "Street photos"), ("camvid", "CamVid")):
        file = RESULTS / f"frontier_{name}.json"
        if file.is_file():
            sections.append(_section(name, title, json.loads(file.read_text())))
    return with_section(text, "benchmarks/frontier.py", "\n".join(sections))


def _section(name: str, title: str, result: dict[str, Any]) -> str:
    what = "labels" if result["against"] == "labels" else "the dense model at full resolution"
    environment = result["environment"]
    lines = [
        f"## {title}\n",
        f"{result['images']} images, right by {what}; {environment['device']}, "
        f"{environment['threads']} threads, torch {environment['torch']}, commit "
        f"{environment['commit']}.\n",
        f"**{result['verdict']}** By peak memory: {result['memory_verdict']} "
        f"{' '.join(result['notes'])}\n",
        f"Left out: {LEFT_OUT[name]}{_missing(result)}\n",
        f"![Accuracy over milliseconds and over peak memory](frontier_{name}.png)\n",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(cells(_point(point))) + " |" for point in result["points"]]
    return "\n".join(lines) + "\n"


def _missing(result: dict[str, Any]) -> str:
    """What the table lacks, as sentences: photos that could not be read, families not run."""
    families = {point["family"] for point in result["points"]}
    absent = [name for name in ("dense", "tiles", "ours", "points") if name not in families]
    words = f" Not run: {', '.join(absent)}." if absent else ""
    if result.get("failed"):
        words += f" Not readable: {', '.join(result['failed'])}."
    return words


def _point(document: dict[str, Any]) -> FrontierPoint:
    intervals = ("right_interval", "miou_interval")
    return FrontierPoint(**{**document, **{name: tuple(document[name]) for name in intervals}})


if __name__ == "__main__":
    main()
