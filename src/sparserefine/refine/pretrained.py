"""Reading and writing a refiner with its dense model: safetensors and JSON, never pickle.

A folder holds `config.json` and `model.safetensors`, with the dense model's weights under
`dense.`. Both are replaced atomically, the configuration last, so that a folder with a
configuration is complete. (The hub library's own mixin deletes the configuration first, and
cannot rebuild a model whose parts are modules.)
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparserefine import dense
from sparserefine.atomic import atomic_write, make_folder
from sparserefine.dense.weights import load_weights, read_weights, save_weights
from sparserefine.refine.ensembler import GatedEnsembler
from sparserefine.refine.extractor import SparseUNet
from sparserefine.refine.selector import EntropySelector

if TYPE_CHECKING:
    from sparserefine.refine.refiner import SparseRefiner

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHIPPED = ("demo",)


def save(refiner: SparseRefiner, folder: str | Path) -> None:
    """Write a refiner and its dense model.

    Raises:
        ValueError: The dense model was not made by `sparserefine.dense.create`, so that its
            architecture could not be rebuilt from a file.
        OSError: The folder cannot be written.
    """
    if not refiner.dense.name:
        raise ValueError(
            f"the dense model {type(refiner.dense).__name__} has no name that "
            f"sparserefine.dense.create knows, so a folder could not rebuild it. Save the "
            f"refiner's state_dict instead, and wrap your model again when loading."
        )
    folder = make_folder(folder)
    state = {key: value.cpu() for key, value in refiner.state_dict().items()}
    save_weights(state, folder / WEIGHTS)
    text = json.dumps(_describe(refiner), indent=2) + "\n"
    atomic_write(folder / CONFIG, lambda path: path.write_text(text))


def load(kind: type[SparseRefiner], name: str | Path) -> SparseRefiner:
    """Read a refiner and its dense model; see `SparseRefiner.from_pretrained`."""
    folder = _find(name)
    config = _read_config(folder)
    parts = config["dense"]
    model = dense.create(parts["name"])
    model.preset = replace(model.preset, license=parts["license"])
    extractor, ensembler = config["extractor"], config["ensembler"]
    classes = model.num_classes
    size = config["dense_size"]
    refiner = kind(
        model,
        selector=EntropySelector(**config["selector"]),
        extractor=SparseUNet(classes, **extractor),
        ensembler=GatedEnsembler(classes, **ensembler),
        dense_size=tuple(size) if isinstance(size, list) else size,
        upsampling=config["upsampling"],
        inputs=config["inputs"],
    )
    load_weights(refiner, read_weights(folder / WEIGHTS))
    return refiner.eval()


def _describe(refiner: SparseRefiner) -> dict[str, Any]:
    extractor, ensembler = refiner.extractor, refiner.ensembler
    return {
        "format": FORMAT,
        "dense": {"name": refiner.dense.name, "license": refiner.dense.preset.license},
        "dense_size": refiner.dense_size.value,
        "selector": {
            "threshold": refiner.selector.threshold,
            "max_density": refiner.selector.max_density,
        },
        "inputs": list(refiner.inputs),
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
            f"save_pretrained, or a hub id of the form owner/name."
        )
    return _download(text)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"no folder {hub_id!r} here, and the hub gave no model of that id "
            f"({type(error).__name__}). Check the spelling, or pass a folder."
        ) from error


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
