"""What each way to label is worth on the images of a split, and what it costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from jaxtyping import Bool, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data import Sample
from sparserefine.dense import DenseModel
from sparserefine.evaluation.metrics import Quality, Truth
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.output import RefinerOutput
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import classes_of, upsampled_labels
from sparserefine.refinement.timing import now_ms

from dataset import Experiment  # isort: skip

TIMED, ROUNDS = 5, 7


@dataclass(frozen=True, eq=False)
class Contenders:
    """All that is compared.

    Attributes:
        full: The dense model tuned at full resolution.
        low: That tuned at low resolution, which is refined.
        refiners: The trained refiners by name; the first is the one that is reported.
    """

    full: DenseModel
    low: DenseModel
    refiners: dict[str, SparseRefiner]

    @property
    def refiner(self) -> SparseRefiner:
        """The one that is reported."""
        return next(iter(self.refiners.values()))

    @property
    def others(self) -> dict[str, SparseRefiner]:
        """The controls."""
        return dict(list(self.refiners.items())[1:])


@torch.inference_mode()
def score(
    contenders: Contenders,
    experiment: Experiment,
    samples: list[Sample],
    seed: int,
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Scores of all ways on a split, and where what is left over is lost.

    Args:
        contenders: What is compared.
        experiment: Says the sizes.
        samples: The images of the split, with labels.
        seed: Seeds the random pixels.
        tell: Told how many images are done.
    """
    classes, device = experiment.num_classes, device_of(contenders.low)
    quality: dict[str, Quality] = defaultdict(lambda: Quality(classes))
    lost = torch.zeros(5, dtype=torch.int64)
    density = []
    taken = milliseconds(contenders, experiment, samples)
    equal = equal_size(contenders, experiment, taken)
    generator = torch.Generator().manual_seed(seed)
    for done, one in enumerate(samples, 1):
        assert one.labels is not None
        images, truth = one.image[None].to(device), Truth(one.labels.to(device), classes)
        size = (images.shape[2], images.shape[3])
        refiner = contenders.refiner
        low = refiner.dense_pass(images)
        mask = refiner.selector(low, size)
        density.append(float(mask.float().mean()))
        bilinear = upsampled_labels(low.logits, size)
        full = dense_labels(contenders.full, experiment.full, images)
        output = refiner.refine(images, low, mask)
        own, average = alone_and_average(output, bilinear)
        random = random_mask(mask, generator)
        rows = {
            "low_res_nearest": upsampled_labels(low.logits, size, "nearest"),
            "low_res_bilinear": bilinear,
            "refined": output.labels,
            "refinement_only": own,
            "plain_average": average,
            "full_res": full,
            "full_res_in_band": full.where(mask, bilinear),
            "oracle": torch.where(mask, truth.labels, bilinear).to(bilinear.dtype),
            "random_pixels": refiner.refine(images, low, random).labels,
            "all_pixels": refiner.refine(images, low, torch.ones_like(mask)).labels,
            "dense_at_equal_time": dense_labels(contenders.low, equal, images),
            "dense_full_at_equal_time": dense_labels(contenders.full, equal, images),
        }
        # Labels that are not known are not right by chance.
        rows["oracle"] = rows["oracle"].where(truth.valid, bilinear)
        for name, model in contenders.others.items():
            rows |= rows_of_other(name, model, images, low, mask)
        for name, labels in rows.items():
            quality[name].update(labels[0], truth)
        lost += losses(truth, mask[0], bilinear[0], output.labels[0]).cpu()
        tell(done)
    never, kept, spoiled, mended, known = lost.tolist()
    return {
        "rows": {name: found.to_json() for name, found in quality.items()},
        "density": sum(density) / len(density),
        "images": len(samples),
        "equal_time_size": list(equal),
        "milliseconds": taken,
        "errors": {
            "never_selected": never / known,
            "not_corrected": kept / known,
            "spoiled": spoiled / known,
            "corrected": mended / known,
        },
    }


