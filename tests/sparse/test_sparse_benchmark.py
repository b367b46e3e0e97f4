"""benchmarks/sparse_conv.py: what it prints, what it writes, and the page it makes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sparserefine.sparse.native import library

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RATIOS = {"native_vs_spconv", "native_vs_dense", "torch_vs_spconv", "worst_stage_vs_spconv"}
DENSITIES = ("0.10", "0.12", "0.20", "0.35")
NEEDS_SCIPY = pytest.mark.skipif(
    importlib.util.find_spec("scipy") is None, reason="the masks need scipy"
)
NEEDS_NATIVE = pytest.mark.skipif(
    isinstance(library.load(), str), reason="the native library was not built"
)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("sparse_page")
    for name in ("sparse_conv", "sparse_page", "sparse_unets", "boundary_masks"):
        sys.modules.pop(name, None)


@pytest.fixture
def benchmark(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The script on tiny images, its files elsewhere."""
    (tmp_path / "page.md").write_text(page.PAGE.read_text())
    monkeypatch.setattr(page, "RESULT", tmp_path / "sparse_conv.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spconv, where it is installed, imports what is deprecated
        module = importlib.import_module("sparse_conv")
    monkeypatch.setattr(module, "SIZE", (64, 96))
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def stages(
    mask: object, case: dict[str, Any], rounds: int, peer: bool = True
) -> list[dict[str, Any]]:
    """What `measure_stages` would return."""
    ms = {"native": 1.0, "torch": 4.0, "dense": 20.0, **({"spconv": 8.0} if peer else {})}
    row = {**case, "rounds": rounds, "gflop": 0.5, "ms": ms, "p95_ms": slower(ms)}
    return [{**row, "stage": s} for s in range(5)]


def slower(ms: dict[str, float]) -> dict[str, float]:
    return {name: 1.5 * value for name, value in ms.items()}


def extractors(
    mask: object, case: dict[str, Any], rounds: int, with_dense: bool, peer: bool = True
) -> list[dict[str, Any]]:
    ms = {"native": 100.0, "torch": 400.0, **({"spconv": 800.0} if peer else {})}
    row = {**case, "rounds": rounds, "native_share_of_sgemm": 1.5}
    first = ms | ({"dense": 2000.0} if with_dense else {})
    return [
        {**row, "pyramid": "floor", "ms": first, "p95_ms": slower(first)},
        {**row, "pyramid": "dilate", "ms": ms, "p95_ms": slower(ms)},
    ]


def training(mask: object, case: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    ms = {"direct_forward": 100.0, "step": 150.0}
    row = {**case, "rounds": rounds, "step_vs_direct_forward": 1.5}
    return [{**row, "ms": ms, "p95_ms": slower(ms)}]


@pytest.fixture
def pretended(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which measures nothing, where spconv is installed."""
    monkeypatch.setattr(benchmark, "spconv", ModuleType("spconv"))
    for measured in (stages, extractors, training):
        monkeypatch.setattr(benchmark, f"measure_{measured.__name__}", measured)
    return benchmark


def last_line(text: str) -> dict[str, Any]:
    return json.loads(text.splitlines()[-1])


@NEEDS_SCIPY
@NEEDS_NATIVE
def test_without_spconv_its_ratios_are_null_and_one_line_says_what_to_install(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "spconv", None)
    benchmark.main(["--quick"])
    printed = capsys.readouterr()
    found = last_line(printed.out)
    assert set(found) == {"ratios", "environment"}
    assert found["environment"]["device"]
    assert tuple(found["ratios"]) == DENSITIES
    for ratios in found["ratios"].values():
        assert set(ratios) == RATIOS
        assert ratios.pop("native_vs_dense") > 0
        assert set(ratios.values()) == {None}
    assert "spconv is not installed, it is left out: pip install spconv==2.3.8\n" in printed.err
    assert "wrote no file (--quick, no spconv)" in printed.err
    assert not benchmark.RESULT.exists()


@NEEDS_SCIPY
def test_the_ratios_are_those_of_the_times(
    pretended: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    pretended.main(["--quick", "--densities", "0.24"])
    assert last_line(capsys.readouterr().out)["ratios"] == {
        "0.24": {
            "native_vs_spconv": 8,
            "native_vs_dense": 20,
            "torch_vs_spconv": 2,
            "worst_stage_vs_spconv": 8,
        }
    }


@NEEDS_SCIPY
def test_what_is_asked_for_wins_over_quick(benchmark: ModuleType) -> None:
    options = benchmark.parse(["--quick"])
    assert (options.threads, options.seeds, options.rounds) == ([1], [0], 1)
    options = benchmark.parse(["--quick", "--threads", "2", "--seeds", "3", "4", "--rounds", "2"])
    assert (options.threads, options.seeds, options.rounds) == ([2], [3, 4], 2)
    assert options.densities == [float(density) for density in DENSITIES]


@NEEDS_SCIPY
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--densities", "12"], "densities are shares of the pixels"),
        (["--threads", "0"], "threads and rounds are 1 or more"),
        (["--rounds", "0"], "threads and rounds are 1 or more"),
        (["--out", "no/such/folder.json"], "there is no folder no/such"),
    ],
)
def test_options_that_cannot_be_are_refused_at_the_start(
    benchmark: ModuleType,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse(arguments)
    assert message in capsys.readouterr().err


@NEEDS_SCIPY
def test_one_thread_and_two_can_be_measured_at_different_times(pretended: ModuleType) -> None:
    for threads in ("2", "1"):
        pretended.main(["--threads", threads])
        page = pretended.PAGE.read_text()
        # The single convolutions are those of the fewest threads there are.
        assert f"at each stage, {'1 thread' if threads == '1' else '2 threads'}, mill" in page
    result = json.loads(pretended.RESULT.read_text())
    assert list(result["ratios"]) == ["1", "2"]
    assert tuple(result["ratios"]["1"]) == tuple(result["ratios"]["2"]) == DENSITIES
    assert [len(result[table]) for table in pretended.TABLES] == [120, 16, 8]


@NEEDS_SCIPY
@pytest.mark.parametrize("other", [{"commit": "another"}, {"device": "another"}])
def test_rows_of_another_commit_or_machine_are_not_kept(
    pretended: ModuleType, other: dict[str, str]
) -> None:
    pretended.main(["--threads", "1"])
    result = json.loads(pretended.RESULT.read_text())
    result["environment"].update(other)
    pretended.RESULT.write_text(json.dumps(result))
    pretended.main(["--threads", "2"])
    assert list(json.loads(pretended.RESULT.read_text())["ratios"]) == ["2"]


@NEEDS_SCIPY
@pytest.mark.parametrize(
    "arguments",
    [
        ["--quick"],
        ["--densities", "0.12", "--threads", "1"],
        ["--seeds", "0"],
        ["--rounds", "1"],
    ],
)
def test_only_a_complete_run_writes_the_result_and_the_page(
    pretended: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretended.main([])
    assert capsys.readouterr().err.endswith(f"wrote {pretended.RESULT}\nwrote {pretended.PAGE}\n")
    before = pretended.RESULT.read_text(), pretended.PAGE.read_text()
    pretended.main(arguments)
    assert f"wrote no file ({arguments[0]})" in capsys.readouterr().err
    out = tmp_path / "other.json"
    pretended.main([*arguments, "--out", str(out)])
    assert capsys.readouterr().err.endswith(f"wrote {out}\n")
    assert set(json.loads(out.read_text())) == {
        *pretended.TABLES,
        "ratios",
        "spconv",
        "pages",
        "environment",
    }
    assert before == (pretended.RESULT.read_text(), pretended.PAGE.read_text())


@NEEDS_SCIPY
def test_a_run_without_spconv_does_not_replace_the_result(
    pretended: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretended, "spconv", None)
    pretended.main([])
    assert "wrote no file (no spconv)" in capsys.readouterr().err
    assert not pretended.RESULT.exists()


def some_result(
    page: ModuleType, densities: list[float], threads: list[int], peer: bool = True
) -> dict[str, Any]:
    cases = [
        {"density": density, "seed": 4, "threads": number}
        for number in threads
        for density in densities
    ]
    ratios = {name: 5.0 if peer or name == "native_vs_dense" else None for name in RATIOS}
    return {
        "stages": [row for case in cases for row in stages(None, case, 2, peer)],
        "extractors": [row for case in cases for row in extractors(None, case, 3, False, peer)],
        "training": [row for case in cases for row in training(None, case, 2)],
        "ratios": {
            str(number): {f"{density:.2f}": ratios for density in densities} for number in threads
        },
        "pages": "kept",
        "environment": {"device": "Abacus", "torch": "2", "commit": "abc"},
    }


@pytest.mark.parametrize("threads", [[1], [2], [1, 4]])
@pytest.mark.parametrize("densities", [[0.12], [0.05, 0.35]])
@pytest.mark.parametrize("peer", [True, False])
def test_the_page_of_any_part_of_the_measurement(
    page: ModuleType, densities: list[float], threads: list[int], peer: bool
) -> None:
    result = some_result(page, densities, threads, peer)
    text = page.figures_of(result, {"sparse_conv_other.json": result})
    assert "None" not in text
    assert ("spconv was not installed" in text) is not peer
    name = f"{threads[0]} thread{'s' * (threads[0] > 1)}"
    assert f"One C→C convolution at each stage, {name}, milliseconds" in text
    assert text.count(f"| {densities[0]:.0%} | 32 channels |") == 1
    own = "| native | " + " | ".join(["1.0 (500)"] * 5) + " |"
    assert text.count(own) == len(densities)
    other = "8.0 (62)" if peer else "–"
    assert text.count("| spconv | " + " | ".join([other] * 5) + " |") == len(densities)
    last = "800 (1200)" if peer else "–"
    cells = f"100 (150) | 400 (600) | {last} | – | 150% |"
    assert f"| {densities[0]:.0%} | {threads[0]} | floor | {cells}" in text
    assert "95th percentiles above the medians, in the middle of all rows: native 50%" in text


def test_the_page_says_what_each_table_is_made_of(page: ModuleType) -> None:
    text = page.figures_of(some_result(page, [0.12], [1]), {})
    assert "median over 1 mask of 2 rounds each" in text
    assert (
        "sgemm does. One mask for each density (seed 4), medians of 3 rounds (95th percentiles)."
        in text
    )
    assert "direct method. One mask for each density (seed 4), medians of 2 rounds:" in text


def test_the_page_says_who_pays_for_fresh_pages(page: ModuleType) -> None:
    result = some_result(page, [0.12], [1])
    assert "nobody's results cost fresh pages" in page.figures_of(result, {})
    result["pages"] = "the system has no mallopt"
    assert "which saves them fresh pages" in page.figures_of(result, {})


def test_the_page_of_the_first_table_alone(page: ModuleType) -> None:
    result = {**some_result(page, [0.12], [1]), "extractors": [], "training": []}
    text = page.figures_of(result, {})
    assert "whole extractor" not in text and "training step" not in text


def test_the_page_counts_what_was_reached(page: ModuleType) -> None:
    result = some_result(page, [0.12, 0.05], [1])  # nothing was set out for 5 %
    text = page.figures_of(result, {})
    assert (
        "On Abacus, torch 2, commit abc, 3 of 4 cells are reached; not native against torch's "
        "dense `conv2d`, channels_last at 12% with 1 thread (5.00×)." in text
    )
    result["ratios"]["1"]["0.12"] = dict.fromkeys(RATIOS, 11.0)
    assert "4 of 4 cells are reached.\n" in page.figures_of(result, {})


@NEEDS_SCIPY
@pytest.mark.parametrize(("density", "seed"), [(0.10, 0), (0.12, 1), (0.20, 2), (0.35, 7)])
def test_the_masks_are_those_of_the_experiments(
    benchmark: ModuleType, shared: Path, density: float, seed: int
) -> None:
    path = shared / "sparse" / "masks.py"
    spec = importlib.util.spec_from_file_location("masks_of_the_experiments", path)
    assert spec is not None and spec.loader is not None
    masks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(masks)
    masks.H, masks.W = 256, 384
    assert torch.equal(
        benchmark.boundary_mask(density, seed, (256, 384)), masks.mask(density, seed)
    )


@NEEDS_SCIPY
def test_masks_of_any_size_have_their_density(benchmark: ModuleType) -> None:
    mask = benchmark.boundary_mask(0.3, size=(61, 130))
    assert mask.shape == (61, 130)
    assert int(mask.sum()) == pytest.approx(0.3 * mask.numel(), abs=1)


@NEEDS_SCIPY
@NEEDS_NATIVE
@pytest.mark.slow
def test_quick_takes_less_than_a_minute() -> None:
    """Of its one thread's time, which other tests beside it do not change."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(BENCHMARKS / "sparse_conv.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    found = last_line(done.stdout)
    assert set(found) == {"ratios", "environment"}
    assert tuple(found["ratios"]) == DENSITIES
    assert all(set(ratios) == RATIOS for ratios in found["ratios"].values())
