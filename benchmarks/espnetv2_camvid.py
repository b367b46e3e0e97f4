"""Check ESPNetv2 and its published Cityscapes weights on 31 frames of CamVid, without training.

    python benchmarks/espnetv2_camvid.py --shared ../shared

CamVid is for non-commercial research only; none of it is in this repository, only the numbers are.
Exits with 1 if an mIoU is not the expected one within 0.2 points.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from sparserefine import dense
from sparserefine.environment import Environment
from sparserefine.evaluation.metrics import ConfusionMatrix

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "espnetv2_camvid.json"

TOLERANCE = 0.2
EVERY = 12
CAMVID_CLASSES = 11
# CamVid's class for each Cityscapes train id (README.md of the data).
CAMVID_OF_CITYSCAPES = torch.tensor([3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10])


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model, one input size, and the mIoU (percent) that it must give."""

    model: str
    weights: str
    height: int
    width: int
    expected_miou: float


CASES = tuple(
    Case(
        model=f"espnetv2-{scale}",
        weights=f"espnetv2_s_{scale}_city_{trained_at}.pth",
        height=height,
        width=width,
        expected_miou=expected,
    )
    for scale, trained_at, height, width, expected in (
        ("1.5", "1024x512", 384, 512, 54.7),
        ("1.5", "512x256", 192, 256, 45.4),
        ("2.0", "1024x512", 384, 512, 55.1),
        ("2.0", "512x256", 192, 256, 42.4),
    )
)


def main() -> int:
    args = parse_args()
    torch.set_num_threads(args.threads)
    frames = read_frames(args.shared / "data" / "camvid-360p")
    rows = []
    for case in CASES:
        measured = measure(case, args.shared / "data" / "espnet-weights", frames)
        passed = abs(measured - case.expected_miou) <= TOLERANCE
        rows.append({**asdict(case), "measured_miou": round(measured, 3), "passed": passed})
    result = {
        "command": f"python benchmarks/{Path(__file__).name} {' '.join(sys.argv[1:])}".strip(),
        "data": f"camvid-360p, train, sorted, every {EVERY}th: {len(frames)} frames",
        "tolerance_miou": TOLERANCE,
        "environment": Environment.current().to_json(),
        "rows": rows,
    }
    text = json.dumps(result, indent=2)
    args.out.write_text(text + "\n")
    print(text if args.json else table(rows))
    return 0 if all(row["passed"] for row in rows) else 1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ in it")
    parser.add_argument("--out", type=Path, default=RESULT, help="result file")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    return parser.parse_args()


def read_frames(root: Path) -> list[tuple[Image.Image, torch.Tensor]]:
    """Images, and labels [H, W] int64 with 255 where there is none."""
    stems = sorted((root / "train.txt").read_text().split())[::EVERY]
    frames = []
    for stem in stems:
        image = Image.open(root / "images" / "train" / f"{stem}.jpg").convert("RGB")
        labels = np.array(Image.open(root / "labels" / "train" / f"{stem}.png"))
        frames.append((image, torch.from_numpy(labels).long()))
    return frames


@torch.inference_mode()
def measure(
    case: Case, weights_folder: Path, frames: list[tuple[Image.Image, torch.Tensor]]
) -> float:
    """The mIoU in percent."""
    model = dense.create(case.model, weights_folder / case.weights, allow_pickle=True)
    confusion = ConfusionMatrix(CAMVID_CLASSES)
    for image, labels in frames:
        resized = image.resize((case.width, case.height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
        logits = F.interpolate(
            model(pixels), tuple(labels.shape), mode="bilinear", align_corners=False
        )
        confusion.update(CAMVID_OF_CITYSCAPES[logits.argmax(1)[0]], labels)
    return 100 * confusion.miou()


def table(rows: list[dict]) -> str:
    lines = [f"{'model':<14}{'weights':<34}{'input':>9}{'measured':>10}{'expected':>10}"]
    for row in rows:
        size = f"{row['width']}×{row['height']}"
        verdict = "" if row["passed"] else "  outside the tolerance"
        lines.append(
            f"{row['model']:<14}{row['weights']:<34}{size:>9}"
            f"{row['measured_miou']:>10.2f}{row['expected_miou']:>10.1f}{verdict}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
