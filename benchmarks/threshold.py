"""Calibrate and headroom on real data: street photos without labels, CamVid with.

    python benchmarks/threshold.py --shared ../shared

The photos are those held out of the training of the shipped pair. On CamVid the dense model is its
ESPNetv2, not trained on CamVid, with the classes of Cityscapes merged into CamVid's; the threshold
is calibrated on the validation split, the learned selector trained on every 4th training frame.
CamVid is for non-commercial research only; none of it is in this repository, only the numbers are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import sparserefine as sr
from sparserefine.data import CamVid, ImageFolder, Sample
from sparserefine.environment import Environment
from sparserefine.images import list_images

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "threshold.json"
SHARES = (0.05, 0.1, 0.2, 0.3)
LEARN_EVERY = 4


class CamVidDense(sr.dense.DenseModel):
    """A model of Cityscapes' classes that says CamVid's: probabilities of merged classes add."""

    def __init__(self, dense: sr.dense.DenseModel, classes: Tensor) -> None:
        super().__init__()
        self.dense = dense
        self.num_classes = int(classes.max()) + 1
        self.size_divisor = dense.size_divisor
        self.preset = sr.dense.Preset(dense_size=0.5)
        self.members = [(classes == k).nonzero()[:, 0] for k in range(self.num_classes)]

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h_out w_out"]:
        logits = self.dense(images)
        return torch.stack([logits[:, members].logsumexp(1) for members in self.members], 1)


class Every:
    """Every nth sample of a dataset."""

    def __init__(self, dataset: CamVid, step: int) -> None:
        self.dataset, self.step = dataset, step
        self.names = dataset.names[::step]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index * self.step]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ in it")
    parser.add_argument("--out", type=Path, default=RESULT, help="result file")
    parser.add_argument("--work", type=Path, help="folder to go on from; default: none is kept")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(args.shared / "data", args.work or Path(temporary))
    result = {
        "command": f"python benchmarks/{Path(__file__).name} --shared ../shared",
        "environment": Environment.current().to_json(),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    for row in rows:
        print(table(row))


def measure(data: Path, work: Path) -> list[dict[str, Any]]:
    """One row per dataset and truth."""
    sys.path.insert(0, str(ROOT / "runs"))
    from train_demo import HELD_OUT

    from espnetv2_camvid import CAMVID_OF_CITYSCAPES

    demo = sr.SparseRefiner.from_pretrained("demo")
    photos = [
        path for path in list_images(data / "street-free" / "images") if path.stem in HELD_OUT
    ]
    merged = sr.SparseRefiner(
        CamVidDense(demo.dense, CAMVID_OF_CITYSCAPES),
        extractor=sr.SparseUNet(11, widths=(8,), blocks=1),
    )
    camvid = CamVid(data / "camvid-360p", "val", 11)
    learn = Every(CamVid(data / "camvid-360p", "train", 11), LEARN_EVERY)
    cases = (
        ("street photos", demo, ImageFolder(photos), None),
        ("CamVid val", merged, camvid, learn),
    )
    rows = []
    for name, model, dataset, learn_from in cases:
        for against in ("labels", "full") if learn_from else ("full",):
            folder = work / name.replace(" ", "_") / against
            chosen = sr.calibrate(
                model, dataset, against=against, learn_from=learn_from, out=folder / "calibrate"
            )
            room = sr.headroom(model, dataset, against=against, out=folder / "headroom")
            document = chosen.to_json()
            facts = ("threshold", "recall", "precision", "density", "error_rate", "intervals")
            rows.append(
                {
                    "data": name,
                    "against": against,
                    "images": chosen.images,
                    **{fact: document[fact] for fact in facts},
                    "recall_at": {str(share): chosen.recall_at(share) for share in SHARES},
                    "headroom": {
                        key: value
                        for key, value in room.to_json().items()
                        if key in ("low", "full", "ceilings", "low_ms", "full_ms", "advice")
                    },
                }
            )
    return rows


def table(row: dict[str, Any]) -> str:
    """Errors found by each score, as Markdown, and the advice."""
    lines = [
        f"\n{row['data']}, {row['images']} images, against {row['against']}: threshold "
        f"{row['threshold']:.4g}, recall {row['recall']:.1%}, precision {row['precision']:.1%}, "
        f"density {row['density']:.1%}, error rate {row['error_rate']:.1%}",
        "| | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |",
        "|" + "---|" * (len(SHARES) + 1),
    ]
    columns = [row["recall_at"][str(share)] for share in SHARES]
    for name in columns[0]:
        found = " | ".join(f"{column[name]:.1%}" for column in columns)
        lines.append(f"| {name.replace('_', ' ')} | {found} |")
    return "\n".join([*lines, row["headroom"]["advice"]])


if __name__ == "__main__":
    main()
