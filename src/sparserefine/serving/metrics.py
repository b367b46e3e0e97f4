"""What a server counts, in the text format that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

# Seconds: a small photo on one thread takes a tenth of one, a full queue some minutes.
BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counts since the start of the server."""

    def __init__(self) -> None:
        self.restarts = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._stage_ms: Counter[str] = Counter()
        self._stages: Counter[str] = Counter()
        self._batches: Counter[str] = Counter()

    def count_request(self, path: str, status: int) -> None:
        """Count a request that was answered; 499 where its client has left."""
        self._requests[path, status] += 1

    def observe_seconds(self, seconds: float) -> None:
        """Note how long a prediction took, from its first byte to its last."""
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def observe_stages(self, stages_ms: Mapping[str, float]) -> None:
        """Note the milliseconds of each stage of an image."""
        for stage, ms in stages_ms.items():
            self._stage_ms[stage] += ms  # type: ignore[assignment]
            self._stages[stage] += 1

    def observe_batch(self, size: int) -> None:
        """Note that a worker took so many requests at once."""
        self._batches["sum"] += size
        self._batches["count"] += 1

    def text(self, gauges: Mapping[str, tuple[str, float | int]]) -> str:
        """All of it.

        Args:
            gauges: What stands now, by name: what it is, and its value.
        """
        lines = _head("requests_total", "counter", "requests by path and status")
        for (path, status), count in sorted(self._requests.items()):
            lines.append(f'sparserefine_requests_total{{path="{path}",status="{status}"}} {count}')
        for name, (meaning, value) in gauges.items():
            lines += [*_head(name, "gauge", meaning), f"sparserefine_{name} {value:g}"]
        lines += _head("worker_restarts_total", "counter", "workers that ended and came again")
        lines.append(f"sparserefine_worker_restarts_total {self.restarts}")
        lines += self._histogram()
        lines += _head("stage_milliseconds", "summary", "milliseconds by stage of an image")
        for stage, count in self._stages.items():
            label = f'{{stage="{stage}"}}'
            total = float(self._stage_ms[stage])
            lines.append(f"sparserefine_stage_milliseconds_sum{label} {total:.3f}")
            lines.append(f"sparserefine_stage_milliseconds_count{label} {count}")
        lines += _head("batch_size", "summary", "requests that a worker took at once")
        for part in ("sum", "count"):
            lines.append(f"sparserefine_batch_size_{part} {self._batches[part]}")
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        name = "request_duration_seconds"
        lines = _head(name, "histogram", "seconds of a prediction, the upload included")
        below = 0
        for bound, count in zip((*BUCKETS, None), self._buckets, strict=True):
            below += count
            edge = "+Inf" if bound is None else f"{bound:g}"
            lines.append(f'sparserefine_{name}_bucket{{le="{edge}"}} {below}')
        lines.append(f"sparserefine_{name}_sum {self._seconds:.6f}")
        lines.append(f"sparserefine_{name}_count {below}")
        return lines


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP sparserefine_{name} {meaning}", f"# TYPE sparserefine_{name} {kind}"]
