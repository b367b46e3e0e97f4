"""The commands. They import torch when they run, so that help is instant."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from sparserefine import __version__
from sparserefine.tables import (
    environment_table,
    latency_table,
    scores_table,
    stage_table,
    training_table,
)
from sparserefine.workflows.progress import progress_bar
from sparserefine.workflows.train_config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparserefine.refine.refiner import SparseRefiner

app = App(
    name="sparserefine",
    version=__version__,
    help="Full-resolution segmentation at low-resolution cost, for the model you already have.",
)
# Results go to stdout; progress and messages to stderr, so that --json can be piped.
console = Console(highlight=False, soft_wrap=True)
messages = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command
def demo(*, out: Path = Path("out/demo")) -> None:
    """Refine a photo that ships with the package, next to the full-resolution result.

    Parameters
    ----------
    out
        Folder for before_after.png, labels.png, overlay.png and result.json.
    """
    from sparserefine.workflows.demo import run_demo

    with messages.status("timing the refiner and the full-resolution model in turns"):
        result = run_demo(out)
    table = stage_table(result.stages_ms, "refined")
    table.add_section()
    table.add_row("full-resolution dense model", f"{result.full_res_ms:.0f}")
    console.print(table)
    console.print(
        f"density {result.density:.1%}; agreement with the full-resolution model "
        f"{result.agreement_low_res:.1%} at low resolution, {result.agreement_refined:.1%} refined"
    )
    console.print(f"license of the dense weights: {result.license}", style="dim")
    console.print(str(result.picture), markup=False)


@app.command
def predict(
    photos: Annotated[list[Path], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path = Path("out/predict"),
    model: str = "demo",
    threshold: float | None = None,
    max_density: float | None = None,
    device: str = "auto",
) -> None:
    """Segment photos and folders of photos.

    Parameters
    ----------
    photos
        Photos, and folders that are searched for photos.
    out
        Folder for the results: one folder per photo with labels.png, overlay.png, result.json.
    model
        "demo", a folder written by save_pretrained, or a hub id.
    threshold
        Entropy in nats above which a pixel is refined. Default: the model's own.
    max_density
        Pixel budget, the most that is refined of any photo, 0 to 1. Default: the model's own.
    device
        "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    """
    from sparserefine.images import list_images
    from sparserefine.workflows.predict import predict as run

    refiner = _load(model, threshold, max_density, device)
    with _progress("predict", len(list_images(photos))) as advance:
        results = run(refiner, photos, out, advance)
    if results.done:
        total: dict[str, float] = {}
        for image in results.done:
            for stage, ms in image.stages_ms.items():
                total[stage] = total.get(stage, 0.0) + ms / len(results.done)
        console.print(stage_table(total, f"mean of {len(results.done)}"))
        density = sum(image.density for image in results.done) / len(results.done)
        console.print(f"density {density:.1%}")
    for source, reason in results.failed:
        _report_failure(str(source), reason)
    if results.done:
        only = len(results.done) == 1
        console.print(str(results.done[0].folder / "overlay.png" if only else out), markup=False)
    if results.failed:
        total_images = len(results.failed) + len(results.done)
        raise SystemExit(f"{len(results.failed)} of {total_images} photos could not be segmented")


