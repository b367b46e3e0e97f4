"""What a request asks for, as the server passes it to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from sparserefine.serving.refusal import RefusalError

Output = Literal["labels", "alpha", "cutout", "json"]
Kind = Literal["mask", "probabilities", "logits", "labels"]
Fit = Literal["stretch", "pad"]

_TRUE, _FALSE = ("1", "true", "t", "on", "yes", "y"), ("0", "false", "f", "off", "no", "n")


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a worker says of its model.

    Attributes:
        name: The model, as it was asked for.
        outputs: What it can answer with; the first is the default.
        needs_mask: Whether each image must come with a mask.
        num_classes: Number of classes; of masks for "edges" it does not matter.
        device: Where it runs.
        license: What a user must know of the dense weights.
    """

    name: str
    outputs: tuple[Output, ...]
    needs_mask: bool
    num_classes: int = 2
    device: str = "cpu"
    license: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Served:
        """Read what `asdict` gave."""
        return cls(**{**values, "outputs": tuple(values["outputs"])})


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is made of an image.

    Attributes:
        output: Labels, alpha or the foreground with alpha as a PNG; or labels as JSON.
        kind: What the numbers of a mask mean, where they do not say.
        fit: How a mask lies on its photo where its proportions are others.
        black_and_white: Whether alpha is rounded to 0 and 1.
        own_colors: Whether the foreground is cleaned of the background's colors.
        background: Red, green, blue and alpha behind the foreground, 0..255.
    """

    output: Output
    kind: Kind | None = None
    fit: Fit | None = None
    black_and_white: bool = False
    own_colors: bool = True
    background: tuple[int, int, int, int] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Wanted:
        """Read what `to_json` gave."""
        back = values["background"]
        return cls(**{**values, "background": None if back is None else tuple(back)})

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def of_predict(given: Mapping[str, str], served: Served) -> Wanted:
    """What a request to /predict asks for.

    Raises:
        RefusalError: A setting is unknown, or the model cannot do it.
    """
    output = given.get("output", served.outputs[0])
    _check("output", output, get_args(Output))
    if output not in served.outputs:
        raise RefusalError(
            422,
            f"output={output}: {served.name} answers with {', '.join(served.outputs)}. Ask for one "
            "of these.",
        )
    return Wanted(output=output, **_mask_settings(given))  # type: ignore[arg-type]


def of_remove(given: Mapping[str, str], served: Served) -> Wanted:
    """What a request of a client of rembg asks for.

    The names are those of its server. Which model it asks for, how edges are to be found a second
    time (a, af, ab, ae, vm), and extras are not looked at: there is one model, and its edges are
    found.

    Raises:
        RefusalError: A setting is no such setting, or the model finds no foreground.
    """
    if "cutout" not in served.outputs:
        raise RefusalError(
            422, f"{served.name} finds no foreground but labels of classes. POST to /predict."
        )
    return Wanted(
        output="alpha" if _flag(given, "om") else "cutout",
        black_and_white=_flag(given, "ppm"),
        own_colors=_flag(given, "dc"),
        background=_color(given.get("bgc")),
        **_mask_settings(given),
    )


def _mask_settings(given: Mapping[str, str]) -> dict[str, Any]:
    for name, kinds in (("kind", get_args(Kind)), ("fit", get_args(Fit))):
        _check(name, given.get(name), (None, *kinds))
    return {"kind": given.get("kind"), "fit": given.get("fit")}


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    _check(name, value, (*_TRUE, *_FALSE))
    return value in _TRUE


def _color(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    numbers = (*numbers, 255) if len(numbers) == 3 else numbers
    if len(numbers) != 4 or not all(0 <= number <= 255 for number in numbers):
        raise RefusalError(
            422, f"bgc={text[:100]}: expected red, green, blue and alpha, such as 255,255,255,255."
        )
    red, green, blue, alpha = numbers
    return red, green, blue, alpha


def _check(name: str, value: str | None, expected: tuple[str | None, ...]) -> None:
    if value not in expected:
        shown = ", ".join(one for one in expected if one is not None)
        raise RefusalError(422, f"{name}={value[:100] if value else ''}: expected one of {shown}.")
