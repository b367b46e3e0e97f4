"""What `benchmark --budget-ms` answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sparserefine as sr
from sparserefine.calibration.budget import answer_budget
from sparserefine.cli import main
from synthetic_street.scene import SyntheticStreet

CURVE = {"threshold": [0.1, 0.5, 1.0], "recall": [0.9, 0.7, 0.2], "density": [0.4, 0.2, 0.05]}
ACCURACY = {
    "density": [0.0, 0.1, 0.3],
    "right": [0.8, 0.9, 0.92],
    "right_interval": [[0.7, 0.9]] * 3,
    "miou": [0.4, 0.5, 0.6],
    "miou_interval": [[0.3, 0.7]] * 3,
}
CALIBRATION = {"curve": CURVE, "against": "labels", "accuracy": None}


def test_the_lowest_threshold_within_the_density() -> None:
    answer = answer_budget(150.0, 100.0, 200.0, CALIBRATION)
    assert answer.max_density == pytest.approx(0.25)
    assert (answer.threshold, answer.recall, answer.density) == (0.5, 0.7, 0.2)
    first, second, third = answer.sentences()
    assert first == "150 ms: --max-density 0.250"
    assert second.startswith("--threshold 0.5: 70.0% of the low-resolution errors")
    assert third == "expected accuracy: calibrate with --accuracy to know it"


def test_the_accuracy_to_expect_lies_between_those_measured() -> None:
    answer = answer_budget(140.0, 100.0, 200.0, {**CALIBRATION, "accuracy": ACCURACY})
    assert answer.refined == {"right": pytest.approx(0.91), "miou": pytest.approx(0.55)}
    assert answer.sentences()[-1] == (
        "expected, by labels: 91.00% of the pixels right and mIoU 55.00% (80.00% and 40.00% at low "
        "resolution)"
    )
    json.dumps(answer.to_json(), allow_nan=False)


def test_budgets_that_pay_for_nothing_or_everything() -> None:
    nothing = answer_budget(90.0, 100.0, 200.0, CALIBRATION)
    assert nothing.max_density == 0
    assert nothing.sentences() == ["90 ms do not pay for the dense model at low resolution"]
    assert answer_budget(900.0, 100.0, 200.0, None).sentences() == ["900 ms: --max-density 1.000"]
    little = answer_budget(101.0, 100.0, 200.0, CALIBRATION)
    assert little.sentences()[1] == "the calibration has no threshold that selects so little"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert not end.value.code


@pytest.mark.slow
def test_a_trained_refiner_is_timed_at_several_densities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, sample in enumerate(SyntheticStreet(2, size=(96, 160))[i] for i in (0, 1)):
        sr.images.write_image(sample.image.permute(1, 2, 0).numpy(), photos / f"{index}.png")
    run("calibrate", str(photos), "--accuracy", "--out", str(tmp_path / "calibrate"))
    told = capsys.readouterr().out
    assert "mIoU" in told
    calibration = tmp_path / "calibrate" / "calibration.json"
    assert json.loads(calibration.read_text())["accuracy"]["density"][0] == 0
    command = ["benchmark", "--models", "demo", "--size", "96x160", "--rounds", "1"]
    command += ["--budget-ms", "100000", "--calibration", str(calibration)]
    run(*command, "--out", str(tmp_path / "latency"), "--json")
    document = json.loads(capsys.readouterr().out)
    assert len({round(row["density"], 3) for row in document["rows"][2:]}) == 3
    assert [row["density_from"] for row in document["rows"][2:]] == ["photo", "given", "given"]
    (fit,) = document["fits"]
    assert fit["budget"]["max_density"] == 1
    assert 0 < fit["budget"]["refined"]["right"] <= 1


def test_a_calibration_of_another_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(
        json.dumps({**CALIBRATION, "threshold": 0.5, "model": {"dense": {"name": "other"}}})
    )
    command = ["benchmark", "--models", "demo", "--budget-ms", "100", "--calibration", str(file)]
    with pytest.raises(SystemExit):
        main(command)
    assert "is of another model: dense name is 'other' there" in capsys.readouterr().err
