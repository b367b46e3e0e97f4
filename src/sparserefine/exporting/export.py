"""Writing a refiner as files for other runtimes."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sparserefine.atomic import atomic_write_all
from sparserefine.exporting.graph import name_stages, resize_in_place, strip
from sparserefine.exporting.metadata import (
    Port,
    facts,
    is_segmentation_model,
    metadata,
    sidecar,
    triton_config,
)
from sparserefine.exporting.pipeline import FixedPipeline, FixedRefiner, Output
from sparserefine.exporting.plan import COARSE_SHARE, Plan
from sparserefine.extras import check_installed
from sparserefine.paths import user_path
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer

Form = Literal["pipeline", "refiner", "both"]
Precision = Literal["fp32", "fp16"]
OPSET = 18


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where.
        files: The exported models.
        plan: The sizes, and how many pixels there is room for at each level.
        stages_ms: Milliseconds of each stage.
    """

    folder: Path
    files: tuple[Path, ...]
    plan: Plan
    stages_ms: dict[str, float]


def export(
    model: SparseRefiner,
    size: tuple[int, int],
    *,
    form: Form | None = None,
    returns: Output = "labels",
    precision: Precision = "fp32",
    low_size: tuple[int, int] | None = None,
    coarse_share: float = COARSE_SHARE,
    resolution: float | None = None,
    out: str | Path,
    progress: Progress | None = None,
) -> Exported:
    """Write a refiner as ONNX and as torch.export, for images of one size.

    No shape depends on the image: as many pixels are looked at as the budget of the refiner's
    selector allows, whether they are selected or not. Give it one, as
    `model.with_selector(EntropySelector(0.3, max_density=0.1))`.

    Args:
        model: A refiner with a trained `SparseUNet`, that selects by entropy.
        size: (H, W) of the images.
        form: "pipeline" takes an image; "refiner" takes an image and low-resolution logits, so
            that it can follow any model in any runtime; "both" writes both. Default: "pipeline",
            or "refiner" without a dense model.
        returns: What comes out: "labels", the "alpha" of one foreground, "probabilities" or
            "logits" of all classes. Deepness and geoai read "probabilities".
        precision: "fp16" computes both networks in half precision; inputs and outputs stay.
        low_size: (h, w) of the logits that "refiner" takes. Default: the size that the dense model
            runs at.
        coarse_share: Room at each coarser level of the network, as a share of that at the finer
            one. Where it does not suffice, fewer pixels are refined; 1 suffices always.
        resolution: Size of a pixel on the ground in cm, which Deepness scales maps to.
        out: Folder for NAME.onnx, NAME.pt2, NAME.onnx.json, export.json, and config.pbtxt of
            Triton; new or empty.
        progress: Told of each step.

    Raises:
        ValueError: The model cannot be exported, or an argument is unknown or out of range.
        OSError: The folder is not empty, or cannot be written.
        ImportError: onnx or onnxscript is not installed.
    """
    check_refiner(model)
    check_installed("exporting", "onnx", "onnxscript", extra="onnx")
    folder = _checked_folder(out)
    forms = _forms(model, form, precision, size, low_size)
    model = model.in_evaluation()
    timer = StageTimer()
    advance = count_steps(progress, "export", 3 * len(forms))

    def write(temporary: Path) -> None:
        documents = {}
        for name in forms:
            refiner = FixedRefiner(
                model, size, low_size=low_size, output=returns, coarse_share=coarse_share
            )
            if precision == "fp16":
                refiner.half_precision()
            module, inputs = _module(model, refiner, name, precision)
            with timer.stage("trace"), _quiet(), _whose_fault(name), torch.no_grad():
                program: Any = torch.export.export(module, tuple(inputs.values()), strict=False)
            advance()
            with timer.stage("torch.export"), _quiet():
                program.example_inputs = None  # which would be written too
                torch.export.save(program, temporary / f"{name}.pt2")
            advance()
            about = facts(model, refiner, name, precision)
            with timer.stage("onnx"), _whose_fault(name):
                outputs = _write_onnx(
                    program,
                    tuple(inputs),
                    returns,
                    temporary / f"{name}.onnx",
                    metadata(model, refiner, about, resolution),
                )
            _write_beside(temporary, name, model, refiner, inputs, outputs)
            documents[name] = about
            advance()
        (temporary / "export.json").write_text(json.dumps(documents, indent=2) + "\n")

    folder = atomic_write_all(folder, write)
    files = tuple(folder / f"{name}{suffix}" for name in forms for suffix in (".onnx", ".pt2"))
    plan = FixedRefiner(
        model, size, low_size=low_size, output=returns, coarse_share=coarse_share
    ).plan
    return Exported(folder, files, plan, timer.stages_ms)


