"""An evaluation as JSON, CSV, Markdown and pictures."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparserefine.atomic import atomic_write, atomic_write_all, make_folder
from sparserefine.data import Sample, content_hash
from sparserefine.data.source import SampleSource, sample_names
from sparserefine.evaluation.example import draw_example
from sparserefine.evaluation.image_score import FULL_RES, LOW_ROWS, ORACLE
from sparserefine.evaluation.result import Evaluation
from sparserefine.images import write_image
from sparserefine.images.stamp import is_result
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.refiner import SparseRefiner

COLUMNS = {
    "miou": "mIoU",
    "boundary_iou": "boundary IoU",
    "small_recall": "small objects found",
    "calibration_error": "calibration error",
}
SCORES, GALLERY, SHOWN = "scores.md", "gallery", 20


def markdown(scores: Evaluation) -> str:
    """The evaluation as Markdown: scores per row, IoU per class, what they were measured on."""
    what = "labels" if scores.against == "labels" else "the dense model at full resolution"
    right = _mean_right(scores)
    lines = [
        f"| | right | {' | '.join(COLUMNS.values())} |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for row, found in scores.quality.items():
        cells = [percent(right[row]), *(percent(found[key]) for key in COLUMNS)]
        lines.append(f"| {row.replace('_', ' ')} | {' | '.join(cells)} |")
    lines += ["", *_per_class(scores)]
    document = scores.to_json()
    corrected, regressed = document["corrected"], document["regressed"]
    environment = document["environment"]
    lines += [
        f"{len(scores.images)} images against {what}; density {scores.density:.1%}; refinement "
        f"made {corrected:.2%} of the pixels right and {regressed:.2%} wrong. "
        f"{environment['device']}, commit {environment['commit']}.",
    ]
    return "\n".join(lines) + "\n"


def comparison(runs: Mapping[str, Evaluation]) -> str:
    """Several runs on the same images in one Markdown table.

    Args:
        runs: Evaluations, by the name of the run.
    """
    columns = ("extractor", "widths", "pyramid", "inputs", "selector")
    lines = [
        f"| run | row | {' | '.join(columns)} | density | right | {' | '.join(COLUMNS.values())} |",
        "|---|---|" + "---|" * (len(columns) + 2 + len(COLUMNS)),
    ]
    for name, scores in runs.items():
        extractor = scores.model["extractor"]
        settings = [
            extractor["kind"],
            _listed(extractor.get("widths", ())),
            str(extractor.get("pyramid", "")),
            _listed(scores.model["inputs"]),
            _settings_of(scores),
        ]
        right = _mean_right(scores)
        for row, found in scores.quality.items():
            if row in (*LOW_ROWS, ORACLE, FULL_RES):
                continue
            cells = [percent(found[key]) for key in COLUMNS]
            lines.append(
                f"| {name} | {row.replace('_', ' ')} | {' | '.join(settings)} | "
                f"{scores.density:.1%} | {percent(right[row])} | {' | '.join(cells)} |"
            )
    return "\n".join(lines) + "\n"


def table(scores: Evaluation) -> str:
    """CSV with one line per image."""
    text = io.StringIO()
    rows = list(scores.images[0].right)
    head = ["name", "density", "corrected", "regressed", *(f"right_{row}" for row in rows)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for image in scores.images:
        shares = [image.density, image.corrected, image.regressed, *image.right.values()]
        writer.writerow([image.name, *(f"{share:.6f}" for share in shares)])
    return text.getvalue()


def save(scores: Evaluation, folder: str | Path) -> Path:
    """Write evaluation.json, images.csv and scores.md.

    Returns:
        Path of scores.md.
    """

    def write(partial: Path) -> None:
        document = json.dumps(scores.to_json(), indent=1, allow_nan=False)
        (partial / "evaluation.json").write_text(document + "\n")
        (partial / "images.csv").write_text(table(scores))
        (partial / SCORES).write_text(markdown(scores))

    return atomic_write_all(folder, write) / SCORES


def draw_gallery(
    model: SparseRefiner,
    dataset: SampleSource,
    scores: Evaluation,
    folder: str | Path,
    count: int = SHOWN,
    progress: Progress | None = None,
) -> list[Path]:
    """Draw the images that gain most and those that lose most, best first.

    Args:
        model: The refiner.
        dataset: The images.
        scores: The scores of these images.
        folder: Pictures go to its folder "gallery"; one that is there already is kept.
        count: Most images of each kind; an image is in one of the two only.
        progress: Told of each picture.

    Returns:
        Paths of the pictures.
    """
    place = make_folder(Path(folder) / GALLERY)
    position = {name: index for index, name in enumerate(sample_names(dataset))}
    ranked = sorted(scores.images, key=lambda image: -image.gain)
    best = ranked[: min(count, -(-len(ranked) // 2))]
    worst = ranked[len(best) :][-count:]
    _keep_pictures_of(scores, [dataset[position[image.name]] for image in best + worst], place)
    advance = count_steps(progress, "gallery", len(best) + len(worst))
    pictures = []
    for kind, images in (("best", best), ("worst", worst[::-1])):
        for rank, image in enumerate(images, 1):
            name = re.sub(r"[^\w.-]+", "_", image.name)
            path = place / f"{kind}_{rank:02d}_{name}.png"
            if not path.is_file():
                picture = draw_example(model, dataset[position[image.name]], True)
                write_image(picture, path, stamp=True)
            pictures.append(path)
            advance()
    for path in _pictures_in(place):
        if path not in pictures:  # of another ranking
            path.unlink()
    return pictures


def _keep_pictures_of(scores: Evaluation, samples: Sequence[Sample], place: Path) -> None:
    """Remove pictures that were drawn of something else, and say of what the next ones are."""
    contents = [content_hash(sample.image, sample.labels) for sample in samples]
    facts = [scores.model, scores.selector, scores.class_names, scores.palette, contents]
    shown = json.dumps(facts, sort_keys=True)
    marker = place / "drawn_of.json"
    if not marker.is_file() or marker.read_text() != shown:
        for path in _pictures_in(place):
            path.unlink()
        atomic_write(marker, lambda partial: partial.write_text(shown))


def _pictures_in(place: Path) -> list[Path]:
    found = [path for kind in ("best", "worst") for path in place.glob(f"{kind}_[0-9][0-9]_*.png")]
    return [path for path in found if is_result(path)]


def percent(value: float | None) -> str:
    """A share as percent, for a table; empty for None."""
    return "" if value is None else f"{value:.2%}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _settings_of(scores: Evaluation) -> str:
    """The selector that chose the pixels, and its settings."""
    own = dict(scores.model["selector"])
    name = own.pop("kind") if scores.selector == "own" else scores.selector
    settings = (
        f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
        for key, value in own.items()
    )
    return f"{name} ({', '.join(settings)})"


def _mean_right(scores: Evaluation) -> dict[str, float]:
    rows = scores.images[0].right
    count = len(scores.images)
    return {row: sum(image.right[row] for image in scores.images) / count for row in rows}


def _per_class(scores: Evaluation) -> list[str]:
    rows = list(scores.quality)
    names = scores.class_names or tuple(map(str, range(len(scores.quality[rows[0]]["iou"]))))
    lines = [
        "| IoU | " + " | ".join(row.replace("_", " ") for row in rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for index, name in enumerate(names):
        found = [scores.quality[row]["iou"][index] for row in rows]
        if any(value is not None for value in found):
            lines.append(f"| {name} | " + " | ".join(percent(value) for value in found) + " |")
    return [*lines, ""]
