"""The paper's models that transformers implements: their configurations, presets and sources."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparserefine.dense import cityscapes
from sparserefine.dense.adapters.transformers import (
    FAMILIES,
    TransformersModel,
    from_transformers,
    quiet,
    read_config,
)
from sparserefine.dense.mmseg_mask2former import is_mmseg_mask2former, mask2former_state
from sparserefine.dense.protocol import Preset
from sparserefine.dense.state_names import bare_names
from sparserefine.dense.weights import read_weights, save_weights
from sparserefine.extras import require

CLASSES = len(cityscapes.CLASS_NAMES)


@dataclass(frozen=True)
class Published:
    """One of the paper's models.

    Attributes:
        hub_id: Repository of its weights on the Hugging Face hub.
        config: Makes its configuration for transformers.
        shape: Dotted names of the fields in which another configuration must equal this one.
        threshold: Entropy threshold in nats, from the paper's Table A1.
        license: What a user must know about the weights.
    """

    hub_id: str
    config: Callable[[], Any]
    shape: tuple[str, ...]
    threshold: float
    license: str


def _labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(cityscapes.CLASS_NAMES)), "num_labels": CLASSES}


def _segformer_b5() -> Any:
    return require("transformers", "hf").SegformerConfig(
        hidden_sizes=[64, 128, 320, 512],
        depths=[3, 6, 40, 3],
        decoder_hidden_size=768,
        **_labels(),
    )


def _mask2former(width: int, depth: int, heads: int, window: int, image_size: int) -> Any:
    transformers = require("transformers", "hf")
    backbone = transformers.SwinConfig(
        embed_dim=width,
        depths=[2, 2, depth, 2],
        num_heads=[heads * 2**stage for stage in range(4)],
        window_size=window,
        image_size=image_size,
        drop_path_rate=0.3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return transformers.Mask2FormerConfig(backbone_config=backbone, num_queries=100, **_labels())


_SEGFORMER_SHAPE = ("hidden_sizes", "depths", "decoder_hidden_size")
_MASK2FORMER_SHAPE = (
    "backbone_config.embed_dim",
    "backbone_config.depths",
    "backbone_config.window_size",
    "num_queries",
)

MODELS = {
    "segformer-b5": Published(
        "nvidia/segformer-b5-finetuned-cityscapes-1024-1024",
        _segformer_b5,
        _SEGFORMER_SHAPE,
        0.1,
        "NVIDIA's SegFormer weights are licensed for non-commercial use only; "
        f"{cityscapes.LICENSE}",
    ),
    "mask2former-swin-tiny": Published(
        "facebook/mask2former-swin-tiny-cityscapes-semantic",
        lambda: _mask2former(96, 6, 3, 7, 224),
        _MASK2FORMER_SHAPE,
        0.05,
        f"Mask2Former: code MIT, see the model page for the weights; {cityscapes.LICENSE}",
    ),
    "mask2former-swin-large": Published(
        "facebook/mask2former-swin-large-cityscapes-semantic",
        lambda: _mask2former(192, 18, 6, 12, 384),
        _MASK2FORMER_SHAPE,
        0.005,
        f"Mask2Former: code MIT, see the model page for the weights; {cityscapes.LICENSE}",
    ),
}


def create(name: str, weights: str | Path | None, allow_pickle: bool) -> TransformersModel:
    """Build one of `MODELS`; see `sparserefine.dense.create`."""
    published = MODELS[name]
    preset = Preset.of_cityscapes(CLASSES, dense_size=0.5, threshold=published.threshold)
    if weights is None:
        return _random(published, preset)
    path = Path(weights).expanduser()
    if path.is_file() and not (path.parent / "config.json").is_file():
        model = _from_file(name, path, preset, allow_pickle)
    else:
        place = path.parent if path.is_file() else weights
        _check_config(name, place)
        model = from_transformers(place, preset=preset, allow_pickle=allow_pickle)
    model.preset = replace(model.preset, license=published.license)
    return model


def _random(published: Published, preset: Preset) -> TransformersModel:
    transformers = require("transformers", "hf")
    config = published.config()
    family = FAMILIES[config.model_type]
    auto_class: Any = getattr(transformers, family.auto_class)
    with quiet():
        return TransformersModel(auto_class.from_config(config), family, preset)


def _from_file(name: str, path: Path, preset: Preset, allow_pickle: bool) -> TransformersModel:
    """Build a model from a single file, under the names of mmsegmentation or of transformers."""
    state = bare_names(read_weights(path, allow_pickle=allow_pickle))
    if is_mmseg_mask2former(state):
        state = mask2former_state(state)
    elif any(key.startswith("decode_head.fusion_conv.") for key in state):
        raise ValueError(
            f"{path} is a SegFormer of mmsegmentation, whose head is another network than that of "
            f"transformers. Use sparserefine.dense.from_mmseg, or give the hub id "
            f"{MODELS['segformer-b5'].hub_id}."
        )
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        # Only the library's own reader knows which of its versions' names are in a file.
        MODELS[name].config().save_pretrained(folder)
        save_weights(state, folder / "model.safetensors", {"format": "pt"})
        try:
            return from_transformers(folder, preset=preset)
        except ValueError as error:
            reason = str(error).replace(repr(name_of_folder), "the file")
            reason = reason.replace(name_of_folder, str(path))
            raise ValueError(f"{path} for {name!r}: {reason}") from error


def _check_config(name: str, source: str | Path) -> None:
    """Check that the configuration is that of the paper's model.

    Raises:
        ValueError: The configuration is of another architecture, size, or number of classes.
    """
    found, wanted = read_config(source), MODELS[name].config()
    if found.model_type != wanted.model_type:
        raise ValueError(
            f"{str(source)!r} is a {found.model_type}, {name!r} a {wanted.model_type}. Give the "
            "right weights, or wrap what you have with sparserefine.dense.from_transformers."
        )
    for field in MODELS[name].shape:
        here, there = _get(found, field), _get(wanted, field)
        if here != there:
            raise ValueError(
                f"{str(source)!r} has {field} {here}, {name!r} {there}. Give the right weights, or "
                "wrap what you have with sparserefine.dense.from_transformers."
            )
    if found.num_labels != CLASSES:
        raise ValueError(
            f"{str(source)!r} has {found.num_labels} classes, {name!r} the {CLASSES} of "
            "Cityscapes. Wrap it with sparserefine.dense.from_transformers, which takes any number."
        )


def _get(config: Any, field: str) -> Any:
    for part in field.split("."):
        config = getattr(config, part, None)
    return list(config) if isinstance(config, tuple | list) else config
