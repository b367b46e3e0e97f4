"""What people feed the commands: handled, or answered in one line with a non-zero exit code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from sparserefine import cli
from sparserefine.cli.console import console
from sparserefine.dense.weights import save_weights
from sparserefine.images import write_labels

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Run a command in this process, which is much quicker than starting one."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # some write into the default folder

    def call(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(console, "width", 200)
        code: int | str | None = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        # A string as exit code is what Python prints on standard error, with exit code 1.
        text = captured.err + (code if isinstance(code, str) else "")
        return SimpleNamespace(
            code=1 if isinstance(code, str) else code or 0,
            out=captured.out.splitlines(),
            err=[line for line in text.splitlines() if line.strip()],
        )

    return call


def pixels(width: int, height: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def save_oddities(folder: Path) -> dict[str, tuple[int, int]]:
    """Write every kind of good file; returns (width, height) upright by name of the result."""
    (folder / "again").mkdir(parents=True)
    rgb = Image.fromarray(pixels(40, 30))
    Image.fromarray(pixels(1, 1)).save(folder / "one pixel.png")
    Image.fromarray(pixels(1, 5000)).save(folder / "tall.png")
    Image.fromarray(pixels(5000, 1)).save(folder / "wide.png")
    Image.fromarray(pixels(40, 30, 1)).save(folder / "gray.png")
    rgb.convert("P").save(folder / "palette.png")
    Image.fromarray(pixels(40, 30, 4)).save(folder / "rgba.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels(40, 30, 1).astype(np.uint16) * 257).save(folder / "16bit.png")
    frames = [Image.fromarray(pixels(40, 30, 1)), Image.fromarray(pixels(40, 30, 1)[::-1])]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    rgb.save(folder / "rotated.jpg", exif=exif)
    rgb.save(folder / "Straße 街 улица.webp")
    rgb.save(folder / "same.png")
    rgb.save(folder / "same.jpg")
    rgb.save(folder / "again" / "same.png")
    names = ["gray", "palette", "rgba", "cmyk", "16bit", "animated", "Straße 街 улица"]
    sizes = dict.fromkeys([*names, "same", "same_png", "again/same"], (40, 30))
    return {
        **sizes,
        "one pixel": (1, 1),
        "tall": (1, 5000),
        "wide": (5000, 1),
        "rotated": (30, 40),
    }


def save_broken(folder: Path) -> dict[str, str]:
    """Write every kind of bad file; returns what must be said of each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.jpg").write_text("I am not a photo.")
    (folder / "empty.png").touch()
    buffer = BytesIO()
    Image.fromarray(pixels(400, 300)).save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:5000])
    with Image.new("1", (20000, 20000)) as bomb:
        bomb.save(folder / "bomb.png")
    return {
        "text.jpg": "is not an image that Pillow can read. Convert it",
        "empty.png": "is empty (0 bytes). Copy or export it again.",
        "truncated.jpg": "is damaged",
        "bomb.png": "has more than 179 megapixels. Scale it down",
    }


def test_odd_files_are_segmented_and_bad_ones_reported(run: Run, tmp_path: Path) -> None:
    sizes = save_oddities(tmp_path / "photos")
    broken = save_broken(tmp_path / "photos")
    done = run("predict", tmp_path / "photos", "--out", tmp_path / "out")
    assert done.code == 1
    reported = [line for line in done.err if line.startswith("not done: ")]
    assert len(reported) == len(broken)
    for name, reason in broken.items():
        assert sum(name in line and reason in line for line in reported) == 1
    assert (
        done.err[-1] == f"{len(broken)} of {len(broken) + len(sizes)} photos could not be segmented"
    )
    results = (tmp_path / "out").rglob("result.json")
    assert {str(path.parent.relative_to(tmp_path / "out")) for path in results} == set(sizes)
    for name, size in sizes.items():
        with Image.open(tmp_path / "out" / name / "labels.png") as labels:
            assert labels.size == size, name
        facts = json.loads((tmp_path / "out" / name / "result.json").read_text())
        assert (facts["width"], facts["height"]) == size


