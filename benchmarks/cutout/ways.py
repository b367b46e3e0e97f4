"""The ways to an alpha at full resolution that are compared, ours and those of others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Num, UInt8
from PIL import Image
from scipy.ndimage import binary_erosion
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense import DenseModel
from sparserefine.refinement.alpha import Method, refine_alpha
from sparserefine.refinement.dense_run import run_dense
from sparserefine.refinement.dense_size import DenseSize
from sparserefine.refinement.timing import StageTimer

ISNET_SIZES = (256, 384, 512, 768, 1024)
RembgMode = Literal["", "-a", "-dc"]
REMBG_MODES: tuple[RembgMode, ...] = get_args(RembgMode)
# Its defaults: foreground above, background below, pixels of erosion.
REMBG_THRESHOLDS = (240, 10, 10)
# Beyond it, closed form on all pixels takes minutes and gigabytes.
MOST_PIXELS_OF_CLOSED_FORM = 1.5e6


@dataclass(frozen=True, eq=False)
class Found:
    """An alpha and what it took.

    Attributes:
        alpha: Share of the foreground in each pixel, 0..1.
        mask: True where a pixel was looked at; None where all were.
        stages_ms: Milliseconds of each stage.
    """

    alpha: Float[Tensor, "H W"]
    mask: Bool[Tensor, "H W"] | None
    stages_ms: dict[str, float]

    @property
    def density(self) -> float:
        """Share of the pixels that were looked at, 0..1."""
        return 1.0 if self.mask is None else float(self.mask.float().mean())


@dataclass(frozen=True, eq=False)
class Source:
    """A dense model at one size, photos squashed to its square.

    Attributes:
        name: Name of the model.
        model: The model.
        side: Side of its input in pixels.
    """

    name: str
    model: DenseModel
    side: int

    def predict(self, images: Num[Tensor, "1 3 H W"]) -> tuple[sr.DensePass, dict[str, float]]:
        """The low-resolution prediction, and the milliseconds of its stages."""
        timer = StageTimer()
        size = DenseSize((self.side, self.side), self.model.size_divisor, "stretch")
        low = sr.DensePass(run_dense(self.model, images, (self.side, self.side), size, timer))
        return low, timer.stages_ms


def make_source(name: str, side: int, isnet: Path | None) -> Source:
    """A dense model, run as `sr.cutout` runs it; IS-Net reads its weights from the file `isnet`."""
    model = sr.dense.create(name, isnet if name == "isnet" else None)
    return Source(name, sr.dense.optimize(model), side)


def sources(isnet: Path | None) -> list[Source]:
    """U²-Net-p at its size, and IS-Net, where its file is given, at several."""
    found = [make_source("u2netp", 320, None)]
    if isnet is not None:
        largest = make_source("isnet", ISNET_SIZES[-1], isnet)
        found += [replace(largest, side=side) for side in ISNET_SIZES]
    return found


def _refined(images: Tensor, low: sr.DensePass, method: Method, **options: Any) -> Found:
    timer = StageTimer()
    matte = refine_alpha(images, low, method=method, timer=timer, **options)
    return Found(matte.alpha, matte.mask, timer.stages_ms)


PeerWay = Callable[[np.ndarray, sr.DensePass], Found]

WAYS: dict[str, Callable[[Tensor, sr.DensePass], Found]] = {
    "bilinear": partial(_refined, method="bilinear"),
    "guided": partial(_refined, method="guided"),
    "closed-form": partial(_refined, method="closed-form"),
    "edges": partial(_refined, method="edges"),
}
"""By name, as users get them."""


def closed_form_at_full_size(images: Num[Tensor, "1 3 H W"], low: sr.DensePass) -> Found:
    """Closed-form matting in the band with a grid as fine as the photo.

    It is the solution that pymatting finds, by test and by benchmarks/closed_form.py.
    """
    return _refined(images, low, "closed-form", grid=max(images.shape[2:]))


def oracle(refined: Found, truth: Float[Tensor, "H W"]) -> Found:
    """The truth in the band that was refined: the upper bound of any refiner of that band."""
    assert refined.mask is not None
    return Found(torch.where(refined.mask, truth, refined.alpha), refined.mask, {})


def rembg(image: UInt8[np.ndarray, "H W 3"], low: sr.DensePass, mode: RembgMode) -> Found:
    """What rembg makes of a prediction: enlarged, "-a" closed form, "-dc" colors cleaned.

    It stretches the prediction to 0..1 and enlarges it by Lanczos; the modes get that.
    """
    from rembg.bg import alpha_matting_cutout, decontaminate_cutout

    start = time.perf_counter()
    mask = _rembg_mask(low, (image.shape[1], image.shape[0]))
    photo = Image.fromarray(image)
    if mode == "-a":
        mask = alpha_matting_cutout(photo, mask, *REMBG_THRESHOLDS).getchannel("A")
    elif mode == "-dc":
        mask = decontaminate_cutout(photo, mask).getchannel("A")
    milliseconds = 1000 * (time.perf_counter() - start)
    alpha = torch.from_numpy(np.asarray(mask) / np.float32(255))
    return Found(alpha, None, {f"rembg {mode}".strip(): milliseconds})


def _rembg_mask(low: sr.DensePass, size: tuple[int, int]) -> Image.Image:
    found = low.logits.softmax(1)[0, 1].numpy()
    found = (found - found.min()) / max(float(found.max() - found.min()), 1e-6)
    mask = Image.fromarray((255 * found).astype(np.uint8))
    return mask.resize(size, Image.Resampling.LANCZOS)


def vitmatte(weights: Path | None) -> PeerWay:
    """ViTMatte-S as rembg's `-vm` runs it: at 1024×1024, its answer stretched back.

    Args:
        weights: Folder of transformers with the weights; None takes random ones, for the time.
    """
    from transformers import VitDetConfig, VitMatteConfig, VitMatteForImageMatting

    if weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = VitDetConfig(
                hidden_size=384,
                num_attention_heads=6,
                num_channels=4,
                image_size=512,
                pretrain_image_size=224,
                window_size=14,
                use_absolute_position_embeddings=True,
                use_relative_position_embeddings=True,
                window_block_indices=[0, 1, 3, 4, 6, 7, 9, 10],
                residual_block_indices=[2, 5, 8, 11],
                out_features=["stage12"],
            )
            # A list: transformers adds it to one.
            config = VitMatteConfig(
                backbone_config=backbone, fusion_hidden_sizes=[256, 128, 64, 32]
            )
            model = VitMatteForImageMatting(config)
    else:
        model = VitMatteForImageMatting.from_pretrained(weights)
    model.eval()

    @torch.inference_mode()
    def run(image: np.ndarray, low: sr.DensePass) -> Found:
        start = time.perf_counter()
        size = (image.shape[0], image.shape[1])
        mask = np.asarray(_rembg_mask(low, (size[1], size[0])))
        above, below, erosion = REMBG_THRESHOLDS
        structure = np.ones((erosion, erosion))
        trimap = np.full(size, 128, np.uint8)
        trimap[binary_erosion(mask > above, structure)] = 255
        trimap[binary_erosion(mask < below, structure, border_value=1)] = 0
        planes = np.concatenate([image, trimap[..., None]], 2)
        given = torch.from_numpy(planes).permute(2, 0, 1)[None].float() / 255
        colors = F.interpolate(given[:, :3], (1024, 1024), mode="bilinear")
        known = F.interpolate(given[:, 3:], (1024, 1024), mode="nearest")
        found = model(torch.cat([(colors - 0.5) / 0.5, known], 1)).alphas
        alpha = F.interpolate(found, size, mode="bilinear")[0, 0]
        return Found(alpha, None, {"rembg -vm": 1000 * (time.perf_counter() - start)})

    return run
