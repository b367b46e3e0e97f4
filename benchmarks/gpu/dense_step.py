"""Steps that train a dense model on frames kept on the device, recorded as one CUDA graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from dry_run import DEVICE
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.data import Sample, ignore_index

# Steps before the recording: convolutions are chosen, the optimizer's state is made.
WARM_UP = 3
# How far colors are moved: brightness, contrast, saturation, tint.
GAIN, CONTRAST, SATURATION, TINT = 0.3, 0.3, 0.4, 0.07


@dataclass(frozen=True, eq=False)
class Frames:
    """Labeled images of one size.

    Attributes:
        images: RGB.
        labels: Class of each pixel.
    """

    images: UInt8[Tensor, "N 3 H W"]
    labels: Integer[Tensor, "N H_labels W_labels"]

    @classmethod
    def of(cls, samples: list[Sample], size: tuple[int, int] | None = None) -> Self:
        """Frames on the device.

        Args:
            samples: Images with labels.
            size: (height, width) of the images; None leaves them as they are. Labels stay.
        """
        images = torch.stack([one.image for one in samples]).to(DEVICE)
        if size is not None:
            parts = [
                F.interpolate(part.float(), size, mode="bilinear", antialias=True)
                for part in images.split(64)
            ]
            images = torch.cat(parts).round().clamp(0, 255).to(torch.uint8)
        labels = torch.stack([one.labels for one in samples if one.labels is not None])
        return cls(images, labels.to(DEVICE))

    def draw(
        self, count: int, labels_size: tuple[int, int], scales: tuple[float, float]
    ) -> tuple[Float[Tensor, "B 3 H W"], Integer[Tensor, "B h w"]]:
        """Random frames, each enlarged or reduced, moved, mirrored and recolored.

        What lies outside of a frame is black and has no label.

        Args:
            count: Number of frames B.
            labels_size: (h, w) of the labels, which cover the same as the images.
            scales: Least and largest scale.
        """

        def between(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(count, *shape, device=DEVICE).uniform_(low, high)

        index = torch.randint(len(self.images), (count,), device=DEVICE)
        side = (-between(math.log(scales[0]), math.log(scales[1]))).exp()
        mirror = between(-1, 1).sign()
        shift = (1 - side)[:, None] * between(-1, 1, 2)
        zero = torch.zeros_like(side)
        rows = [torch.stack([mirror * side, zero, shift[:, 0]], 1)]
        rows.append(torch.stack([zero, side, shift[:, 1]], 1))
        theta = torch.stack(rows, 1)
        images = self.images[index].float() / 255
        images = _sampled(images, theta, (images.shape[2], images.shape[3]), "bilinear")
        ignored = ignore_index(None)
        # Zero is outside.
        labels = self.labels[index][:, None].float() + 1
        found = _sampled(labels, theta, labels_size, "nearest")[:, 0].round().long() - 1
        gain, contrast, color = (
            between(1 - reach, 1 + reach, 1, 1, 1) for reach in (GAIN, CONTRAST, SATURATION)
        )
        images = images * gain
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * contrast + mean
        gray = images.mean(1, keepdim=True)
        images = (gray + (images - gray) * color) * between(1 - TINT, 1 + TINT, 3, 1, 1)
        return images.clamp(0, 1), torch.where(found < 0, ignored, found)


class DenseStep:
    """Steps of AdamW on a dense model, in bfloat16 by autocast.

    A step of HRNet starts thousands of small kernels; recorded as a CUDA graph it waits for none of
    them. Where it cannot be recorded, or there is no such device, it runs as it is.

    Args:
        model: The dense model, on the device.
        images: (B, 3, H, W) of the images.
        labels: (B, h, w) of the labels.
        weight: Weight of each class.
        weight_decay: Of AdamW.

    Attributes:
        recorded: Whether steps are replayed: "yes", or "no: …", why not; None before it is tried.
    """

    def __init__(
        self,
        model: nn.Module,
        images: tuple[int, ...],
        labels: tuple[int, ...],
        weight: Float[Tensor, " K"],
        weight_decay: float = 0.05,
    ) -> None:
        self.model, self.weight = model, weight
        self.images = torch.zeros(images, device=DEVICE).contiguous(
            memory_format=torch.channels_last
        )
        self.labels = torch.zeros(labels, dtype=torch.long, device=DEVICE)
        self.rate, self.loss = torch.zeros((), device=DEVICE), torch.zeros((), device=DEVICE)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=self.rate,
            weight_decay=weight_decay,
            fused=True,
            capturable=DEVICE == "cuda",
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate  # whatever AdamW makes of what it is given
        self.recorded: str | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._done = 0

    def __call__(self, images: Tensor, labels: Tensor, rate: float) -> float:
        """Take a step, and return its loss once it is done."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.rate.fill_(rate)
        if DEVICE == "cuda" and self._done < WARM_UP:
            # As torch asks for: on the stream that is recorded, or gradients belong to another.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._take()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            self._replay()
        self._done += 1
        return float(self.loss)

    def _replay(self) -> None:
        if self.recorded is None:
            self.recorded = self._record() if DEVICE == "cuda" else f"no: {DEVICE}"
        if self._graph is None:
            self._take()
        else:
            self._graph.replay()

    def _record(self) -> str:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._take()
        except RuntimeError as error:
            torch.cuda.synchronize()
            return f"no: {(str(error).splitlines() or ['?'])[0][:120]}"
        self._graph = graph
        return "yes"

    def _take(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        # Weights that are cast once and kept would be those of the first step.
        with torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False):
            logits = self.model(self.images)
        size = (self.labels.shape[1], self.labels.shape[2])
        loss = F.cross_entropy(
            F.interpolate(logits.float(), size, mode="bilinear"),
            self.labels,
            weight=self.weight,
            ignore_index=ignore_index(None),
        )
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.loss.copy_(loss.detach())


def _sampled(planes: Tensor, theta: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    shape = [len(planes), planes.shape[1], *size]
    grid = F.affine_grid(theta, shape, align_corners=False)
    return F.grid_sample(planes, grid, mode=mode, align_corners=False)