def test_evaluate_reports_bad_files_and_scores_the_rest(run: Run, tmp_path: Path) -> None:
    broken = save_broken(tmp_path)
    Image.fromarray(pixels(40, 30)).save(tmp_path / "good.png")
    done = run("evaluate", tmp_path, "--json")
    assert done.code == 1
    document = json.loads("\n".join(done.out))
    assert [image["name"] for image in document["images"]] == ["good"]
    assert sorted(document["failed"]) == sorted(name.split(".")[0] for name in broken)
    assert done.err[-1] == f"{len(broken)} of {len(broken) + 1} images could not be scored"


@pytest.mark.slow
def test_only_bad_files(run: Run, tmp_path: Path) -> None:
    save_broken(tmp_path / "photos")
    done = run("predict", tmp_path / "photos", "--out", tmp_path / "out")
    assert done.code == 1 and not list((tmp_path / "out").iterdir())
    done = run("evaluate", tmp_path / "photos")
    assert done.code == 1 and "none of 4 images can be read" in done.err[-1]


def dense_weights(path: Path, outputs: int = 20) -> Path:
    """Random weights of a small dense model, its last layer cut down to so many outputs."""
    state = dict(sr.dense.create("espnetv2-0.5").state_dict())
    for name in ("bu_dec_l4.merge_layer.3.weight", "bu_dec_l4.merge_layer.3.bias"):
        state[name] = state[name][:outputs]
    save_weights(state, path)
    return path


def one_line(done: SimpleNamespace, *parts: str) -> None:
    assert done.code == 1
    (line,) = done.err
    assert line.startswith("sparserefine: ")
    for part in parts:
        assert part in line, line


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels(40, 30)).save(path)
    return path


def train_on(run: Run, photo: Path, weights: Path, *more: object) -> SimpleNamespace:
    out = photo.parent / "trained"
    dense = ("--dense", "espnetv2-0.5", "--weights", weights)
    done = run("train", photo, *dense, "--targets", "dense", "--steps", 1, "--out", out, *more)
    assert not out.exists(), "nothing half-written"
    return done


def test_missing(run: Run, tmp_path: Path) -> None:
    one_line(run("predict", tmp_path / "no.jpg"), "no.jpg does not exist. Check the path.")
    one_line(run("evaluate", tmp_path / "no"), "no does not exist. Check the path.")


def test_a_folder_without_images(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    for command in ("predict", "evaluate"):
        one_line(run(command, tmp_path), "has no images in it. Expected files such as .jpg or .png")
    weights = dense_weights(tmp_path / "dense.safetensors")
    done = run("train", tmp_path, "--dense", "espnetv2-0.5", "--weights", weights)
    one_line(done, "has no images in it")


@pytest.mark.parametrize("threshold", ["nan", "-1", "inf"])
def test_threshold(run: Run, photo: Path, threshold: str) -> None:
    expected = (f"threshold is {float(threshold)}", "expected an entropy in nats, 0 or more")
    one_line(run("predict", photo, "--threshold", threshold), *expected)
    one_line(run("evaluate", photo, "--threshold", threshold), *expected)
    weights = dense_weights(photo.with_name("dense.safetensors"))
    one_line(train_on(run, photo, weights, "--threshold", threshold), *expected)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("predict", "--batch"),
        ("check", "--num-classes"),  # of several commands, held by a dataclass
        ("train", "--steps"),
        ("predict", "--workers"),  # may be left out
    ],
)
@pytest.mark.parametrize("value", ["1.5", ".5"])
def test_no_whole_number(run: Run, photo: Path, command: str, option: str, value: str) -> None:
    done = run(command, photo, option, value)
    assert done.code == 2  # the parser's own, for what is no command line
    framed = " ".join(" ".join(line.strip("│ ") for line in done.err).split())
    assert f"Invalid value for {option}: got {value}, expected a whole number." in framed


