"""An evaluation as JSON, CSV, Markdown and pictures."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from sparserefine.atomic import atomic_write, atomic_write_all, make_folder
from sparserefine.data.source import SampleSource, sample_names
from sparserefine.images import write_image
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.evaluate import Evaluation
from sparserefine.workflows.example import draw_example
from sparserefine.workflows.image_score import FULL_RES, LOW_ROWS, ORACLE, SECOND_LOOK

COLUMNS = {
    "miou": "mIoU",
    "boundary_iou": "boundary IoU",
    "small_recall": "small objects found",
    "calibration_error": "calibration error",
}
ABLATIONS, GALLERY, SHOWN = "ablations.md", "gallery", 20


def markdown(scores: Evaluation) -> str:
    """Rows and columns, then IoU per class, then what they were measured on."""
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
    corrected, spoiled = document["corrected"], document["spoiled"]
    environment = document["environment"]
    lines += [
        f"{len(scores.images)} images against {what}; density {scores.density:.1%}; refinement "
        f"made {corrected:.2%} of the pixels right and {spoiled:.2%} wrong. "
        f"{environment['device']}, commit {environment['commit']}.",
    ]
    return "\n".join(lines) + "\n"


def ablations(runs: Mapping[str, Evaluation]) -> str:
    """Several runs on the same images in one Markdown table.

    Args:
        runs: By name.
    """
    columns = ("widths", "pyramid", "inputs", "selector", "threshold", "max_density")
    lines = [
        f"| run | row | {' | '.join(columns)} | density | right | {' | '.join(COLUMNS.values())} |",
        "|---|---|" + "---|" * (len(columns) + 2 + len(COLUMNS)),
    ]
    for name, scores in runs.items():
        settings = [str(scores.settings.get(column, "")) for column in columns]
        right = _mean_right(scores)
        for row, found in scores.quality.items():
            if row in (*LOW_ROWS, SECOND_LOOK, ORACLE, FULL_RES):
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
    head = ["name", "density", "corrected", "spoiled", *(f"right_{row}" for row in rows)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for image in scores.images:
        shares = [image.density, image.corrected, image.spoiled, *image.right.values()]
        writer.writerow([image.name, *(f"{share:.6f}" for share in shares)])
    return text.getvalue()


def save(
    scores: Evaluation, folder: str | Path, others: Mapping[str, Evaluation] | None = None
) -> Path:
    """Write evaluation.json, images.csv, scores.md, and with other runs ablations.md.

    Returns:
        scores.md.
    """

    def write(partial: Path) -> None:
        document = json.dumps(scores.to_json(), indent=1, allow_nan=False)
        (partial / "evaluation.json").write_text(document + "\n")
        (partial / "images.csv").write_text(table(scores))
        (partial / "scores.md").write_text(markdown(scores))
        if others:
            (partial / ABLATIONS).write_text(ablations({"this": scores, **others}))

    return atomic_write_all(folder, write) / "scores.md"


def draw_gallery(
    model: SparseRefiner,
    dataset: SampleSource,
    scores: Evaluation,
    folder: str | Path,
    count: int = SHOWN,
    advance: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Draw the images that gain most and those that lose most, best first.

    Args:
        model: The refiner.
        dataset: The images.
        scores: Of these.
        folder: Pictures go to its folder "gallery"; one that is there already is kept.
        count: Of each, at most; an image is in one of the two only.
        advance: Called after each picture.

    Returns:
        The pictures.
    """
    place = make_folder(Path(folder) / GALLERY)
    position = {name: index for index, name in enumerate(sample_names(dataset))}
    ranked = sorted(scores.images, key=lambda image: -image.gain)
    best = ranked[: min(count, -(-len(ranked) // 2))]
    worst = ranked[len(best) :][-count:]
    pictures = []
    for kind, images in (("best", best), ("worst", worst[::-1])):
        for rank, image in enumerate(images, 1):
            name = re.sub(r"[^\w.-]+", "_", image.name)
            path = place / f"{kind}_{rank:02d}_{name}.png"
            if not path.is_file():
                picture = draw_example(model, dataset[position[image.name]], True)
                atomic_write(path, lambda partial, drawn=picture: write_image(drawn, partial))
            pictures.append(path)
            advance()
    return pictures


def percent(value: float | None) -> str:
    """For a table; empty where there is none."""
    return "" if value is None else f"{value:.2%}"


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
