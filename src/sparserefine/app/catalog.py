"""The models that a person can choose on the page, each loaded when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from sparserefine.app.keeping import Model
from sparserefine.photos.cutout import foreground_model
from sparserefine.refinement.load import load

CUTOUT, STREETS = "Cut-out (U²-Net-p, edges)", "Streets (demo pair)"


@dataclass(frozen=True)
class Example:
    """A photo of the package that is one click away.

    Attributes:
        photo: Its name.
        caption: What it shows.
        model: Name of the model that suits it.
    """

    photo: str
    caption: str
    model: str


EXAMPLES = (
    Example("wren", "a bird", CUTOUT),
    Example("lund", "a street", STREETS),
    Example("highway", "a highway", STREETS),
)


class Catalog:
    """Models by name; those that ship with the package, and one of one's own.

    Args:
        own: A name and a model to begin with.
        first: Name of that which the page begins with, where there is none of one's own.
    """

    def __init__(self, *, own: tuple[str, Model] | None = None, first: str = CUTOUT) -> None:
        shipped = {CUTOUT: lambda: foreground_model("u2netp"), STREETS: lambda: load("demo")}
        self._makers: dict[str, Callable[[], Model]] = {}
        if own is not None:
            name, model = own
            self._makers[name] = lambda: model
        self._makers |= {first: shipped[first]} | shipped
        self._made: dict[str, Model] = {}
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        """The names, that to begin with first."""
        return list(self._makers)

    def __getitem__(self, name: str) -> Model:
        """The model of a name.

        Raises:
            ValueError: There is none.
        """
        if name not in self._makers:
            raise ValueError(f"there is no model {name!r}. Choose one of {', '.join(self.names)}.")
        with self._lock:
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]
