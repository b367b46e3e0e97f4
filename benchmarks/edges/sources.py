"""What each source of training data is worth to `edges`: trained without it, judged on all.

    python benchmarks/edges/sources.py --train FOLDER --test FOLDER [--steps 1000]
    python benchmarks/edges/sources.py --page             # only write the table into the docs

Both folders have a folder of crops for each source, made by crops.py: of the train and of the test
split. One network is trained on all of them and one without each, from closed form, for as many
steps; all are judged on the crops of the test split, source by source. Short trainings, so the
differences count and not the heights. Writes results/edges_sources.json and docs/refine.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparserefine.environment import Environment
from sparserefine.refinement.edge_net import WIDTHS, EdgeNet

sys.path.insert(0, str(Path(__file__).resolve().parent))
from evaluate import PAGE, ROOT
from train import Recipe, held_out, read_crops, training

from section import with_section

RESULT = ROOT / "benchmarks" / "results" / "edges_sources.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", type=Path, help="folder with a folder of crops for each source")
    parser.add_argument("--test", type=Path, help="the same of the test split")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if not options.page:
        if options.train is None or options.test is None:
            parser.error("--train and --test say where the crops are")
        torch.set_num_threads(options.threads)
        RESULT.write_text(json.dumps(measured(options), indent=1) + "\n")
        print(RESULT)
    write_page(json.loads(RESULT.read_text()))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Scores of a network of all sources, and of one without each."""
    names = sorted(folder.name for folder in options.train.iterdir() if folder.is_dir())
    tests = {name: read_crops([options.test / name])[0] for name in names}
    rows: dict[str, Any] = {}
    for without in (None, *names):
        used = [name for name in names if name != without]
        crops, _ = read_crops([options.train / name for name in used])
        torch.manual_seed(options.seed)
        rng = np.random.default_rng(options.seed)
        state = {}
        every = np.arange(len(crops["sides"]))
        for step in training(EdgeNet(WIDTHS), crops, every, Recipe(options.steps), rng):
            state = step.mean
            if step.step % 100 == 0:
                print(f"without {without}: {step.step} steps, loss {step.loss:.3f}", flush=True)
        rows["all" if without is None else f"without {without}"] = {
            "crops": len(every),
            "scores": {
                name: held_out(state, list(WIDTHS), test, np.arange(len(test["sides"])))
                for name, test in tests.items()
            },
        }
    return {
        "rows": rows,
        "tested": {name: len(test["sides"]) for name, test in tests.items()},
        "steps": options.steps,
        "command": f"python benchmarks/edges/sources.py --train FOLDER --test FOLDER "
        f"--steps {options.steps} --seed {options.seed}",
        "environment": Environment.current().to_json(),
    }


def write_page(document: dict[str, Any]) -> None:
    """Replace the table in the docs."""
    names = list(document["tested"])
    lines = [
        "| trained on | crops | " + " | ".join(f"judged on {name}" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    closed = next(iter(document["rows"].values()))["scores"]
    cells = [
        f"{closed[name]['wrong_closed_form']:.3f} · {closed[name]['mae_closed_form']:.3f}"
        for name in names
    ]
    lines.append(f"| nothing: closed form | | {' | '.join(cells)} |")
    for row, found in document["rows"].items():
        scores = found["scores"]
        cells = [f"{scores[name]['wrong']:.3f} · {scores[name]['mae']:.3f}" for name in names]
        lines.append(f"| {row} | {found['crops']:,} | {' | '.join(cells)} |")
    tested = ", ".join(f"{count} of {name}" for name, count in document["tested"].items())
    lines += [
        "",
        f"Wrong side of one half · mean error, in the band; crops of the test split: {tested}. "
        f"{document['steps']:,} steps each, commit {document['environment']['commit']}, "
        f"`{document['command']}`.",
    ]
    figures = "\n".join(lines)
    PAGE.write_text(with_section(PAGE.read_text(), "benchmarks/edges/sources.py", figures))


if __name__ == "__main__":
    main()
