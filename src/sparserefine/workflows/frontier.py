"""At the same milliseconds, which way is the most accurate?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.data import Sample, content_hash
from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment
from sparserefine.images import ImageError
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.bootstrap import interval, mean_draws, miou_draws
from sparserefine.workflows.confusion import ConfusionMatrix
from sparserefine.workflows.contenders import Contender
from sparserefine.workflows.percentiles import median
from sparserefine.workflows.truth import Against, check_labels

RECORDS = "images"
Cost = Literal["ms", "peak_mib"]
Score = Literal["miou", "right"]


@dataclass(frozen=True)
class FrontierPoint:
    """One contender over all images.

    Attributes:
        family: "dense", "tiles", "points" or "ours …".
        setting: Of its dial.
        ms: Mean over images of the median milliseconds.
        right: Mean over images of the share of right pixels.
        right_interval: 95 % bootstrap interval over images.
        miou: Over all images.
        miou_interval: 95 % bootstrap interval over images.
        peak_mib: Most memory that a process of its own held; None where not measured.
        draws: The score that decides, in each resample of the images, which are the same for all
            points: differences of two points are paired.
    """

    family: str
    setting: str
    ms: float
    right: float
    right_interval: tuple[float, float]
    miou: float
    miou_interval: tuple[float, float]
    peak_mib: float | None = None
    draws: Float[Tensor, " R"] = field(
        default_factory=lambda: torch.zeros(1), repr=False, compare=False
    )

    @property
    def is_ours(self) -> bool:
        """Whether it refines with a sparse U-Net."""
        return self.family.startswith("ours")

    def to_json(self) -> dict[str, Any]:
        """All but the draws."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "draws"}


@dataclass(frozen=True)
class Win:
    """A range of budgets in which refinement is the most accurate way.

    Attributes:
        start: From where, milliseconds or MiB.
        end: To where; None for any larger budget.
        gain: By how much at most, in shares of the score.
        sure: Whether the 95 % interval of the gain over images lies above 0 somewhere in it.
    """

    start: float
    end: float | None
    gain: float
    sure: bool


