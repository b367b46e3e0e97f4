"""What is kept of a photo on the page, so that a dial answers without the dense model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Num, UInt8, UInt16

from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import classes_of
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import StageTimer
from sparserefine.sparse import ActivePixels


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What a person turns.

    Attributes:
        threshold: Entropy in nats above which a pixel may be refined.
        budget: The most that is refined, as a share of the photo, 0..1.
    """

    threshold: float
    budget: float

    @classmethod
    def of(cls, nats: float | int, percent: float | int) -> Dials:
        """The dials as a page has them; what is out of range is brought into it.

        Args:
            nats: The threshold.
            percent: The budget.
        """
        return cls(threshold=max(float(nats), 0.0), budget=min(max(percent / 100, 0.0), 1.0))

    @property
    def selector(self) -> EntropySelector:
        """What selects by them."""
        return EntropySelector(self.threshold, self.budget)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the dials give.

    Attributes:
        values: Alpha in 0..1, or labels, as the photo's `Kept` has them.
        mask: True where a pixel was refined.
        stages_ms: Milliseconds of what ran for this answer.
    """

    values: Float[np.ndarray, "H W"] | Integer[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    stages_ms: dict[str, float]

    @property
    def density(self) -> float:
        """Share of the pixels that were refined, 0..1."""
        return float(self.mask.mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptBand:
    """A photo whose unsure band was refined as a whole.

    What `edges` finds in a pixel does not depend on which others are asked for, so the dials choose
    from it. All of it is exactly what `sparserefine cutout` and `refine` write.

    Attributes:
        image: The photo, upright RGB.
        low: The prediction, with an entropy.
        before: The prediction merely enlarged: alpha in 0..1, or labels.
        after: The same, refined.
        band: True where the prediction is unsure; elsewhere `after` holds at no cost.
        colors: The photo cleaned of the background; None of labels.
        icc_profile: Color profile of the photo.
        palette: RGB of each class; empty where unknown.
        class_names: Name of each class; empty where unknown.
        once_ms: Milliseconds of what ran for it.
    """

    image: UInt8[np.ndarray, "H W 3"]
    low: DensePass
    before: Float[np.ndarray, "H W"] | Integer[np.ndarray, "H W"]
    after: Float[np.ndarray, "H W"] | Integer[np.ndarray, "H W"]
    band: Bool[np.ndarray, "H W"]
    colors: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"] | None = None
    icc_profile: bytes = b""
    palette: tuple[tuple[int, int, int], ...] = ()
    class_names: tuple[str, ...] = ()
    once_ms: dict[str, float] = field(default_factory=dict)

    @property
    def start(self) -> Dials:
        """Everything that is unsure."""
        return Dials(threshold=0.0, budget=1.0)

    @cached_property
    def most(self) -> float:
        """Share of the pixels that lie in the band."""
        return float(self.band.mean())

    def turn(self, dials: Dials) -> Answer:
        """Take what was refined where the dials select, and the prediction elsewhere in the band.

        Args:
            dials: What selects.
        """
        timer = StageTimer()
        with timer.stage("select"):
            chosen = dials.selector(self.low, self.band.shape)[0].numpy()
            mask = chosen & self.band
        with timer.stage("combine"):
            values = np.where(self.band & ~mask, self.before, self.after)
        return Answer(values=values, mask=mask, stages_ms=timer.stages_ms)


class KeptPass:
    """A photo whose dense pass is kept; what is selected is refined anew by a trained refiner.

    Args:
        model: The refiner, with a dense model.
        image: The photo, upright RGB.
        timer: Has the stages of reading; the dense pass is added.

    Attributes:
        image: The photo, upright RGB.
        low: The prediction.
        before: Its labels, merely enlarged.
        once_ms: Milliseconds of what ran for it.
    """

    def __init__(
        self, model: SparseRefiner, image: UInt8[np.ndarray, "H W 3"], timer: StageTimer
    ) -> None:
        self.image = image
        self._model = model.in_evaluation()
        images = self._images
        with torch.no_grad():
            self.low = model.dense_pass(images, timer=timer)
            with timer.stage("enlarge"):
                self._labels = model.low_resolution_labels(self.low, self._size)
        self.before: Integer[np.ndarray, "H W"] = self._labels[0].cpu().numpy()
        self.once_ms = dict(timer.stages_ms)

    @property
    def _images(self) -> Num[torch.Tensor, "1 3 H W"]:
        return torch.from_numpy(self.image).permute(2, 0, 1)[None].to(self._model.device)

    @property
    def _size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    @property
    def start(self) -> Dials:
        """Those of the refiner, where it selects by entropy too."""
        selector = self._model.selector
        if isinstance(selector, EntropySelector):
            return Dials(threshold=selector.threshold, budget=selector.max_density)
        return Dials(threshold=self._model.preset.threshold, budget=1.0)

    @property
    def most(self) -> float:
        """All pixels: no prediction is quite sure of any."""
        return 1.0

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each class; empty where unknown."""
        return self._model.preset.palette

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class; empty where unknown."""
        return self._model.preset.class_names

    @torch.no_grad()
    def turn(self, dials: Dials) -> Answer:
        """Select and refine; equal to `SparseRefiner.refine`, whose enlarged labels are kept.

        Args:
            dials: What selects.
        """
        model, timer = self._model, StageTimer(self._model.device)
        with timer.stage("select"):
            mask = dials.selector(self.low, self._size)
            pixels = ActivePixels.from_mask(mask)
            dense = self.low.at(pixels.coords, self._size, model.upsampling)
        found = model.refine_pixels(self._images, pixels, dense, timer=timer)
        with timer.stage("combine"):
            labels = self._labels.clone()
            batch, y, x = pixels.coords.long().unbind(1)
            labels[batch, y, x] = classes_of(found.refined).to(labels.dtype)
        return Answer(
            values=labels[0].cpu().numpy(), mask=mask[0].cpu().numpy(), stages_ms=timer.stages_ms
        )


Kept = KeptBand | KeptPass


def is_alpha(kept: Kept) -> bool:
    """Whether a photo's values are the alpha of one foreground, and not labels."""
    return kept.before.dtype.kind == "f"


def most_nats(kept: Kept) -> float:
    """The largest entropy that its prediction can have."""
    return math.log(kept.low.num_classes)
