"""Training that is killed, runs out of disk, or meets a broken photo."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sparserefine as sr
from small_models import make_model
from sparserefine.cli import main
from sparserefine.data import ImageFolder, Sample
from sparserefine.images import write_image
from sparserefine.training.loop import Loop

SCRIPT = """
import sys
import sparserefine as sr
from small_models import make_model
from synthetic_street.scene import SyntheticStreet
street = SyntheticStreet(3, size=(96, 160))
config = sr.TrainConfig(
    steps=12, batch_size=2, crop_size=(64, 96), views=2, checkpoint_every=5,
    dense_logits="cached",
)
sr.train(make_model(), street, config, out=sys.argv[1])
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )


def finish(out: Path) -> None:
    assert start(out).wait() == 0


def kill_when(out: Path, files: str, lines: int) -> None:
    """Start the run and kill it once a file exists and the log has so many lines."""
    process = start(out)
    while process.poll() is None:
        log = out / "log.jsonl"
        if list(out.glob(files)) and (not lines or count_lines(log) >= lines):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def count_lines(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.is_file() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    finish(out)
    return out


def same_run(one: Path, two: Path) -> bool:
    files = ("log.jsonl", "model/model.safetensors", "training.png", "before_after.png")
    return all((one / file).read_bytes() == (two / file).read_bytes() for file in files)


@pytest.mark.slow
def test_killed_runs_go_on_bit_equal(undisturbed: Path, tmp_path: Path) -> None:
    kill_when(tmp_path, "cache/*/[!.]*", 0)  # while the dense model runs
    kill_when(tmp_path, "log.jsonl", 7)  # between two checkpoints
    finish(tmp_path)
    assert same_run(tmp_path, undisturbed)
    assert not list(tmp_path.rglob(".*"))  # nothing half-written is left


@pytest.mark.slow
def test_killed_at_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(12):
        process = start(tmp_path)
        time.sleep(moments.uniform(1.5, 5))
        process.kill()
        process.wait()
    finish(tmp_path)
    assert same_run(tmp_path, undisturbed)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, street: list[Sample]) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index, sample in enumerate(street):
        write_image(sample.image.permute(1, 2, 0).numpy(), folder / f"{index}.png")
    return folder


CONFIG = sr.TrainConfig(
    targets="dense", steps=4, batch_size=2, crop_size=(64, 96), views=1, checkpoint_every=2
)


@pytest.mark.slow
def test_a_broken_photo_is_left_out(photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "1 broken.png"
    broken.write_bytes((photos / "1.png").read_bytes()[:2000])
    dataset = ImageFolder([photos / "0.png", broken, photos / "2.png"])
    result = sr.train(make_model(), dataset, CONFIG, out=tmp_path / "with")
    assert list(result.skipped) == ["1 broken"]
    assert "1 broken.png is damaged" in result.skipped["1 broken"]
    good = ImageFolder([photos / "0.png", photos / "2.png"])
    without = sr.train(make_model(), good, CONFIG, out=tmp_path / "without")
    assert result.losses == without.losses


@pytest.mark.slow
def test_the_command_says_what_was_left_out(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.png").write_bytes((photos / "0.png").read_bytes())
    (folder / "1 broken.png").write_bytes((photos / "1.png").read_bytes()[:2000])
    weights = tmp_path / "dense.safetensors"
    sr.dense.weights.save_weights(sr.dense.create("espnetv2-0.5").state_dict(), weights)
    config = tmp_path / "run.yaml"
    config.write_text(
        f"data: {folder}\ndense: espnetv2-0.5\nweights: {weights}\ntargets: dense\nsteps: 100\n"
        f"batch_size: 1\nviews: 1\ncrop_size: [64, 64]\nmode: paper\ninputs: [rgb, entropy]\n"
    )
    with pytest.raises(SystemExit) as end:
        main(["train", str(config), "--steps", "1", "--out", str(tmp_path / "out")])
    assert not end.value.code
    assert f"left out: {folder / '1 broken.png'} is damaged" in capsys.readouterr().err
    trained = sr.SparseRefiner.from_pretrained(tmp_path / "out/model")
    assert trained.upsampling == "floor" and trained.inputs == ("rgb", "entropy")
    assert trained.extractor.padding == 0 and trained.selector.cells == "floor"


@pytest.mark.slow
def test_a_run_starts_from_the_weights_it_first_had(street: list[Sample], tmp_path: Path) -> None:
    """Killed before its first regular checkpoint, by a caller who does not seed."""
    first = make_model()
    whole = sr.train(first, street, replace(CONFIG, targets="labels"), out=tmp_path / "whole")

    class Killed(Exception):
        pass

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "advance", die)
        with pytest.raises(Killed):
            sr.train(make_model(), street, replace(CONFIG, targets="labels"), out=tmp_path / "run")
    other = make_model()
    torch.nn.init.normal_(other.extractor.head.weight)
    again = sr.train(other, street, replace(CONFIG, targets="labels"), out=tmp_path / "run")
    assert again.losses == whole.losses


def test_only_broken_photos(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no photo")
    with pytest.raises(ValueError, match=r"none of 1 images can be read\. a: .*a\.png is not"):
        sr.train(make_model(), ImageFolder(tmp_path), CONFIG, out=tmp_path / "out")


def test_nothing_is_selected(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    model.selector = sr.EntropySelector(2.94)
    with pytest.raises(ValueError, match=r"\(threshold=2\.94, .* highest entropy is 2\.\d+ nats"):
        sr.train(model, street, CONFIG, out=tmp_path)
    model.selector = sr.EntropySelector(0.1, max_density=0.0)
    with pytest.raises(ValueError, match=r"max_density=0\.0\b.* Use a lower threshold or"):
        sr.train(model, street, CONFIG, out=tmp_path)


def test_crops_without_a_selected_pixel_are_ordinary(street: list[Sample], tmp_path: Path) -> None:
    """A tiny budget: most crops are empty, and all losses finite."""
    model = make_model()
    model.selector = sr.EntropySelector(0.1, max_density=0.001)
    config = replace(CONFIG, steps=8, batch_size=1, crop_size=(16, 16))
    result = sr.train(model, street, config, out=tmp_path)
    assert 0.0 in result.losses
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
def test_a_full_disk_loses_nothing(photos: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the same place."""
    weights = tmp_path / "dense.safetensors"
    sr.dense.weights.save_weights(sr.dense.create("espnetv2-0.5").state_dict(), weights)
    command = [sys.executable, "-m", "sparserefine.cli", "train", str(photos)]
    command += ["--dense", "espnetv2-0.5", "--weights", str(weights), "--targets", "dense"]
    command += ["--steps", "3", "--batch-size", "1", "--crop-size", "64", "64", "--views", "1"]
    command += ["--checkpoint-every", "2", "--dense-logits", "cached"]

    def run(out: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--out", str(tmp_path / out)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # byte code would be cut off too
            preexec_fn=None if limit is None else lambda: limit_files(limit),
        )

    for limit, file in ((100_000, "cache/"), (3_000_000, "checkpoint.safetensors")):
        done = run("run", limit)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()[-1:]
        assert line.startswith(f"sparserefine: cannot write {tmp_path}/run/{file}")
        assert "free space" in line and "Traceback" not in done.stderr
        assert not list((tmp_path / "run").rglob(".*"))
    assert run("run").returncode == 0
    assert run("whole").returncode == 0
    assert same_run(tmp_path / "run", tmp_path / "whole")
