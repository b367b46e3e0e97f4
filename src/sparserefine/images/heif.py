"""HEIC and HEIF, which Pillow reads where pillow-heif is installed."""

from __future__ import annotations

from functools import cache
from importlib import import_module


@cache
def can_read_heif() -> bool:
    """Whether pillow-heif is there; it is made known to Pillow."""
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True
