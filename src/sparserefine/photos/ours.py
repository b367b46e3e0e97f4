"""What stands where a result would go, and is not ours to write over."""

from __future__ import annotations

from pathlib import Path

from sparserefine.images.stamp import RECORD, RESULT_PICTURES, is_record, is_result


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
    if is_record(folder / RECORD):
        return
    for name in (RECORD, *RESULT_PICTURES):
        if (folder / name).is_file():
            raise ForeignFileError(folder / name)
