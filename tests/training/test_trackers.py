"""The figures of a run go to the trackers that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

import sparserefine as sr
from small_models import make_model
from sparserefine.data import Sample

CONFIG = sr.TrainConfig(
    steps=3, batch_size=1, crop_size=(48, 64), views=1, trackers=("tensorboard",)
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the trackers' own libraries
def test_tensorboard_has_the_figures_of_each_step(street: list[Sample], tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="extra trackers")
    pytest.importorskip("tensorboard", reason="extra trackers")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = sr.train(make_model(), street[:2], CONFIG, out=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(row["step"], pytest.approx(row["loss"])) for row in result.log]


def test_missing_trackers_are_said_before_work_starts(
    street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: name != "accelerate" or None)
    with pytest.raises(ImportError, match=r"trackers needs accelerate: .*'sparserefine\[trackers"):
        sr.train(make_model(), street[:1], CONFIG, out=tmp_path)
