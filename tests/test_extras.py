"""What is missing is said before any work starts, with what to install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import sparserefine as sr
from sparserefine.extras import check_installed, require

TRAINING = r"training needs matplotlib: pip install 'sparserefine\[train\]'"
PICTURE = r"picture needs matplotlib: pip install 'sparserefine\[train\]'"
TRANSFORMERS = r"needs transformers: pip install 'sparserefine\[hf\]'"


def test_a_missing_extra_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"no_such_module is needed.*'sparserefine\[hf\]'"):
        require("no_such_module", "hf")
    with pytest.raises(ImportError, match="pip install no-such-module"):
        require("no_such_module")


def test_only_what_is_missing_is_named() -> None:
    check_installed("a test", "json", extra="train")
    with pytest.raises(ImportError, match=r"^a test needs no_such_module: pip install "):
        check_installed("a test", "json", "no_such_module", extra="train")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda model, street, out: sr.train(model, street, out=out), TRAINING),
        (lambda model, street, out: sr.calibrate(model, street, out=out), PICTURE),
        (lambda model, street, out: sr.frontier(model, street, out=out), PICTURE),
        (lambda model, street, out: sr.frontier(model, street, train=street), TRAINING),
        (lambda model, street, out: sr.ablate(model, street[1:], train=street, width=["tiny"]),
         TRAINING),
        (lambda model, street, out: sr.measure_latency(["espnetv2-0.5"], out=out), PICTURE),
        (lambda model, street, out: sr.measure_latency(["segformer-b5"]), TRANSFORMERS),
    ],
)  # fmt: skip
def test_work_that_ends_with_a_missing_library_does_not_start(
    work: Callable[..., object],
    message: str,
    model: sr.SparseRefiner,
    street: list[sr.data.Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)

    def run(*_: object) -> None:
        raise AssertionError("work has started")

    monkeypatch.setattr(sr.SparseRefiner, "dense_logits", run)
    with pytest.raises(ImportError, match=message):
        work(model, street, tmp_path / "out")
