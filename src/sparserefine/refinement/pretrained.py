"""Reading and writing a refiner with its dense model: safetensors and JSON, never pickle.

A folder holds `config.json` and `model.safetensors`, with the dense model's weights under
`dense.`, or in files of their own in the folder `dense` where the model is another library's. All
files are complete before any appears. (The hub library's own mixin deletes the configuration first,
and cannot rebuild a model whose parts are modules.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparserefine import dense
from sparserefine.atomic import atomic_write_all
from sparserefine.dense import DenseModel
from sparserefine.dense.fingerprint import fingerprint, new_token
from sparserefine.dense.open_model import find_dense
from sparserefine.dense.weights import load_weights, read_weights, save_weights
from sparserefine.paths import user_path
from sparserefine.refinement.band_selector import BandSelector
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.edge_selector import EdgeSelector
from sparserefine.refinement.ensembler import ExtractorAlone, GatedEnsembler
from sparserefine.refinement.extractor import Extractor, SparseUNet
from sparserefine.refinement.selector import EntropySelector, Selector
from sparserefine.refinement.stage_extractor import StageExtractor

if TYPE_CHECKING:
    from sparserefine.refinement.refiner import SparseRefiner

FORMAT = 2
CONFIG, WEIGHTS, DENSE = "config.json", "model.safetensors", "dense"
SHIPPED = ("demo", "edges")
# What a configuration's "kind" names; parts of a user's own making are passed to `load`.
SELECTORS = {"entropy": EntropySelector, "edges": EdgeSelector, "band": BandSelector}
EXTRACTORS = {"unet": SparseUNet, "edges": EdgeExtractor, "stages": StageExtractor}


def save(refiner: SparseRefiner, folder: str | Path) -> None:
    """Write a refiner, and its dense model where `create` can build it again.

    Raises:
        OSError: The folder cannot be written.
    """

    def write(partial: Path) -> None:
        save_weights(_own_state(refiner), partial / WEIGHTS)
        config = {**describe(refiner), "trained_on": sorted(refiner.trained_on)}
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if refiner.dense is not None and refiner.dense.files:
            (partial / DENSE).mkdir()
            refiner.dense.save_files(partial / DENSE)

    atomic_write_all(folder, write)


def load(
    kind: type[SparseRefiner],
    name: str | Path,
    dense_model: DenseModel | None,
    num_classes: int | None,
    selector: Selector | None,
    extractor: Extractor | None,
) -> SparseRefiner:
    """Read a refiner; see `SparseRefiner.from_pretrained`."""
    folder = _find(name)
    config = _read_config(folder)
    _take_classes(config, num_classes, dense_model, folder)
    try:
        refiner = _build(kind, config, dense_model, selector, extractor, folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / CONFIG} lacks or misnames a setting ({type(error).__name__}: {error}). "
            f"Write the folder again with save_pretrained."
        ) from None
    state = read_weights(folder / WEIGHTS)
    if refiner.dense is not None and (dense_model is not None or refiner.dense.files):
        own = {f"dense.{key}": value for key, value in refiner.dense.state_dict().items()}
        state = {key: value for key, value in state.items() if not key.startswith("dense.")} | own
    load_weights(refiner, state)
    return refiner.eval()


def describe(refiner: SparseRefiner, *, weights: bool = True) -> dict[str, Any]:
    """Everything that results depend on; with the weights, enough to build the refiner again.

    Args:
        refiner: The refiner to describe.
        weights: Name the content of its weights too.
    """
    parts = {"extractor": refiner.extractor, "ensembler": refiner.ensembler}
    described = {name: part.describe() for name, part in parts.items()}
    if weights:
        for name, part in parts.items():
            assert isinstance(part, nn.Module)
            if not isinstance(part, ExtractorAlone):  # which is nothing but its name
                described[name]["identity"] = fingerprint(part) or new_token()
    size = refiner.dense_size.value
    return {
        "format": FORMAT,
        "num_classes": refiner.num_classes,
        "dense": None if refiner.dense is None else refiner.dense.describe(weights=weights),
        "dense_size": list(size) if isinstance(size, tuple) else size,
        "upsampling": refiner.upsampling,
        "dtype": str(refiner.dtype).removeprefix("torch."),
        "inputs": list(refiner.inputs),
        "selector": refiner.selector.describe(),
        **described,
    }


def _build(
    kind: type[SparseRefiner],
    config: dict[str, Any],
    dense_model: DenseModel | None,
    selector: Selector | None,
    extractor: Extractor | None,
    folder: Path,
) -> SparseRefiner:
    """The refiner that a configuration describes, with random weights."""
    if dense_model is None and config["dense"] is not None:
        dense_model = _build_dense(config["dense"], folder)
    classes, size = config["num_classes"], config["dense_size"]
    if dense_model is not None and dense_model.num_classes != classes:
        raise ValueError(
            f"{folder} holds a refiner of {classes} classes, but the dense model has "
            f"{dense_model.num_classes}. Pass the model that it was trained for."
        )
    if selector is None:
        selector = _made_of(SELECTORS, config["selector"], "selector", folder)()
    if extractor is None:
        made = _made_of(EXTRACTORS, config["extractor"], "extractor", folder)
        extractor = made(classes)
    refiner = kind(
        dense_model,
        num_classes=classes,
        selector=selector,
        extractor=extractor,
        ensembler=_made_ensembler(config["ensembler"], classes),
        dense_size=tuple(size) if isinstance(size, list) else size,
        upsampling=config["upsampling"],
        inputs=config["inputs"],
    )
    for part in (refiner.extractor, refiner.ensembler):
        assert isinstance(part, nn.Module)
        part.to(getattr(torch, config.get("dtype", "float32")))
    refiner.trained_on = frozenset(config.get("trained_on", ()))
    return refiner


def _take_classes(
    config: dict[str, Any], num_classes: int | None, dense_model: DenseModel | None, folder: Path
) -> None:
    """Where the weights know no classes, take as many as are asked for."""
    if isinstance(config.get("extractor"), dict) and config["extractor"].get("kind") == "edges":
        dense_classes = None if dense_model is None else dense_model.num_classes
        asked = dense_classes if num_classes is None else num_classes
        config["num_classes"] = config["num_classes"] if asked is None else asked
    elif num_classes not in (None, config.get("num_classes")):
        raise ValueError(
            f"{folder} holds a refiner of {config.get('num_classes')} classes, but num_classes is "
            f"{num_classes}. Leave it out."
        )


def _made_ensembler(config: dict[str, Any], classes: int) -> GatedEnsembler | None:
    """None where the extractor is followed by none."""
    if config["kind"] == "extractor":
        return None
    return GatedEnsembler(classes, **_settings(config))


def _made_of(
    known: Mapping[str, Callable[..., Any]], config: dict[str, Any], part: str, folder: Path
) -> Callable[..., Any]:
    """A function that makes a part of the refiner with the settings that were saved."""
    if config["kind"] not in known:
        raise ValueError(
            f"{folder} has the {part} {config['kind']!r}, which is not one of this package's "
            f"({', '.join(known)}). Pass it: from_pretrained(folder, {part}=...)."
        )
    return partial(known[config["kind"]], **_settings(config))


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("kind", "identity")}


def _build_dense(parts: dict[str, Any], folder: Path) -> DenseModel:
    if parts["files"]:
        model = _read_files(parts, folder / DENSE)
    elif parts["name"] in dense.names():
        model = dense.create(parts["name"], **parts.get("options", {}))
    else:
        raise ValueError(
            f"{folder} holds a refiner without its dense model. Pass the model that it was "
            f"trained for: from_pretrained(folder, dense=model)."
        )
    model.preset = replace(model.preset, license=parts["license"])
    return model.to(getattr(torch, parts.get("dtype", "float32")))


def _read_files(parts: dict[str, Any], folder: Path) -> DenseModel:
    if parts["files"] != "transformers":
        raise ValueError(
            f"{folder} holds a dense model of {parts['files']!r}, which this version cannot read: "
            f"pip install --upgrade sparserefine."
        )
    if parts["name"] in dense.names():
        return dense.create(parts["name"], folder)
    return dense.from_transformers(folder)


def _own_state(refiner: SparseRefiner) -> dict[str, Tensor]:
    """The weights to save: with those of the dense model only if `create` can build it."""
    state = refiner.state_dict()
    dense_model = refiner.dense
    if dense_model is not None and dense_model.name and not dense_model.files:
        return state
    return {key: value for key, value in state.items() if not key.startswith("dense.")}


def _find(name: str | Path) -> Path:
    if str(name) in SHIPPED:
        return Path(str(files("sparserefine") / "assets" / str(name)))
    folder = user_path(name)
    if folder.is_dir():
        return _refiner_below(folder)
    if folder.is_file():
        if _is_own(folder.parent / CONFIG):
            return folder.parent
        find_dense(folder)  # says what it is where it is none
        raise ValueError(
            f"{folder} is a dense model, expected a refiner. Wrap it: "
            f"SparseRefiner(sparserefine.dense.open_model(path))."
        )
    text = str(name)
    if folder.exists() or text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ValueError(
            f"no model at {text!r}. Expected {', '.join(SHIPPED)}, a folder written by "
            f"save_pretrained or by train, or a hub id of the form owner/name. Dense models "
            f"without a refiner (dense.open_model, and --model of the commands): a folder or hub "
            f"id of transformers, an ONNX file, or with its weights one of "
            f"{', '.join(dense.names())}."
        )
    return _download(text)


def _refiner_below(folder: Path) -> Path:
    """The folder itself, or the only refiner below it: `train` calls that "model".

    Raises:
        ValueError: There are several.
    """
    if (folder / CONFIG).is_file():
        return folder
    for pattern in (f"model/{CONFIG}", f"*/{CONFIG}", f"*/model/{CONFIG}"):
        found = [file.parent for file in sorted(folder.glob(pattern)) if _is_own(file)]
        if len(found) > 1:
            shown = ", ".join(str(one.relative_to(folder)) for one in found[:3])
            raise ValueError(f"{folder} holds {len(found)} refiners ({shown}). Name one of them.")
        if found:
            return found[0]
    return folder


def _is_own(config: Path) -> bool:
    try:
        content = json.loads(config.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(content, dict) and "format" in content and "ensembler" in content


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it reports each of its attempts
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG, WEIGHTS, f"{DENSE}/*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"no folder {hub_id!r} here, and the hub gave no model of that id "
            f"({type(error).__name__}). Check the spelling, or pass a folder."
        ) from error
    finally:
        logging.set_verbosity(level)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {CONFIG}. Expected a folder written by save_pretrained or by train; "
            f"it has {_listed(folder)}."
        )
    try:
        config = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}). Write the folder again.") from None
    if isinstance(config, dict) and "model_type" in config and "format" not in config:
        raise ValueError(
            f"{folder} holds a dense model of transformers ({config['model_type']}), expected a "
            f"refiner. Wrap it: SparseRefiner(sparserefine.dense.from_transformers(folder))."
        )
    if not isinstance(config, dict) or config.get("format") not in (1, FORMAT):
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(
            f"{path} has format {found!r}, expected {FORMAT}. It is not of this package, or of "
            f"a newer version of it: pip install --upgrade sparserefine."
        )
    return _from_format_1(config, folder) if config["format"] == 1 else config


def _listed(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "nothing in it"


def _from_format_1(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A configuration of format 1 in today's format, if today's refiner can do what it says."""
    try:
        if config.get("second_look") or "stem" in config["inputs"]:
            raise ValueError(
                f'{folder} holds a refiner with a second look or the input "stem", which this '
                f"version no longer has. Train it again."
            )
        name = config["dense"]["name"]
        if name in dense.names() and not config["dense"].get("files"):
            classes = dense.create(name, device="meta").num_classes
        else:
            weights = read_weights(folder / WEIGHTS)
            classes = len(weights["ensembler.fuser.2.bias"])
        kinds = {"selector": "entropy", "extractor": "unet", "ensembler": "gated"}
        parts = {part: {"kind": kind, **config[part]} for part, kind in kinds.items()}
        parts["dense"] = {"files": "", **config["dense"]}
        return {**config, **parts, "num_classes": classes}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / CONFIG} lacks or misnames a setting ({type(error).__name__}: {error}). "
            f"Write the folder again with save_pretrained."
        ) from None
