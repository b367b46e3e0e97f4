"""Write the tables of docs/labels.md from the results of labels/run.py.

python benchmarks/labels/page.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from section import with_section

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "labels.md"
RESULTS = ROOT / "benchmarks" / "results"
SCRIPT = "benchmarks/labels/run.py"

NAMES = {
    "low_res_nearest": "dense model, low resolution, nearest",
    "low_res_bilinear": "dense model, low resolution, bilinear",
    "refinement_only": "extractor alone",
    "refined": "**refined**",
    "full_res": "dense model, full resolution",
    "full_res_in_band": "the full-resolution answer, on the selected pixels alone",
    "oracle": "the labels, on the selected pixels alone",
    "random_pixels": "as many pixels, at random",
    "all_pixels": "all pixels",
    "dense_at_equal_time": "dense model tuned at low resolution, run larger for as long",
    "dense_full_at_equal_time": "dense model tuned at full resolution, run smaller for as long",
    "plain_average": "plain average of the extractor and the dense model",
    "points": "a perceptron of each pixel's colors, probabilities and entropy",
    "unet": "a sparse U-Net of colors, probabilities and entropy",
    "unet-rgb": "a sparse U-Net of colors, as in the paper",
    "unet-rgb-streets": "a sparse U-Net of colors, trained on drawn streets before",
    "one-class": "a sparse U-Net that sees one class at a time, from the weights of `edges`",
    "stages-last": "the refiner as its last step left it, whatever the images that choose say",
    "stages-weighted": "the refiner with the dense model's weights of classes",
    "stages-balanced": "the refiner with balanced weights of classes",
    "stages-longer": "the refiner with three times the steps",
}


# CamVid once more: a third of the steps, with all controls; the dense model's weights of classes.
AGAIN = ("camvid_short", "camvid_weights")
# In the order of the page, and those with tables of their own.
EXPERIMENTS = ("camvid", "cwfid", "axon-sem", "vnc-em-1024")
SHOWN = ("camvid", "cwfid")


def main() -> None:
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def with_figures(text: str) -> str:
    """The page with its tables made anew from the result files."""
    paths = {name: RESULTS / f"{name}.json" for name in EXPERIMENTS}
    documents = {
        name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()
    }
    for name, document in documents.items():
        if name in SHOWN:
            text = with_section(text, f"{SCRIPT} {name}", "\n".join(section(document)))
    for name in AGAIN:
        figures = "\n".join(section(json.loads((RESULTS / f"{name}.json").read_text())))
        text = with_section(text, f"{SCRIPT} {name}", figures)
    asked = [document for document in documents.values() if "headroom" in document]
    if asked:
        text = with_section(text, f"{SCRIPT} headroom", "\n".join(beforehand(asked)))
    return text


def beforehand(documents: list[dict[str, Any]]) -> list[str]:
    """What `headroom` said of each dataset, beside what became of it."""
    lines = [
        "| | `headroom`: wrong, low and full | errors in 20 % of the pixels | it says | "
        "mIoU low, refined, full | gap closed |",
        "|---|---|---|---|---|---|",
    ]
    for document in documents:
        found, rows = document["headroom"], document["rows"]
        wrong = ", ".join(_share(found[size]["error_rate"]) for size in ("low", "full"))
        (fifth,) = (one for one in found["ceilings"] if one["share"] == 0.2)
        ways = [rows[name] for name in ("low_res_bilinear", "refined", "full_res")]
        mious = ", ".join(_cell(row, "miou") for row in ways)
        closed = ", ".join(f"{100 * one:.0f}" for one in document["gap_closed"]["miou"])
        lines.append(
            f"| {document['experiment']} | {wrong} | {_share(fifth['recall'])} | "
            f"{found['advice']} | {mious} | {closed} % |"
        )
    commands = [f"`{one['command']}`" for one in documents]
    commits = sorted({one["environment"]["commit"] for one in documents})
    lines += ["", f"Commits {', '.join(commits)}; {'; '.join(commands)}."]
    return lines


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def section(document: dict[str, Any]) -> list[str]:
    """The tables of one experiment."""
    seeds = document["seeds"]
    lines = ["| | mIoU | boundary IoU |", "|---|---|---|"]
    lines += [
        f"| {_name(name)} | {_cell(row, 'miou')} | {_cell(row, 'boundary_iou')} |"
        for name, row in document["rows"].items()
    ]
    closed = {
        key: [f"{100 * one:.0f}" for one in own] for key, own in document["gap_closed"].items()
    }
    worst = ", ".join(f"{one['class']} {one['points']:+.1f}" for one in document["worst_class"])
    if changes := document.get("class_change"):
        label = min(changes, key=lambda name: changes[name]["points"])
        worst += f"; over the seeds {label} {changes[label]['points']:+.1f}"
        worst += f" ± {changes[label]['std']:.1f}"
    errors = {key: f"{100 * value:.1f}" for key, value in document["errors"].items()}
    times = document["by_seed"][0]["milliseconds"]
    timed = ", ".join(f"{_name(name).strip('*')} {value:.0f} ms" for name, value in times.items())
    lines += [
        "",
        f'{document["by_seed"][0]["images"]} images of "{document["split"]}", '
        f"{100 * document['density']:.1f} % of their pixels refined; percent, mean and standard "
        f"deviation of {len(seeds)} seeds (controls with a network of their own: seed "
        f"{seeds[0]}). Of the gap between low and full resolution refinement closes "
        f"{', '.join(closed['miou'])} % by mIoU and {', '.join(closed['boundary_iou'])} % by "
        f"boundary IoU, seed by seed. The class that loses most, in points: {worst}. Of all pixels "
        f"{errors['never_selected']} % are wrong and not selected, {errors['not_corrected']} % "
        f"stay wrong, {errors['spoiled']} % are spoiled, {errors['corrected']} % corrected.",
        "",
        "| IoU | " + " | ".join(("low, bilinear", "refined", "full")) + " |",
        "|---|---|---|---|",
    ]
    rows = [
        document["rows"][name]["class_iou"] for name in ("low_res_bilinear", "refined", "full_res")
    ]
    for label in rows[0]:
        lines.append(f"| {label} | " + " | ".join(_percent(row[label]) for row in rows) + " |")
    commits = {one for own in document["by_seed"] for one in own.get("commits", {}).values()}
    lines += [
        "",
        f"One thread, medians in turns: {timed}. {document['environment']['device']}, commit "
        f"{', '.join(sorted(commits))}, `{document['command']}`.",
    ]
    return lines


def _name(name: str) -> str:
    base, _, rest = name.partition(", ")
    return NAMES.get(base, base.replace("_", " ")) + (f", {rest}" if rest else "")


def _cell(row: dict[str, Any], key: str) -> str:
    spread = row[f"{key}_std"]
    return f"{100 * row[key]:.1f}" + (f" ± {100 * spread:.1f}" if row["seeds"] > 1 else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
