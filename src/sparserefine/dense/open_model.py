"""Dense models opened by what a path, a name or a hub id is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparserefine.dense.adapters.onnx import from_onnx, open_session
from sparserefine.dense.adapters.onnx_input import OnnxInput
from sparserefine.dense.adapters.transformers import from_transformers
from sparserefine.dense.adapters.wrapped import Kind
from sparserefine.dense.create import create, names
from sparserefine.dense.protocol import DenseModel
from sparserefine.dense.readable import read_head
from sparserefine.dense.u2net_files import ONNX_SUFFIX
from sparserefine.dense.weights import PICKLE_SUFFIXES, SAFETENSORS_SUFFIX

CONFIG = "config.json"
# Suffixes of the files that stand for their folder, where that is one of transformers.
_OF_FOLDERS = (SAFETENSORS_SUFFIX, ".bin", ".json")
LOOKED_FOR = (
    "a folder or hub id (owner/name) of transformers, an ONNX file, or with its weights one of "
)


def open_model(
    source: str | Path,
    weights: str | Path | None = None,
    *,
    kind: Kind | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | None = None,
    allow_pickle: bool = False,
) -> DenseModel:
    """Open a dense model by what its name or path is.

    Args:
        source: One of `names()`; a folder of transformers, or one with a single ONNX file; an ONNX
            file; or a hub id of a model of transformers.
        weights: Weights of a model by name: a file, a folder, or a hub id.
        kind: What an ONNX file returns; see `from_onnx`. Its classes are counted.
        mean: Mean of red, green and blue in 0..1, where an ONNX file does not normalize, or in
            place of that in the files of transformers.
        std: Standard deviation of red, green and blue in 0..1; likewise.
        output: Name of the output that counts, where an ONNX file has several.
        allow_pickle: Accept torch's pickled files too; see `read_weights`.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: It is none of these, or cannot be read; the message says what was looked for.
        ImportError: The library that runs it is not installed.
    """
    if str(source) in names():
        _refuse(str(source), kind=kind, mean=mean, std=std, output=output)
        return create(str(source), weights, allow_pickle=allow_pickle)
    if weights is not None:
        raise ValueError(
            f"weights belong to a dense model by name, but the model is {str(source)!r}. Expected "
            f"one of {', '.join(names())}."
        )
    place = find_dense(source)
    if isinstance(place, Path) and place.suffix.lower() == ONNX_SUFFIX:
        return _open_onnx(place, kind, mean, std, output)
    _refuse(str(source), kind=kind, output=output)
    normalization: dict[str, Any] = {"mean": mean and tuple(mean), "std": std and tuple(std)}
    return from_transformers(place, allow_pickle=allow_pickle, **normalization)


def is_dense(source: str | Path) -> bool:
    """Whether a name, a path or a hub id is that of a dense model, as far as files tell.

    Args:
        source: Anything that `open_model` takes, or something else.
    """
    if str(source) in names():
        return True
    path = Path(source).expanduser()
    if path.is_file() and path.suffix.lower() == ONNX_SUFFIX:
        return True
    if path.is_file():
        of_folder = path.suffix.lower() in _OF_FOLDERS and (path.parent / CONFIG).is_file()
        return of_folder and _is_of_transformers(path.parent / CONFIG)
    if path.is_dir() and str(source).strip():
        if (path / CONFIG).is_file():
            return _is_of_transformers(path / CONFIG)
        return bool(list(path.glob(f"*{ONNX_SUFFIX}")))
    return looks_like_hub_id(source) and _hub_has_transformers(str(source))


def find_dense(source: str | Path) -> Path | str:
    """The folder of transformers, the ONNX file, or the hub id that is meant.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: It is none of these; the message says what was looked for.
    """
    path = Path(source).expanduser()
    if not str(source).strip():
        raise ValueError(f"the model is empty. Expected {LOOKED_FOR}{', '.join(names())}.")
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ONNX_SUFFIX:
            return path
        if (path.parent / CONFIG).is_file() and suffix in _OF_FOLDERS:
            return _in_folder(path.parent)
        if suffix in (SAFETENSORS_SUFFIX, *PICKLE_SUFFIXES):
            raise ValueError(
                f"{path} holds weights, which do not say of which network. Give the network's "
                f"name and this as its weights (--model NAME --weights {path.name}), NAME being "
                f"one of {', '.join(names())}."
            )
        raise ValueError(
            f"{path} is no model that is known here. Looked for {LOOKED_FOR}{', '.join(names())}."
        )
    if looks_like_hub_id(source):
        return str(source)
    raise FileNotFoundError(
        f"no dense model at {str(source)!r}. Looked for {LOOKED_FOR}{', '.join(names())}."
    )


def looks_like_hub_id(source: str | Path) -> bool:
    """Whether a text has the form owner/name, and is no path that exists."""
    text = str(source)
    return (
        text.count("/") == 1
        and not text.startswith((".", "/", "~"))
        and not text.endswith(("/", ONNX_SUFFIX, SAFETENSORS_SUFFIX, *PICKLE_SUFFIXES))
        and not Path(text).exists()
    )


def _in_folder(folder: Path) -> Path:
    config = folder / CONFIG
    if config.is_file():
        if _is_of_transformers(config):
            return folder
        raise ValueError(
            f"{config} names no model_type, so {folder} is no folder of transformers. Looked for "
            f"{LOOKED_FOR}{', '.join(names())}."
        )
    files = sorted(folder.glob(f"*{ONNX_SUFFIX}"))
    if len(files) == 1:
        return files[0]
    if files:
        shown = ", ".join(file.name for file in files[:3])
        raise ValueError(f"{folder} has {len(files)} ONNX files ({shown}). Name the one to use.")
    below = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG}"))
    hint = f" Below it are {', '.join(below[:3])}: name one." if below else ""
    raise ValueError(
        f"{folder} has no {CONFIG} and no ONNX file. Looked for {LOOKED_FOR}{', '.join(names())}."
        f"{hint}"
    )


def _is_of_transformers(config: Path) -> bool:
    read_head(config, "configuration")
    try:
        content = json.loads(config.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError):
        return False  # whose reader says so
    return isinstance(content, dict) and "model_type" in content and "format" not in content


def _hub_has_transformers(hub_id: str) -> bool:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it reports each of its attempts
    try:
        return _is_of_transformers(Path(hf_hub_download(hub_id, CONFIG)))
    except Exception:  # what looks for refiners there says what it was
        return False
    finally:
        logging.set_verbosity(level)


def _open_onnx(
    file: Path,
    kind: Kind | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    output: str | None,
) -> DenseModel:
    if kind is None:
        raise ValueError(
            f"what {file.name} returns is not said. Give the kind (--kind): logits, probabilities, "
            "binary (one logit of two classes) or masks."
        )
    return from_onnx(
        file,
        kind,
        _count_classes(file, kind, output),
        mean=mean or (0.0, 0.0, 0.0),
        std=std or (1.0, 1.0, 1.0),
        output=output,
    )


def _count_classes(file: Path, kind: Kind, output: str | None) -> int:
    """The number of classes that an ONNX file says it returns."""
    if kind == "binary":
        return 2
    session = open_session(read_head(file, "ONNX file")[0])
    outputs = session.get_outputs()
    shape = next((list(o.shape) for o in outputs if o.name == output), list(outputs[0].shape))
    last = kind == "masks" or OnnxInput.of(session).channels_last
    found = shape[-1 if last else 1] if len(shape) > 1 else None
    if not isinstance(found, int):
        raise ValueError(
            f"{file.name} does not say how many classes it returns ({shape}). Open it in Python: "
            "from_onnx(path, kind, num_classes)."
        )
    found -= kind == "masks"
    return max(found, 2)


def _refuse(source: str, **settings: Any) -> None:
    """Raise ValueError for settings that only an ONNX file needs."""
    given = [name for name, value in settings.items() if value is not None]
    if given:
        raise ValueError(
            f"{given[0]} is not for {source!r}, whose files or name say it. Leave it out."
        )
