"""The losses that training minimizes, over the selected pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data import ignore_index
from sparserefine.refinement.output import RefinedPixels
from sparserefine.training.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Objective:
    """What is minimized: a weighted sum of losses, each of the extractor and of the ensembler.

    Attributes:
        cross_entropy: Weight of the cross-entropy.
        dice: Weight of the Dice loss.
        lovasz: Weight of the Lovász-softmax loss.
        distillation: Weight of the divergence from the teacher's probabilities.
        temperature: Temperature of that.
        wrong_weight: Weight of pixels where the dense model is wrong.
        class_weights: Weight of each class; None weighs all alike.
        from_teacher: Take the cross-entropy with the teacher's probabilities: they say more than
            the class, above all where the teacher is unsure itself.
    """

    cross_entropy: float = 1.0
    dice: float = 0.0
    lovasz: float = 0.0
    distillation: float = 0.0
    temperature: float = 1.0
    wrong_weight: float = 1.0
    class_weights: Float[Tensor, " K"] | None = None
    from_teacher: bool = False

    @classmethod
    def of(cls, config: TrainConfig, class_weights: Float[Tensor, " K"] | None) -> Objective:
        """The objective that a run asks for."""
        return cls(
            config.cross_entropy,
            config.dice,
            config.lovasz,
            config.distillation,
            config.temperature,
            config.wrong_weight,
            class_weights,
            config.targets == "dense",
        )

    def weights(
        self, dense: Float[Tensor, "N K"], targets: Integer[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """How much each pixel counts; 0 where it has no label.

        Args:
            dense: Logits of the low-resolution prediction.
            targets: Classes of the pixels.
        """
        long = targets.long()
        labeled = long != ignore_index(dense.shape[1])
        weights = labeled.float()
        if self.class_weights is not None:
            own = self.class_weights.to(dense.device)
            weights = weights * own[long.where(labeled, 0)]
        if self.wrong_weight != 1:
            wrong = dense.argmax(1) != long
            weights = torch.where(wrong, weights * self.wrong_weight, weights)
        return weights

    def of_logits(
        self,
        logits: Float[Tensor, "N K"],
        targets: Integer[Tensor, " N"],
        teacher: Float[Tensor, "N K"] | None,
        weights: Float[Tensor, " N"],
        total: Float[Tensor, ""],
        share: float,
    ) -> Float[Tensor, ""]:
        """The loss of one prediction of the pixels of one part of a batch.

        Parts add up to the loss of the batch. That is exact of the cross-entropy and distillation;
        Dice and Lovász are the means of those of the parts.

        Args:
            logits: The prediction.
            targets: Classes of the pixels; `ignore_index(K)` does not count.
            teacher: Class probabilities of the pixels.
            weights: How much each pixel counts.
            total: Sum of the weights of the whole batch.
            share: Share of this part among the parts.
        """
        long = targets.long()
        loss = logits.sum() * 0
        if self.cross_entropy:
            if self.from_teacher and teacher is not None:
                each = F.cross_entropy(logits, teacher, reduction="none")
            else:
                ignored = ignore_index(logits.shape[1])
                each = F.cross_entropy(logits, long, ignore_index=ignored, reduction="none")
            loss = loss + self.cross_entropy * (each * weights).sum() / total
        if self.distillation and teacher is not None:
            each = divergence(logits, teacher, self.temperature)
            loss = loss + self.distillation * (each * weights).sum() / total
        if self.dice or self.lovasz:
            known = long != ignore_index(logits.shape[1])
            probabilities, classes = logits[known].softmax(1), long[known]
            if self.dice:
                loss = loss + share * self.dice * dice_loss(probabilities, classes)
            if self.lovasz:
                loss = loss + share * self.lovasz * lovasz_loss(probabilities, classes)
        return loss


def divergence(
    logits: Float[Tensor, "N K"], teacher: Float[Tensor, "N K"], temperature: float
) -> Float[Tensor, " N"]:
    """How far a prediction is from a teacher's: KL divergence of both softened, times T².

    Args:
        logits: The prediction.
        teacher: Class probabilities.
        temperature: Power T: probabilities are raised to 1/T.

    Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    soft = (teacher.clamp(min=1e-10).log() / temperature).log_softmax(1)
    own = (logits / temperature).log_softmax(1)
    return (soft.exp() * (soft - own)).sum(1) * temperature**2