@app.command
def evaluate(
    folder: Path,
    /,
    *,
    model: str = "demo",
    split: str | None = None,
    threshold: float | None = None,
    max_density: float | None = None,
    device: str = "auto",
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score refinement against the full-resolution dense model, and against labels.

    Parameters
    ----------
    folder
        Images; with labels where it has images/ and labels/.
    model
        "demo", a folder written by save_pretrained, or a hub id.
    split
        Part of the data, where the folder has train.txt, val.txt ….
    threshold
        Entropy in nats above which a pixel is refined. Default: the model's own.
    max_density
        Pixel budget, the most that is refined of any image, 0 to 1. Default: the model's own.
    device
        "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.data import open_dataset
    from sparserefine.workflows.evaluate import evaluate as run

    refiner = _load(model, threshold, max_density, device)
    dataset = open_dataset(folder, split, refiner.dense.num_classes)
    with _progress("evaluate", len(dataset)) as advance:
        scores = run(refiner, dataset, advance)
    for name, reason in scores.failed.items():
        _report_failure(name, reason)
    if json_output:
        print(json.dumps(scores.to_json(), indent=2, allow_nan=False))
    else:
        console.print(scores_table(scores))
        console.print(f"{len(scores.images)} images, density {scores.density:.1%}")
    if scores.failed:
        total = len(scores.failed) + len(scores.images)
        raise SystemExit(f"{len(scores.failed)} of {total} images could not be scored")


@app.command
def train(
    folder: Path,
    /,
    *,
    dense: str = "espnetv2-2.0",
    weights: Path,
    out: Path = Path("out/train"),
    split: str | None = None,
    extractor: str = "tiny",
    pyramid: Literal["dilate", "floor"] = "dilate",
    inputs: tuple[Literal["rgb", "probabilities", "entropy"], ...] = ("rgb",),
    threshold: float | None = None,
    max_density: float = 1.0,
    allow_pickle: bool = False,
    device: str = "auto",
    config: Annotated[TrainConfig, Parameter(name="*")] | None = None,
) -> None:
    """Train a refiner for a dense model, on labels or on the dense model's own full resolution.

    Parameters
    ----------
    folder
        Images; with labels where it has images/ and labels/.
    dense
        Name of the dense model.
    weights
        Weights of the dense model, a .safetensors file or a folder.
    out
        Folder for the model, the checkpoint and the log.
    split
        Part of the data, where the folder has train.txt, val.txt ….
    extractor
        Size of the sparse network: paper, half, paper-code or tiny.
    pyramid
        How coarser pixels become active; floor needs about half the multiplications.
    inputs
        What the sparse network sees of a pixel.
    threshold
        Entropy in nats above which a pixel is refined. Default: that of the dense model.
    max_density
        Pixel budget, the most that is refined of any image, 0 to 1.
    allow_pickle
        Read weights from a .pth file too, without executing what is in it.
    device
        "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    """
    import torch

    import sparserefine as sr
    from sparserefine.data import open_dataset
    from sparserefine.refine.features import count_channels

    settings = config or TrainConfig()
    torch.manual_seed(settings.seed)  # of the first weights
    frozen = sr.dense.create(dense, weights, allow_pickle=allow_pickle)
    nats = frozen.preset.threshold if threshold is None else threshold
    refiner = sr.SparseRefiner(
        frozen,
        selector=sr.EntropySelector(nats, max_density),
        extractor=sr.SparseUNet.from_preset(
            extractor,
            frozen.num_classes,
            in_channels=count_channels(inputs, frozen),
            pyramid=pyramid,
        ),
        inputs=inputs,
    )
    dataset = open_dataset(folder, split, frozen.num_classes)
    result = sr.train(_move(refiner, device), dataset, settings, out)
    console.print(training_table(result))
    console.print(stage_table(result.stages_ms, f"{len(result.losses)} steps"))
    for reason in result.skipped.values():
        messages.print(f"left out: {reason}", markup=False)
    if frozen.preset.license:
        messages.print(f"license of the dense weights: {frozen.preset.license}", style="dim")
    for path in (*result.pictures, out / "model"):
        console.print(str(path), markup=False)


@app.command
def benchmark(
    photo: Path | None = None,
    /,
    *,
    env: Annotated[bool, Parameter(negative="")] = False,
    model: str = "demo",
    threshold: float | None = None,
    max_density: float | None = None,
    rounds: int = 5,
    device: str = "auto",
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Time a pair beside its dense model at full and at low resolution, in turns.

    Parameters
    ----------
    photo
        Default: a photo that ships with the package.
    env
        Only say what this machine is, and which sparse backends run here and why.
    model
        "demo", a folder written by save_pretrained, or a hub id.
    threshold
        As in predict.
    max_density
        As in predict.
    rounds
        Timed runs of each.
    device
        As in predict.
    json_output
        Print one JSON document and nothing else.
    """
    import torch

    from sparserefine.images import read_image
    from sparserefine.workflows.benchmark import benchmark as run
    from sparserefine.workflows.benchmark import describe_environment
    from sparserefine.workflows.demo import shipped_photo

    if env:
        environment = describe_environment()
        if json_output:
            print(json.dumps(environment, indent=2))
        else:
            console.print(environment_table(environment))
        return
    images = torch.from_numpy(read_image(photo or shipped_photo("lund"))).permute(2, 0, 1)[None]
    refiner = _load(model, threshold, max_density, device)
    with _progress("rounds", rounds + 1) as advance:
        result = run(refiner, images, rounds, advance)
    if json_output:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
        return
    console.print(latency_table(result))
    console.print(stage_table(result.rows[-1].stages_ms, "sparserefine"))
    console.print(f"{result.speedup:.2f} times as fast as the dense model at full resolution")


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what a user can cause ends in one line, not in a traceback.

    Args:
        arguments: Default: those of the process.
    """
    try:
        app(arguments)
    except (ValueError, OSError, ImportError) as error:
        messages.print(f"sparserefine: {' '.join(str(error).split())}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _load(
    name: str, threshold: float | None, max_density: float | None, device: str
) -> SparseRefiner:
    from sparserefine.refine.refiner import SparseRefiner

    refiner = SparseRefiner.from_pretrained(name)
    changes = {
        key: value
        for key, value in (("threshold", threshold), ("max_density", max_density))
        if value is not None
    }
    refiner.selector = replace(refiner.selector, **changes)
    return _move(refiner, device)


def _move(refiner: SparseRefiner, device: str) -> SparseRefiner:
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


def _report_failure(name: str, reason: str) -> None:
    line = reason if name in reason else f"{name}: {reason}"
    messages.print(f"not done: {line}", markup=False)


@contextmanager
def _progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    with progress_bar() as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


if __name__ == "__main__":
    main()
