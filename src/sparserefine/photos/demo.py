"""A demo on shipped photos: a street beside the dense model at full resolution, and a cut-out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.evaluation.statistics import median, percentile
from sparserefine.images import as_uint8_rgb, write_image
from sparserefine.photos.cutout import Cutout, cut_out, foreground_model
from sparserefine.photos.shipped import shipped_photo
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.prediction import FILE_STAGES, Prediction
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer

ROUNDS = 7
PICTURE, DETAIL = "before_after.png", "detail.png"
CUTOUT, CUTOUT_PICTURE = "cutout.png", "cutout_before_after.png"


@dataclass(frozen=True)
class DemoResult:
    """Measurements of the demo.

    Attributes:
        picture: Path of before_after.png; None where nothing was written.
        density: Share of the pixels that were refined.
        stages_ms: Milliseconds per stage, medians over the rounds.
        full_stages_ms: The same of the dense model at full resolution: "dense" with all that makes
            labels of it, and of the same files "read" and "write".
        p95_ms: 95th percentile over the rounds of the sum of the stages without files: of
            "refined", and of "full_res".
        agreement_low_res: Share of pixels whose upsampled low-resolution label is that of the
            full-resolution dense model.
        agreement_refined: Share of pixels whose refined label is that of the full-resolution dense
            model.
        license: What a user must know about the dense weights.
        cutout: The foreground of another photo, cut out.
        cutout_picture: Path of cutout_before_after.png; None where nothing was written.
    """

    picture: Path | None
    density: float
    stages_ms: dict[str, float]
    full_stages_ms: dict[str, float]
    p95_ms: dict[str, float]
    agreement_low_res: float
    agreement_refined: float
    license: str
    cutout: Cutout
    cutout_picture: Path | None

    @property
    def refined_ms(self) -> float:
        """Milliseconds of the refined labels, files not included."""
        return without_files(self.stages_ms)

    @property
    def full_res_ms(self) -> float:
        """Milliseconds of the dense model's labels at full resolution, files not included."""
        return without_files(self.full_stages_ms)


def without_files(stages_ms: Mapping[str, float]) -> float:
    """Milliseconds of all stages but those of files."""
    return sum(ms for stage, ms in stages_ms.items() if stage not in FILE_STAGES)


def demo(
    *,
    photo: str = "lund",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Refine a street that ships with the package, and cut a bird out of a photo.

    The street is shown beside the dense model at full resolution, the bird, of 8.3 megapixels,
    beside the prediction on 320×320 that it is cut out by. Both sides of the street run once to
    warm up and then in turns, so that a noisy machine is noisy to both.

    Args:
        photo: Name of the street, "lund" or "highway".
        out: Folder for before_after.png, its part detail.png, the results of `Prediction.save`,
            cutout.png and cutout_before_after.png; None writes nothing.
        progress: Told of each round.

    Raises:
        ValueError: There is no such photo.
        OSError: The folder cannot be written.
    """
    source = shipped_photo(photo)
    folder = None if out is None else make_folder(out)
    model = with_fast_dense(SparseRefiner.from_pretrained("demo"))
    prediction = model.predict(source)
    images = torch.from_numpy(prediction.image).permute(2, 0, 1)[None]
    full = model.full_resolution_labels(images)[0].numpy()
    low = model.low_resolution_labels(model.dense_pass(images), full.shape)[0].numpy()

    rounds: list[dict[str, float]] = []
    full_rounds: list[dict[str, float]] = []
    advance = count_steps(progress, "demo", ROUNDS + 1)
    for _ in range(ROUNDS):
        timer = StageTimer(model.device)
        prediction = model.predict(source, timer=timer)
        if folder is not None:
            with timer.stage("write"):
                prediction.save(folder)
        rounds.append(timer.stages_ms)
        full_rounds.append(_full_round(model, source, prediction, folder))
        advance()
    bird = _cut_out(folder)
    advance()
    result = DemoResult(
        picture=None if folder is None else folder / PICTURE,
        density=prediction.density,
        stages_ms={stage: median([each[stage] for each in rounds]) for stage in rounds[0]},
        full_stages_ms={
            stage: median([each[stage] for each in full_rounds]) for stage in full_rounds[0]
        },
        p95_ms={
            side: percentile([without_files(each) for each in own], 95)
            for side, own in (("refined", rounds), ("full_res", full_rounds))
        },
        agreement_low_res=float(np.mean(low == full)),
        agreement_refined=float(np.mean(prediction.labels == full)),
        license=model.preset.license,
        cutout=bird,
        cutout_picture=None if folder is None else folder / CUTOUT_PICTURE,
    )
    if folder is not None:
        for name, detail_only in ((PICTURE, False), (DETAIL, True)):
            picture = prediction.before_after(low, full, detail_only=detail_only)
            write_image(picture, folder / name, stamp=True)
        _write_result(replace(prediction, model=model.describe()), result, folder / "result.json")
    return result


def _full_round(
    model: SparseRefiner, source: Path, refined: Prediction, folder: Path | None
) -> dict[str, float]:
    """Milliseconds of the dense model at full resolution, with the same files."""
    timer = StageTimer(model.device)
    with timer.stage("read"):
        images = torch.from_numpy(as_uint8_rgb(source)).permute(2, 0, 1)[None]
    with timer.stage("dense"):
        labels = model.full_resolution_labels(images)[0].numpy()
    if folder is not None:
        with timer.stage("write"), tempfile.TemporaryDirectory(dir=folder) as beside:
            replace(refined, labels=labels).save(beside)
    return timer.stages_ms


def _cut_out(folder: Path | None) -> Cutout:
    """Cut out the bird, once to warm up."""
    source = shipped_photo("wren")
    network = foreground_model("u2netp")
    cut_out(source, network)
    bird = cut_out(source, network)
    if folder is None:
        return bird
    timer = StageTimer()
    with timer.stage("write"):
        bird.save(folder / CUTOUT, source=source)
    write_image(bird.before_after(), folder / CUTOUT_PICTURE, stamp=True)
    return replace(bird, stages_ms={**bird.stages_ms, **timer.stages_ms})


def _figures(stages_ms: Mapping[str, float], p95_ms: float) -> dict[str, Any]:
    """Stages, their sum without files, how high that was at times, and what the files took."""
    return {
        "stages_ms": {stage: round(ms, 3) for stage, ms in stages_ms.items()},
        "total_ms": round(without_files(stages_ms), 3),
        "p95_total_ms": round(p95_ms, 3),
        **{
            f"{stage}_ms": round(stages_ms[stage], 3) for stage in FILE_STAGES if stage in stages_ms
        },
    }


def _write_result(prediction: Prediction, result: DemoResult, path: Path) -> None:
    document = prediction.to_json() | {
        **_figures(result.stages_ms, result.p95_ms["refined"]),
        "full_res": _figures(result.full_stages_ms, result.p95_ms["full_res"]),
        "rounds": ROUNDS,
        "agreement": {
            "low_res": round(result.agreement_low_res, 6),
            "refined": round(result.agreement_refined, 6),
        },
        "cutout": {
            "width": result.cutout.alpha.shape[1],
            "height": result.cutout.alpha.shape[0],
            "density": round(result.cutout.density, 6),
            "stages_ms": {stage: round(ms, 3) for stage, ms in result.cutout.stages_ms.items()},
        },
    }
    text = json.dumps(document, indent=2) + "\n"
    atomic_write(path, lambda partial: partial.write_text(text))
