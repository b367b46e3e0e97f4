"""Segmentation models of the library transformers, version 5, as dense models."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparserefine.dense import cityscapes
from sparserefine.dense.adapters.preprocessing import FILES, ONE, ZERO, Preprocessing, read_settings
from sparserefine.dense.adapters.signature import check_signature
from sparserefine.dense.adapters.unwrapped import is_pipeline, unwrapped
from sparserefine.dense.adapters.wrapped import Channels, Kind, WrappedModel, freeze
from sparserefine.dense.normalize import IMAGENET_MEAN, IMAGENET_STD, check_unit_range
from sparserefine.dense.protocol import Preset
from sparserefine.dense.readable import read_head
from sparserefine.extras import require

CONFIG, PREPROCESSING = "config.json", FILES[0]
HALF = (0.5, 0.5, 0.5)

# OneFormer reads its task as text. "the task is semantic", tokenized as in training: the model
# averages over all places, so zeros fill the 77 of them.
SEMANTIC_TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)
TASK_LENGTH = 77

# Names whose absence or presence in a file means nothing: a norm that is never used, an index that
# is computed, and a weight of the loss.
_BENIGN = ("swin.layernorm.", "relative_position_index", "criterion.empty_weight")


@dataclass(frozen=True)
class Family:
    """What the adapter must know of a type of model.

    Attributes:
        auto_class: Name of the class of transformers that loads it.
        kind: Kind of its output, "logits" or "masks".
        divisor: What input sides must be multiples of: a number, or a field of the configuration.
        square: Whether it takes squares of one size only, the configuration's `image_size`.
        mean: Mean of red, green and blue in 0..1 to normalize with where its files name none.
        std: Standard deviation of red, green and blue in 0..1 where its files name none.
        channels: Order in which it takes the channels where its files name none.
    """

    auto_class: str
    kind: Kind
    divisor: int | str = 1
    square: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Channels = "rgb"


_SEMANTIC, _UNIVERSAL = "AutoModelForSemanticSegmentation", "AutoModelForUniversalSegmentation"
FAMILIES = {
    "segformer": Family(_SEMANTIC, "logits"),
    "upernet": Family(_SEMANTIC, "logits"),
    "beit": Family(_SEMANTIC, "logits", "patch_size", mean=HALF, std=HALF),
    "data2vec-vision": Family(_SEMANTIC, "logits", square=True, mean=HALF, std=HALF),
    "dpt": Family(_SEMANTIC, "logits", square=True, mean=HALF, std=HALF),
    "mobilenet_v2": Family(_SEMANTIC, "logits", mean=HALF, std=HALF),
    "mobilevit": Family(_SEMANTIC, "logits", mean=ZERO, std=ONE, channels="bgr"),
    "mobilevitv2": Family(_SEMANTIC, "logits", mean=ZERO, std=ONE, channels="bgr"),
    "mask2former": Family(_UNIVERSAL, "masks"),
    "maskformer": Family(_UNIVERSAL, "masks"),
    "oneformer": Family(_UNIVERSAL, "masks"),
    "eomt": Family(_UNIVERSAL, "masks", square=True),
    "eomt_dinov3": Family(_UNIVERSAL, "masks", square=True),
}


class TransformersModel(WrappedModel):
    """A model of transformers; made by `from_transformers`."""

    files = "transformers"
    task: Tensor | None

    def __init__(self, model: nn.Module, family: Family, preset: Preset) -> None:
        config: Any = model.config
        divisor = family.divisor
        # The library trains one label with a sigmoid: the foreground.
        alone = config.num_labels == 1
        super().__init__(
            model,
            "binary" if alone and family.kind == "logits" else family.kind,
            2 if alone else config.num_labels,
            mean=family.mean,
            std=family.std,
            channels=family.channels,
            size_divisor=divisor if isinstance(divisor, int) else getattr(config, divisor),
            window=config.image_size if family.square else None,
            preset=preset,
        )
        self.family = family
        if config.model_type == "oneformer":
            task = torch.zeros(1, TASK_LENGTH, dtype=torch.long)
            task[0, : len(SEMANTIC_TASK)] = torch.tensor(SEMANTIC_TASK)
            self.register_buffer("task", task, persistent=False)
        else:
            self.task = None

    def _call(self, images: Tensor) -> Any:
        task = {} if self.task is None else {"task_inputs": self.task.expand(len(images), -1)}
        output = self.model(pixel_values=images, **task)
        if self.kind == "masks":
            return output.class_queries_logits, output.masks_queries_logits
        return output.logits

    def save_files(self, folder: Path) -> None:
        """Write the model as transformers does, and its normalization."""
        with quiet():
            self.model.save_pretrained(folder)  # pyright: ignore
        preprocessing = {
            "do_normalize": True,
            "do_reduce_labels": self.preset.labels_from_1,
            "do_rescale": True,
            "do_flip_channel_order": self.channels == "bgr",
            "image_mean": list(self.family.mean),
            "image_std": list(self.family.std),
            "rescale_factor": 1 / 255,
        }
        (folder / PREPROCESSING).write_text(json.dumps(preprocessing, indent=2) + "\n")


def from_transformers(
    source: Any,
    *,
    preset: Preset | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    allow_pickle: bool = False,
) -> TransformersModel:
    """Wrap a semantic or universal segmentation model of transformers.

    The library's image processors are not used: they squash images into squares. Images come
    resized by the refiner; mean, standard deviation and order of channels are those that the
    model's files name, else those of its family.

    Args:
        source: A folder written by `save_pretrained`, a hub id, a model, or a pipeline, of which
            model and image processor are taken. One label means background and foreground.
        preset: Size to run at, threshold, names of classes, colors. Default: half resolution,
            threshold 0.3, names of classes from the model.
        mean: Mean of red, green and blue in 0..1, where the files are wrong or you hand a model
            over.
        std: Standard deviation of red, green and blue in 0..1, in place of the files' own.
        allow_pickle: Also read a pytorch_model.bin, with torch's restricted reader.

    Returns:
        The model, frozen and in eval mode.

    Raises:
        ImportError: transformers, or what the model needs with it, is not installed.
        FileNotFoundError: The folder has no configuration.
        ValueError: The model is no segmentation model that is known here, its files are damaged or
            do not fit, or the hub cannot be reached.
    """
    transformers = require("transformers", "hf")
    settings, place = {}, str(source)
    source = unwrapped(source)
    if is_pipeline(source):
        settings, place = (
            _settings_of(source.image_processor),
            type(source.image_processor).__name__,
        )
        source = unwrapped(source.model)
    if isinstance(source, nn.Module):
        model = source
        family = _family(getattr(getattr(model, "config", None), "model_type", ""), model)
    elif isinstance(source, str | Path):
        config = read_config(source)
        family = _family(config.model_type, source)
        _check_channels(config, source)
        model = _load(getattr(transformers, family.auto_class), source, allow_pickle)
        settings, place = _read_preprocessing(source)
    else:
        raise ValueError(
            f"got a {type(source).__name__}, expected a folder, a hub id, a model of transformers, "
            "or a pipeline. Give the model that it belongs to."
        )
    _check_channels(model.config, source)
    family = _override(family, settings, place, mean, std)
    reduces = settings.get("do_reduce_labels", settings.get("reduce_labels", False))
    facts = preset or _preset(model.config)
    facts = replace(facts, labels_from_1=facts.labels_from_1 or bool(reduces))
    wrapped = TransformersModel(model, family, facts)
    freeze(wrapped)
    if not family.square:  # those run at one size, which takes seconds
        check_signature(wrapped, values=False)
    return wrapped


def read_config(source: str | Path) -> Any:
    """The configuration in a folder or on the hub.

    Raises:
        FileNotFoundError: The folder has no configuration.
        ValueError: The configuration is damaged, or the hub cannot be reached.
    """
    transformers = require("transformers", "hf")
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(
                f"the folder {folder} has no {CONFIG}. Expected a folder written by the "
                "save_pretrained of a transformers model."
            )
        for file in (folder / CONFIG, *sorted(folder.glob("*.safetensors"))):
            read_head(file, "file of the model")
    with quiet(), _one_line(source):
        return transformers.AutoConfig.from_pretrained(_place(source))


def _load(auto_class: Any, source: str | Path, allow_pickle: bool) -> nn.Module:
    with quiet(), _one_line(source):
        model, report = auto_class.from_pretrained(
            _place(source),
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are in the report, and told below
        )
    classes = model.config.num_labels
    for name, of_file, of_config in sorted(report["mismatched_keys"], key=str):
        if tuple(of_config)[:1] == (classes,) and tuple(of_file)[1:] == tuple(of_config)[1:]:
            raise ValueError(
                f"the configuration of {str(source)!r} names {classes} classes, but its weights "
                f"are of {of_file[0]} ({name}). Correct id2label in config.json, or take the "
                "weights that belong to it."
            )
    problems = {
        problem: sorted(map(str, report[f"{problem}_keys"]))
        for problem in ("missing", "unexpected", "mismatched")
    }
    serious = [
        f"{len(names)} {problem} ({names[0]}…)"
        for problem, found in problems.items()
        if (names := [name for name in found if not any(part in name for part in _BENIGN)])
    ]
    if serious:
        raise ValueError(
            f"the weights of {str(source)!r} do not fit its configuration: {'; '.join(serious)}. "
            "Check that both belong to one model with a segmentation head."
        )
    return model


def _family(model_type: str, source: Any) -> Family:
    if model_type not in FAMILIES:
        what = type(source).__name__ if isinstance(source, nn.Module) else repr(str(source))
        raise ValueError(
            f"{what} is of type {model_type!r}, expected one of {', '.join(FAMILIES)}. Wrap other "
            "models with sparserefine.dense.from_callable."
        )
    return FAMILIES[model_type]


def _settings_of(processor: Any) -> dict[str, Any]:
    return processor.to_dict() if hasattr(processor, "to_dict") else {}


def _check_channels(config: Any, source: Any) -> None:
    """Raise ValueError for a model of other than three channels."""
    parts = (config, getattr(config, "backbone_config", None))
    channels = next((n for part in parts if (n := getattr(part, "num_channels", None))), 3)
    if channels != 3:
        what = type(source).__name__ if isinstance(source, nn.Module) else repr(str(source))
        raise ValueError(
            f"{what} takes images of {channels} channels, expected 3: red, green and blue. Other "
            "bands are not supported; wrap a function that makes them of RGB."
        )


def _override(
    family: Family,
    settings: dict[str, Any],
    place: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Family:
    """The family with what its files say in place of its defaults, and what the user says."""
    check_unit_range(mean or (), std or ())
    found = Preprocessing(family.mean, family.std, family.channels)
    if mean is not None and std is not None:  # of the files only the order of channels
        settings = {"do_flip_channel_order": settings.get("do_flip_channel_order")}
    if settings:
        found = found.after(settings, place)
    return replace(family, mean=mean or found.mean, std=std or found.std, channels=found.channels)


def _read_preprocessing(source: str | Path) -> tuple[dict[str, Any], str]:
    """The settings of the image processor that belongs to a model, and where they are from."""
    from transformers.utils.hub import cached_file

    folder = Path(source).expanduser()
    if not folder.is_dir():
        for name in FILES:
            found = cached_file(
                _place(source),
                name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            if found is not None:
                folder = Path(found).parent
                break
    settings, file = read_settings(folder)
    return settings, str(file)


def _preset(config: Any) -> Preset:
    labels = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    if labels and sorted(labels) != list(range(len(labels))):
        warnings.warn(
            f"id2label counts {', '.join(map(str, sorted(labels)[:3]))}…, expected 0, 1, 2…: its "
            "names are given to the classes in that order.",
            stacklevel=3,
        )
    names = tuple(labels[index] for index in sorted(labels))
    if names == tuple(f"LABEL_{index}" for index in range(len(names))):
        names = ()
    if len(names) == 1:
        names = ("background", *names)
    of_cityscapes = names == cityscapes.CLASS_NAMES
    return Preset(class_names=names, palette=cityscapes.PALETTE if of_cityscapes else ())


def _place(source: str | Path) -> str:
    folder = Path(source).expanduser()
    return str(folder) if folder.is_dir() else str(source)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and reports: what matters becomes an error."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_level = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()  # it reports each of its attempts
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_line(source: str | Path) -> Iterator[None]:
    """Turn what transformers raises for files into one line with a remedy."""
    folder = Path(source).expanduser()
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if not folder.is_dir():
            raise ValueError(
                f"no folder {str(source)!r} here, and the hub gave no model of that id "
                f"({reason}). Check the spelling and the connection, or pass a folder."
            ) from error
        pickles = [file.name for file in sorted(folder.glob("*.bin"))]
        if pickles and not list(folder.glob("*.safetensors")):
            raise ValueError(
                f"{folder / pickles[0]} is a pickle, expected model.safetensors. If you trust its "
                "source, pass allow_pickle=True (--allow-pickle); nothing in it is executed."
            ) from error
        raise ValueError(
            f"the model in {folder} cannot be read ({reason}). Check that the download is "
            "complete, and that configuration and weights belong together."
        ) from error
