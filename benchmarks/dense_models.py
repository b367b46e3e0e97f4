"""What docs/dense-models.md says of the dense models: counted and run here.

    python benchmarks/dense_models.py         # count and run, write the result file and the page
    python benchmarks/dense_models.py --page  # only the page, from the result file

A minute. Random weights: of the paper's models the networks are built without memory and counted;
of each family of transformers a small model is run at several sizes and exported.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import sparserefine as sr
from sparserefine.atomic import atomic_write
from sparserefine.dense.adapters.published import MODELS
from sparserefine.dense.adapters.transformers import FAMILIES
from sparserefine.dense.create import weights_license
from sparserefine.environment import Environment
from sparserefine.refinement.dense_size import DenseSize

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "dense_models.json"
PAGE = ROOT / "docs" / "dense-models.md"
START, END = "<!-- tables: benchmarks/dense_models.py -->\n", "<!-- end of tables -->"
FULL = (1024, 2048)
SIZES = ((64, 64), (64, 128), (61, 125), (250, 500))
OURS = {"hrnet-w48": "own code", "segnext-l": "own code"}


def main() -> None:
    """Count, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args().page:
        torch._logging.set_logs(all=logging.CRITICAL)  # a failed export prints its whole graph
        result = {
            "published": [_count(name) for name in (*OURS, *MODELS)],
            "families": [_run(family) for family in FAMILIES],
            "environment": Environment.current().to_json(),
        }
        text = json.dumps(result, indent=2) + "\n"
        atomic_write(RESULT, lambda path: path.write_text(text))
    page = with_tables(PAGE.read_text())
    atomic_write(PAGE, lambda path: path.write_text(page))
    print(PAGE)


def _count(name: str) -> dict[str, Any]:
    model = sr.dense.create(name, device="meta")
    low = DenseSize(model.preset.dense_size, model.size_divisor).resized(FULL)
    gmacs = {}
    for size in (low, FULL):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = model(torch.empty(1, 3, *size, device="meta"))
        gmacs["×".join(map(str, size))] = counter.get_total_flops() / 2e9
    return {
        "name": name,
        "source": OURS.get(name) or f"transformers; hub: {MODELS[name].hub_id}",
        "low": list(low),
        "threshold": model.preset.threshold,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gmacs": gmacs,
        "stride": FULL[0] // logits.shape[2],
        "license": weights_license(name),
    }


def _run(family: str) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tests"))
    from small_transformers import SMALL

    torch.manual_seed(0)
    model = sr.dense.from_transformers(SMALL[family]())
    ran = []
    with torch.no_grad():
        for size in SIZES:
            padded = DenseSize(1.0, model.size_divisor).padded(size)
            logits = model(torch.rand(1, 3, *padded))
            assert bool(logits.isfinite().all()), (family, size)
            ran.append({"size": list(size), "padded": list(padded), "logits": list(logits.shape)})
        try:
            torch.export.export(model, (torch.rand(1, 3, 64, 128),))
            exports = "yes"
        except Exception as error:
            exports = f"no ({type(error).__name__})"
    kind = FAMILIES[family]
    return {
        "family": family,
        "kind": kind.kind,
        "square": model.window,
        "divisor": model.size_divisor,
        "mean": list(kind.mean),
        "channels": kind.channels,
        "stride": 64 / ran[1]["logits"][2],
        "ran": ran,
        "exports": exports,
    }


def with_tables(text: str) -> str:
    """The page with its tables made anew from the result file."""
    result = json.loads(RESULT.read_text())
    before, rest = text.split(START)
    tables = "\n".join((_published(result), _families(result)))
    return before + START + "\n" + tables + "\n" + END + rest.split(END)[1]


def _published(result: dict[str, Any]) -> str:
    lines = [
        "## The paper's five\n",
        "| name | source | low resolution of 1024×2048 | threshold, nats | parameters | "
        "MACs at low resolution | at 1024×2048 | logits at |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["published"]:
        low, full = row["gmacs"].values()
        lines.append(
            f"| `{row['name']}` | {row['source']} | {row['low'][0]}×{row['low'][1]} | "
            f"{row['threshold']} | {row['parameters'] / 1e6:.1f} M | {low:.0f} G | {full:.0f} G | "
            f"1/{row['stride']} |"
        )
    lines += ["", "Licenses of weights:", ""]
    lines += [f"- `{row['name']}`: {row['license']}" for row in result["published"]]
    return "\n".join(lines) + "\n"


def _families(result: dict[str, Any]) -> str:
    sizes = ", ".join(f"{h}×{w}" for h, w in SIZES)
    lines = [
        "## Types of model that `from_transformers` takes\n",
        f"A small model of each type, with random weights, ran here at {sizes}.\n",
        "| type | output | logits at | what it cannot do | `torch.export` |",
        "|---|---|---|---|---|",
    ]
    for row in result["families"]:
        lines.append(
            f"| `{row['family']}` | {row['kind']} | 1/{row['stride']:g} | {_limits(row)} | "
            f"{row['exports']} |"
        )
    environment = result["environment"]
    lines += [
        "",
        f"Made by `python benchmarks/dense_models.py` at commit {environment['commit']}, torch "
        f"{environment['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def _limits(row: dict[str, Any]) -> str:
    limits = []
    if row["square"]:
        limits.append(
            "takes squares of one size: run in windows of its `image_size`, smaller images enlarged"
        )
    if row["divisor"] > 1:
        limits.append("sides must be multiples of its patch size: padded")
    if row["channels"] == "bgr":
        limits.append("wants BGR: flipped")
    return "; ".join(limits) or "–"


if __name__ == "__main__":
    main()
