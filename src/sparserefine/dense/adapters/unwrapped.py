"""The network inside what people hand over in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(model: Any) -> Any:
    """The module in a DataParallel or the like; anything else as it is."""
    while isinstance(model, _WRAPPERS):
        model = model.module
    return model


def is_pipeline(model: Any) -> bool:
    """Whether something is a pipeline of transformers: a model with its image processor."""
    return hasattr(model, "image_processor") and hasattr(model, "preprocess")


def check_callable(model: Any) -> None:
    """Raise ValueError for what is no network that maps tensors to tensors."""
    found = type(model).__name__
    if isinstance(model, str | Path):
        raise ValueError(
            f"the model is the path {str(model)!r}, expected a module or a function. Open files "
            "with from_onnx, from_transformers or create."
        )
    if isinstance(model, Mapping):
        raise ValueError(
            f"the model is a {found} of {len(model)} entries, expected a module or a function. "
            "Weights alone compute nothing: load_state_dict them into their network."
        )
    if isinstance(model, type):
        raise ValueError(
            f"the model is the class {model.__name__}, expected an object of it. Make one: "
            f"{model.__name__}(…)."
        )
    if is_pipeline(model):
        raise ValueError(
            f"the model is a {found}, a pipeline of transformers, which takes photos and not "
            "tensors. Use from_transformers(pipeline)."
        )
    if hasattr(model, "get_inputs") and hasattr(model, "run"):
        raise ValueError(
            f"the model is a {found} of onnxruntime, expected a module or a function. Use "
            "from_onnx(path, kind, num_classes)."
        )
    if not callable(model):
        raise ValueError(
            f"the model is a {found}, which cannot be called. Expected a module, or a function "
            "from images [B, 3, h, w] to a prediction."
        )
