"""A line fitted to the milliseconds of refinement over its density."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sparserefine.calibration.error_curve import ErrorCurve
from sparserefine.data.source import SampleSource
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import now_ms

# How many images are timed, about which shares the thresholds select, and how often each is timed.
IMAGES, DENSITIES, ROUNDS = 3, (0.02, 0.1, 0.2, 0.35, 0.5), 3


@dataclass(frozen=True)
class LatencyFit:
    """t = fixed_ms + ms_per_density · density, for images of one size on this machine.

    Attributes:
        fixed_ms: Milliseconds of an image with nothing selected: the dense model at low resolution.
        ms_per_density: Milliseconds that selecting all pixels would add.
        size: (height, width) of the images that were timed.
        densities: Share of the pixels selected, in each measurement.
        times_ms: Milliseconds taken, in each measurement.
    """

    fixed_ms: float
    ms_per_density: float
    size: tuple[int, int]
    densities: tuple[float, ...]
    times_ms: tuple[float, ...]

    @classmethod
    def through(
        cls, densities: Sequence[float], times_ms: Sequence[float], size: tuple[int, int]
    ) -> LatencyFit:
        """Fit by least squares to measured points, of which two differ in density."""
        slope, fixed = np.polyfit(densities, times_ms, 1)
        return cls(float(fixed), float(slope), size, tuple(densities), tuple(times_ms))

    def density_for(self, latency_ms: float) -> float:
        """The density that a latency allows.

        Raises:
            ValueError: The latency allows no refinement at all.
        """
        if latency_ms <= self.fixed_ms:
            raise ValueError(
                f"latency_ms is {latency_ms:g}, but images of {self.size[0]}×{self.size[1]} take "
                f"{self.fixed_ms:.0f} ms before a pixel is refined. Ask for more, or use a "
                f"smaller dense_size."
            )
        if self.ms_per_density <= 0:  # nothing but noise: refinement costs nothing measurable
            return 1.0
        return min((latency_ms - self.fixed_ms) / self.ms_per_density, 1.0)


@torch.no_grad()
def fit_latency(
    model: SparseRefiner,
    dataset: SampleSource,
    sizes: Mapping[int, tuple[int, int]],
    curve: ErrorCurve,
) -> LatencyFit:
    """Time some thresholds on some images, in turns, and fit a line.

    Args:
        model: The refiner, which is timed without its pixel budget.
        dataset: The images to time.
        sizes: (height, width) of the images that can be read, by index; the commonest is timed.
        curve: Curve that tells which thresholds select about which share.

    Raises:
        ValueError: The thresholds all select the same.
    """
    size = Counter(sizes.values()).most_common(1)[0][0]
    indices = [index for index, found in sizes.items() if found == size]
    indices = indices[:: -(-len(indices) // IMAGES)]
    images = [dataset[index].image[None].to(model.device) for index in indices]
    thresholds = sorted({curve.index_for_density(share) for share in DENSITIES})
    selectors = [EntropySelector(float(curve.thresholds[index])) for index in thresholds]
    cases = [(image, selector) for image in images for selector in selectors]
    taken: list[list[float]] = [[] for _ in cases]
    shares = [0.0] * len(cases)
    for _ in range(ROUNDS + 1):
        for case, (image, selector) in enumerate(cases):
            start = now_ms(model.device)
            mask = model(image, selector=selector).mask
            taken[case].append(now_ms(model.device) - start)
            shares[case] = float(mask.float().mean())
    # The first round warms up.
    times = [float(np.median(ms[1:])) for ms in taken]
    if max(shares) - min(shares) < 0.01:
        raise ValueError(
            f"all thresholds select about the same share, {min(shares):.0%}, so latency cannot be "
            f"fitted to density. Set a density or a recall instead."
        )
    return LatencyFit.through(shares, times, size)
