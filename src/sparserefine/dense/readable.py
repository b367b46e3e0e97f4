"""Files that are there and may be read."""

from __future__ import annotations

from pathlib import Path

# Of these files the first bytes stand in the place of the content that was meant.
_POINTERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Run `git lfs pull`"),
    (b"<!doctype html", "a web page. Download the file itself, not the page about it"),
    (b"<html", "a web page. Download the file itself, not the page about it"),
)
_HEAD = 32


def read_head(path: str | Path, what: str, expected: str = "") -> tuple[Path, bytes]:
    """Check that a file can be read.

    Args:
        path: The file; "~" is the home folder.
        what: What it is to be, for messages: "weights file".
        expected: What is expected of it, for the message where there is none.

    Returns:
        Its path, and its first bytes.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is a folder, empty, or only stands for the file.
    """
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder, expected a {what}. Name the file in it.")
        if not path.exists():
            more = f", expected {expected}" if expected else ""
            raise FileNotFoundError(f"no {what} at {path}{more}. Check the path.")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except PermissionError:
        raise PermissionError(
            f"{path} is there but may not be read by this user, expected a {what} that may. Ask "
            "its owner, or change its mode: chmod a+r."
        ) from None
    if not head:
        raise ValueError(f"{path} is empty (0 bytes). Download or export it again.")
    for begin, found in _POINTERS:
        if head.lower().startswith(begin):
            raise ValueError(f"{path} is {found}.")
    return path, head
