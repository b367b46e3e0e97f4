"""What refinement is worth on a dataset with labels, from scratch.

    python benchmarks/labels/run.py NAME --data FOLDER --out FOLDER --report SPLIT [--seeds 0 1 2]

Tunes ESPNetv2-2.0 at full and at low resolution with the same budget, asks `headroom`, trains
refiners on the low one, chooses on part of the training split, and reports on another split once. A
run that was stopped goes on with the same command, and one with more `--variants` adds these. The
data is for research only; no image, label or weight of it is in this repository, figures are.
Writes NAME.json into the folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import Any, get_args

import torch

from sparserefine.atomic import atomic_write
from sparserefine.data.camvid import find_splits
from sparserefine.environment import Environment
from sparserefine.memory_pages import keep_pages

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dataset import EXPERIMENTS, Experiment  # isort: skip
from forecast import forecast  # isort: skip
from refiners import (  # isort: skip
    CONTROL_STEPS, DEFAULT, OF_EACH_SEED, STEPS, Variant, can_train, is_control, trained_refiner,
)  # fmt: skip
from scoring import Contenders, change_of, gap_closed, score, with_others, worst_class  # isort: skip
from tune_dense import STEPS as DENSE_STEPS, load_model  # isort: skip

TUNE = Path(__file__).resolve().parent / "tune_dense.py"
SCORES = "scores.json"
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def main(words: Sequence[str]) -> int:
    """Run an experiment as the words of a command line say."""
    options = parse_args(words)
    experiment = EXPERIMENTS[options.experiment]
    if options.report not in find_splits(options.data):
        known = ", ".join(find_splits(options.data)) or "none"
        print(
            f'{options.data} has no split "{options.report}", expected one of: {known}.',
            file=sys.stderr,
        )
        return 1
    keep_pages()
    options.out.mkdir(parents=True, exist_ok=True)
    found = [run_seed(experiment, options, seed) for seed in options.seeds]
    document = {
        "experiment": experiment.name,
        "split": options.report,
        "seeds": options.seeds,
        **summary(found, experiment),
        "headroom": forecast(
            experiment,
            options.out / f"seed{options.seeds[0]}",
            options.data,
            found[0]["milliseconds"],
        ),
        "steps": {
            "dense": options.dense_steps,
            "refiner": options.steps,
            "control": options.control_steps,
        },
        "sizes": {"full": list(experiment.full), "low": list(experiment.low)},
        "by_seed": found,
        "command": command(experiment, options),
        "environment": Environment.current().to_json(),
    }
    path = options.out / f"{experiment.name}.json"
    atomic_write(path, lambda file: file.write_text(json.dumps(document, indent=1) + "\n"))
    print("\n".join(table(document)))
    print(path)
    return 0


def parse_args(words: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--report", default="val", help="split to report on (default: val)")
    parser.add_argument(
        "--weights", type=Path, help="folder of ESPNetv2's files (default: beside the data)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=DEFAULT, help="refiners to train"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="of the dense model's stages")
    parser.add_argument(
        "--control-steps", type=int, default=CONTROL_STEPS, help="of each other network"
    )
    parser.add_argument("--dense-steps", type=int, default=DENSE_STEPS, help="of each dense model")
    options = parser.parse_args(words)
    possible = [one for one in VARIANTS if can_train(EXPERIMENTS[options.experiment], one)]
    for one in options.variants:
        if one not in possible:
            parser.error(f"{one} starts on drawn streets, whose classes {options.experiment} lacks")
    if options.weights is None:
        options.weights = options.data.parent / "espnet-weights"
    return options


def run_seed(experiment: Experiment, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train and score with one seed. The large dense model is tuned beside all the rest.

    What was scored already is kept; refiners that were not are trained and scored beside it.
    """
    folder = options.out / f"seed{seed}"
    # Controls that have a network of their own are trained with one seed.
    first, *others = options.variants
    if seed != options.seeds[0]:
        others = [name for name in others if name in OF_EACH_SEED]
    variants = [first, *others]
    settings = {
        "variants": variants,
        "steps": options.steps,
        "control_steps": options.control_steps,
        "dense_steps": options.dense_steps,
        "split": options.report,
    }
    kept = read_kept(folder / SCORES, options.out / f"{experiment.name}.json", settings)
    if kept is not None:
        known = kept["settings"]["variants"]
        variants = [variants[0], *(one for one in variants if one not in known)]
        if len(variants) == 1:
            return kept
    files = {size: folder / f"{size}.safetensors" for size in ("full", "low")}
    running = {size: tuning(experiment, options, size, seed, files[size]) for size in files}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the other core tunes
    wait(running["low"])
    low = load_model(experiment, files["low"], "low")

    def train_with_what_is_free(stage: str, done: int, total: int) -> None:
        if running["full"].poll() is not None:
            torch.set_num_threads(threads)
        every(f"seed {seed}, {variant}", 50)(stage, done, total)

    refiners = {}
    for variant in variants:
        refiners[variant] = trained_refiner(
            low,
            experiment,
            variant,
            options.data,
            folder / variant,
            seed,
            weights=options.weights,
            steps=options.control_steps if is_control(variant) else options.steps,
            reported=folder / first,
            progress=train_with_what_is_free,
        )
    wait(running["full"])
    torch.set_num_threads(1)  # as the page says of the times
    contenders = Contenders(load_model(experiment, files["full"], "full"), low, refiners)
    samples = experiment.reported(options.data, options.report)

    def tell(done: int) -> None:
        every(f"seed {seed}", 20)("score", done, len(samples))

    if kept is None:
        found = score(contenders, experiment, samples, seed, tell)
    else:
        found = with_others(kept, contenders, experiment, samples, tell)
    torch.set_num_threads(threads)
    found["settings"] = settings
    known = {} if kept is None else kept.get("commits", {})
    found["commits"] = dict.fromkeys(variants, Environment.current().commit) | known
    atomic_write(folder / SCORES, lambda file: file.write_text(json.dumps(found)))
    return found


