"""Latency of dense models with and without refinement, over precisions and batches.

Each case has a process of its own, so that its memory is its own and running out of it ends nothing
else. The processes of a group (a model, a precision, a batch size) are kept alive together and told
in turns to run, so that a noisy machine is noisy to all.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sparserefine.calibration.latency_fit import LatencyFit
from sparserefine.evaluation.statistics import median, percentile
from sparserefine.experiments import paper_figures
from sparserefine.experiments.latency_case import LatencyCase, why_not
from sparserefine.photos.benchmark import describe_environment

TIME_LIMIT_S = 900.0


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """Measurements of one case.

    Attributes:
        case: The case that was timed.
        status: How it went: "ok", "oom" (the memory limit, or the system, ended it), "skipped"
            (this device does not compute in that precision), "timeout" or "failed".
        reason: Why the status is not "ok".
        density: Share of the pixels refined.
        density_from: Source of the density: "given", "photo", or for a boundary mask "paper", or
            "assumed" where the paper lacks the model; empty where nothing is refined.
        p50_ms: Median milliseconds of a run.
        p95_ms: 95th percentile of the milliseconds of a run.
        runs: Number of timed runs.
        peak_mib: Most MiB that the process held.
        gmacs: MACs of a run, in 10⁹.
        stages_ms: Median milliseconds of each stage.
        ran_in: Precision that each part computed in: that of the case, unless the kernels of the
            device lack it.
        optimization: What was done to make the dense model faster; empty for nothing.
    """

    case: LatencyCase
    status: str
    reason: str = ""
    density: float = 0.0
    density_from: str = ""
    p50_ms: float | None = None
    p95_ms: float | None = None
    runs: int = 0
    peak_mib: float | None = None
    gmacs: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    ran_in: dict[str, str] = field(default_factory=dict)
    optimization: dict[str, str] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The precision of the case, and that of the parts that have another."""
        other = {part: own for part, own in self.ran_in.items() if own != self.case.precision}
        if not other:
            return self.case.precision
        return f"{self.case.precision} ({', '.join(other)} {next(iter(other.values()))})"

    @property
    def images_per_second(self) -> float | None:
        """Number of images per second, from the median."""
        return None if self.p50_ms is None else 1000 * self.case.batch / self.p50_ms

    def to_json(self) -> dict[str, Any]:
        """The row as plain values, an entry of "rows" in the document of the matrix."""
        case = self.case
        return {
            "model": case.model,
            "method": case.method,
            "device": case.device,
            "threads": case.threads,
            "size": list(case.size),
            "precision": case.precision,
            "batch": case.batch,
            "density": self.density,
            "density_from": self.density_from,
            "pyramid": case.pyramid,
            "widths": case.widths if case.method == "sparserefine" else "",
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "runs": self.runs,
            "images_per_second": self.images_per_second,
            "peak_mib": self.peak_mib,
            "gmacs": self.gmacs,
            "stages_ms": self.stages_ms,
            "ran_in": self.ran_in,
            "optimization": self.optimization,
            "status": self.status,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class LatencyMatrix:
    """Measurements of all cases.

    Attributes:
        rows: One row per case, in the order of the groups.
    """

    rows: tuple[LatencyRow, ...]

    def row_of(self, like: LatencyCase, method: str) -> LatencyRow | None:
        """The row that differs from a case in method only, if it was timed."""
        for row in self.rows:
            here = replace(row.case, method=like.method, pyramid=like.pyramid, density=like.density)
            if row.case.method == method and here == like and row.status == "ok":
                return row
        return None

    def fit(self, like: LatencyCase) -> LatencyFit | None:
        """A line through the densities at which a case was timed, if there were several."""
        points = {
            row.density: row.p50_ms
            for row in self.rows
            if row.status == "ok"
            and row.p50_ms is not None
            and replace(row.case, density=like.density) == like
        }
        if len(points) < 2:
            return None
        return LatencyFit.through(list(points), list(points.values()), like.size)

    def speedup(self, row: LatencyRow) -> float | None:
        """How many times faster a row is than the dense model at full resolution."""
        dense = self.row_of(row.case, "dense")
        if dense is None or dense.p50_ms is None or row.p50_ms is None:
            return None
        return dense.p50_ms / row.p50_ms

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine benchmark --models … --json` prints."""
        best: dict[str, float] = {}
        density: dict[str, float] = {}  # the first of a model counts; others are there for the fit
        rows = []
        for row in self.rows:
            ratio = self.speedup(row) if row.case.method == "sparserefine" else None
            case = row.case
            paper = None
            if case.method == "sparserefine":
                paper = paper_figures.speedup(case.model, case.precision, case.batch)
            rows.append({**row.to_json(), "speedup": ratio, "paper_speedup": paper})
            if ratio is not None and density.setdefault(case.model, case.density) == case.density:
                best[case.model] = max(ratio, best.get(case.model, 0.0))
        return {
            "rows": rows,
            "speedup": best,
            "fits": self._fits(),
            "environment": describe_environment(),
        }

    def _fits(self) -> list[dict[str, Any]]:
        """Fits of milliseconds over density, and the density where they meet full resolution."""
        fits = []
        seen: set[LatencyCase] = set()
        for row in self.rows:
            like = replace(row.case, density=0.0)
            fit = self.fit(row.case) if row.case.method == "sparserefine" else None
            if fit is None or like in seen:
                continue
            seen.add(like)
            dense = self.row_of(row.case, "dense")
            even = None
            if dense is not None and dense.p50_ms is not None and fit.ms_per_density > 0:
                even = (dense.p50_ms - fit.fixed_ms) / fit.ms_per_density
            fits.append(
                {
                    "model": like.model,
                    "precision": like.precision,
                    "batch": like.batch,
                    "pyramid": like.pyramid,
                    "fixed_ms": fit.fixed_ms,
                    "ms_per_density": fit.ms_per_density,
                    "break_even_density": even,
                }
            )
        return fits


class _Worker:
    """The process of one case."""

    def __init__(self, case: LatencyCase, time_limit_s: float) -> None:
        self.case = case
        self.time_limit_s = time_limit_s
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sparserefine.experiments.latency_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        self.built = self.ask(json.dumps(asdict(case)))
        self.times: list[float] = []
        self.stages: list[dict[str, float]] = []
        self.peak_mib = 0.0
        self.problem = {} if self.built["status"] == "ok" else self.built

    def run(self, timed: bool) -> None:
        """Run the case once; does nothing once the process has failed."""
        if self.problem:
            return
        answer = self.ask("run")
        if answer["status"] != "ok":
            self.problem = answer
            return
        self.peak_mib = answer["peak_mib"]
        if timed:
            self.times.append(answer["ms"])
            self.stages.append(answer["stages_ms"])

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for the answer, or for the end of the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._ended()
        ready, _, _ = select.select([self.process.stdout], [], [], self.time_limit_s)
        if not ready:
            self.process.kill()
            reason = f"no answer within {self.time_limit_s:.0f} s"
            return {"status": "timeout", "reason": reason}
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else self._ended()

    def _ended(self) -> dict[str, Any]:
        code = self.process.wait()
        # 9: what the system does to whoever takes the last of its memory.
        if code == -9:
            return {"status": "oom", "reason": "the system killed the process"}
        return {"status": "failed", "reason": f"the process ended with exit code {code}"}

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def row(self, trained: bool) -> LatencyRow:
        """The row of what was measured."""
        if self.problem or not self.times:
            problem = self.problem or {"status": "failed", "reason": "nothing was timed"}
            return LatencyRow(case=self.case, **problem)
        names = self.stages[0]
        refines = self.case.method == "sparserefine"
        return LatencyRow(
            case=self.case,
            status="ok",
            density=self.built["density"],
            density_from=_density_from(self.case, trained) if refines else "",
            p50_ms=median(self.times),
            p95_ms=percentile(self.times, 95),
            runs=len(self.times),
            peak_mib=self.peak_mib,
            gmacs=self.built["gmacs"],
            stages_ms={name: median([stage[name] for stage in self.stages]) for name in names},
            ran_in=self.built["ran_in"],
            optimization=self.built["optimization"],
        )


def _density_from(case: LatencyCase, trained: bool) -> str:
    if trained:
        return "given" if case.density else "photo"
    if case.density != paper_figures.density(case.model):
        return "given"
    return "paper" if case.model in paper_figures.NAMES else "assumed"


def measure_matrix(
    groups: Sequence[Sequence[LatencyCase]],
    rounds: int = 7,
    *,
    trained: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    advance: Callable[[], None] = lambda: None,
    done: Callable[[LatencyRow], None] = lambda _: None,
) -> LatencyMatrix:
    """Time cases, group by group.

    Args:
        groups: Groups of cases; those of one group take turns.
        rounds: Number of timed runs of each case, after one to warm up.
        trained: Whether the cases are of trained refiners, whose own density is that of a photo.
        time_limit_s: Seconds to wait for one answer of a case.
        advance: Called after each round.
        done: Called with each row when its group is done.

    Raises:
        ValueError: `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, expected 1 or more.")
    rows: list[LatencyRow] = []
    for group in groups:
        for row in _measure_group(group, rounds, trained, time_limit_s, advance):
            rows.append(row)
            done(row)
    return LatencyMatrix(tuple(rows))


def _measure_group(
    group: Sequence[LatencyCase],
    rounds: int,
    trained: bool,
    time_limit_s: float,
    advance: Callable[[], None],
) -> list[LatencyRow]:
    skipped = {case: why_not(case.precision, case.device) for case in group}
    with _workers([case for case in group if not skipped[case]], time_limit_s) as workers:
        for turn in range(rounds + 1):
            for worker in workers.values():
                worker.run(timed=turn > 0)
            advance()
        return [
            LatencyRow(case=case, status="skipped", reason=skipped[case])
            if skipped[case]
            else workers[case].row(trained)
            for case in group
        ]


@contextmanager
def _workers(
    cases: Sequence[LatencyCase], time_limit_s: float
) -> Iterator[dict[LatencyCase, _Worker]]:
    workers: dict[LatencyCase, _Worker] = {}
    try:
        tried = None  # what the dense model tried alone is the layout of all that refine it
        for case in cases:
            layout = tried if case.method == "sparserefine" else None
            workers[case] = _Worker(replace(case, channels_last=layout), time_limit_s)
            if case.method == "dense_low" and (done := workers[case].built.get("optimization")):
                tried = done["layout"].startswith("channels_last:")
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def cases_of(
    models: Sequence[str],
    precisions: Sequence[str] = ("fp32",),
    batches: Sequence[int] = (1,),
    pyramids: Sequence[str] = ("floor",),
    extra_densities: Sequence[float] = (),
    trained: bool = False,
    **conditions: Any,
) -> list[list[LatencyCase]]:
    """The cases to time, one group per model, precision and batch size.

    Args:
        models: Names of dense models, or refiners.
        precisions: Precisions to time: some of "fp32", "fp16", "bf16".
        batches: Batch sizes to time.
        pyramids: How the extractor chooses coarser pixels; [""] for trained refiners, which have
            their own.
        extra_densities: Densities at which refinement is timed too, to fit a line.
        trained: Whether the models are refiners, which choose their density if none is given.
        conditions: Other attributes of `LatencyCase`.
    """
    groups = []
    for model in models:
        published = 0.0 if trained else paper_figures.density(model)
        density = conditions.get("density") or published
        for precision in precisions:
            for batch in batches:
                shared = {
                    **conditions,
                    "model": model,
                    "precision": precision,
                    "batch": batch,
                    "density": density,
                }
                group = [LatencyCase(method=method, **shared) for method in ("dense", "dense_low")]
                group += [
                    LatencyCase(
                        method="sparserefine", pyramid=pyramid, **{**shared, "density": share}
                    )
                    for pyramid in pyramids
                    for share in (density, *extra_densities)
                ]
                groups.append(group)
    return groups
