"""The options of a command that describe a refiner, and the loading of that refiner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import Parameter

from sparserefine.cli.console import messages

if TYPE_CHECKING:
    from sparserefine.dense import DenseModel
    from sparserefine.refinement.refiner import SparseRefiner


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RefinerOptions:
    """The refiner that a command runs, and its settings.

    Attributes:
        model: Refiner: "demo", a folder that `train` or save_pretrained wrote, or a hub id. Or a
            dense model: a folder or hub id of transformers, an ONNX file, or a name with --weights.
            No refiner being trained for it, photos keep its labels, at low resolution.
        weights: Weights of the dense model that --model names: a file, a folder, or a hub id. Or
            the dense model of a refiner that was saved without: as --model takes it.
        kind: What an ONNX file returns: logits, probabilities, binary (one logit of two classes) or
            masks.
        mean: Mean of red, green and blue in 0..1 that an ONNX file wants subtracted. Default: none.
        std: Standard deviation of red, green and blue in 0..1 that it wants images divided by.
        output: Name of the output that counts, where an ONNX file has several.
        threshold: Entropy in nats above which a pixel is refined. Default: the model's own.
        calibration: File calibration.json of `sparserefine calibrate`, to take the threshold from.
        max_density: Pixel budget, the most that is refined of any image, 0 to 1. Default: the
            model's own.
        allow_pickle: Read weights from a .pth file too, without executing what is in it.
        device: Device to run on: "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    """

    model: str = "demo"
    weights: str | None = None
    kind: Literal["logits", "probabilities", "binary", "masks"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    output: str | None = None
    threshold: float | None = None
    calibration: Path | None = None
    max_density: float | None = None
    allow_pickle: Annotated[bool, Parameter(negative="")] = False
    device: str = "auto"


def load_refiner(options: RefinerOptions, *, refines: bool = True) -> SparseRefiner:
    """Read a refiner, change what the options change, and move it to its device.

    Args:
        options: Options that name the refiner and its settings.
        refines: Whether the command will refine with it, or only run its dense model.
    """
    if options.calibration is not None and options.threshold is not None:
        raise ValueError("--calibration and --threshold both set the threshold. Use one of them.")
    refiner = _untrained(options, refines) or _trained(options)
    if options.calibration is not None:
        refiner.load_calibration(options.calibration)
    return move(_with_changes(refiner, options), options.device)


def load_others(options: RefinerOptions, names: Sequence[str]) -> dict[str, SparseRefiner]:
    """Read other refiners with the options of the model, each under the name of its folder.

    Args:
        options: Options of the model itself.
        names: Names of the refiners: folders, or anything else that `--model` takes.
    """
    return {_shown_name(name, names): load_refiner(replace(options, model=name)) for name in names}


def _shown_name(name: str, names: Sequence[str]) -> str:
    """The last part of a path that tells it from the others; `train` calls all of its "model"."""
    parts = Path(name).parts
    for count in range(1, len(parts) + 1):
        short = "/".join(parts[-count:])
        alike = [other for other in names if Path(other).parts[-count:] == parts[-count:]]
        if len(alike) == 1 and short not in ("this", "model"):
            return short
    return name


def _with_changes(refiner: SparseRefiner, options: RefinerOptions) -> SparseRefiner:
    """A refiner that selects by the threshold and the budget that were asked for."""
    from sparserefine.refinement.selector import EntropySelector

    asked = {"threshold": options.threshold, "max_density": options.max_density}
    changes = {name: value for name, value in asked.items() if value is not None}
    selector = refiner.selector
    if not changes:
        return refiner
    if not isinstance(selector, EntropySelector):
        raise ValueError(
            f"--threshold and --max-density are of a selection by entropy, but {options.model!r} "
            f"selects by {selector.describe()['kind']}. Leave them out."
        )
    return refiner.with_selector(replace(selector, **changes))


def show_license(refiner: SparseRefiner) -> None:
    """Say once what a user must know of the dense weights."""
    if text := refiner.preset.license:
        messages.print(f"license of the dense weights: {text}", style="dim", markup=False)


def _trained(options: RefinerOptions) -> SparseRefiner:
    """The refiner that `model` names, around the dense model of `weights` where that is needed."""
    import sparserefine as sr

    dense = None
    if options.weights is not None:
        if not sr.dense.is_dense(options.weights):
            raise ValueError(
                f"--weights are those of a dense model, but --model is {options.model!r}. Expected "
                f"one of {', '.join(sr.dense.names())}, or for a refiner that was saved without "
                "its dense model --weights that is a folder of transformers or an ONNX file."
            )
        dense = _open(options.weights, None, options)
    elif any(v is not None for v in (options.kind, options.mean, options.std, options.output)):
        _refuse_settings(options.model)
    return sr.SparseRefiner.from_pretrained(options.model, dense=dense)


def _refuse_settings(model: str) -> NoReturn:
    """Say why --kind and the like are of no use: there is no ONNX file, or a refiner."""
    of_onnx = "--kind, --mean, --std and --output are those of an ONNX file"
    path = Path(model).expanduser()
    if path.is_dir() and not (path / "config.json").is_file() and not [*path.glob("*/config.json")]:
        raise ValueError(
            f"{of_onnx}, but the folder {model} has none. Name the file; or without these options "
            f"a folder of transformers, or one that train wrote."
        )
    if not path.exists() and (model.startswith((".", "/", "~")) or path.suffix == ".onnx"):
        raise ValueError(f"{of_onnx}, but {model} does not exist. Check the path.")
    raise ValueError(f"{of_onnx}, but --model is {model!r}. Leave them out.")


def _open(source: str, weights: str | None, options: RefinerOptions) -> DenseModel:
    import sparserefine as sr

    with messages.status(f"loading {source}"):
        return sr.dense.open_model(
            source,
            weights,
            kind=options.kind,
            mean=options.mean,
            std=options.std,
            output=options.output,
            allow_pickle=options.allow_pickle,
        )


def _untrained(options: RefinerOptions, refines: bool) -> SparseRefiner | None:
    """A refiner that changes no label, around the dense model that `model` is, if it is one."""
    import torch

    import sparserefine as sr

    if not sr.dense.is_dense(options.model):
        return None
    if options.model in sr.dense.names() and options.weights is None:
        raise ValueError(
            f"{options.model!r} is a dense model. Give its --weights: a file, folder, or hub id."
        )
    dense = _open(options.model, options.weights, options)
    if not refines:  # the smallest is made fastest
        extractor = sr.SparseUNet(dense.num_classes, widths=(8,), blocks=1)
        return sr.SparseRefiner(dense, extractor=extractor)
    torch.manual_seed(0)
    messages.print(
        f"no refiner is trained for {options.model} here: selected pixels keep the labels at low "
        "resolution. Train one with `sparserefine train`.",
        markup=False,
    )
    refiner = sr.SparseRefiner(dense)
    assert isinstance(refiner.extractor, sr.SparseUNet)
    # Of logits that are all zero the ensembler makes those of the dense model, weighed.
    for parameter in refiner.extractor.head.parameters():
        torch.nn.init.zeros_(parameter)
    return refiner


def move(refiner: SparseRefiner, device: str) -> SparseRefiner:
    """Move a refiner to a device; "auto" takes a GPU where there is one.

    Raises:
        ValueError: This machine lacks the device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return refiner.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {device!r} cannot be used ({reason}). Use cpu, or a device of this machine."
        ) from None