def read_kept(path: Path, result: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Scores of the same settings, whatever the controls; None where there are none.

    Those of refiners that are no longer wanted stay out. Scores that do not say at which commit
    they were made take that of the result file.
    """
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    if "commits" not in found and result.is_file():
        commit = json.loads(result.read_text())["environment"]["commit"]
        found["commits"] = dict.fromkeys(found["settings"]["variants"], commit)
        atomic_write(path, lambda file: file.write_text(json.dumps(found)))
    own, known = settings["variants"], found["settings"]["variants"]
    if known[0] != own[0] or found["settings"] | {"variants": own} != settings:
        return None
    gone = {name for name in known if name not in own}
    for part in ("rows", "milliseconds"):
        found[part] = {k: one for k, one in found[part].items() if k.split(", ")[0] not in gone}
    found["settings"]["variants"] = [name for name in known if name not in gone]
    return found


def tuning(
    experiment: Experiment, options: argparse.Namespace, size: str, seed: int, out: Path
) -> subprocess.Popen[bytes]:
    """A process that tunes a dense model, on one core."""
    settings = {
        "--data": options.data,
        "--weights": options.weights,
        "--size": size,
        "--seed": seed,
        "--steps": options.dense_steps,
        "--out": out,
    }
    words = [str(word) for pair in settings.items() for word in pair]
    return subprocess.Popen([sys.executable, str(TUNE), experiment.name, *words])


def wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process, and end with it if it fails, which has said why."""
    if process.wait():
        sys.exit(1)


def every(name: str, steps: int) -> Callable[[str, int, int], None]:
    """A report of progress, a line now and then."""

    def tell(stage: str, done: int, total: int) -> None:
        if done % steps == 0 or done == total:
            print(f"{name}: {stage} {done} of {total}", file=sys.stderr, flush=True)

    return tell


def summary(found: list[dict[str, Any]], experiment: Experiment) -> dict[str, Any]:
    """Means and spreads over the seeds."""
    rows = {}
    for name in found[0]["rows"]:
        own = [one["rows"][name] for one in found if name in one["rows"]]
        mious, edges = [[one[key] for one in own] for key in ("miou", "boundary_iou")]
        rows[name] = {
            "seeds": len(own),
            "miou": mean(mious),
            "miou_std": pstdev(mious),
            "boundary_iou": mean(edges),
            "boundary_iou_std": pstdev(edges),
            "class_iou": {
                label: _mean([one["iou"][index] for one in own])
                for index, label in enumerate(experiment.class_names)
            },
        }
    worst = [worst_class(one["rows"]) for one in found]
    changes = {
        label: [points for one in found if (points := change_of(one["rows"], index)) is not None]
        for index, label in enumerate(experiment.class_names)
    }
    return {
        "rows": rows,
        "density": mean(one["density"] for one in found),
        "gap_closed": {
            key: [gap_closed(one["rows"], key) for one in found] for key in ("miou", "boundary_iou")
        },
        "worst_class": [
            {"class": experiment.class_names[index], "points": points} for index, points in worst
        ],
        "class_change": {
            label: {"points": mean(own), "std": pstdev(own)}
            for label, own in changes.items()
            if own
        },
        "errors": {key: mean(one["errors"][key] for one in found) for key in found[0]["errors"]},
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def command(experiment: Experiment, options: argparse.Namespace) -> str:
    """What repeats the run, without where things lie on this machine."""
    seeds = " ".join(map(str, options.seeds))
    return (
        f"python benchmarks/labels/run.py {experiment.name} --data {options.data.name} "
        f"--out FOLDER --report {options.report} --seeds {seeds} "
        f"--variants {' '.join(options.variants)} "
        f"--steps {options.steps} --control-steps {options.control_steps} "
        f"--dense-steps {options.dense_steps}"
    )


def table(document: dict[str, Any]) -> list[str]:
    """The rows as a table in Markdown, in percent."""
    lines = ["| | mIoU | boundary IoU |", "|---|---|---|"]
    for name, row in document["rows"].items():
        cells = [
            f"{100 * row[key]:.1f} ± {100 * row[f'{key}_std']:.1f}"
            for key in ("miou", "boundary_iou")
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    closed = document["gap_closed"]
    shares = {key: ", ".join(f"{100 * one:.0f} %" for one in closed[key]) for key in closed}
    lines += [
        "",
        f"Refined: {100 * document['density']:.1f} % of the pixels. Gap closed, by seed: mIoU "
        f"{shares['miou']}; boundary IoU {shares['boundary_iou']}.",
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
