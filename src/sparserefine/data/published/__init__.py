"""Datasets as their authors publish them: folders, splits, classes and what label maps hold."""

from sparserefine.data.published.open_published import PUBLISHED, open_published

__all__ = ["PUBLISHED", "open_published"]