def test_truncated_weights(run: Run, photo: Path) -> None:
    weights = dense_weights(photo.with_name("dense.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    one_line(train_on(run, photo, weights), "is not a whole safetensors file", "export it again")
    weights.write_bytes(b"")
    one_line(train_on(run, photo, weights), "dense.safetensors is empty (0 bytes)")


def test_foreign_weights(run: Run, photo: Path) -> None:
    weights = photo.with_name("dense.safetensors")
    save_weights({"conv.weight": torch.zeros(3, 3)}, weights)
    one_line(
        train_on(run, photo, weights),
        "weights do not fit ESPNetv2",
        "1 unexpected (conv.weight)",
        "Check that the weights belong to this model",
    )


def test_weights_of_other_classes(run: Run, photo: Path) -> None:
    weights = dense_weights(photo.with_name("dense.safetensors"), outputs=12)
    one_line(
        train_on(run, photo, weights),
        "weights have 12 outputs",
        "expects 20",
        "Use weights trained for these classes.",
    )


def test_labels_of_other_classes(run: Run, photo: Path) -> None:
    root = photo.parent / "data"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    photo.rename(root / "images" / "a.png")
    labels = np.full((30, 40), 33)
    write_labels(labels, np.zeros((40, 3), np.uint8), root / "labels" / "a.png")
    expected = ("labels beyond 0..18 and 255; pixels per label: 33: 1200", "Map them to classes")
    one_line(run("evaluate", root), *expected)
    weights = dense_weights(photo.with_name("dense.safetensors"))
    done = run("train", root, "--dense", "espnetv2-0.5", "--weights", weights, "--steps", 1)
    one_line(done, *expected)


def test_a_pickle_as_weights(run: Run, photo: Path) -> None:
    weights = photo.with_name("dense.pth")
    torch.save(sr.dense.create("espnetv2-0.5").state_dict(), weights)
    one_line(train_on(run, photo, weights), "is a pickle", "--allow-pickle")
    harmless = photo.with_name("renamed.safetensors")
    harmless.write_bytes(weights.read_bytes())
    one_line(train_on(run, photo, harmless), "is not a whole safetensors file")


def test_a_pickle_that_would_run_code_never_does(run: Run, photo: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (photo.with_name("pwned"),)  # type: ignore[return-value]

    weights = photo.with_name("dense.pth")
    torch.save({"a": Evil()}, weights)
    one_line(
        train_on(run, photo, weights, "--allow-pickle"),
        "holds a dict with a, expected a dict from name to tensor",
    )
    assert not photo.with_name("pwned").exists()


def test_a_model_folder_that_is_not_one(run: Run, photo: Path) -> None:
    folder = photo.parent / "model"
    sr.SparseRefiner.from_pretrained("demo").save_pretrained(folder)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    predict = ("predict", photo, "--out", photo.parent / "out", "--model")
    one_line(run(*predict, folder), "is not a whole safetensors file")
    weights.unlink()
    one_line(run(*predict, folder), "no weights file at")
    (folder / "config.json").write_text("{}")
    one_line(run(*predict, folder), "has format None, expected 2")
    (folder / "config.json").unlink()
    one_line(run(*predict, folder), "has no config.json. Expected a folder written by")
    one_line(run(*predict, photo), "photo.png is no model that is known here")
    assert not (photo.parent / "out").exists()


def test_an_output_that_cannot_be_written(run: Run, photo: Path) -> None:
    taken = photo.parent / "taken"
    taken.write_text("a file")
    one_line(run("predict", photo, "--out", taken), "it is a file. Choose another folder.")
    one_line(run("demo", "--out", taken), "it is a file. Choose another folder.")
    weights = dense_weights(photo.with_name("dense.safetensors"))
    dense = ("--dense", "espnetv2-0.5", "--weights", weights, "--targets", "dense")
    one_line(run("train", photo, *dense, "--out", taken), "it is a file. Choose another folder.")
    one_line(run("predict", photo, "--out", "/proc/nowhere"), "cannot make the folder", "Choose")
    assert taken.read_text() == "a file"


@pytest.mark.slow
def test_a_full_disk(photo: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the same place."""
    Image.fromarray(pixels(400, 300)).save(tmp_path / "large.png")
    command = [sys.executable, "-m", "sparserefine.cli", "predict", str(tmp_path / "large.png")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # byte code would be cut off too
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # after the progress bar
    assert "Traceback" not in done.stderr
    assert line.startswith(f"sparserefine: cannot write {tmp_path}/out/large: File too large.")
    assert not list((tmp_path / "out").iterdir()), "nothing half-written"