def _checked_folder(out: str | Path) -> Path:
    folder = user_path(out)
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty, expected a new or empty folder for --out.")
    return folder


def _forms(
    model: SparseRefiner,
    form: Form | None,
    precision: Precision,
    size: tuple[int, int],
    low_size: tuple[int, int] | None,
) -> tuple[str, ...]:
    if form not in (None, *get_args(Form)):
        raise ValueError(f"form={form!r}: expected one of {', '.join(get_args(Form))}.")
    if precision not in get_args(Precision):
        raise ValueError(f'precision={precision!r}: expected "fp32" or "fp16".')
    for name, given in (("size", size), ("low_size", low_size)):
        if given is not None and (len(given) != 2 or min(given) < 1):
            raise ValueError(f"{name}={given}: expected (height, width) of 1 or more.")
    if form is None:
        form = "refiner" if model.dense is None else "pipeline"
    if form != "refiner" and low_size not in (None, model.dense_size.resized(size)):
        raise ValueError(
            f"low_size={low_size} is of predictions from elsewhere; the dense model runs at "
            f'{model.dense_size.resized(size)}. Leave it out, or use form="refiner".'
        )
    return ("pipeline", "refiner") if form == "both" else (form,)


def _module(
    model: SparseRefiner, refiner: FixedRefiner, name: str, precision: Precision
) -> tuple[nn.Module, dict[str, Tensor]]:
    """What is traced, and inputs to trace it with."""
    plan = refiner.plan
    inputs = {"image": torch.zeros(1, 3, *plan.size)}
    if name == "refiner":
        inputs["low_logits"] = torch.zeros(1, refiner.num_classes, *plan.low_size)
        return refiner.cpu(), inputs
    pipeline = FixedPipeline(model, refiner)
    if precision == "fp16":
        pipeline.dense.half()
    return pipeline.cpu(), inputs


@contextmanager
def _whose_fault(name: str) -> Iterator[None]:
    """Say in one line that a dense model cannot be traced or written; the refiner always can."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # of a dense model anything
        if name == "refiner":
            raise
        reason = str(error).strip().partition("\n")[0][:200]
        raise ValueError(
            f"the dense model cannot be exported ({type(error).__name__}: {reason}). Export "
            f'form="refiner" (--form refiner), which follows it in its own runtime.'
        ) from error


def _write_onnx(
    program: Any, inputs: tuple[str, ...], output: str, path: Path, values: dict[str, str]
) -> list[Port]:
    import onnx

    with _quiet():
        torch.onnx.export(
            program,
            (),
            path,
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    document = onnx.load(path)
    resize_in_place(document)
    name_stages(document)
    strip(document)
    for key, value in values.items():
        document.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(document)
    onnx.save(document, path)
    return [
        Port(
            one.name,
            onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type).name,
            tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim),
        )
        for one in document.graph.output
    ]


def _write_beside(
    folder: Path,
    name: str,
    model: SparseRefiner,
    refiner: FixedRefiner,
    inputs: dict[str, Tensor],
    outputs: list[Port],
) -> None:
    if is_segmentation_model(name, refiner.output):
        document = sidecar(model, refiner, name, OPSET, outputs)
        (folder / f"{name}.onnx.json").write_text(json.dumps(document, indent=2) + "\n")
    ports = [Port(key, "float32", tuple(value.shape)) for key, value in inputs.items()]
    triton = folder / "triton" / name
    triton.mkdir(parents=True)
    (triton / "config.pbtxt").write_text(triton_config(name, ports, outputs))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of themselves and of libraries that are not there."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
