"""A file of options of `train`, as the words of the command line that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparserefine.training.config_file import is_config, read_config

# Of these options each value has a word of its own: --inputs rgb --inputs entropy.
_REPEATED = ("inputs", "trackers", "dense_size")


def with_config(words: Sequence[str]) -> list[str]:
    """The words of `train CONFIG.yaml …` with the options of the file, unless they name them.

    Args:
        words: The words of a command line, of any command.

    Raises:
        ValueError: The file has a key that is no option, or is no YAML.
        FileNotFoundError: There is no such file.
    """
    if len(words) < 2 or words[0] != "train" or not is_config(words[1]):
        return list(words)
    command, path, *own = words
    named = {_option(word) for word in own if word.startswith("--")}
    if own and not own[0].startswith("-"):
        named.add("data")
    found = []
    for name, value in read_config(path).items():
        if name not in named:
            found += _words_of(name, value)
    return [command, *own, *found]


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
