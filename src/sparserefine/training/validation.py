"""Scores of images that are not trained on, which choose the best weights of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.evaluation.reference_labels import check_labels
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.training.part import Part
from sparserefine.training.processes import Processes

FEWEST = 10
"""Of fewer images none is set aside."""


def set_aside(part: Part, share: float, seed: int) -> tuple[Part, Part]:
    """Split images into those to train on and those that choose the best weights.

    Args:
        part: All images.
        share: Share of them to set aside.
        seed: Seeds the choice, which depends on what is in the images and not on their order.

    Raises:
        ValueError: Nothing is left to train on: the images are copies of one another.
    """
    count = round(share * len(part)) if len(part) >= FEWEST else 0
    ranked = sorted(
        range(len(part)),
        key=lambda at: hashlib.sha256(f"{seed} {part.facts[at].key}".encode()).digest(),
    )
    # Copies of an image stay together: one of them must not choose what the other has taught.
    pixels = [fact.content or fact.key for fact in part.facts]
    chosen = {pixels[at] for at in ranked[:count]}
    aside = [at for at in range(len(part)) if pixels[at] in chosen]
    rest = [at for at in range(len(part)) if pixels[at] not in chosen]
    if not rest:
        raise ValueError(
            f"the {len(part)} images are copies of one another, so none can be set aside. Give "
            f"others for validation, or set_aside=0."
        )
    return part.only(rest), part.only(aside)


@torch.no_grad()
def validate(
    model: SparseRefiner, part: Part, processes: Processes, advance: Callable[[], None]
) -> dict[str, float]:
    """mIoU before and after refinement, of labels, or without these of the full resolution.

    Args:
        model: The refiner, in any mode.
        part: The images; each process scores its share of them.
        processes: The processes of the run.
        advance: Called after each image.
    """
    model = model.in_evaluation()
    before, after = (ConfusionMatrix(model.num_classes) for _ in range(2))
    for index in range(processes.rank, len(part), processes.count):
        sample = part[index]
        images = sample.image[None].to(model.device)
        if sample.labels is None:
            truth = model.full_resolution_labels(images)[0].cpu()
        else:
            truth = check_labels(sample, model.num_classes)
        output = model(images)
        size = (images.shape[2], images.shape[3])
        low = model.low_resolution_labels(output.low, size)
        before.update(low[0].cpu(), truth)
        after.update(output.labels[0].cpu(), truth)
        advance()
    for matrix in (before, after):
        matrix.counts = processes.sum(matrix.counts.to(processes.device)).cpu()
    return {"validation_before": before.miou(), "validation": after.miou()}
