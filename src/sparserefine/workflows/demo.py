"""The shipped pair on a shipped photo, timed in turns with the full-resolution dense model."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from sparserefine import viz
from sparserefine.atomic import atomic_write, make_folder
from sparserefine.images import write_image
from sparserefine.refine.prediction import Prediction
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.refine.timing import StageTimer

PHOTOS = ("lund", "highway")
ROUNDS = 5


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        picture: Path of before_after.png.
        density: Share of the pixels that were refined.
        stages_ms: Milliseconds per stage, medians over the rounds.
        full_res_ms: Of the dense model at full resolution, reading and writing not included;
            median over the same rounds.
        agreement_low_res: Share of pixels labeled as by the full-resolution dense model, by the
            low-resolution labels upsampled bilinearly.
        agreement_refined: The same of the refined labels.
        license: Of the dense weights.
    """

    picture: Path
    density: float
    stages_ms: dict[str, float]
    full_res_ms: float
    agreement_low_res: float
    agreement_refined: float
    license: str


def shipped_photo(name: str) -> Path:
    """Path of a photo that ships with the package: "lund" or "highway"."""
    return Path(str(files("sparserefine") / "assets" / "photos" / f"{name}.jpg"))


def run_demo(out: str | Path, photo: str = "lund") -> DemoResult:
    """Refine a shipped photo and write before_after.png beside the results of `Prediction.save`.

    Both sides run once to warm up and then in turns, so that a noisy machine is noisy to both.

    Args:
        out: Folder for the files.
        photo: "lund" or "highway".

    Raises:
        OSError: The folder cannot be written.
    """
    out = make_folder(out)
    model = SparseRefiner.from_pretrained("demo")
    source = shipped_photo(photo)
    prediction = model.predict(source)
    images = torch.from_numpy(prediction.image).permute(2, 0, 1)[None]
    full = model.full_resolution_labels(images)[0].numpy()
    low = _low_resolution_labels(model, images)

    rounds: list[dict[str, float]] = []
    full_ms: list[float] = []
    for _ in range(ROUNDS):
        prediction = model.predict(source)
        timer = StageTimer()
        with timer.stage("write"):
            prediction.save(out)
        rounds.append({**prediction.stages_ms, **timer.stages_ms})
        start = time.perf_counter()
        model.full_resolution_labels(images)
        full_ms.append(1000 * (time.perf_counter() - start))
    result = DemoResult(
        picture=out / "before_after.png",
        density=prediction.density,
        stages_ms={stage: median(each[stage] for each in rounds) for stage in rounds[0]},
        full_res_ms=median(full_ms),
        agreement_low_res=float(np.mean(low == full)),
        agreement_refined=float(np.mean(prediction.labels == full)),
        license=model.dense.preset.license,
    )
    write_image(
        viz.before_after(
            prediction.image,
            low,
            prediction.entropy,
            prediction.mask,
            prediction.labels,
            full,
            palette=prediction.colors,
            class_names=prediction.class_names,
        ),
        result.picture,
    )
    _write_result(prediction, result, out / "result.json")
    return result


def _low_resolution_labels(model: SparseRefiner, images: Tensor) -> UInt8[np.ndarray, "H W"]:
    height, width = images.shape[2:]
    return upsampled_labels(model.dense_pass(images).logits, (height, width))[0].numpy()


def _write_result(prediction: Prediction, result: DemoResult, path: Path) -> None:
    document = prediction.to_json() | {
        "stages_ms": {stage: round(ms, 3) for stage, ms in result.stages_ms.items()},
        "total_ms": round(sum(result.stages_ms.values()), 3),
        "full_res_ms": round(result.full_res_ms, 3),
        "rounds": ROUNDS,
        "agreement": {
            "low_res_bilinear": round(result.agreement_low_res, 6),
            "refined": round(result.agreement_refined, 6),
        },
    }
    text = json.dumps(document, indent=2) + "\n"
    atomic_write(path, lambda partial: partial.write_text(text))
