"""Arguments of a wrong type are named in one line, and numpy's numbers are numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

import sparserefine as sr
from command_line import run
from dataset_files import label_map, photo
from sparserefine.data import open_dataset
from sparserefine.images import read_image
from sparserefine.progress import as_report, count_steps

LABELS = torch.zeros(4, 4, dtype=torch.int64)
NETWORK = torch.nn.Conv2d(3, 3, 4, stride=4)


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tests' check of types, which comes before ours."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    photo(tmp_path / "images/a.png")
    label_map(tmp_path / "labels/a.png")
    return tmp_path


COUNTS: dict[str, Callable[[Any, Path], object]] = {
    "open_dataset": lambda count, root: open_dataset(root, num_classes=count),
    "check": lambda count, root: sr.check(root, num_classes=count),
    "DensePass.of": lambda count, root: sr.DensePass.of(LABELS, kind="labels", num_classes=count),
    "from_callable": lambda count, root: sr.dense.from_callable(NETWORK, "logits", count),
    "SparseRefiner": lambda count, root: sr.SparseRefiner(None, num_classes=count),
}


@pytest.mark.parametrize("count", ["3", 3.0, True, [3], -1])
@pytest.mark.parametrize("name", COUNTS)
def test_a_number_of_classes_is_a_whole_number(name: str, count: Any, root: Path) -> None:
    with pytest.raises(ValueError, match=r"^num_classes is .* expected a whole number of") as error:
        COUNTS[name](count, root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", COUNTS)
def test_numbers_of_numpy_are_taken(name: str, root: Path) -> None:
    COUNTS[name](np.int64(3), root)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "threshold": (lambda root: sr.EntropySelector("0.3"), "threshold is '0.3' of type str, expec"),  # type: ignore[arg-type]
    "distance": (lambda root: sr.EdgeSelector(None), "distance is None, expected a number, such"),  # type: ignore[arg-type]
    "mean": (
        lambda root: sr.dense.from_callable(NETWORK, "logits", 3, mean=0.5),  # type: ignore[arg-type]
        r"mean is 0\.5, expected three numbers, of red, green and blue",
    ),
    "size_divisor": (
        lambda root: sr.dense.from_callable(NETWORK, "logits", 3, size_divisor="4"),  # type: ignore[arg-type]
        "size_divisor is '4' of type str, expected a whole number of 1 or more",
    ),
    "name": (lambda root: sr.dense.create(3), "name is 3, expected a text, such as 'u2netp'"),  # type: ignore[arg-type]
    "split": (lambda root: open_dataset(root, 1), "split is 1, expected a text, such as 'val'"),  # type: ignore[arg-type]
    "rule": (lambda root: open_dataset(root, label_values=[0]), "label_values is a list, expected"),  # type: ignore[arg-type]
    "bands": (lambda root: read_image(root / "images/a.png", bands="123"), "bands are '123', exp"),  # type: ignore[arg-type]
    "range": (
        lambda root: read_image(root / "images/a.png", value_range=(0, "x")),  # type: ignore[arg-type]
        r"the range of values is \(0, 'x'\), expected the values of black and white",
    ),
    "progress": (
        lambda root: count_steps(3, "a", 1),
        "progress is 3, expected a function of stage",
    ),  # type: ignore[arg-type]
    "other progress": (
        lambda root: count_steps(lambda stage, done: None, "a", 1),  # type: ignore[arg-type]
        r"progress takes \(stage, done\), expected a function of stage, done and total, or one",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arguments_are_named(name: str, root: Path) -> None:
    call, message = OTHERS[name]
    with pytest.raises(ValueError, match=message):
        call(root)


def test_what_runs_names_its_arguments(model: sr.SparseRefiner, root: Path) -> None:
    for options in ({"gallery": "2"}, {"seed": "1"}, {"out": 3}, {"progress": True}):
        with pytest.raises(ValueError, match="expected"):
            sr.evaluate(model, root, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="config is a dict, expected a TrainConfig"):
        sr.train(model, root, {"steps": 3})  # type: ignore[arg-type]


def test_a_mapping_and_a_path_are_rules_too(root: Path) -> None:
    given = open_dataset(root, label_values={0: 0, 1: 1, 2: 255})
    assert given[0].labels is not None and given[0].labels.unique().tolist() == [0, 1, 255]
    (root / "colors.txt").write_text("0 0 0 a\n1 1 1 b\n2 2 2 c\n")
    found = open_dataset(root, label_values=root / "colors.txt")
    assert found[0].labels is not None and found[0].labels.unique().tolist() == [0, 1, 2]


class Bar:
    """As the bars of tqdm: `update` takes a number of steps, by default one."""

    def __init__(self) -> None:
        self.steps = 0

    def update(self, n: int = 1) -> None:
        self.steps += n


def test_the_update_of_a_progress_bar_is_progress(model: sr.SparseRefiner, root: Path) -> None:
    bar, told = Bar(), []
    advance = count_steps(bar.update, "work", 2)
    assert bar.steps == 0  # the start is no step
    advance()
    advance()
    assert bar.steps == 2
    sr.evaluate(model, [open_dataset(root)[0]] * 3, bar.update)
    assert bar.steps == 5
    as_report(lambda *args: told.append(args))("work", 1, 2)
    assert told == [("work", 1, 2)]


def test_options_of_an_onnx_file_without_one(root: Path) -> None:
    (root / "model").mkdir()
    for name, said in (
        (root / "model", f"but the folder {root / 'model'} has none. Name the file"),
        (root / "gone.onnx", f"but {root / 'gone.onnx'} does not exist. Check the path"),
        ("demo", "but --model is 'demo'. Leave them out"),
    ):
        done = run("predict", str(root), "--model", str(name), "--kind", "logits")
        assert done.returncode == 1 and said in " ".join(done.stderr.split())
