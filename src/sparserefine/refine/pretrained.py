"""Reading and writing a refiner with its dense model: safetensors and JSON, never pickle.

A folder holds `config.json` and `model.safetensors`, with the dense model's weights under
`dense.`, or in files of their own in the folder `dense` where the model is another library's. All
are complete before any appears. (The hub library's own mixin deletes the
configuration first, and cannot rebuild a model whose parts are modules.)
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sparserefine import dense
from sparserefine.atomic import atomic_write_all
from sparserefine.dense import DenseModel
from sparserefine.dense.weights import load_weights, read_weights, save_weights
from sparserefine.refine.ensembler import GatedEnsembler
from sparserefine.refine.extractor import SparseUNet
from sparserefine.refine.selector import EntropySelector

if TYPE_CHECKING:
    from sparserefine.refine.refiner import SparseRefiner

FORMAT = 1
CONFIG, WEIGHTS, DENSE = "config.json", "model.safetensors", "dense"
SHIPPED = ("demo",)


def save(refiner: SparseRefiner, folder: str | Path) -> None:
    """Write a refiner, and its dense model where `create` can build it again.

    Raises:
        OSError: The folder cannot be written.
    """

    def write(partial: Path) -> None:
        save_weights(_own_state(refiner), partial / WEIGHTS)
        config = {**describe(refiner), "trained_on": sorted(refiner.trained_on)}
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if refiner.dense.files:
            (partial / DENSE).mkdir()
            refiner.dense.save_files(partial / DENSE)

    atomic_write_all(folder, write)


def load(
    kind: type[SparseRefiner], name: str | Path, dense_model: DenseModel | None
) -> SparseRefiner:
    """Read a refiner; see `SparseRefiner.from_pretrained`."""
    folder = _find(name)
    config = _read_config(folder)
    try:
        refiner = _build(kind, config, dense_model, folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / CONFIG} lacks or misnames a setting ({type(error).__name__}: {error}). "
            f"Write the folder again with save_pretrained."
        ) from None
    state = read_weights(folder / WEIGHTS)
    if dense_model is not None or refiner.dense.files:
        own = {f"dense.{key}": value for key, value in refiner.dense.state_dict().items()}
        state = {key: value for key, value in state.items() if not key.startswith("dense.")} | own
    load_weights(refiner, state)
    return refiner.eval()


def describe(refiner: SparseRefiner) -> dict[str, Any]:
    """All that is needed to build the refiner again, but its weights, as plain values."""
    extractor, ensembler = refiner.extractor, refiner.ensembler
    return {
        "format": FORMAT,
        "dense": {
            "name": refiner.dense.name,
            "license": refiner.dense.preset.license,
            "files": refiner.dense.files,
        },
        "dense_size": refiner.dense_size.value,
        "selector": {
            "threshold": refiner.selector.threshold,
            "max_density": refiner.selector.max_density,
        },
        "inputs": list(refiner.inputs),
        "second_look": refiner.second_look,
        "upsampling": refiner.upsampling,
        "extractor": {
            "in_channels": extractor.in_channels,
            "widths": list(extractor.widths),
            "blocks": extractor.blocks,
            "pyramid": extractor.pyramid,
            "padding": extractor.padding,
        },
        "ensembler": {"hidden": ensembler.hidden, "residual": ensembler.residual},
    }


def _build(
    kind: type[SparseRefiner],
    config: dict[str, Any],
    dense_model: DenseModel | None,
    folder: Path,
) -> SparseRefiner:
    """The refiner that a configuration describes, with random weights."""
    parts = config["dense"]
    if dense_model is None:
        if parts.get("files"):  # configurations of before had no such entry
            dense_model = _read_files(parts, folder / DENSE)
        elif not parts["name"]:
            raise ValueError(
                f"{folder} holds a refiner without its dense model. Pass the model that it was "
                f"trained for: from_pretrained(folder, dense=model)."
            )
        else:
            dense_model = dense.create(parts["name"])
        dense_model.preset = replace(dense_model.preset, license=parts["license"])
    classes, size = dense_model.num_classes, config["dense_size"]
    refiner = kind(
        dense_model,
        selector=EntropySelector(**config["selector"]),
        extractor=SparseUNet(classes, **config["extractor"]),
        ensembler=GatedEnsembler(classes, **config["ensembler"]),
        dense_size=tuple(size) if isinstance(size, list) else size,
        upsampling=config["upsampling"],
        inputs=config["inputs"],
        second_look=config.get("second_look", 0.0),  # as the next, not in older folders
    )
    refiner.trained_on = frozenset(config.get("trained_on", ()))
    return refiner


def _read_files(parts: dict[str, Any], folder: Path) -> DenseModel:
    if parts["files"] != "transformers":
        raise ValueError(
            f"{folder} holds a dense model of {parts['files']!r}, which this version cannot read: "
            f"pip install --upgrade sparserefine."
        )
    if parts["name"]:
        return dense.create(parts["name"], folder)
    return dense.from_transformers(folder)


def _own_state(refiner: SparseRefiner) -> dict[str, Tensor]:
    state = refiner.state_dict()
    if refiner.dense.name and not refiner.dense.files:
        return state
    return {key: value for key, value in state.items() if not key.startswith("dense.")}


def _find(name: str | Path) -> Path:
    if str(name) in SHIPPED:
        return Path(str(files("sparserefine") / "assets" / str(name)))
    folder = Path(name)
    if folder.is_dir():
        return folder
    text = str(name)
    if folder.exists() or text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ValueError(
            f"no model at {text!r}. Expected {', '.join(SHIPPED)}, a folder written by "
            f"save_pretrained, or a hub id of the form owner/name. Dense models without a refiner "
            f"(dense.create, and --model of the commands): {', '.join(dense.names())}."
        )
    return _download(text)


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
        raise ValueError(f"{folder} has no {CONFIG}. Expected a folder written by save_pretrained.")
    try:
        config = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}). Write the folder again.") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(
            f"{path} has format {found!r}, expected {FORMAT}. It is not of this package, or of "
            f"a newer version of it: pip install --upgrade sparserefine."
        )
    return config
