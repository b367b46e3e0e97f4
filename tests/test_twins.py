"""Commands and their Python twins: the same arguments; nothing written unasked; progress."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sparserefine as sr
from small_models import make_model
from sparserefine.cli import COMMANDS
from sparserefine.data import Sample
from sparserefine.images import write_image
from sparserefine.progress import Progress

# Where results go, and what names the model and the data: folders and options there, objects here.
OF_ONE_SIDE = {"out", "progress", "json_output", "refiner", "model", "matrix", "env", "reading"}
OF_ONE_SIDE |= {"ready", "tell"}
CONFIG = sr.TrainConfig(steps=2, batch_size=1, crop_size=(64, 64), views=2, checkpoint_every=1)


def parameters(function: Callable[..., object]) -> dict[str, object]:
    """Defaults by name."""
    found = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in found if one.name not in OF_ONE_SIDE}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_has_a_twin_of_the_same_arguments(command: Callable[..., object]) -> None:
    twin = getattr(sr, command.__name__)
    ours, others = parameters(command), parameters(twin)
    if command.__name__ == "refine":  # of folders too, and what is written, which the twin returns
        shared = others.keys() - {"image", "mask", "timer"}
        assert {name: ours[name] for name in shared} == {name: others[name] for name in shared}
        assert ours.keys() - shared == {
            "photo", "mask", "alpha", "labels", "cutout", "bands", "value_range",
        }  # fmt: skip
        return
    if command.__name__ == "cutout":  # of many photos, each of which the twin can save
        assert others.keys() == {"photo", "method"} and ours["method"] == others["method"]
        models = [inspect.signature(one).parameters["model"].default for one in (command, twin)]
        assert models == ["u2netp", "u2netp"]
        return
    if command.__name__ == "predict":  # of a video too, whose twin is predict_video
        assert {ours.pop("every"), ours.pop("change")} == {1, None}
    if command.__name__ == "train":  # the command makes the model too, and caches in its own folder
        assert others.keys() - {"cache"} <= ours.keys()
        ours = {name: default for name, default in ours.items() if name in others}
        others.pop("cache")
    assert ours.keys() == others.keys()
    for name, default in ours.items():
        if default == "":  # stands for an empty list
            assert others[name] in ((), None), name
        else:
            assert others[name] == default, name


Work = Callable[[list[Sample], Path, Path | None, Progress | None], object]


def _predict(street: list[Sample], photo: Path, out: Path | None, progress: Progress | None) -> Any:
    return sr.predict(make_model(), photo, out=out, progress=progress)


def _evaluate(
    street: list[Sample], photo: Path, out: Path | None, progress: Progress | None
) -> Any:
    return sr.evaluate(make_model(), street, gallery=1, out=out, progress=progress)


def _headroom(
    street: list[Sample], photo: Path, out: Path | None, progress: Progress | None
) -> Any:
    return sr.headroom(make_model(), street, out=out, progress=progress)


def _calibrate(
    street: list[Sample], photo: Path, out: Path | None, progress: Progress | None
) -> Any:
    held_out, learn = street[1:], street[:1]
    return sr.calibrate(
        make_model(), held_out, learn_from=learn, learn_steps=2, accuracy=True, out=out,
        progress=progress,
    )  # fmt: skip


def _train(street: list[Sample], photo: Path, out: Path | None, progress: Progress | None) -> Any:
    return sr.train(make_model(), street, CONFIG, out=out, progress=progress)


def _ablate(street: list[Sample], photo: Path, out: Path | None, progress: Progress | None) -> Any:
    compare = {"again": make_model()}
    return sr.ablate(make_model(), street, compare=compare, out=out, progress=progress)


def _frontier(
    street: list[Sample], photo: Path, out: Path | None, progress: Progress | None
) -> Any:
    settings: dict[str, Any] = {"rounds": 1, "memory": False}
    return sr.frontier(make_model(), street[:1], **settings, out=out, progress=progress)


def _benchmark(
    street: list[Sample], photo: Path, out: Path | None, progress: Progress | None
) -> Any:
    return sr.benchmark(make_model(), photo, rounds=2, out=out, progress=progress)


def _check(street: list[Sample], photo: Path, out: Path | None, progress: Progress | None) -> Any:
    return sr.check(photo, out=out, progress=progress)


STAGES = {
    _predict: {"predict": 1},
    _check: {"check": 1},
    _evaluate: {"evaluate": 3},
    _headroom: {"headroom": 3},
    _calibrate: {
        "calibrate": 2,
        "learn: read": 1,
        "held out": 2,
        "learn: images": 1,
        "learn: steps": 2,
        "accuracy": 2,
    },
    _train: {"read": 3, "train": 2},
    _ablate: {"this: evaluate": 3, "again: evaluate": 3},
    _frontier: {"frontier": 1},
    _benchmark: {"benchmark": 3},
}
each_work = pytest.mark.parametrize(
    "work",
    [
        # In turns with five other ways to label: what it writes, test_frontier looks at too.
        pytest.param(work, marks=pytest.mark.slow if work is _frontier else ())
        for work in STAGES
    ],
    ids=lambda work: work.__name__[1:],
)


@pytest.fixture
def photo(tmp_path: Path, street: list[Sample]) -> Path:
    path = tmp_path / "photo.png"
    write_image(street[0].image.permute(1, 2, 0).numpy(), path)
    return path


@each_work
def test_nothing_is_written_unasked_and_progress_ends(
    work: Work,
    street: list[Sample],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    told: list[tuple[str, int, int]] = []
    assert work(street, photo, None, lambda *step: told.append(step)) is not None
    # torch has a folder of its own there.
    left = [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")]
    assert not list(here.iterdir()) and not left
    assert set(tmp_path.iterdir()) == {here, temporary, photo}
    for stage, total in STAGES[work].items():
        done = [step[1] for step in told if step[0] == stage]
        assert {step[2] for step in told if step[0] == stage} == {total}, stage
        assert done[-1] == total and done == sorted(set(done)), stage
    assert {stage for stage, *_ in told} == STAGES[work].keys()


@each_work
def test_what_is_written_is_where_it_was_asked_for(
    work: Work,
    street: list[Sample],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, out = tmp_path / "here", tmp_path / "out"
    here.mkdir()
    monkeypatch.chdir(here)
    work(street, photo, out, None)
    assert not list(here.iterdir()) and list(out.iterdir())
    assert set(tmp_path.iterdir()) == {here, out, photo}
