"""The share of the photos that one of several processes does."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePath

Shard = tuple[int, int]
"""(index, count): the share of the process `index`, from 0, of `count` processes."""


def parsed_shard(text: str) -> Shard:
    """A share such as "0/8", the first of eight.

    Raises:
        ValueError: It is no such share.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = (int(match[1]), int(match[2])) if match else (0, 0)
    check_shard(shard, text)
    return shard


def check_shard(shard: Shard, shown: str = "") -> None:
    """Refuse a share that there is not.

    Raises:
        ValueError: The index is not below the count.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(
            f"the shard is {shown or f'{index}/{count}'}, expected one such as 0/8 to 7/8: its "
            "number from 0, and how many there are."
        )


def in_shard(place: PurePath, shard: Shard) -> bool:
    """Whether a photo belongs to a share.

    Its SHA-256 decides: of the path below the folder that was named, without the suffix and in
    lower case. So it stays where it is when photos are added, and photos that differ in their
    suffix alone, which may want one place for their results, are in one share.

    Args:
        place: Path of the photo below the folder that was named.
        shard: The share.
    """
    index, count = shard
    key = place.with_suffix("").as_posix().lower().encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % count == index
