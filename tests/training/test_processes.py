"""Two processes train as one does, and go on after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import json, os, sys
import torch
import sparserefine as sr
from small_models import make_model
from synthetic_street.scene import SyntheticStreet

out = sys.argv[1]
settings = json.loads(sys.argv[2])
stages, nowhere = settings.pop("stages", False), settings.pop("nowhere", False)
for name in ("crop_size", "crop_scales"):
    if name in settings:
        settings[name] = tuple(settings[name])
street = SyntheticStreet(12, size=(96, 160))
config = sr.TrainConfig(**{
    "steps": 8, "batch_size": 4, "crop_size": (64, 96), "views": 2, "checkpoint_every": 3,
    "warmup_steps": 2, "learning_rate": 1e-3, "validate_every": 4, **settings,
})
pids = os.path.join(os.path.dirname(out), "pid" + os.environ.get("RANK", "0"))
with open(pids, "w") as file:
    file.write(str(os.getpid()))
model = make_model()
if stages:
    torch.manual_seed(0)
    extractor = sr.StageExtractor(19, stage_channels=model.dense.stage_channels)
    model = sr.SparseRefiner(model.dense, selector=model.selector, extractor=extractor)
sr.train(model, street, config, out=None if nowhere else out)
"""


def start(out: Path, processes: int = 1, **settings: object) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    script = out.parent / "run.py"
    script.write_text(SCRIPT)
    words = [str(script), str(out), json.dumps(settings)]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        words = [*launch, *words]
    return subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]


def run(out: Path, processes: int = 1, **settings: object) -> list[dict[str, float]]:
    finish(start(out, processes, **settings))
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model/model.safetensors")


def assert_alike(one: Path, two: Path, tolerance: float) -> None:
    first, second = weights(one), weights(two)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=tolerance, rtol=tolerance, msg=name)


EVERYTHING: dict[str, object] = {
    "class_weights": "balanced", "wrong_weight": 2.0, "distillation": 0.5, "ema": 0.5,
    "clip_norm": 0.5, "crop_scales": [0.5, 2.0], "order": "shuffle", "workers": 1,
}  # fmt: skip
# Adam divides a gradient by its own size: next to zero rounding becomes a whole step, and shows in
# the gradient norm of the next steps (.4 % at 1e-3). Small steps leave that where it is.
SMALL = 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        EVERYTHING,
        EVERYTHING | {"learning_rate": SMALL},
        {"targets": "dense", "dense_logits": "cached"},
        {"stages": True, "learning_rate": 1e-2},
    ],
    ids=["plain", "all", "all-small-steps", "label-free", "stages"],
)  # fmt: skip
def test_two_processes_give_what_one_gives(settings: dict[str, object], tmp_path: Path) -> None:
    """Batch norms, losses and gradients are of all crops, however they are spread."""
    one = run(tmp_path / "one", **settings)
    two = run(tmp_path / "two", 2, **settings)
    step = settings.get("learning_rate", 1e-3)
    assert isinstance(step, float)
    for number, (first, second) in enumerate(zip(one, two, strict=True)):
        if number and step > SMALL:
            first.pop("gradient_norm", None)
            second.pop("gradient_norm", None)
        # Of 10,000 pixels some change sides, as the dense model rounds otherwise in another batch.
        assert second == pytest.approx(first, rel=2e-3, abs=3e-4)
        for name in ("loss", "loss_sparse", "loss_refined"):
            assert second[name] == pytest.approx(first[name], rel=1e-4)
    assert_alike(tmp_path / "one", tmp_path / "two", 2e-3)
    assert_moved_alike(tmp_path / "one", tmp_path / "two", step)


def assert_moved_alike(one: Path, two: Path, step: float) -> None:
    """Of the trained values 95 % are where they were to a tenth of a step; statistics are equal.

    Measured: 98.75 % and more; 20 to 33 % where processes do not average their gradients.
    """
    first, second = weights(one), weights(two)
    apart = []
    for name, value in first.items():
        difference = (value - second[name]).abs()
        if "running" in name or "num_batches" in name:
            assert (difference <= 1e-3 * (1 + value.abs())).all(), name
        elif not name.startswith("dense."):
            apart.append((difference > 0.1 * step).flatten())
    assert torch.cat(apart).float().mean().item() < 0.05


@pytest.mark.slow
def test_accumulation_without_norms_in_common_changes_little(tmp_path: Path) -> None:
    """Statistics of batch norms are of a part, so that it is not the same; the crops are."""
    one, parts = run(tmp_path / "one"), run(tmp_path / "parts", accumulate=2)
    assert [row["pixels"] for row in one] == [row["pixels"] for row in parts]
    assert parts[0]["loss"] == pytest.approx(one[0]["loss"], rel=0.05)


@pytest.mark.slow
def test_one_of_two_processes_is_killed_and_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, broken = tmp_path / "a/out", tmp_path / "b/out"
    run(whole, 2)
    for rank, lines in ((1, 2), (0, 5)):
        process = start(broken, 2)
        log = broken / "log.jsonl"
        while process.poll() is None:
            if log.is_file() and len(log.read_bytes().splitlines()) >= lines:
                break
            time.sleep(0.01)
        os.kill(int((tmp_path / f"b/pid{rank}").read_text()), signal.SIGKILL)
        process.communicate()
        assert process.returncode != 0
    run(broken, 2)
    assert (broken / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert_alike(broken, whole, 0.0)


@pytest.mark.slow
def test_two_processes_share_a_cache_where_nothing_is_to_be_written(tmp_path: Path) -> None:
    finish(start(tmp_path / "out", 2, dense_logits="cached", nowhere=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "out", 2, batch_size=3)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert b"batch_size is 3, expected a multiple of 2: 2 processes times" in errors