@torch.inference_mode()
def with_others(
    found: dict[str, Any],
    contenders: Contenders,
    experiment: Experiment,
    samples: list[Sample],
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Scores, and beside them those of more refiners, on the pixels that the reported one refines.

    The time of each is what the reported one took then, times how much longer it takes now: two
    occasions are not alike.

    Args:
        found: What `score` said.
        contenders: The same, with the others.
        experiment: Says the sizes.
        samples: The images of the split, with labels.
        tell: Told how many images are done.
    """
    classes, device = experiment.num_classes, device_of(contenders.low)
    quality: dict[str, Quality] = defaultdict(lambda: Quality(classes))
    times = milliseconds(contenders, experiment, samples)
    for done, one in enumerate(samples, 1):
        assert one.labels is not None
        images, truth = one.image[None].to(device), Truth(one.labels.to(device), classes)
        low = contenders.refiner.dense_pass(images)
        mask = contenders.refiner.selector(low, (images.shape[2], images.shape[3]))
        for name, model in contenders.others.items():
            for row, labels in rows_of_other(name, model, images, low, mask).items():
                quality[row].update(labels[0], truth)
        tell(done)
    reported = next(iter(contenders.refiners))
    then = found["milliseconds"][reported] / times[reported]
    rows = {name: own.to_json() for name, own in quality.items()}
    taken = {name: then * times[name] for name in contenders.others}
    return {
        **found,
        "rows": found["rows"] | rows,
        "milliseconds": found["milliseconds"] | taken,
    }


def rows_of_other(
    name: str, model: SparseRefiner, images: Tensor, low: DensePass, mask: Tensor
) -> dict[str, Tensor]:
    """Labels of a refiner that is a control: its own, without its ensembler, and averaged."""
    output = model.refine(images, low, mask)
    bilinear = upsampled_labels(low.logits, (images.shape[2], images.shape[3]))
    own, average = alone_and_average(output, bilinear)
    return {
        name: output.labels,
        f"{name}, without ensembler": own,
        f"{name}, plain average": average,
    }


def alone_and_average(output: RefinerOutput, bilinear: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of the extractor alone, and of the mean of its probabilities and the dense model's."""
    pixels = output.pixels
    mean = 0.5 * (pixels.dense.softmax(1) + pixels.sparse.softmax(1))
    own, average = classes_of(pixels.sparse), classes_of(mean)
    return written(bilinear, pixels.coords, own), written(bilinear, pixels.coords, average)


def device_of(model: DenseModel) -> torch.device:
    """Where a model is."""
    return next(model.parameters()).device


def dense_labels(
    model: DenseModel, size: tuple[int, int], images: Integer[Tensor, "B 3 H W"]
) -> Integer[Tensor, "B H W"]:
    """Labels of a dense model at some size of its input."""
    shown = F.interpolate(images.float() / 255, size, mode="bilinear", antialias=True)
    return upsampled_labels(model(shown).float(), (images.shape[2], images.shape[3]))


def written(labels: Tensor, coords: Tensor, classes: Tensor) -> Tensor:
    """Labels with those of the selected pixels in their place."""
    batch, y, x = coords.long().unbind(1)
    found = labels.clone()
    found[batch, y, x] = classes.to(found.dtype)
    return found


def random_mask(mask: Bool[Tensor, "1 H W"], generator: torch.Generator) -> Bool[Tensor, "1 H W"]:
    """As many pixels, anywhere."""
    order = torch.randperm(mask.numel(), generator=generator)
    found = torch.zeros(mask.numel(), dtype=torch.bool)
    found[order[: int(mask.sum())]] = True
    return found.view(mask.shape).to(mask.device)


def losses(truth: Truth, mask: Tensor, low: Tensor, refined: Tensor) -> Tensor:
    """Wrong pixels that were never selected, that stayed wrong, that became wrong; those that
    became right; and all that are known."""
    was, now = low.long() == truth.labels, refined.long() == truth.labels
    found = (~was & ~mask, mask & ~was & ~now, mask & was & ~now, mask & ~was & now)
    counts = [(one & truth.valid).sum() for one in found]
    return torch.stack([*counts, truth.valid.sum()])


@torch.inference_mode()
def milliseconds(
    contenders: Contenders, experiment: Experiment, samples: list[Sample]
) -> dict[str, float]:
    """Medians of the time that each way takes for an image, in turns."""
    refiner, found = contenders.refiner, defaultdict(list)
    device = device_of(contenders.low)
    ways: dict[str, Callable[[Tensor], object]] = {
        "low_res": refiner.dense_pass,
        "full_res": lambda images: dense_labels(contenders.full, experiment.full, images),
    }
    for name, model in contenders.refiners.items():
        ways[name] = model
    for one in samples[:TIMED]:
        images = one.image[None].to(device)
        for turn in range(ROUNDS + 1):
            for name, run in ways.items():
                start = now_ms(device)
                run(images)
                if turn:  # the first warms up
                    found[name].append(now_ms(device) - start)
    return {name: median(values) for name, values in found.items()}


def equal_size(
    contenders: Contenders, experiment: Experiment, taken: dict[str, float]
) -> tuple[int, int]:
    """(height, width) at which the dense model alone takes as long as refinement, pass included.

    Found by time, as if that followed the number of pixels, in steps of its divisor.
    """
    name = next(iter(contenders.refiners))
    side = (taken[name] / taken["low_res"]) ** 0.5
    divisor = contenders.low.size_divisor
    height, width = (max(round(own * side / divisor) * divisor, divisor) for own in experiment.low)
    return min(height, experiment.full[0]), min(width, experiment.full[1])


def gap_closed(rows: dict[str, Any], measure: str) -> float:
    """Share of the way from low to full resolution that refinement goes; 0 where there is none."""
    low, full = rows["low_res_bilinear"][measure], rows["full_res"][measure]
    return (rows["refined"][measure] - low) / (full - low) if full != low else 0.0


def change_of(rows: dict[str, Any], index: int) -> float | None:
    """Points of IoU that a class gains by refinement; None where the split does not have it."""
    after, before = (rows[name]["iou"][index] for name in ("refined", "low_res_bilinear"))
    return None if after is None or before is None else 100 * (after - before)


def worst_class(rows: dict[str, Any]) -> tuple[int, float]:
    """The class that loses most by refinement, and how many points."""
    change = [change_of(rows, index) or 0.0 for index in range(len(rows["refined"]["iou"]))]
    worst = min(range(len(change)), key=change.__getitem__)
    return worst, change[worst]