def dice_loss(
    probabilities: Float[Tensor, "N K"], classes: Integer[Tensor, " N"]
) -> Float[Tensor, ""]:
    """1 less the Dice coefficient, mean over the classes that occur; 0 without a pixel.

    Args:
        probabilities: The prediction.
        classes: Class of each pixel.
    """
    truth = F.one_hot(classes, probabilities.shape[1]).to(probabilities.dtype)
    both = (probabilities * truth).sum(0)
    sums = probabilities.sum(0) + truth.sum(0)
    each = 1 - (2 * both + 1) / (sums + 1)
    present = truth.any(0)
    return (each * present).sum() / present.sum().clamp(min=1)


def lovasz_loss(
    probabilities: Float[Tensor, "N K"], classes: Integer[Tensor, " N"]
) -> Float[Tensor, ""]:
    """The Lovász extension of 1 less the IoU, mean over the classes that occur; 0 without a pixel.

    Args:
        probabilities: The prediction.
        classes: Class of each pixel.

    Source: Berman et al. 2018, arXiv:1705.08790.
    """
    losses = [probabilities.sum() * 0]
    for present in classes.unique().tolist():
        truth = (classes == present).to(probabilities.dtype)
        errors, order = (truth - probabilities[:, present]).abs().sort(descending=True)
        ranked = truth[order]
        union = ranked.sum() + (1 - ranked).cumsum(0)
        jaccard = 1 - (ranked.sum() - ranked.cumsum(0)) / union
        steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append((errors * steps).sum())
    return torch.stack(losses).sum() / max(len(losses) - 1, 1)


def refinement_loss(
    pixels: RefinedPixels,
    targets: Integer[Tensor, " N"],
    teacher: Float[Tensor, "N K"] | None = None,
    objective: Objective | None = None,
    *,
    weights: Float[Tensor, " N"] | None = None,
    total: Float[Tensor, ""] | None = None,
    share: float = 1.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, " figures"]]:
    """The loss of the extractor plus that of the ensembler, over labeled selected pixels.

    It is zero, with a gradient of zero, where no selected pixel has a label.

    Args:
        pixels: The refiner's predictions.
        targets: Classes of the predicted pixels; `ignore_index(K)` does not count.
        teacher: Class probabilities of the predicted pixels.
        objective: What is minimized. Default: the cross-entropy, with the teacher where given.
        weights: How much each pixel counts. Default: as the objective says.
        total: Sum of the weights of the whole batch, of which these pixels are a part. Default:
            they are all of it.
        share: Share of this part among the parts.

    Returns:
        The loss, and the `FIGURES` of this part, which add up over parts.
    """
    objective = objective or Objective(from_teacher=teacher is not None)
    if weights is None:
        weights = objective.weights(pixels.dense, targets)
    total = (weights.sum() if total is None else total).clamp(min=1e-6)
    sparse, refined = (
        objective.of_logits(logits, targets, teacher, weights, total, share)
        for logits in (pixels.sparse, pixels.refined)
    )
    long = targets.long()
    labeled = long != ignore_index(pixels.dense.shape[1])
    counts = [
        ((logits.argmax(1) == long) & labeled).sum() for logits in (pixels.dense, pixels.refined)
    ]
    figures = [sparse + refined, sparse, refined, *counts, labeled.sum()]
    return sparse + refined, torch.stack([figure.detach().float() for figure in figures])


FIGURES = ("loss", "loss_sparse", "loss_refined", "right_dense", "right_refined", "pixels")
"""What is known of a step: losses, pixels that are right before and after, labeled pixels."""


def as_row(figures: Float[Tensor, " figures"]) -> dict[str, float]:
    """The figures of a step by name, with shares for numbers of right pixels."""
    row = dict(zip(FIGURES, figures.tolist(), strict=True))
    pixels = max(row["pixels"], 1)
    shares = {name: row[name] / pixels for name in ("right_dense", "right_refined")}
    return {**row, **shares, "pixels": int(row["pixels"])}