@dataclass(frozen=True)
class Frontier:
    """All points.

    Attributes:
        points: In the order of the contenders.
        images: Number of images.
        against: "labels" or "full".
        notes: What is missing, and why.
        failed: Why an image could not be read, by its name.
    """

    points: tuple[FrontierPoint, ...]
    images: int
    against: Against
    notes: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def score(self) -> Score:
        """What decides: mIoU by labels; by the dense model's own answer, the right pixels."""
        return score_by(self.against)

    def wins(self, cost: Cost = "ms") -> list[Win]:
        """Where ours is the most accurate of all that a budget pays for.

        Args:
            cost: What is paid: milliseconds or peak memory.
        """
        priced = [(price, p) for p in self.points if (price := getattr(p, cost)) is not None]
        budgets = sorted({price for price, _ in priced})
        wins: list[Win] = []
        for budget, end in pairwise([*budgets, None]):
            assert budget is not None
            paid = [point for price, point in priced if price <= budget]
            ours = self._best([point for point in paid if point.is_ours])
            others = self._best([point for point in paid if not point.is_ours])
            if ours is None or others is None:
                continue
            gain = getattr(ours, self.score) - getattr(others, self.score)
            if gain <= 0:
                continue
            sure = interval(ours.draws - others.draws)[0] > 0
            if wins and wins[-1].end == budget:
                last = wins.pop()
                wins.append(Win(last.start, end, max(gain, last.gain), sure or last.sure))
            else:
                wins.append(Win(budget, end, gain, sure))
        return wins

    def _best(self, points: Sequence[FrontierPoint]) -> FrontierPoint | None:
        return max(points, key=lambda point: getattr(point, self.score), default=None)

    def verdict(self, cost: Cost = "ms") -> str:
        """One sentence."""
        wins = self.wins(cost)
        budget, unit = ("number of milliseconds", "ms") if cost == "ms" else ("peak memory", "MiB")
        if not wins:
            return (
                f"Refinement wins at no budget: for any {budget} the dense model at some input "
                "size, or on its most uncertain tiles, is at least as accurate."
            )
        ranges = ", ".join(
            f"from {win.start:.0f} {unit}"
            + (f" to {win.end:.0f} {unit}" if win.end is not None else " on")
            + f" (by up to {100 * win.gain:.2f} points"
            + (")" if win.sure else ", less than images differ)")
            for win in wins
        )
        what = "mIoU" if self.score == "miou" else "right pixels"
        return f"Refinement is the most accurate way, by {what}, {ranges}."

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine frontier --json` prints."""
        measured = any(point.peak_mib is not None for point in self.points)
        return {
            "points": [point.to_json() for point in self.points],
            "score": self.score,
            "wins": [asdict(win) for win in self.wins()],
            "verdict": self.verdict(),
            "memory_wins": [asdict(win) for win in self.wins("peak_mib")],
            "memory_verdict": self.verdict("peak_mib") if measured else None,
            "images": self.images,
            "against": self.against,
            "notes": list(self.notes),
            "failed": self.failed,
            "environment": Environment.current().to_json(),
        }


def score_by(against: Against) -> Score:
    """What decides which way is more accurate."""
    return "miou" if against == "labels" else "right"


@torch.no_grad()
def frontier(
    model: SparseRefiner,
    dataset: SampleSource,
    ways: Sequence[Contender],
    out: str | Path,
    *,
    against: Against,
    rounds: int = 3,
    seed: int = 0,
    notes: Sequence[str] = (),
    identity: Sequence[str] = (),
    peaks: Mapping[tuple[str, str], float] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Frontier:
    """Run every contender on every image, in turns.

    Args:
        model: Its dense model at full resolution is right where labels are not.
        dataset: Images that no contender was trained on.
        ways: The contenders.
        out: Results of each image are kept there, so that a stopped run goes on.
        against: "labels" or "full".
        rounds: Timed runs of each contender on each image, after one to warm up.
        seed: Of the bootstrap.
        notes: To be kept with the result.
        identity: Names the weights and settings of the contenders, so that results of others are
            not taken for theirs.
        peaks: Peak memory by family and setting.
        advance: Called after each image.

    Raises:
        ValueError: No image can be read, or labels are missing or wrong.
    """
    folder = make_folder(Path(out) / RECORDS)
    failed: dict[str, str] = {}
    records: list[dict[str, Any]] = []
    conditions = [against, rounds, str(model.device), torch.get_num_threads(), *identity]
    conditions += [Environment.current().commit, *([way.family, way.setting] for way in ways)]
    for index in range(len(dataset)):
        path = folder / f"{index:06d}.json"
        try:
            sample = dataset[index]
        except ImageError as error:
            failed[f"image {index}"] = str(error)
        else:
            facts = [content_hash(sample.image), *conditions]
            record = json.loads(path.read_text()) if path.is_file() else {}
            if record.get("facts") != facts:
                record = {"facts": facts, **_run_image(model, sample, ways, against, rounds)}
                text = json.dumps(record)
                atomic_write(path, lambda partial, text=text: partial.write_text(text))
            records.append(record)
        advance()
    if not records:
        raise ValueError(f"no image could be read. {next(iter(failed.values()), '')}")
    points = [
        _point(way, position, records, score_by(against), seed, peaks or {})
        for position, way in enumerate(ways)
    ]
    return Frontier(tuple(points), len(records), against, tuple(notes), failed)


def _run_image(
    model: SparseRefiner,
    sample: Sample,
    ways: Sequence[Contender],
    against: Against,
    rounds: int,
) -> dict[str, Any]:
    images = sample.image[None].to(model.device)
    classes = model.dense.num_classes
    if against == "labels":
        truth = check_labels(sample, classes).to(images.device)
    else:
        truth = model.full_resolution_labels(images)[0]
    times: list[list[float]] = [[] for _ in ways]
    right, counts = [], []
    for turn in range(rounds + 1):
        for position, way in enumerate(ways):
            start = time.perf_counter()
            labels = way.predict(images)
            if images.device.type == "cuda":
                torch.cuda.synchronize(images.device)
            elapsed = 1000 * (time.perf_counter() - start)
            if turn:
                times[position].append(elapsed)
                continue
            matrix = ConfusionMatrix(classes)
            matrix.update(labels, truth)
            right.append(float(matrix.counts.diag().sum() / matrix.counts.sum().clamp(min=1)))
            counts.append(matrix.counts.tolist())
    return {"ms": [median(values) for values in times], "right": right, "counts": counts}


def _point(
    way: Contender,
    position: int,
    records: Sequence[dict[str, Any]],
    score: Score,
    seed: int,
    peaks: Mapping[tuple[str, str], float],
) -> FrontierPoint:
    right = torch.tensor([record["right"][position] for record in records], dtype=torch.float64)
    counts = torch.tensor([record["counts"][position] for record in records])
    matrix = ConfusionMatrix(counts.shape[1])
    matrix.counts += counts.sum(0)
    draws = {"right": mean_draws(right, seed), "miou": miou_draws(counts, seed)}
    return FrontierPoint(
        way.family,
        way.setting,
        sum(record["ms"][position] for record in records) / len(records),
        float(right.mean()),
        interval(draws["right"]),
        matrix.miou(),
        interval(draws["miou"]),
        peaks.get((way.family, way.setting)),
        draws[score],
    )
