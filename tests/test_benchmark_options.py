"""Options of the commands that measure, where they would change nothing or cannot be met."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import sparserefine as sr
from small_models import make_patch_model
from sparserefine.cli import main
from sparserefine.cli.latency import _report_failed
from sparserefine.data import Sample


@pytest.mark.parametrize("words", [["--precision", "fp16"], ["--budget-ms", "3"], ["--fit"]])
def test_options_of_several_models_are_refused_without_them(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["benchmark", *words])
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sparserefine: {words[0]} is of a run of several models.")


def test_cases_that_failed_fail_the_command() -> None:
    rows = [SimpleNamespace(status=status) for status in ("ok", "oom", "skipped")]
    matrix = SimpleNamespace(rows=rows)
    _report_failed(matrix)  # type: ignore[arg-type]
    rows += [SimpleNamespace(status=status) for status in ("failed", "timeout")]
    with pytest.raises(SystemExit, match="2 of 5 cases could not be timed"):
        _report_failed(matrix)  # type: ignore[arg-type]


def test_what_a_learned_selector_cannot_be_trained_by(street: list[Sample], tmp_path: Path) -> None:
    model = make_patch_model()
    unlabeled = [Sample(sample.name, sample.image) for sample in street]
    with pytest.raises(ValueError, match="learn_steps is 0, expected a whole number of 1 or more"):
        sr.calibrate(model, unlabeled[:1], learn_from=unlabeled[1:], learn_steps=0, out=tmp_path)
    with pytest.raises(ValueError, match="learn_split is 'train', but there is no learn_from"):
        sr.calibrate(model, unlabeled[:1], learn_split="train", out=tmp_path)
    assert not list(tmp_path.iterdir())
