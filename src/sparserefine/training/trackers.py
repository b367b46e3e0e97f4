"""Logs of a run for programs that draw curves, through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from sparserefine.extras import require
from sparserefine.training.config import TrainConfig


def tracker_kinds(names: Sequence[str]) -> dict[str, Any]:
    """The classes of trackers, by name.

    Args:
        names: Names that accelerate knows.

    Raises:
        ValueError: accelerate knows no such tracker, or what it needs is not installed.
        ImportError: accelerate is not installed.
    """
    if not names:
        return {}
    tracking = require("accelerate.tracking", "trackers")
    known = {str(name): kind for name, kind in tracking.LOGGER_TYPE_TO_CLASS.items()}
    usable = {getattr(name, "value", name) for name in tracking.get_available_trackers()}
    for name in names:
        if name not in known:
            raise ValueError(f"tracker {name!r} is unknown. Use some of {', '.join(known)}.")
        if name not in usable:
            raise ValueError(f"tracker {name!r} is not installed: pip install {name}.")
    return {name: known[name] for name in names}


class Trackers:
    """Hands the figures of each step to the trackers that a run asks for.

    Args:
        config: The hyperparameters, which name the trackers and are logged themselves.
        folder: Folder of the run; a tracker that writes files has one of its own name in it.

    Raises:
        ValueError: accelerate knows no such tracker, or what it needs is not installed.
        ImportError: accelerate is not installed.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self._trackers: list[Any] = []
        if not config.trackers:
            return
        settings = {name: _plain(value) for name, value in asdict(config).items()}
        for name, kind in tracker_kinds(config.trackers).items():
            places = {"logging_dir": str(folder)} if kind.requires_logging_directory else {}
            tracker = kind(name, **places)
            if hasattr(tracker, "start"):
                tracker.start()
            tracker.store_init_configuration(settings)
            self._trackers.append(tracker)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for tracker in self._trackers:
            tracker.finish()

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Log the figures of a step."""
        for tracker in self._trackers:
            tracker.log(dict(row), step=step)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)
