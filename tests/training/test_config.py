"""Files of options: all that ship are read, and what is unknown is named."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

import sparserefine as sr
from sparserefine.cli import main
from sparserefine.cli.config_words import with_config
from sparserefine.cli.data_options import DataOptions
from sparserefine.cli.train import train
from sparserefine.training.config_file import OF_THE_RUN, read_config, shipped_configs

MODELS = {
    "hrnet-w48": ("hrnet-w48", [512, 1024], 0.3),
    "segformer-b5": ("segformer-b5", [512, 1024], 0.1),
    "mask2former-t": ("mask2former-swin-tiny", [512, 1024], 0.05),
    "mask2former-l": ("mask2former-swin-large", [512, 1024], 0.005),
    "segnext-l": ("segnext-l", [640, 1280], 0.1),
}


@pytest.mark.parametrize("name", shipped_configs())
def test_what_ships_is_the_papers_recipe(name: str) -> None:
    config, values = sr.TrainConfig.from_file(name), read_config(name)
    assert config.batch_size == 32 and config.crop_size == (512, 1024)
    assert config.crop_scales == (0.5, 2.0) and config.flip and config.jitter == 1
    assert config.learning_rate == 3e-4 and config.weight_decay == 0.05 and config.views == 1
    assert values["mode"] == values["extractor"] == "paper"
    if "short" in name:
        assert config.steps_for(2975) == 5000
    else:
        assert config.steps_for(2975) == 46_500  # as the authors' 93 a pass
    words = with_config(["train", name, "city", "--weights", "w"])
    assert words[:4] == ["train", "city", "--weights", "w"] and "--layout" in words


def test_each_model_of_the_paper_has_both() -> None:
    for name, (dense, size, threshold) in MODELS.items():
        for ending in ("", "-short"):
            values = read_config(f"cityscapes-{name}{ending}.yaml")
            found = values["dense"], values["dense_size"], values["threshold"]
            assert found == (dense, size, threshold)


def test_every_option_may_stand_in_a_file() -> None:
    shown = {*inspect.signature(train).parameters, *DataOptions.__dataclass_fields__}
    assert set(OF_THE_RUN) == shown - {"reading", "config"}


def test_flags_go_before_a_file_and_a_file_before_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("steps: 7\nlearning-rate: 3e-4\ninputs: [rgb, entropy]\n")
    own = tmp_path / "own.yaml"
    own.write_text("base: base.yaml\nsteps: 9\nflip: false\nclass_weights: [1, 2]\nthreshold: null")
    config = sr.TrainConfig.from_file(own, seed=4)
    assert config == sr.TrainConfig(
        steps=9, flip=False, class_weights="1,2", seed=4, learning_rate=3e-4
    )
    words = with_config(["train", str(own), "--data", "x", "--steps=11", "--flip"])
    assert words[:5] == ["train", "--data", "x", "--steps=11", "--flip"]
    rest = " ".join(words[5:])
    assert rest == "--learning-rate 0.0003 --inputs rgb --inputs entropy --class-weights 1,2"


def test_what_is_unknown_is_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("learning_rat: 1.0e-3\n")
    message = r"run\.yaml has the unknown key 'learning_rat'\. Expected learning_rate"
    with pytest.raises(ValueError, match=message):
        sr.TrainConfig.from_file(file)
    with pytest.raises(SystemExit):
        main(["train", str(file), "--data", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown key 'learning_rat'" in line
    with pytest.raises(ValueError, match=r"unknown setting 'stepz'\. Expected steps"):
        sr.TrainConfig.from_file("cityscapes.yaml", stepz=1)
    with pytest.raises(FileNotFoundError, match=r"no file no\.yaml.* ship: cityscapes-hrnet"):
        sr.TrainConfig.from_file("no.yaml")
    for text, reason in (
        ("- a", "holds a list"),
        ("a: [", "is no YAML"),
        (f"base: {file.name}", ""),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=reason or "is its own base"):
            sr.TrainConfig.from_file(file)


@pytest.mark.parametrize(
    "change",
    [
        {"class_weights": "heavy"},
        {"ema": 1.0},
        {"cross_entropy": 0.0},
        {"epochs": 0},
        {"temperature": 0.0},
    ],
)
def test_bad_values(change: dict[str, object]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"{name}.* (is|are) .*expected"):
        replace(sr.TrainConfig(), **change)
