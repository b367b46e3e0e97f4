"""Values of the hyperparameters, in Python, in files and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sparserefine as sr
from sparserefine.cli import main
from sparserefine.cli.config_words import with_config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop_size: 64", "crop_size is 64, expected two whole numbers"),
        ("crop_size: [64]", r"crop_size is \(64,\), expected two whole numbers"),
        ("crop_size: [64.5, 96]", r"crop_size is \(64\.5, 96\), expected two whole numbers"),
        ("crop_size: [64, 96, 3]", r"crop_size is \(64, 96, 3\), expected two whole numbers"),
        ("scales: 1.0", "scales is 1.0, expected two numbers"),
        ("view_size: [a, b]", "view_size is .*expected two numbers"),
        ("flip: 1", "flip is 1, expected true or false"),
        ("sync_norm: sometimes", "sync_norm is 'sometimes', expected true or false"),
        ("temperature: hot", "temperature is 'hot', expected a finite number"),
        ("ema: true", "ema is True, expected a finite number"),
        ("steps: 2.5", "steps is 2.5, expected a whole number"),
        ("steps: true", "steps is True, expected a whole number"),
        ("epochs: many", "epochs is 'many', expected a whole number"),
        ("seed: 1.5", "seed is 1.5, expected a whole number"),
        ("seed: x", "seed is 'x', expected a whole number"),
        ("order: 1", "order is 1, expected a word, such as area"),
        ("trackers: [1]", r"trackers is \(1,\), expected a list of names"),
    ],
)
def test_a_bad_value_of_a_file_is_named(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        sr.TrainConfig.from_file(file)
    with pytest.raises(SystemExit) as end:
        main(["train", str(file), "--data", str(tmp_path)])
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sparserefine: {text.partition(':')[0]} is ")


def test_values_may_be_written_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("steps: 1e1\nepochs: 2e0\ntrackers: tensorboard\nclass_weights: 3\n")
    config = sr.TrainConfig.from_file(file)
    assert config == sr.TrainConfig(
        steps=10, epochs=2, trackers=("tensorboard",), class_weights="3"
    )


@pytest.mark.parametrize("word", ["--steps", "--steps=7"])
def test_who_asks_for_steps_gets_no_epochs_of_the_file(word: str, tmp_path: Path) -> None:
    """In the recipes a run is as long as so many epochs, which would hide the steps."""
    config = sr.TrainConfig.from_file("cityscapes-hrnet-w48.yaml", steps=7)
    assert config.steps_for(2975) == 7
    both = sr.TrainConfig.from_file("cityscapes-hrnet-w48.yaml", steps=7, epochs=1)
    assert both.steps_for(2975) == 93
    words = with_config(["train", "cityscapes-hrnet-w48.yaml", "city", word])
    assert "--epochs" not in words
    assert "--epochs" in with_config(["train", "cityscapes-hrnet-w48.yaml", "city"])
    (tmp_path / "own.yaml").write_text("base: cityscapes-hrnet-w48.yaml\nsteps: 9\n")
    assert sr.TrainConfig.from_file(tmp_path / "own.yaml").steps_for(2975) == 9


def test_a_flag_may_mend_what_a_file_lacks(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("cross_entropy: 0\n")
    words = with_config(["train", str(file), "--dice", "1"])
    assert words == ["train", "--dice", "1", "--cross-entropy", "0"]
    with pytest.raises(ValueError, match="expected a weight above 0"):
        with_config(["train", str(file)])


def test_a_file_that_does_not_come_first_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[Any] = ["train", "--workers", "0", str(tmp_path / "run.yaml")]
    with pytest.raises(SystemExit):
        main(words)
    assert "is a file of options, which comes before all others" in capsys.readouterr().err
