"""Files of options of `sparserefine train`: YAML, a key for each option."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from sparserefine.paths import user_path

SUFFIXES = (".yaml", ".yml")
BASE = "base"
# What a run is of besides its hyperparameters; a test compares them with the command's.
OF_THE_RUN = (
    "data", "split", "validation", "validation_split", "labels", "layout", "label_values", "out",
    "dense", "weights", "kind", "mean", "std", "output", "allow_pickle", "dense_size", "threshold",
    "max_density", "extractor", "pyramid", "inputs", "mode", "device",
)  # fmt: skip


def shipped_configs() -> list[str]:
    """Names of the files that ship with the package."""
    return sorted(path.name for path in _shipped().glob("*.yaml"))


def is_config(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a file of options, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of options.

    Args:
        path: The file, or the name of one that ships with the package. Its key `base` names another
            one, beside it or shipped, whose keys hold unless this one has them.

    Returns:
        Values by the name of the option, with _ for -.

    Raises:
        ValueError: It is no YAML, has a key that is no option, or is its own base.
        FileNotFoundError: There is no such file.
    """
    return _read(find_config(path), ())


def find_config(path: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The file of a path, or the shipped one of that name.

    Args:
        path: Path or name.
        beside: Folder that is looked into first.

    Raises:
        FileNotFoundError: There is none.
    """
    given = user_path(path)
    places = [given, _shipped() / given]
    if beside is not None:
        places.insert(0, beside / given)
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"there is no file {path}. Expected a file of options, or one of those that ship: "
        f"{', '.join(shipped_configs())}."
    )


def nearest_names(name: str, known: Collection[str]) -> str:
    """A sentence that names the known names that are most like one."""
    near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"Expected {' or '.join(near)}." if near else f"Expected {', '.join(sorted(known))}."


def overridden(values: Mapping[str, Any], named: Collection[str]) -> dict[str, Any]:
    """The options of a file that hold beside others which go before it.

    How long a run is has two names: who says `steps` wants no `epochs` of the file.

    Args:
        values: The options of the file.
        named: Names of those that go before.
    """
    hidden = {*named}
    if "steps" in hidden:
        hidden.add("epochs")
    return {name: value for name, value in values.items() if name not in hidden}


def known_options() -> set[str]:
    """Names of all options that a file may have."""
    from sparserefine.training.config import TrainConfig

    return {*TrainConfig.__dataclass_fields__, *OF_THE_RUN}


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    import yaml

    if path in above:
        raise ValueError(f"{path} is its own base. Name another file, or leave the base out.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())}).") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, expected a key for each option."
        )
    own = {str(key).replace("-", "_"): _number(value) for key, value in content.items()}
    base = own.pop(BASE, None)
    known = known_options()
    for key in own:
        if key not in known:
            raise ValueError(f"{path} has the unknown key {key!r}. {nearest_names(key, known)}")
    if base is None:
        return own
    return {**overridden(_read(find_config(str(base), path.parent), (*above, path)), own), **own}


def _number(value: Any) -> Any:
    """What YAML 1.1 takes for text, as 3e-4, as the number that it is."""
    is_number = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if is_number else value


def _shipped() -> Path:
    return Path(str(files("sparserefine") / "configs"))
