"""What other programs read of an exported file: Deepness in QGIS, geoai, Triton."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparserefine import __version__
from sparserefine.exporting.pipeline import FixedRefiner, Output
from sparserefine.refinement.refiner import SparseRefiner

# Per cent of a tile's side by which Deepness lets tiles overlap: what a refiner sees around a pixel
# is cut off at the edge of a tile.
TILES_OVERLAP = 10
_TRITON_TYPES = {"uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}


@dataclass(frozen=True)
class Port:
    """An input or output of an exported file.

    Attributes:
        name: Its name.
        dtype: Its type, as numpy names it.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


def facts(model: SparseRefiner, refiner: FixedRefiner, form: str, precision: str) -> dict[str, Any]:
    """All that tells an exported file from another, as plain values."""
    plan = refiner.plan
    return {
        "sparserefine": __version__,
        "form": form,
        "precision": precision,
        "output": refiner.output,
        "size": list(plan.size),
        "low_size": list(plan.low_size),
        "capacities": [level.capacity for level in plan.levels],
        "bounded": [level.bounded for level in plan.levels],
        "model": model.describe(),
    }


def metadata(
    model: SparseRefiner,
    refiner: FixedRefiner,
    facts: Mapping[str, Any],
    resolution: float | None,
) -> dict[str, str]:
    """Metadata of an ONNX file, each value as JSON.

    Deepness takes the first four as they are; it reads class scores only, so that a file which
    returns labels does not claim to be a model for it, nor one that needs a prediction.

    Args:
        model: The refiner.
        refiner: What is exported of it.
        facts: All that tells the file from another.
        resolution: Size of a pixel on the ground in cm, as the refiner was trained.
    """
    found: dict[str, Any] = {"sparserefine": facts, "license": model.preset.license}
    if is_segmentation_model(facts["form"], refiner.output):
        height, width = refiner.plan.size
        names = class_names(model)
        found["model_type"] = "Segmentor"
        found["class_names"] = {0: names[1]} if refiner.output == "alpha" else names
        # Scores below it count as 0 there: of one foreground that decides, of several it must not.
        found["seg_thresh"] = 0.5 if refiner.output == "alpha" else 0.0
        found["tiles_overlap"] = TILES_OVERLAP
        found["standardization_mean"] = [0.0, 0.0, 0.0]  # images in 0..1, as they come
        found["standardization_std"] = [1.0, 1.0, 1.0]
        if height == width:
            # The documentation has the first name, the program reads the second.
            found["tiles_size"] = found["tile_size"] = height
        if resolution is not None:
            found["resolution"] = resolution
    return {key: json.dumps(value) for key, value in found.items()}


def sidecar(
    model: SparseRefiner, refiner: FixedRefiner, name: str, opset: int, ports: Sequence[Port]
) -> dict[str, Any]:
    """What geoai reads from NAME.onnx.json beside the file."""
    height, width = refiner.plan.size
    names = class_names(model)
    return {
        "model_name": name,
        "task": "semantic-segmentation",
        "input_height": height,
        "input_width": width,
        "input_channels": 3,
        "opset_version": opset,
        "output_names": [port.name for port in ports],
        "id2label": names,
        "num_labels": len(names),
    }


def is_segmentation_model(form: str, output: Output) -> bool:
    """Whether other programs can take a file for any segmentation model: image in, scores out."""
    return form == "pipeline" and output in ("probabilities", "alpha")


def class_names(model: SparseRefiner) -> dict[int, str]:
    """A name for each class, where the dense model knows none its number."""
    known = model.preset.class_names
    return {
        index: known[index] if known else f"class {index}" for index in range(model.num_classes)
    }


def triton_config(form: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    """The config.pbtxt of a model of Triton Inference Server.

    Args:
        form: Name of the model, and of its file.
        inputs: What it takes.
        outputs: What it returns.
    """
    ports = ""
    for kind, listed in (("input", inputs), ("output", outputs)):
        blocks = ",\n".join(
            f'  {{\n    name: "{port.name}"\n    data_type: {_TRITON_TYPES[port.dtype]}\n'
            f"    dims: [ {', '.join(map(str, port.shape))} ]\n  }}"
            for port in listed
        )
        ports += f"{kind} [\n{blocks}\n]\n"
    # The whole shape stands in dims, its one image too: sizes are fixed, and Triton adds no axis.
    return (
        f'name: "{form}"\nplatform: "onnxruntime_onnx"\n'
        f'default_model_filename: "{form}.onnx"\nmax_batch_size: 0\n{ports}'
    )
