"""The matrix of `sparserefine benchmark --models`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch

import sparserefine as sr
from sparserefine.experiments import latency_case, latency_matrix, paper_figures
from sparserefine.experiments.boundary_mask import MaskSelector, boundary_mask
from sparserefine.experiments.latency_case import LatencyCase, why_not
from sparserefine.experiments.latency_matrix import LatencyMatrix, cases_of, measure_matrix
from sparserefine.experiments.latency_report import markdown, save, table
from sparserefine.experiments.macs import (
    dense_macs,
    extractor_macs,
)
from sparserefine.refinement.dense_pass import DensePass

SMALL = {"size": (64, 128), "widths": "tiny", "threads": 1}
KEYS = {
    "model", "method", "device", "threads", "size", "precision", "batch", "density", "pyramid",
    "p50_ms", "p95_ms", "runs", "peak_mib", "gmacs", "status", "reason",
}  # fmt: skip


@pytest.fixture(scope="module")
def matrix() -> LatencyMatrix:
    groups = cases_of(["espnetv2-0.5"], pyramids=("floor",), extra_densities=(0.05,), **SMALL)
    return measure_matrix(groups, 2)


@pytest.mark.slow
def test_rows_say_what_was_timed(matrix: LatencyMatrix) -> None:
    document = matrix.to_json()
    json.dumps(document, allow_nan=False)
    rows = document["rows"]
    assert [row["method"] for row in rows] == ["dense", "dense_low", *["sparserefine"] * 2]
    assert all(set(row) >= KEYS for row in rows)
    assert all(row["status"] == "ok" and row["runs"] == 2 for row in rows)
    assert [round(row["density"], 2) for row in rows] == [0, 0, 0.2, 0.05]
    assert [row["density_from"] for row in rows] == ["", "", "assumed", "given"]
    assert all(100 < row["peak_mib"] < 4000 for row in rows)
    assert rows[0]["gmacs"] == pytest.approx(4 * rows[1]["gmacs"], rel=0.01)
    assert rows[2]["gmacs"] > rows[3]["gmacs"] > rows[1]["gmacs"]
    assert set(rows[2]["stages_ms"]) >= {"dense", "select", "extract", "ensemble"}
    expected = rows[0]["p50_ms"] / rows[2]["p50_ms"]
    assert document["speedup"] == {"espnetv2-0.5": pytest.approx(expected)}


@pytest.mark.slow
def test_a_line_goes_through_two_densities(matrix: LatencyMatrix) -> None:
    (fit,) = matrix.to_json()["fits"]
    for row in matrix.rows[2:]:
        assert fit["fixed_ms"] + fit["ms_per_density"] * row.density == pytest.approx(row.p50_ms)


@pytest.mark.slow
def test_files(matrix: LatencyMatrix, tmp_path: Path) -> None:
    picture = save(matrix, tmp_path / "out")
    assert picture.read_bytes().startswith(b"\x89PNG")
    read = json.loads((tmp_path / "out" / "latency.json").read_text())
    assert read["speedup"] == matrix.to_json()["speedup"]
    rows = list(csv.DictReader(io.StringIO(table(matrix))))
    assert [row["method"] for row in rows] == [row.case.method for row in matrix.rows]
    assert "20.0% (assumed)" in markdown(matrix)


def test_cases_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    layouts: list[bool | None] = []

    class Worker:
        def __init__(self, case: LatencyCase, _: float) -> None:
            self.case = case
            self.built = {"optimization": {"layout": "channels_last: faster"}}
            layouts.append(case.channels_last)

        def run(self, timed: bool) -> None:
            turns.append(f"{self.case.method} {timed}")

        def row(self, _: bool) -> latency_matrix.LatencyRow:
            return latency_matrix.LatencyRow(case=self.case, status="ok")

        def close(self) -> None:
            turns.append(f"close {self.case.method}")

    monkeypatch.setattr(latency_matrix, "_Worker", Worker)
    measure_matrix(cases_of(["espnetv2-0.5"], **SMALL), 2)
    methods = ("dense", "dense_low", "sparserefine")
    rounds = [f"{method} {timed}" for timed in (False, True, True) for method in methods]
    assert turns == [*rounds, *(f"close {method}" for method in methods)]
    assert layouts == [None, None, True]  # refined in the layout that the dense model tried


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="limits need Linux")
def test_memory_beyond_the_limit_becomes_a_row() -> None:
    conditions = {**SMALL, "size": (512, 1024), "memory_gib": 0.35}
    result = measure_matrix(cases_of(["espnetv2-0.5"], batches=(4,), **conditions), 1)
    dense = result.rows[0]
    assert dense.status == "oom"
    assert dense.p50_ms is None
    assert dense.reason
    assert "oom" in markdown(result)
    assert result.to_json()["speedup"] == {}


@pytest.mark.slow
def test_a_case_that_cannot_be_built_says_why() -> None:
    result = measure_matrix([[LatencyCase(model="no/thing", method="dense", threads=1)]], 1)
    assert result.rows[0].status == "failed"
    assert "no/thing" in result.rows[0].reason


def test_a_case_that_takes_too_long_is_ended() -> None:
    cases = cases_of(["espnetv2-0.5"], **SMALL)[0][:1]
    assert measure_matrix([cases], 1, time_limit_s=0.01).rows[0].status == "timeout"


def test_a_precision_that_the_device_lacks_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_case, "_processor_flags", lambda: {"avx2"})
    assert why_not("fp32", "cpu") == ""
    assert "avx512_bf16" in why_not("bf16", "cpu")
    monkeypatch.setattr(latency_matrix, "why_not", why_not)
    rows = measure_matrix(cases_of(["espnetv2-0.5"], ["fp16"], **SMALL), 1).rows
    assert {row.status for row in rows} == {"skipped"}
    assert "avx512_fp16" in rows[0].reason
    monkeypatch.setattr(latency_case, "_processor_flags", lambda: {"avx512_fp16"})
    assert why_not("fp16", "cpu") == ""


@pytest.mark.parametrize("density", [0.0, 0.05, 0.118, 0.35, 1.0])
def test_boundary_masks_have_the_density_asked_for(density: float) -> None:
    size = (64, 96)
    mask = boundary_mask(density, size, seed=3)
    assert int(mask.sum()) == round(density * 64 * 96)
    assert torch.equal(mask, boundary_mask(density, size, seed=3))
    if 0 < density < 1:
        assert not torch.equal(mask, boundary_mask(density, size, seed=4))
        # In bands: most neighbors of a selected cell are selected too.
        together = (mask[:, 1:] & mask[:, :-1]).sum() / mask[:, 1:].sum()
        assert together > 2 * density or together > 0.6


def test_a_mask_is_brought_to_full_resolution_in_whole_blocks() -> None:
    mask = boundary_mask(0.2, (8, 12))
    selector = MaskSelector(mask)
    full = selector(DensePass(torch.zeros(2, 3, 8, 12)), (16, 24))
    assert full.shape == (2, 16, 24)
    assert torch.equal(full[1, ::2, ::2], mask)
    assert float(full.float().mean()) == pytest.approx(selector.describe()["density"])


def test_macs_are_those_of_a_dense_convolution_where_all_is_active() -> None:
    network = sr.SparseUNet(5, widths=(4,), blocks=1)
    mask = torch.ones(1, 6, 7, dtype=torch.bool)
    inner = 6 * 7 * 9 - 2 * 3 * (6 + 7) + 4  # pairs whose both pixels exist
    assert extractor_macs(network, mask) == inner * (3 * 4 + 2 * 4 * 4)


@pytest.mark.slow
def test_macs_of_a_dense_model_need_no_memory() -> None:
    dense = sr.dense.create("espnetv2-0.5")
    small, large = (dense_macs(dense, (64 * n, 64 * n)) for n in (1, 64))
    assert large == pytest.approx(64**2 * small, rel=0.05)
    assert not next(dense.parameters()).is_meta


def test_the_paper_says() -> None:
    assert paper_figures.density("hrnet-w48") == 0.118
    assert paper_figures.speedup("hrnet-w48", "fp16", 4) == pytest.approx(1.76, abs=0.01)
    assert paper_figures.speedup("segformer-b5", "fp16", 1) == pytest.approx(2.45, abs=0.01)
    assert paper_figures.speedup("segformer-b5", "bf16", 1) is None
    assert paper_figures.speedup("mask2former-swin-large", "fp32", 8) is None  # out of memory
    assert paper_figures.speedup("espnetv2-0.5", "fp16", 1) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "large"], "size 'large': expected HEIGHTxWIDTH"),
        (["--batch", "0"], "batch '0': expected numbers of 1 or more"),
        (["--models", "demo,hrnet-w48"], "'demo' is a refiner and"),
        (["--precision", "fp8"], "precision 'fp8': expected some of fp32"),
        (["--pyramids", "round"], "pyramid 'round': expected some of floor"),
        (["--rounds", "0"], "rounds is 0, expected 1 or more"),
        (["--density", "2"], "density is 2.0, expected a share above 0"),
        (["--threads", "-3"], "threads is -3, expected 1 or more"),
        (["--memory-limit", "-1"], "memory_limit is -1.0, expected GiB"),
        (["--models", ","], "there is no model to time. Name some of espnetv2"),
    ],
)
def test_impossible_options_are_answered_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparserefine.cli import main

    models = [] if "--models" in options else ["--models", "espnetv2-0.5"]
    with pytest.raises(SystemExit) as caught:
        main(["benchmark", *models, *options, "--out", str(tmp_path / "out")])
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()
