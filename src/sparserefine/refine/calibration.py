"""The threshold that `calibrate` chose, read for the model that it was chosen for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from sparserefine.refine.refiner import SparseRefiner


def prediction_facts(refiner: SparseRefiner) -> dict[str, Any]:
    """All that the low-resolution prediction depends on, as plain values.

    Thresholds are as good as these stay the same; the extractor and the ensembler may change.
    """
    digest = hashlib.sha256()
    for name, value in refiner.dense.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    size = refiner.dense_size.value
    return {
        "dense": refiner.dense.name or type(refiner.dense).__name__,
        "weights": digest.hexdigest()[:16],
        "dense_size": list(size) if isinstance(size, tuple) else size,
        "upsampling": refiner.upsampling,
    }


def calibrated_threshold(path: str | Path, refiner: SparseRefiner) -> float:
    """Read calibration.json.

    Args:
        path: The file.
        refiner: Whose threshold it is to be.

    Returns:
        Nats.

    Raises:
        ValueError: The file is no calibration, or one of another dense model or size.
        OSError: The file cannot be read.
    """
    document = read_calibration(path)
    model = document["model"]
    facts = prediction_facts(refiner)
    differing = [name for name, fact in facts.items() if model.get(name) != fact]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path} is of another model: {name} {model.get(name)!r}, but this one has "
            f"{facts[name]!r}. Calibrate again with this model."
        )
    return document["threshold"]


def read_calibration(path: str | Path) -> dict[str, Any]:
    """calibration.json, checked to be one.

    Raises:
        ValueError: The file is no calibration.
        OSError: The file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no calibration at {path}. Make one: sparserefine calibrate DATA --model MODEL."
        )
    try:
        document = dict(json.loads(path.read_text()))
        document["threshold"] = float(document["threshold"])
        document["model"] = dict(document["model"])
        document["curve"] = dict(document["curve"])
        document["against"] = str(document["against"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no calibration ({type(error).__name__}: {error}). Expected the "
            f"calibration.json that sparserefine calibrate wrote."
        ) from None
    return document
