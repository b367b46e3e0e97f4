"""A demo: the shipped refiner on a shipped photo, in turns with the full-resolution dense model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.images import write_image
from sparserefine.photos.shipped import shipped_photo
from sparserefine.progress import Progress, count_steps
from sparserefine.refine.prediction import Prediction
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.timing import StageTimer, now_ms

ROUNDS = 5
PICTURE, DETAIL = "before_after.png", "detail.png"


@dataclass(frozen=True)
class DemoResult:
    """Measurements of the demo.

    Attributes:
        picture: Path of before_after.png; None where nothing was written.
        density: Share of the pixels that were refined.
        stages_ms: Milliseconds per stage, medians over the rounds.
        full_res_ms: Milliseconds of the dense model at full resolution, reading and writing not
            included; median over the same rounds.
        agreement_low_res: Share of pixels whose upsampled low-resolution label is that of the
            full-resolution dense model.
        agreement_refined: Share of pixels whose refined label is that of the full-resolution dense
            model.
        license: What a user must know about the dense weights.
    """

    picture: Path | None
    density: float
    stages_ms: dict[str, float]
    full_res_ms: float
    agreement_low_res: float
    agreement_refined: float
    license: str


def demo(
    *,
    photo: str = "lund",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Refine a photo that ships with the package, next to the full-resolution result.

    Both sides run once to warm up and then in turns, so that a noisy machine is noisy to both.

    Args:
        photo: Name of the photo, "lund" or "highway".
        out: Folder for before_after.png, its part detail.png, and the results of
            `Prediction.save`; None writes nothing.
        progress: Told of each round.

    Raises:
        ValueError: There is no such photo.
        OSError: The folder cannot be written.
    """
    source = shipped_photo(photo)
    folder = None if out is None else make_folder(out)
    model = SparseRefiner.from_pretrained("demo")
    prediction = model.predict(source)
    images = torch.from_numpy(prediction.image).permute(2, 0, 1)[None]
    full = model.full_resolution_labels(images)[0].numpy()
    low = model.low_resolution_labels(model.dense_pass(images), full.shape)[0].numpy()

    rounds: list[dict[str, float]] = []
    full_ms: list[float] = []
    advance = count_steps(progress, "demo", ROUNDS)
    for _ in range(ROUNDS):
        timer = StageTimer(model.device)
        prediction = model.predict(source, timer=timer)
        if folder is not None:
            with timer.stage("write"):
                prediction.save(folder)
        rounds.append(timer.stages_ms)
        start = now_ms(model.device)
        model.full_resolution_labels(images)
        full_ms.append(now_ms(model.device) - start)
        advance()
    result = DemoResult(
        picture=None if folder is None else folder / PICTURE,
        density=prediction.density,
        stages_ms={stage: median(each[stage] for each in rounds) for stage in rounds[0]},
        full_res_ms=median(full_ms),
        agreement_low_res=float(np.mean(low == full)),
        agreement_refined=float(np.mean(prediction.labels == full)),
        license=model.preset.license,
    )
    if folder is not None:
        for name, detail_only in ((PICTURE, False), (DETAIL, True)):
            picture = prediction.before_after(low, full, detail_only=detail_only)
            write_image(picture, folder / name)
        _write_result(replace(prediction, model=model.describe()), result, folder / "result.json")
    return result


def _write_result(prediction: Prediction, result: DemoResult, path: Path) -> None:
    document = prediction.to_json() | {
        "stages_ms": {stage: round(ms, 3) for stage, ms in result.stages_ms.items()},
        "total_ms": round(sum(result.stages_ms.values()), 3),
        "full_res_ms": round(result.full_res_ms, 3),
        "rounds": ROUNDS,
        "agreement": {
            "low_res": round(result.agreement_low_res, 6),
            "refined": round(result.agreement_refined, 6),
        },
    }
    text = json.dumps(document, indent=2) + "\n"
    atomic_write(path, lambda partial: partial.write_text(text))
