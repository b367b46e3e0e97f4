"""What `headroom` says of an experiment before a refiner is trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr

from dataset import Experiment  # isort: skip
from tune_dense import load_model  # isort: skip

IMAGES = 24


def forecast(
    experiment: Experiment, folder: Path, data: Path, times: dict[str, float]
) -> dict[str, Any]:
    """Run `headroom` on the images that choose.

    It takes one dense model. Here that is a function: the model tuned at low resolution for inputs
    of that size, the one tuned at full resolution for larger ones.

    Args:
        experiment: Says the sizes.
        folder: Where both models are.
        data: Folder of the dataset.
        times: Milliseconds of both, as the scores have them: they are taken in turns, as the rest.
    """
    models = {size: load_model(experiment, folder / f"{size}.safetensors", size)
              for size in ("low", "full")}  # fmt: skip
    most = experiment.low[0] * experiment.low[1]

    def predict(images: Tensor) -> Tensor:
        size = "low" if images.shape[2] * images.shape[3] <= most else "full"
        shape = experiment.low if size == "low" else experiment.full
        if tuple(images.shape[2:]) != shape:
            images = F.interpolate(images, shape, mode="bilinear", antialias=True)
        return models[size](images)

    dense = sr.dense.from_callable(predict, "logits", experiment.num_classes, identity="pair")
    extractor = sr.SparseUNet(experiment.num_classes, widths=(4,), blocks=1)  # is not asked
    model = sr.SparseRefiner(dense, extractor=extractor, dense_size=experiment.low)
    chosen = experiment.development(data)
    with torch.inference_mode():
        found = sr.headroom(model, chosen[:: max(len(chosen) // IMAGES, 1)])
    found = replace(found, low_ms=times["low_res"], full_ms=times["full_res"])
    kept = ("advice", "images", "low", "full", "low_ms", "full_ms")
    document = {name: value for name, value in found.to_json().items() if name in kept}
    ceilings = [asdict(one) for one in found.ceilings if one.selection == "entropy"]
    return {**document, "ceilings": ceilings}
