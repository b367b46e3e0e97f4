"""The labeled datasets of the experiments: what is trained on, what chooses, what is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.data import Sample
from sparserefine.data.camvid import CamVid


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A dataset, and at which sizes the dense model sees it.

    Attributes:
        name: Names the result, such as "camvid".
        class_names: One name per class.
        full: (height, width) of the dense model's input at full resolution.
        low: (height, width) of it at low resolution.
        crop: (height, width) of the crops that the dense model at full resolution is tuned on.
        low_crop: (height, width) of the crops that the dense model at low resolution is tuned on;
            None takes whole images.
        refined_crop: (height, width) of the crops of photos that a refiner is trained on.
        develops: Whether an image of the training split chooses settings and weights, by its name
            and its number; it is not trained on.
        of_cityscapes: Class for each class of Cityscapes, so that the last layer starts with what
            is known; empty where the classes have nothing to do with each other.
        upright: Images have a top: they are mirrored, but not turned upside down.
        density: Pixel budget as a share of each image.
    """

    name: str
    class_names: tuple[str, ...]
    full: tuple[int, int]
    low: tuple[int, int]
    crop: tuple[int, int]
    refined_crop: tuple[int, int]
    develops: Callable[[str, int], bool]
    low_crop: tuple[int, int] | None = None
    of_cityscapes: tuple[int, ...] = ()
    upright: bool = True
    density: float = 0.2

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    def training(self, data: Path) -> list[Sample]:
        """The images to train on."""
        return [one for number, one in self._training_split(data) if not self._chooses(one, number)]

    def development(self, data: Path) -> list[Sample]:
        """The images that choose."""
        return [one for number, one in self._training_split(data) if self._chooses(one, number)]

    def reported(self, data: Path, split: str) -> list[Sample]:
        """The images of a split to report on.

        Raises:
            ValueError: The split is the one that is trained on.
        """
        if split == "train":
            raise ValueError('split "train" is trained on. Report on another, such as "val".')
        source = CamVid(data, split, self.num_classes)
        return [source[index] for index in range(len(source))]

    def _training_split(self, data: Path) -> list[tuple[int, Sample]]:
        source = CamVid(data, "train", self.num_classes)
        return [(index, source[index]) for index in range(len(source))]

    def _chooses(self, sample: Sample, number: int) -> bool:
        return self.develops(sample.name, number)


def class_weights(samples: list[Sample], num_classes: int) -> Float[Tensor, " K"]:
    """Weights of the cross-entropy: of a rare class up to three times that of a frequent one.

    Dense models are trained with them. Of refiners docs/labels.md says what they are worth.

    Source: ENet, Paszke et al. 2016, arXiv:1606.02147, section 4.1.
    """
    counts = torch.zeros(num_classes)
    for one in samples:
        assert one.labels is not None
        known = one.labels[one.labels < num_classes].long()
        counts += torch.bincount(known, minlength=num_classes)
    return 1 / torch.log(1.1 + counts / counts.sum())


CAMVID = Experiment(
    name="camvid",
    class_names=(
        "sky",
        "building",
        "pole",
        "road",
        "sidewalk",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "cyclist",
    ),
    full=(384, 512),
    low=(192, 256),
    crop=(256, 384),
    refined_crop=(176, 240),
    develops=lambda name, number: Path(name).name.startswith("0006R0"),
    of_cityscapes=(3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10),
)

CWFID = Experiment(
    name="cwfid",
    class_names=("soil", "crop", "weed"),
    full=(960, 1296),
    low=(320, 432),
    # What is crop and what is weed needs a wide view; of whole images a step takes twice as long.
    crop=(240, 320),
    refined_crop=(160, 208),
    develops=lambda name, number: number % 5 == 2,
    low_crop=(240, 320),
    upright=False,
)

# Controls: detail is everywhere, so that few pixels cannot hold it.
AXON = Experiment(
    name="axon-sem",
    class_names=("background", "myelin", "axon"),
    full=(768, 768),
    low=(256, 256),
    crop=(128, 128),
    refined_crop=(128, 128),
    develops=lambda name, number: number % 4 == 2,
    low_crop=(128, 128),
    upright=False,
)

VNC = replace(
    AXON,
    name="vnc-em-1024",
    class_names=("intracellular", "membrane", "glia", "mitochondria", "synapse"),
    develops=lambda name, number: number % 5 == 2,
)

EXPERIMENTS = {one.name: one for one in (CAMVID, CWFID, AXON, VNC)}
