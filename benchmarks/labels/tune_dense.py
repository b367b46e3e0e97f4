"""Fine-tune ESPNetv2-2.0 from its Cityscapes weights on a dataset, at full or at low resolution.

    python benchmarks/labels/tune_dense.py camvid --data FOLDER --weights FOLDER --size full
        --out FILE

Both sizes get the same number of steps, images and settings. The weights go into one file of
safetensors; an existing one is left as it is, so that a run that was stopped goes on with the next.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Integer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine import dense
from sparserefine.data import Sample, ignore_index
from sparserefine.dense import DenseModel
from sparserefine.dense.espnetv2 import ESPNetv2
from sparserefine.memory_pages import keep_pages

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dataset import EXPERIMENTS, Experiment, class_weights  # isort: skip

STEPS, BATCH, LEARNING_RATE, WARMUP = 400, 8, 1e-3, 30
# Lowest and highest scale of an image in training, and how far colors are moved.
SCALES = (0.75, 1.6)
GAIN, CONTRAST, SATURATION, TINT = 0.3, 0.3, 0.4, 0.07


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder with ESPNetv2's files")
    parser.add_argument("--size", choices=("full", "low"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.out.exists():
        print(f"{options.out} exists already and is left as it is")
        return
    torch.set_num_threads(options.threads)
    experiment = EXPERIMENTS[options.experiment]
    model = new_model(experiment, options.weights, options.size)
    keep_pages()
    tune(model, experiment, experiment.training(options.data), options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    os.replace(partial, options.out)
    print(options.out)


def new_model(experiment: Experiment, weights: Path | None, size: str) -> DenseModel:
    """ESPNetv2-2.0 with a last layer for the classes of an experiment.

    Args:
        experiment: Says which classes, and where they come from among those of Cityscapes.
        weights: Folder with the published files; None leaves the weights random.
        size: "full" starts from the weights for 1024×512, "low" from those for 512×256.
    """
    trained_at = {"full": "1024x512", "low": "512x256"}[size]
    file = None if weights is None else weights / f"espnetv2_s_2.0_city_{trained_at}.pth"
    model = dense.create("espnetv2-2.0", file, allow_pickle=True)
    assert isinstance(model, ESPNetv2)
    old = model.bu_dec_l4.merge_layer[-1]
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, experiment.num_classes, 1)
    with torch.no_grad():
        for index in range(experiment.num_classes if experiment.of_cityscapes else 0):
            rows = [row for row, to in enumerate(experiment.of_cityscapes) if to == index]
            new.weight[index] = old.weight[rows].mean(0)
            assert new.bias is not None and old.bias is not None
            new.bias[index] = old.bias[rows].mean(0)
    model.bu_dec_l4.merge_layer[-1] = new
    model.num_classes = experiment.num_classes
    model.preset = replace(model.preset, class_names=experiment.class_names, palette=())
    return model


def load_model(experiment: Experiment, file: Path, size: str) -> DenseModel:
    """A fine-tuned model.

    Args:
        experiment: Says which classes.
        file: Written by this script.
        size: The size that it was tuned for, "full" or "low".
    """
    model = new_model(experiment, None, size)
    model.load_state_dict(load_file(file))
    return model.eval()


def tune(
    model: DenseModel,
    experiment: Experiment,
    samples: list[Sample],
    options: argparse.Namespace,
) -> None:
    """Train all of the model on labels."""
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    weight = class_weights(samples, experiment.num_classes)
    model.requires_grad_(True).train()
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    start = time.perf_counter()
    warmup = min(WARMUP, max(options.steps // 10, 1))
    for step in range(options.steps):
        rise, fall = (
            min(1.0, (step + 1) / warmup),
            0.5 * (1 + math.cos(math.pi * step / options.steps)),
        )
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rise * fall
        drawn = [draw(samples, experiment, options.size, generator) for _ in range(BATCH)]
        images = torch.stack([image for image, _ in drawn])
        logits = model(images.contiguous(memory_format=torch.channels_last))
        loss = sum(
            F.cross_entropy(
                F.interpolate(own[None], tuple(labels.shape), mode="bilinear"),
                labels[None],
                weight=weight,
                ignore_index=ignore_index(experiment.num_classes),
            )
            for own, (_, labels) in zip(logits, drawn, strict=True)
        )
        assert isinstance(loss, Tensor)
        optimizer.zero_grad(set_to_none=True)
        (loss / BATCH).backward()
        optimizer.step()
        if step % 10 == 9:
            each = (time.perf_counter() - start) / (step + 1)
            print(f"step {step + 1}: loss {loss.item() / BATCH:.3f}, {each:.2f} s each", flush=True)
    model.eval()


def draw(
    samples: list[Sample], experiment: Experiment, size: str, generator: torch.Generator
) -> tuple[Float[Tensor, "3 h w"], Integer[Tensor, "h_labels w_labels"]]:
    """An image at a random scale, cropped, mirrored and recolored, with labels.

    Those of the low resolution are at about that of the photo: the model learns to say what lies
    between its cells.
    """

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    whole = experiment.full if size == "full" else experiment.low
    crop = experiment.crop if size == "full" else experiment.low_crop or experiment.low
    finer = 1 if size == "full" else round(experiment.full[0] / experiment.low[0])
    one = samples[int(torch.randint(len(samples), (), generator=generator))]
    assert one.labels is not None
    scale = math.exp(between(math.log(max(crop[0] / whole[0], SCALES[0])), math.log(SCALES[1])))
    height, width = (max(c, round(s * scale)) for c, s in zip(crop, whole, strict=True))
    top, left = int(between(0, height - crop[0] + 0.999)), int(between(0, width - crop[1] + 0.999))
    image = F.interpolate(
        one.image[None].float() / 255, (height, width), mode="bilinear", antialias=True
    )[0, :, top : top + crop[0], left : left + crop[1]]
    labels = F.interpolate(one.labels[None, None].float(), (height * finer, width * finer))[0, 0]
    labels = labels.long()[
        top * finer : (top + crop[0]) * finer, left * finer : (left + crop[1]) * finer
    ]
    if between(0, 1) < 0.5:
        image, labels = image.flip(2), labels.flip(1)
    if not experiment.upright and between(0, 1) < 0.5:
        image, labels = image.flip(1), labels.flip(0)
    return recolored(image, between), labels


def recolored(
    image: Float[Tensor, "3 h w"], between: Callable[[float, float], float]
) -> Float[Tensor, "3 h w"]:
    """An image with other brightness, contrast, saturation and tint."""
    image = image * between(1 - GAIN, 1 + GAIN)
    mean = image.mean((1, 2), keepdim=True)
    image = (image - mean) * between(1 - CONTRAST, 1 + CONTRAST) + mean
    gray = image.mean(0, keepdim=True)
    image = gray + (image - gray) * between(1 - SATURATION, 1 + SATURATION)
    tint = torch.tensor([between(1 - TINT, 1 + TINT) for _ in range(3)])
    return (image * tint[:, None, None]).clamp(0, 1)


if __name__ == "__main__":
    main()
