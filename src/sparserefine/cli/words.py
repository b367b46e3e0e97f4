"""The words of a command line, before and after they are taken for options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, get_args

from cyclopts import Token, convert

from sparserefine.paths import PathError, user_path


def checked_words(words: Sequence[str]) -> list[str]:
    """The words with "~" as the home folder, also where a shell leaves it, as in --out=~/results.

    Args:
        words: What follows the name of the program.

    Raises:
        PathError: A word is empty, or "-".
    """
    checked = []
    for position, word in enumerate(words, 1):
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if not value and (equals or not name):
            raise PathError(
                f"argument {position} is empty{f' ({name})' if name else ''}, expected a path or a "
                f"value. Check the variable that it came from, or leave the option out."
            )
        if value == "-":
            user_path(value)  # says that it is no file
        checked.append(name + equals + os.path.expanduser(value))
    return checked


def converted(kind: Any, tokens: Sequence[Token]) -> Any:
    """The value of an option, as the parser has it but for numbers that it would round.

    Args:
        kind: Type of the value.
        tokens: Its words.

    Raises:
        ValueError: A whole number is wanted, and another one was given.
    """
    if int in (kind, *get_args(kind)):
        for value in (token.value for token in tokens):
            if "." in value and not _is_whole(value):
                raise ValueError(f"got {value}, expected a whole number.")
    return convert(kind, tokens)


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return True  # no number: the parser says so


def parsed_bands(text: str) -> tuple[int, ...]:
    """Numbers of bands, such as "4,3,2".

    Raises:
        ValueError: They are no whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(
            f"--bands {text}: expected numbers from 1, such as --bands 4,3,2."
        ) from None


def parsed_range(text: str) -> tuple[float, float] | None:
    """The values of black and white, such as "0,4095"; None where none are given.

    Raises:
        ValueError: They are not two numbers.
    """
    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--range {text}: expected the values of black and white, such as --range 0,4095."
        ) from None
    return low, high


def parsed_outputs(text: str) -> list[str] | None:
    """Names of pictures to write, such as "labels,mask"; None where nothing is said.

    Args:
        text: What the user said; "none" names no picture.
    """
    if not text:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    return [] if names == ["none"] else names


def parsed_size(text: str) -> tuple[int, int]:
    """Height and width, such as "1024x2048".

    Raises:
        ValueError: They are no two whole numbers.
    """
    height, separator, width = text.lower().replace("×", "x").partition("x")
    if not (separator and height.isdigit() and width.isdigit()):
        raise ValueError(f"size {text!r}: expected HEIGHTxWIDTH, such as 1024x2048.")
    return int(height), int(width)
