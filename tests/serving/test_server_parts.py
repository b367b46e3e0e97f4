"""What server and workers say to each other, and the parts of it that stand alone."""

from __future__ import annotations

import asyncio
import re
from io import BytesIO

import numpy as np
import pytest
from serving_files import decoded

from sparserefine.serving import frame
from sparserefine.serving.limits import Limits
from sparserefine.serving.metrics import BUCKETS, Metrics
from sparserefine.serving.rle import run_lengths


async def _read_async(data: bytes) -> frame.Frame:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return await frame.read_async(stream)


def test_a_frame_comes_back_as_it_was() -> None:
    data = b"".join(frame.encode({"a": [1, "ü"]}, [b"", bytes(range(256))]))
    expected = frame.Frame({"a": [1, "ü"]}, (b"", bytes(range(256))))
    assert frame.read(BytesIO(data)) == expected
    assert asyncio.run(_read_async(data)) == expected
    assert frame.read(BytesIO()) is None


def test_a_frame_that_breaks_off_is_told() -> None:
    data = b"".join(frame.encode({"a": 1}, [b"0123456789"]))
    for end in (2, 10, len(data) - 1):
        with pytest.raises(frame.BrokenFrameError):
            frame.read(BytesIO(data[:end]))
        with pytest.raises(frame.BrokenFrameError):
            asyncio.run(_read_async(data[:end]))


def test_run_lengths_are_those_of_coco() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (17, 23)).astype(np.uint8)
    labels[:, 5:9] = 2
    found = run_lengths(labels)
    assert found.keys() == set(range(4))
    for label, counts in found.items():
        assert (decoded(counts, labels.shape) == (labels == label)).all()
    assert run_lengths(np.zeros((2, 3), np.uint8)) == {0: [0, 6]}
    # The example of the definition: [[0, 1], [1, 1]] has one 0, then three 1.
    assert run_lengths(np.array([[0, 1], [1, 1]], np.uint8))[1] == [1, 3]


def test_metrics_are_lines_that_prometheus_reads() -> None:
    metrics = Metrics()
    for seconds in (0.01, 0.25, 1000.0):
        metrics.observe_seconds(seconds)
    metrics.count_request("/predict", 200)
    metrics.count_request("/predict", 503)
    metrics.observe_stages({"dense": 12.5})
    metrics.observe_batch(3)
    text = metrics.text({"queue_length": ("requests that wait", 2)})
    line = re.compile(r'(# (HELP|TYPE) .+)|([a-z_]+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+)')
    assert all(line.fullmatch(one) for one in text.splitlines()) and text.endswith("\n")
    buckets = [int(n) for n in re.findall(r'_bucket\{le="[^"]+"\} (\d+)', text)]
    assert len(buckets) == len(BUCKETS) + 1 and buckets == sorted(buckets) and buckets[-1] == 3
    assert buckets[0] == 1 and "sparserefine_request_duration_seconds_sum 1000.26" in text
    assert 'sparserefine_requests_total{path="/predict",status="503"} 1' in text
    assert 'sparserefine_stage_milliseconds_sum{stage="dense"} 12.500' in text
    assert "sparserefine_queue_length 2" in text and "sparserefine_batch_size_sum 3" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queue": 0}, "queue is 0, expected 1"),
        ({"batch": 0}, "batch is 0"),
        ({"timeout": 0.0}, "timeout is 0, expected a number above 0"),
        ({"max_megabytes": float("inf")}, "max_megabytes is inf"),
        ({"batch_wait_ms": -1.0}, "batch_wait_ms is -1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**change)  # type: ignore[arg-type]
