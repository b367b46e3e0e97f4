"""What `explain_backends` says: on each device, which backend runs and why."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparserefine.sparse import Backend, backends, explain_backends, use_backend
from sparserefine.sparse.choice import VARIABLE


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPU is played by torch's meta device."""

    def can_run_triton(feats: Tensor, weight: Tensor) -> str | None:
        return None if feats.is_meta else "feats are on cpu. Move them."

    monkeypatch.setattr(backends, "_devices", lambda: {"CPU": "cpu", "GPU": "meta"})
    monkeypatch.setitem(backends.CAN_RUN, "triton", can_run_triton)


def test_the_fastest_that_can_runs() -> None:
    answers = explain_backends()
    assert list(answers) == list(backends.CAN_RUN)
    running = [name for name, answer in answers.items() if answer.startswith("runs")]
    assert running == [backends.resolve_backend("auto", torch.zeros(1, 1), torch.zeros(9, 1, 1))]
    assert answers[running[0]].startswith("runs, the fastest that can")
    assert answers["reference"] == "can run"


def test_a_choice_names_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with use_backend("torch"):
        assert explain_backends()["torch"] == "runs, forced by use_backend"
    monkeypatch.setenv(VARIABLE, "reference")
    assert explain_backends()["reference"] == f"runs, forced by {VARIABLE}"
    with use_backend("torch"):  # which comes first
        answers = explain_backends()
    assert answers["torch"] == "runs, forced by use_backend"
    assert answers["reference"] == "can run"


def test_a_forced_backend_that_cannot_run_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv(VARIABLE, "triton")
    answers = explain_backends()
    assert answers["triton"].startswith(
        f"forced by {VARIABLE}, but cannot run: feats are on cpu. Move them to a CUDA device"
    )
    assert not any(answer.startswith("runs") for answer in answers.values())


@pytest.mark.usefixtures("gpu")
def test_each_device_has_its_own_answer() -> None:
    answers = explain_backends()
    assert answers["triton"] == (
        "CPU: cannot run: feats are on cpu. Move them; GPU: runs, the fastest that can"
    )
    assert "; GPU: cannot run: feats are on meta, the kernels run on the CPU" in answers["native"]
    assert answers["reference"] == "CPU: can run; GPU: can run"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("forced", "on_cpu", "on_gpu"),
    [
        ("triton", "forced by {}, but cannot run: feats are on cpu. Move", "runs, forced by {}"),
        ("torch", "runs, forced by {}", "runs, forced by {}"),
    ],
)
def test_a_backend_is_forced_on_every_device(
    forced: Backend, on_cpu: str, on_gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, forced)
    of_cpu, of_gpu = explain_backends()[forced].split("; GPU: ")
    assert of_cpu.startswith("CPU: " + on_cpu.format(VARIABLE))
    assert of_gpu.startswith(on_gpu.format(VARIABLE))


@pytest.mark.usefixtures("gpu")
def test_native_is_forced_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "native")
    answer = explain_backends()["native"]
    assert answer.startswith(("CPU: runs, forced by", "CPU: forced by"))
    assert f"; GPU: forced by {VARIABLE}, but cannot run: feats are on meta" in answer


def test_a_gpu_without_memory_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros

    def full(*size: int, device: str) -> Tensor:
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory.\nSee the documentation")
        return zeros(*size, device=device)

    monkeypatch.setattr(torch, "zeros", full)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    answers = explain_backends()
    assert answers["torch"].endswith("; GPU: cannot run: CUDA out of memory")


def test_a_wrong_name_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cudnn")
    with pytest.raises(ValueError, match=rf"{VARIABLE}: backend 'cudnn' is unknown\. Use one of"):
        explain_backends()
