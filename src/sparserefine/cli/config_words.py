"""A file of options of `train`, as the words of the command line that it stands for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sparserefine.training.config import LOSSES, TrainConfig
from sparserefine.training.config_file import is_config, overridden, read_config

# Of these options each value has a word of its own: --inputs rgb --inputs entropy.
_REPEATED = ("inputs", "trackers", "dense_size")


def with_config(words: Sequence[str]) -> list[str]:
    """The words of `train CONFIG.yaml …` with the options of the file, unless they name them.

    Args:
        words: The words of a command line, of any command.

    Raises:
        ValueError: The file is no YAML, or has a key that is no option or a value that is none of
            the option.
        FileNotFoundError: There is no such file.
    """
    if len(words) < 2 or words[0] != "train" or not is_config(words[1]):
        return list(words)
    command, path, *own = words
    named = {_option(word) for word in own if word.startswith("--")}
    if own and not own[0].startswith("-"):
        named.add("data")
    # Says in the file's words what is wrong with its values; flags are read later.
    TrainConfig.from_file(path, **_stand_ins(named))
    found = []
    for name, value in overridden(read_config(path), named).items():
        found += _words_of(name, value)
    return [command, *own, *found]


def _stand_ins(named: Collection[str]) -> dict[str, Any]:
    """Values for the options that the command line names, of which none is refused."""
    fields = TrainConfig.__dataclass_fields__
    values = {name: fields[name].default for name in named if name in fields}
    return {**values, **{name: 1.0 for name in LOSSES if name in named}}


def _option(word: str) -> str:
    name = word.partition("=")[0].removeprefix("--").replace("-", "_")
    return name.removeprefix("no_")


def _words_of(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list):
        if name in _REPEATED:
            return [word for one in value for word in (flag, str(one))]
        if name == "class_weights":
            return [flag, ",".join(map(str, value))]
        return [flag, *map(str, value)]
    return [flag, str(value)]
