"""Numbers, names and functions as users give them, before anything is computed with them."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any


def whole_number(name: str, value: Any, least: int = 0, remark: str = "") -> int:
    """A count that a user gives; numpy's integers are taken too.

    Args:
        name: What it is called.
        value: What was given.
        least: The smallest that makes sense.
        remark: Why, to be added to the message.

    Raises:
        ValueError: It is no whole number, or less.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise ValueError(
        f"{name} is {_shown(value)}, expected a whole number of {least} or more{remark}."
    )


def real_number(name: str, value: Any, example: str) -> float:
    """A number that a user gives.

    Args:
        name: What it is called.
        value: What was given.
        example: A usual value.

    Raises:
        ValueError: It is no number.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{name} is {_shown(value)}, expected a number, such as {example}.")


def colors(name: str, value: Any) -> tuple[float, float, float]:
    """Three numbers that a user gives, one of red, green and blue each.

    Raises:
        ValueError: They are not three numbers.
    """
    numbers = () if isinstance(value, str) or not hasattr(value, "__len__") else tuple(value)
    if len(numbers) == 3 and all(isinstance(one, Real) for one in numbers):
        return numbers  # type: ignore[return-value]
    raise ValueError(
        f"{name} is {_shown(value)}, expected three numbers, of red, green and blue, such as "
        f"(0.5, 0.5, 0.5). Repeat that of a gray image."
    )


def text(name: str, value: Any, example: str) -> str:
    """A word that a user gives.

    Raises:
        ValueError: It is no text.
    """
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} is {_shown(value)}, expected a text, such as {example!r}.")


def function(name: str, value: Any) -> Callable[..., object]:
    """A function that a user gives.

    Raises:
        ValueError: It cannot be called.
    """
    if callable(value):
        return value
    raise ValueError(f"{name} is {_shown(value)}, expected a function, or None.")


def _shown(value: Any) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
    # None and numbers say themselves what they are.
    plain = value is None or isinstance(value, bool | int | float)
    return shown if plain else f"{shown} of type {type(value).__name__}"
