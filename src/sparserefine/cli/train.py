"""The command `sparserefine train`, which trains a refiner for a dense model."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, messages, progress_bars, stage_table
from sparserefine.cli.data_options import DataOptions, open_data, open_more
from sparserefine.cli.evaluate import score_table
from sparserefine.cli.refiners import move, show_license
from sparserefine.training.config import TrainConfig

if TYPE_CHECKING:
    from sparserefine.training.result import TrainResult


def train(
    data: Path,
    *,
    dense: str = "espnetv2-2.0",
    weights: str | None = None,
    kind: Literal["logits", "probabilities", "binary", "masks"] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    output: str | None = None,
    out: Path = Path("out/train"),
    split: str | None = None,
    validation: Path | None = None,
    validation_split: str | None = None,
    reading: Annotated[DataOptions, Parameter(name="*")] | None = None,
    extractor: str = "tiny",
    pyramid: Literal["dilate", "floor"] = "dilate",
    inputs: tuple[Literal["rgb", "probabilities", "entropy"], ...] = ("rgb",),
    threshold: float | None = None,
    max_density: float = 1.0,
    dense_size: tuple[float, ...] | None = None,
    mode: Literal["default", "paper"] = "default",
    allow_pickle: bool = False,
    device: str = "auto",
    config: Annotated[TrainConfig, Parameter(name="*")] | None = None,
) -> None:
    """Train a refiner for a dense model, on labels or on the dense model's own full resolution.

    `train CONFIG.yaml [DATA]` takes the options from a file, each by its name, or from one that
    ships, such as cityscapes-hrnet-w48.yaml; those of the command line go before. Started by
    torchrun, all processes work on one run: see docs/training.md.

    Parameters
    ----------
    data
        Images to train on; with labels where label maps are found: see `check`.
    dense
        Dense model: a name with --weights, a folder or hub id of transformers, or an ONNX file,
        which is not saved with the refiner: `predict --model OUT --weights FILE.onnx`.
    weights
        Weights of the dense model by name: a file, a folder, or a hub id.
    kind
        What an ONNX file returns: logits, probabilities, binary (one logit) or masks.
    mean
        Mean of red, green and blue in 0..1 that an ONNX file wants subtracted. Default: none.
    std
        Standard deviation of red, green and blue in 0..1 that it wants images divided by.
    output
        Name of the output that counts, where an ONNX file has several.
    out
        Folder for the model, the checkpoint and the log.
    split
        Part of the data, where the folder has several: train, val ….
    validation
        Images that choose the best weights; other than those you will report on. Default: some of
        the data, see --set-aside.
    validation_split
        Part of these, or of the data where --validation is not given.
    reading
        Where label maps are, and what is in them.
    extractor
        Size of the sparse network: paper, half, paper-code or tiny.
    pyramid
        How coarser pixels become active; floor needs about half the MACs.
    inputs
        Features that the sparse network sees of a pixel.
    threshold
        Entropy in nats above which a pixel is refined. Default: that of the dense model.
    max_density
        Pixel budget, the most that is refined of any image, 0 to 1.
    dense_size
        Size that the dense model runs at: a share of each side, or height and width, each with
        --dense-size. Default: that of the dense model.
    mode
        Set of defaults: paper does what the authors' code does.
    allow_pickle
        Read weights from a .pth file too, without executing what is in it.
    device
        Device to train on: "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    """
    import torch

    import sparserefine as sr
    from sparserefine.extras import check_installed
    from sparserefine.refinement.features import count_channels
    from sparserefine.training.config_file import is_config
    from sparserefine.training.processes import is_first_process

    if is_config(data):
        raise ValueError(
            f"{data} is a file of options, which comes before all others: train {data} …"
        )
    check_installed("training", "matplotlib", extra="train")
    if weights is None and dense in sr.dense.names():
        raise ValueError(f"{dense!r} needs its --weights: a file, folder, or hub id.")
    settings = config or TrainConfig()
    torch.manual_seed(settings.seed)  # of the first weights
    frozen = sr.dense.open_model(
        dense,
        weights,
        kind=kind,
        mean=mean,
        std=std,
        output=output,
        allow_pickle=allow_pickle,
    )
    nats = frozen.preset.threshold if threshold is None else threshold
    refiner = sr.SparseRefiner(
        frozen,
        selector=sr.EntropySelector(nats, max_density),
        extractor=sr.SparseUNet.from_preset(
            extractor,
            frozen.num_classes,
            in_channels=count_channels(inputs, frozen.num_classes),
            pyramid=pyramid,
        ),
        dense_size=_size(dense_size),
        inputs=inputs,
        mode=mode,
    )
    labeled = settings.targets == "labels"
    classes = frozen.num_classes
    source, part = open_data(data, split, classes, reading, needs_labels=labeled)
    if validation is None and validation_split is None:
        held, held_part = None, None
    elif validation is None:
        held, held_part = open_data(data, validation_split, classes, reading, needs_labels=labeled)
    else:
        held, held_part = open_more(validation, validation_split, classes, reading, labeled)
    first = is_first_process()
    with progress_bars() if first else nullcontext() as progress:
        result = sr.train(
            move(refiner, device),
            source,
            settings,
            split=part,
            validation=held,
            validation_split=held_part,
            out=out,
            progress=progress,
            tell=lambda text: messages.print(text, markup=False),
        )
    if not first:
        return
    if result.log:
        console.print(_training_table(result))
    if result.evaluation is not None:
        console.print(
            f"images set aside, which chose the weights of step {result.best_step}: report on "
            f"others"
        )
        console.print(score_table(result.evaluation))
    console.print(stage_table(result.stages_ms, f"{len(result.losses)} steps"))
    for reason in result.skipped.values():
        messages.print(f"left out: {reason}", markup=False)
    show_license(refiner)
    for path in (*result.pictures, out / "model"):
        console.print(str(path), markup=False)


def _size(given: tuple[float, ...] | None) -> float | tuple[int, int] | None:
    """A share of each side, or (height, width)."""
    if given is None:
        return None
    if len(given) == 1:
        return given[0]
    if len(given) == 2 and all(side == int(side) for side in given):
        return int(given[0]), int(given[1])
    raise ValueError(f"dense_size is {given}, expected a share of each side, or height and width.")


def _training_table(result: TrainResult) -> Table:
    """A table of the first steps against the last."""
    begin, end = result.summary()
    table = Table("", f"first {begin['steps']} steps", f"last {end['steps']} steps")
    for key, label in (
        ("loss", "loss"),
        ("right_dense", "right before"),
        ("right_refined", "refined"),
    ):
        form = ".4f" if key == "loss" else ".2%"
        table.add_row(label, format(begin[key], form), format(end[key], form))
    return table
