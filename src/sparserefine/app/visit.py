"""One person's visit to the page: a photo, perhaps a mask, and what the dials make of them."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from sparserefine import viz
from sparserefine.app.catalog import Catalog
from sparserefine.app.keeping import keep, keep_given
from sparserefine.app.kept import Answer, Dials, Kept
from sparserefine.images import Photo, open_photo
from sparserefine.photos.cutout import steepness
from sparserefine.photos.failure import describe_failure
from sparserefine.photos.given_mask import read_mask
from sparserefine.photos.given_values import GivenMask
from sparserefine.refinement.timing import StageTimer

MAX_PIXELS = 24_000_000
"""Of a photo or a mask on the page; the commands take larger ones."""

# Sides of the detail that is shown beside the photo, in pixels of the photo.
DETAIL = (210, 280)
# Pixels per side among which the best place for it is looked for.
_SEARCHED = 1024

Read = TypeVar("Read")


class PageError(ValueError):
    """What cannot be done, as a sentence for the page."""


class Visit:
    """What is kept for one open page; see `Visits`.

    Attributes:
        token: Names the visit in addresses; nobody can guess it.
        photo: The photo; None before there is one.
        photo_name: Its file name.
        mask: The mask that was given; None where the model predicts.
        model: Name of the model.
        kept: What no dial changes; None before there is a photo.
        dials: As they stand.
        answer: What they give.
        box: (top, left, height, width) of the detail that is shown.
        drawn: Pictures that no dial changes, by what they show.
    """

    def __init__(self, model: str) -> None:
        self.token = secrets.token_urlsafe(16)
        self.photo: Photo | None = None
        self.photo_name = ""
        self.mask: GivenMask | None = None
        self.model = model
        self.kept: Kept | None = None
        self.dials = Dials(threshold=0.0, budget=1.0)
        self.answer: Answer | None = None
        self.box = (0, 0, 1, 1)
        self.drawn: dict[str, str] = {}
        self._read_ms: dict[str, float] = {}

    @property
    def pixels(self) -> int:
        """How many pixels it holds."""
        photo = 0 if self.photo is None else self.photo.image[..., 0].size
        return photo + (0 if self.mask is None else self.mask.values.size)

    def take_photo(self, path: Path, name: str) -> None:
        """Read a photo; what was there of another is dropped.

        Args:
            path: The file.
            name: What it is called on the page.

        Raises:
            PageError: It cannot be read, or is too large.
        """
        self.drop_photo()
        timer = StageTimer()
        with timer.stage("read"):
            self.photo = _read(path, name, open_photo)
        self.photo_name, self._read_ms = name, timer.stages_ms

    def drop_photo(self) -> None:
        """Forget the photo and all that was made of it."""
        self.photo, self.photo_name = None, ""
        self._forget()

    def take_mask(self, path: Path, name: str) -> None:
        """Read a mask of the photo, which may come before or after it.

        Args:
            path: The file.
            name: What it is called on the page.

        Raises:
            PageError: It cannot be read, is no mask, or is too large.
        """
        self.mask = None
        self._forget()
        found = _read(path, name, read_mask)
        if isinstance(found, list):
            raise PageError(
                f"{name} has {len(found)} masks, and this page takes one. `sparserefine refine` "
                "takes all of them."
            )
        self.mask = replace(found, source=name)

    def drop_mask(self) -> None:
        """Forget the mask: the model predicts again."""
        self.mask = None
        self._forget()

    def choose(self, model: str) -> None:
        """Take another model.

        Args:
            model: Its name.
        """
        if model != self.model:
            self.model = model
            self._forget()

    def start(self, catalog: Catalog) -> Answer:
        """Run what runs once for a photo, then what the dials say at first.

        Args:
            catalog: Has the model.

        Raises:
            PageError: It cannot be done with this photo, mask and model.
        """
        if self.photo is None:
            raise PageError("There is no photo yet. Drop one, or take an example.")
        timer = StageTimer()
        timer.stages_ms.update(self._read_ms)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it says stands on the page anyway
                if self.mask is None:
                    kept = keep(self.photo, catalog[self.model], timer)
                else:
                    kept = keep_given(self.photo, self.mask, timer)
            self.kept = kept
            answer = self.turn(kept.start)
        except PageError:
            self._forget()
            raise
        except Exception as error:
            self._forget()
            raise PageError(_sentence(error)) from error
        self.box = _best_box(kept, answer)
        return answer

    def turn(self, dials: Dials) -> Answer:
        """What the dials give.

        Args:
            dials: As they stand now.

        Raises:
            PageError: There is nothing to refine: no photo, or it was dropped. Or there is not
                enough memory.
        """
        if self.kept is None:
            raise PageError("The photo is no longer here. Drop it again, or take an example.")
        try:
            answer = self.kept.turn(dials)
        except Exception as error:
            raise PageError(_sentence(error)) from error
        self.dials, self.answer = dials, answer
        return answer

    def _forget(self) -> None:
        self.kept = self.answer = None
        self.drawn = {}


def _read(path: Path, name: str, reader: Callable[[Path], Read]) -> Read:
    """Read a file, whose name on disk nobody wants to see."""
    try:
        with Image.open(path) as image:
            size = image.width * image.height
    except (OSError, ValueError, Image.DecompressionBombError):
        size = 0  # the reader knows more kinds of files, and says what is wrong with this
    if size > MAX_PIXELS:
        raise PageError(
            f"{name} has {size / 1e6:.0f} megapixels, and this page takes up to "
            f"{MAX_PIXELS / 1e6:.0f}. Scale it down, or use the command line: `sparserefine "
            "cutout` and `sparserefine refine` take larger ones."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader(path)
    except Exception as error:
        raise PageError(_sentence(error).replace(str(path), name)) from error


def _sentence(error: Exception) -> str:
    """An error in the page's words: options of Python's functions are none of these."""
    text = describe_failure(error)
    before, other, _ = text.partition("other proportions")
    if other:
        text = f"{before}{other}. Drop the mask of this photo, or this mask's photo."
    is_file = "." in text.partition(" ")[0]  # whose name stays as it is
    return text if is_file else text[:1].upper() + text[1:]


def _best_box(kept: Kept, answer: Answer) -> viz.Box:
    """Where refinement changed most."""
    step = max(max(answer.mask.shape) // _SEARCHED, 1)
    before, after = (one[::step, ::step] for one in (kept.before, answer.values))
    if before.dtype.kind == "f":
        # Unlike their difference this is small where a thing as a whole was kept or dropped.
        gain = np.maximum(steepness(after) - steepness(before), 0)
    else:
        gain = before != after
    size = (DETAIL[0] // step, DETAIL[1] // step)
    top, left, _, _ = viz.best_window(gain, size)
    height, width = answer.mask.shape
    rows, columns = min(DETAIL[0], height), min(DETAIL[1], width)
    return min(top * step, height - rows), min(left * step, width - columns), rows, columns
