"""What stands where a result would go, and is not ours to write over."""

from __future__ import annotations

import json
from pathlib import Path

from sparserefine.images.stamp import is_result


class ForeignFileError(FileExistsError):
    """A file stands where a result would go, and was not written by this package."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is there already and was not written by sparserefine. Move it away, or choose "
            f"another folder."
        )


def refuse_foreign_picture(path: Path) -> None:
    """Refuse to write over a picture without our stamp.

    Raises:
        ForeignFileError: There is one.
    """
    if path.is_file() and not is_result(path):
        raise ForeignFileError(path)


def refuse_foreign_files(folder: Path) -> None:
    """Refuse to write over what is named as the files of `Prediction.save` are.

    Raises:
        ForeignFileError: There is one, and no result.json of ours beside it.
    """
    result = folder / "result.json"
    try:
        facts = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = None
    if isinstance(facts, dict) and {"model", "density"} <= facts.keys():
        return
    for path in (result, folder / "labels.png", folder / "overlay.png"):
        if path.is_file():
            raise ForeignFileError(path)
