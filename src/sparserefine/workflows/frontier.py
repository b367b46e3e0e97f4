"""At the same milliseconds, which way is the most accurate?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparserefine.atomic import atomic_write, atomic_write_all, make_folder
from sparserefine.data import Sample, content_hash
from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment
from sparserefine.images import ImageError, write_image
from sparserefine.plots import frontier_curves
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.confusion import ConfusionMatrix
from sparserefine.workflows.contenders import Contender
from sparserefine.workflows.percentiles import median
from sparserefine.workflows.truth import check_labels

FILE, PLOT, PAGE, RECORDS = "frontier.json", "frontier.png", "frontier.md", "images"


@dataclass(frozen=True)
class FrontierPoint:
    """One contender over all images.

    Attributes:
        family: "dense", "tiles", "points" or "ours …".
        setting: Of its dial.
        ms: Mean over images of the median milliseconds.
        right: Mean over images of the share of right pixels.
        right_interval: 95 % bootstrap interval over images.
        right_of_images: Share of right pixels of each image.
        miou: Over all images.
        peak_mib: Most memory that a process of its own held; None where not measured.
    """

    family: str
    setting: str
    ms: float
    right: float
    right_interval: tuple[float, float]
    right_of_images: tuple[float, ...]
    miou: float
    peak_mib: float | None = None


@dataclass(frozen=True)
class Win:
    """A range of budgets in which refinement is the most accurate way.

    Attributes:
        from_ms: From where.
        to_ms: To where; None for any larger budget.
        gain: By how much at most, in share of right pixels.
        sure: Whether the 95 % interval of the gain over images lies above 0 somewhere in it.
    """

    from_ms: float
    to_ms: float | None
    gain: float
    sure: bool


@dataclass(frozen=True)
class Frontier:
    """All points.

    Attributes:
        points: In the order of the contenders.
        images: Number of images.
        against: "labels" or "full".
        seed: Of the bootstrap.
        notes: What is missing, and why.
        failed: Why an image could not be read, by its name.
    """

    points: tuple[FrontierPoint, ...]
    images: int
    against: str
    seed: int = 0
    notes: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def wins(self) -> list[Win]:
        """Where ours is the most accurate of all that a budget pays for."""
        budgets = sorted({point.ms for point in self.points})
        wins: list[Win] = []
        for index, budget in enumerate(budgets):
            ours = self._best(budget, True)
            others = self._best(budget, False)
            end = budgets[index + 1] if index + 1 < len(budgets) else None
            if ours is None or others is None or ours.right <= others.right:
                continue
            gain, sure = ours.right - others.right, self._surely_better(ours, others)
            if wins and wins[-1].to_ms == budget:
                last = wins[-1]
                wins[-1] = Win(last.from_ms, end, max(gain, last.gain), sure or last.sure)
            else:
                wins.append(Win(budget, end, gain, sure))
        return wins

    def _best(self, budget: float, ours: bool) -> FrontierPoint | None:
        paid = [p for p in self.points if p.ms <= budget and p.family.startswith("ours") == ours]
        return max(paid, key=lambda point: point.right, default=None)

    def _surely_better(self, ours: FrontierPoint, other: FrontierPoint) -> bool:
        """By a paired bootstrap over images."""
        gains = torch.tensor(ours.right_of_images) - torch.tensor(other.right_of_images)
        return _interval(gains.double(), self.seed)[0] > 0

    def verdict(self) -> str:
        """One sentence, or two."""
        wins = self.wins()
        if not wins:
            return (
                "Refinement wins at no budget: for any number of milliseconds the dense model at "
                "some input size, or on its most uncertain tiles, is at least as accurate."
            )
        ranges = ", ".join(
            f"from {win.from_ms:.0f} ms"
            + (f" to {win.to_ms:.0f} ms" if win.to_ms is not None else " on")
            + f" (by up to {100 * win.gain:.2f} points"
            + (")" if win.sure else ", less than images differ)")
            for win in wins
        )
        return f"Refinement is the most accurate way {ranges}."

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine frontier --json` prints."""
        return {
            "points": [asdict(point) for point in self.points],
            "wins": [asdict(win) for win in self.wins()],
            "verdict": self.verdict(),
            "images": self.images,
            "against": self.against,
            "notes": list(self.notes),
            "failed": self.failed,
            "environment": Environment.current().to_json(),
        }

    def markdown(self) -> str:
        """All points as a table, and the verdict."""
        what = "labels" if self.against == "labels" else "the dense model at full resolution"
        lines = [
            f"| way | setting | ms | right, by {what} | 95 % over images | mIoU | peak, MiB |",
            "|---|---|---|---|---|---|---|",
        ]
        for point in self.points:
            low, high = point.right_interval
            peak = "" if point.peak_mib is None else f"{point.peak_mib:.0f}"
            lines.append(
                f"| {point.family} | {point.setting} | {point.ms:.0f} | {point.right:.2%} | "
                f"{low:.2%} to {high:.2%} | {point.miou:.2%} | {peak} |"
            )
        environment = Environment.current()
        lines += [
            "",
            f"{self.images} images; {environment.device}, {environment.threads} threads, commit "
            f"{environment.commit}. {self.verdict()}",
            *self.notes,
        ]
        return "\n".join(lines) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write frontier.json, .md and .png.

        Returns:
            The picture.
        """

        def write(partial: Path) -> None:
            document = json.dumps(self.to_json(), indent=1, allow_nan=False)
            (partial / FILE).write_text(document + "\n")
            (partial / PAGE).write_text(self.markdown())
            curves: dict[str, list[tuple[float, float, float, float]]] = {}
            for point in self.points:
                entry = (point.ms, point.right, *point.right_interval)
                curves.setdefault(point.family, []).append(entry)
            write_image(frontier_curves(curves), partial / PLOT)

        return atomic_write_all(folder, write) / PLOT


@torch.no_grad()
def frontier(
    model: SparseRefiner,
    dataset: SampleSource,
    ways: Sequence[Contender],
    out: str | Path,
    *,
    against: str,
    rounds: int = 3,
    seed: int = 0,
    notes: Sequence[str] = (),
    identity: Sequence[str] = (),
    peaks: dict[tuple[str, str], float] | None = None,
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
        _point(way, position, records, model.dense.num_classes, seed, peaks or {})
        for position, way in enumerate(ways)
    ]
    return Frontier(tuple(points), len(records), against, seed, tuple(notes), failed)


def _run_image(
    model: SparseRefiner, sample: Sample, ways: Sequence[Contender], against: str, rounds: int
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
    classes: int,
    seed: int,
    peaks: dict[tuple[str, str], float],
) -> FrontierPoint:
    right = torch.tensor([record["right"][position] for record in records], dtype=torch.float64)
    matrix = ConfusionMatrix(classes)
    for record in records:
        matrix.counts += torch.tensor(record["counts"][position])
    return FrontierPoint(
        way.family,
        way.setting,
        sum(record["ms"][position] for record in records) / len(records),
        float(right.mean()),
        _interval(right, seed),
        tuple(right.tolist()),
        matrix.miou(),
        peaks.get((way.family, way.setting)),
    )


def _interval(values: Tensor, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over images."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (1000, len(values)), generator=generator)
    bounds = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = values[drawn].mean(1).quantile(bounds).tolist()
    return low, high
