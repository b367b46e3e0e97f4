"""The dataset that a refiner is scored or trained on, with labels of its classes."""

from __future__ import annotations

from sparserefine.data.folder import AnyPath
from sparserefine.data.layout import as_dataset
from sparserefine.data.source import SampleSource
from sparserefine.refinement.refiner import SparseRefiner


def dataset_for(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    split: str | None = None,
    *,
    needs_labels: bool = True,
) -> SampleSource:
    """Open what is at a path, or take a dataset as it is, and check it for a refiner.

    Args:
        model: The refiner, which knows how many classes there are and how its labels count.
        data: Folder or image file, or a dataset.
        split: Name of the split to open, where `data` is a path.
        needs_labels: Whether labels are used; without, label maps at a path are not opened.

    Raises:
        ImageError: There is nothing at the path, or no such split.
        ValueError: As `as_dataset`.
    """
    return as_dataset(
        data,
        split,
        model.num_classes,
        needs_labels=needs_labels,
        from_1=model.preset.labels_from_1,
    )
