"""A check that no image of a test was among the training images of the model."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sparserefine.data import Sample, content_hash
from sparserefine.data.source import SampleSource
from sparserefine.images import ImageError
from sparserefine.progress import Progress, count_steps

_REFUSAL = (
    "{} of {} images were trained on: {}. Expected held-out images; give others, or leave these "
    "out."
)


def content_hashes(
    dataset: SampleSource, advance: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Names of the images of a dataset by `content_hash`; those that cannot be read are left out.

    Args:
        dataset: The images to hash.
        advance: Called after each image.
    """
    names = {}
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
        except ImageError:
            pass
        else:
            names[content_hash(sample.image)] = sample.name
        advance()
    return names


def check_held_out(
    dataset: SampleSource, trained_on: Collection[str], progress: Progress | None = None
) -> None:
    """Refuse images that a model was trained on: on them it is surer and better than elsewhere.

    Args:
        dataset: The images to check.
        trained_on: Content hashes of training images.
        progress: Told of each image, if any needs to be read.

    Raises:
        ValueError: The model was trained on an image of the dataset.
    """
    if not trained_on:  # nothing is known, so nothing needs to be read
        return
    advance = count_steps(progress, "held out", len(dataset))
    seen = [name for key, name in content_hashes(dataset, advance).items() if key in trained_on]
    if seen:
        shown = ", ".join(sorted(seen)[:3]) + (", …" if len(seen) > 3 else "")
        raise ValueError(_REFUSAL.format(len(seen), len(dataset), shown))


def check_sample(sample: Sample, trained_on: Collection[str], total: int) -> None:
    """Refuse an image that a model was trained on, when it is read for something else.

    Args:
        sample: The image.
        trained_on: Content hashes of training images.
        total: Number of images of the dataset.

    Raises:
        ValueError: The model was trained on the image.
    """
    if trained_on and content_hash(sample.image) in trained_on:
        raise ValueError("at least " + _REFUSAL.format(1, total, sample.name))
