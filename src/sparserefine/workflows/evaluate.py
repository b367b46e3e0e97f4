"""How much refinement gains, against labels or the dense model at full resolution."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.held_out import check_held_out
from sparserefine.workflows.identity import identity
from sparserefine.workflows.image_records import ImageRecords, record_images
from sparserefine.workflows.image_score import (
    ENSEMBLERS,
    FULL_RES,
    SELECTORS,
    ImageScore,
    counts_of,
    rows_of,
    score_image,
)
from sparserefine.workflows.quality import Quality

CACHE = "cache"


@dataclass(frozen=True)
class Evaluation:
    """Scores of a refiner on a dataset.

    Rows: "low_res_nearest" and "low_res_bilinear" are the dense model's low-resolution prediction
    upsampled, "second_look" adds the dense model's second look, where there is one, and nothing
    else, "refinement_alone" takes the extractor's labels where pixels were selected, "refined" is
    ours, "oracle" is the low-resolution row that ours starts from, with every selected pixel right:
    the most that any refiner of these pixels can reach. With labels there is "full_res" too.

    Attributes:
        images: Scores of each image.
        quality: Scores over all images, per row.
        against: "labels", or "full": the dense model at full resolution.
        class_names: Of the classes, where known.
        settings: Of the refiner.
        failed: Why an image could not be read, by its name.
    """

    images: tuple[ImageScore, ...]
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    against: str = "full"
    class_names: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Mean over images."""
        return _mean([image.density for image in self.images])

    @property
    def agreement(self) -> dict[str, float]:
        """Mean over images, per row."""
        rows = self.images[0].agreement
        return {row: _mean([image.agreement[row] for image in self.images]) for row in rows}

    @property
    def miou(self) -> dict[str, float]:
        """Per row."""
        return {row: scores["miou"] for row, scores in self.quality.items()}

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine evaluate --json` prints."""
        return {
            "against": self.against,
            "rows": {
                row: {"agreement": agreement, **self.quality[row]}
                for row, agreement in self.agreement.items()
            },
            "density": self.density,
            "corrected": _mean([image.corrected for image in self.images]),
            "spoiled": _mean([image.spoiled for image in self.images]),
            "class_names": list(self.class_names),
            "images": [
                {
                    "name": image.name,
                    "density": image.density,
                    "low_res_bilinear": image.agreement["low_res_bilinear"],
                    "refined": image.agreement["refined"],
                    "right": image.right,
                    "corrected": image.corrected,
                    "spoiled": image.spoiled,
                }
                for image in self.images
            ],
            "failed": self.failed,
            "settings": self.settings,
            "environment": Environment.current().to_json(),
        }


@torch.no_grad()
def evaluate(
    model: SparseRefiner,
    dataset: SampleSource,
    advance: Callable[[], None] = lambda: None,
    *,
    out: str | Path | None = None,
    ensemblers: Sequence[str] = (),
    selector: str = "entropy",
    seed: int = 0,
) -> Evaluation:
    """Score a refiner.

    With labels they are what is right; without, the dense model at full resolution is. An image
    that cannot be read is reported and the rest are scored.

    Args:
        model: The refiner.
        dataset: Images that it was not trained on, with or without labels (all or none).
        advance: Called after each image.
        out: Folder for what was counted of each image, so that a run that was stopped goes on;
            None keeps nothing.
        ensemblers: More ways to fuse, each a row of its own: some of `ENSEMBLERS`.
        selector: What pixels are chosen by, as many as the entropy chooses: one of `SELECTORS`.
        seed: Of the random selector.

    Raises:
        ValueError: The dataset is empty or was trained on, no image of it can be read, only a part
            of it has labels, a label is not a class, or an ensembler or selector is unknown.
        OSError: A file cannot be written.
    """
    _check(ensemblers, selector)
    if not len(dataset):
        raise ValueError("the dataset is empty. Give at least one image.")
    check_held_out(dataset, model.trained_on)
    model.eval()
    facts = {
        "record": "evaluate 1",
        "model": identity(model),
        "ensemblers": sorted(ensemblers),
        "selector": selector,
        "seed": seed,
    }
    with ExitStack() as stack:
        if out is None:
            out = stack.enter_context(tempfile.TemporaryDirectory())
        records = record_images(
            dataset,
            lambda sample: score_image(model, sample, ensemblers, selector, seed),
            Path(out) / CACHE,
            facts,
            advance,
        )
        return _add_up(model, records, selector)


def _add_up(model: SparseRefiner, records: ImageRecords, selector: str) -> Evaluation:
    images: list[ImageScore] = []
    quality: dict[str, Quality] = {}
    labeled = 0
    for name, record in zip(records.names.values(), records, strict=True):
        image = ImageScore.from_record(name, record)
        images.append(image)
        labeled += FULL_RES in image.right
        for row in rows_of(record):
            total = quality.setdefault(row, Quality(model.dense.num_classes))
            total.add(counts_of(record, row))
    if labeled not in (0, len(images)):
        raise ValueError(
            f"{labeled} of {len(images)} images have labels. Give labels for all images or none."
        )
    return Evaluation(
        tuple(images),
        {row: found.to_json() for row, found in quality.items()},
        "labels" if labeled else "full",
        model.dense.preset.class_names,
        {**model.settings(), "selector": selector},
        records.failed,
    )


def _check(ensemblers: Sequence[str], selector: str) -> None:
    for found, known, name in (
        *((ensembler, ENSEMBLERS, "ensembler") for ensembler in ensemblers),
        (selector, SELECTORS, "selector"),
    ):
        if found not in known:
            raise ValueError(f"{name} {found!r} is unknown, expected one of {', '.join(known)}.")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
