"""Reading of calibration.json, and a check that its threshold is for the model at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparserefine.refinement.selector import EntropySelector, Selector


def prediction_facts(described: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a refiner's description that its low-resolution prediction depends on.

    A threshold holds as long as these facts stay the same; extractor and ensembler may change.

    Args:
        described: Description of the refiner, from `SparseRefiner.describe`.
    """
    dense = described["dense"]
    if dense is not None:
        dense = {name: fact for name, fact in dense.items() if name != "license"}
    return {
        "dense": dense,
        "dense_size": described["dense_size"],
        "upsampling": described["upsampling"],
    }


def calibrated_threshold(path: str | Path, described: Mapping[str, Any]) -> float:
    """Read the threshold from calibration.json for a certain refiner.

    Args:
        path: Path of calibration.json.
        described: Description of the refiner that is to use it, from `SparseRefiner.describe`.

    Returns:
        The threshold in nats.

    Raises:
        ValueError: The file is no calibration, or one of another dense model or size.
        OSError: The file cannot be read.
    """
    document = read_calibration(path)
    found = _flat(document["model"])
    for name, fact in _flat(prediction_facts(described)).items():
        if found.get(name) != fact:
            raise ValueError(
                f"{path} is of another model: {name} is {found.get(name)!r} there, but "
                f"{fact!r} here. Calibrate again with this model."
            )
    return document["threshold"]


def calibrated_selector(
    path: str | Path, selector: Selector, described: Mapping[str, Any]
) -> EntropySelector:
    """A selector with the threshold of calibration.json and its own pixel budget.

    Args:
        path: The calibration file.
        selector: The selector whose budget stays.
        described: What the refiner says of itself.

    Raises:
        ValueError: The selector has no threshold, or what `calibrated_threshold` raises.
        OSError: The file cannot be read.
    """
    if not isinstance(selector, EntropySelector):
        raise ValueError(
            f"a calibration is a threshold of the entropy, but the selector is a "
            f"{type(selector).__name__}. Set selector=EntropySelector(0.1) first."
        )
    return replace(selector, threshold=calibrated_threshold(path, described))


def read_calibration(path: str | Path) -> dict[str, Any]:
    """Read calibration.json and check that it is one.

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


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested facts under names such as "dense identity", with values as JSON gives them back."""
    flat: dict[str, Any] = {}
    for name, fact in json.loads(json.dumps(facts)).items():
        if isinstance(fact, dict):
            flat |= {f"{name} {inner}": value for inner, value in fact.items()}
        else:
            flat[name] = fact
    return flat
