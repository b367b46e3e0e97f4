"""The result of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparserefine.evaluation.result import Evaluation
from sparserefine.training.step_log import Row


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        folder: Folder of the trained model, the checkpoint, the log and the pictures; None where
            nothing was written, or another process did.
        losses: Loss of each step that this call ran.
        log: Figures of all steps, as in log.jsonl.
        skipped: Why an image was left out, by its name.
        pictures: Paths of training.png, the curves of the log, and of before_after.png, the trained
            model on an image that was set aside, or else on the first.
        stages_ms: Milliseconds that this call spent on "dense", "train" and "write".
        best_step: The step whose weights were kept, as the best on the images set aside; None where
            there were none, and the last weights were kept.
        evaluation: Scores of the images set aside, which chose the weights: report on others. None
            where there were none.
    """

    folder: Path | None
    losses: tuple[float, ...]
    log: tuple[Row, ...]
    skipped: dict[str, str]
    pictures: tuple[Path, ...]
    stages_ms: dict[str, float]
    best_step: int | None = None
    evaluation: Evaluation | None = None

    def summary(self) -> tuple[Row, Row]:
        """Means over the first and over the last tenth of the steps in the log, and their number.

        Raises:
            ValueError: The log is empty: somebody took it away from a run that is over.
        """
        if not self.log:
            raise ValueError("the log of this run is gone. Train in another output folder.")
        tenth = -(-len(self.log) // 10)
        return _means(self.log[:tenth]), _means(self.log[-tenth:])


def _means(rows: Sequence[Row]) -> Row:
    shared = set.intersection(*(set(row) for row in rows))
    means: Row = {key: sum(row[key] for row in rows) / len(rows) for key in shared}
    return {**means, "steps": len(rows)}
