"""Labels, checkpoints, logs and trackers that a run cannot go on with."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sparserefine as sr
from small_models import make_model
from sparserefine.atomic import ABANDONED, remove_partials
from sparserefine.data import Sample, open_dataset, open_photos
from sparserefine.training import loop as loop_module
from sparserefine.training.step_log import StepLog

CONFIG = sr.TrainConfig(steps=1, batch_size=1, crop_size=(48, 64), views=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((96, 160), -1), r"street_\d+ has the label -1, expected 0\.\.18 or 255"),
        (torch.full((96, 160), 255, dtype=torch.uint8), "no pixel of 1 images has a label other"),
    ],
    ids=["negative", "none"],
)
def test_bad_labels_are_refused_before_work(
    labels: torch.Tensor, message: str, street: list[Sample], tmp_path: Path
) -> None:
    sample = replace(street[0], labels=labels)
    with pytest.raises(ValueError, match=message):
        sr.train(make_model(), [sample], CONFIG, out=tmp_path)
    assert not list(tmp_path.iterdir())


class _FilesOfAnotherSize:
    """A dataset whose files are read by somebody who does not check what is in them."""

    def __init__(self, sample: Sample) -> None:
        self.sample = replace(sample)
        object.__setattr__(self.sample, "labels", torch.zeros(50, 160, dtype=torch.uint8))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int, /) -> Sample:
        return self.sample

    def files(self, index: int) -> list[Path]:
        return [Path(__file__)]


def test_labels_of_another_size_are_refused_before_work(
    street: list[Sample], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"has labels of \[50, 160\], expected \[96, 160\]"):
        sr.train(make_model(), _FilesOfAnotherSize(street[0]), CONFIG, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_files_of_a_run_that_are_damaged_or_gone(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street[:1], CONFIG, out=tmp_path)
    (tmp_path / "log.jsonl").unlink()
    again = sr.train(make_model(), street[:1], CONFIG, out=tmp_path)
    assert not again.log
    with pytest.raises(ValueError, match="the log of this run is gone"):
        again.summary()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"checkpoint\.safetensors is damaged .*begin the run anew"
    ):
        sr.train(make_model(), street[:1], CONFIG, out=tmp_path)


def test_a_log_keeps_the_whole_lines_of_the_steps_that_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"step": step, "loss": 1.0} for step in (3, 4, 5)]  # somebody took the first away
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 6, "lo')
    with StepLog(path, 4) as log:
        log.append({"step": 5, "loss": 2.0})
        with pytest.raises(ValueError, match="JSON"):
            log.append({"step": 6, "loss": float("inf")})
    assert StepLog.read(path) == [*rows[:2], {"step": 5, "loss": 2.0}]


@pytest.mark.slow
def test_a_gradient_that_overflowed_is_not_logged(
    street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision does so now and then; the line stays one of JSON."""
    infinite = torch.tensor(float("inf"))
    monkeypatch.setattr(loop_module.nn.utils, "clip_grad_norm_", lambda *_: infinite)
    result = sr.train(make_model(), street[:1], replace(CONFIG, clip_norm=1.0), out=tmp_path)
    assert "gradient_norm" not in result.log[0] and result.log[0]["loss"] > 0


def test_what_another_run_is_writing_is_not_deleted(tmp_path: Path) -> None:
    fresh, old = (tmp_path / f".{digit * 16}.safetensors" for digit in "ab")
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 2 * ABANDONED,) * 2)
    remove_partials(tmp_path, older_than=ABANDONED)
    assert fresh.exists() and not old.exists()
    remove_partials(tmp_path)
    assert not fresh.exists()


def test_an_unknown_tracker_is_said_before_work_starts(
    street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = SimpleNamespace(
        LOGGER_TYPE_TO_CLASS={"tensorboard": object, "wandb": object},
        get_available_trackers=lambda: ["tensorboard"],
    )
    monkeypatch.setattr("sparserefine.training.train.check_installed", lambda *_, **__: None)
    monkeypatch.setattr("sparserefine.training.trackers.require", lambda *_: known)
    for name, message in (
        ("tensorbord", "is unknown. Use some of"),
        ("wandb", "pip install wandb"),
    ):
        config = replace(CONFIG, trackers=(name,))
        with pytest.raises(ValueError, match=message):
            sr.train(make_model(), street[:1], config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_layout_is_told_all_that_there_are(tmp_path: Path) -> None:
    for opener in (open_dataset, open_photos):
        with pytest.raises(
            ValueError, match=r"layout is 'bdd', expected one of auto.*bdd100k.*isic"
        ):
            opener(tmp_path, layout="bdd")
