"""Each command end to end, as a user calls it."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparserefine.photos.demo
from command_line import run, run_process
from small_models import make_model
from sparserefine import EntropySelector
from sparserefine.cli import app
from sparserefine.dense import create
from sparserefine.dense.weights import save_weights
from sparserefine.images import write_labels
from synthetic_street.scene import SyntheticStreet


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/ and labels/."""
    root = tmp_path_factory.mktemp("streets")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for index in range(2):
        sample = SyntheticStreet(2, size=(128, 192))[index]
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(
            root / "images" / f"{index}.png"
        )
        labels = sample.labels
        assert labels is not None
        palette = np.zeros((19, 3), dtype=np.uint8)
        write_labels(labels.numpy(), palette, root / "labels" / f"{index}.png")
    return root


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparserefine.photos.demo, "ROUNDS", 1)
    done = run("demo", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "demo" / "before_after.png"
    cutout = tmp_path / "demo" / "cutout_before_after.png"
    assert str(picture) in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == str(cutout)
    for stage in ("read", "resize", "dense", "select", "extract", "ensemble", "write"):
        assert stage in done.stdout
    names = {"before_after.png", "detail.png", "labels.png", "overlay.png", "result.json"}
    names |= {"cutout.png", "cutout_before_after.png"}
    assert {p.name for p in picture.parent.iterdir()} == names
    facts = json.loads((picture.parent / "result.json").read_text())
    full = facts["full_res"]
    for side in (facts, full):
        computed = {k: ms for k, ms in side["stages_ms"].items() if k not in ("read", "write")}
        assert side["total_ms"] == pytest.approx(sum(computed.values()), abs=0.01)
        assert side["read_ms"] > 0 and side["write_ms"] > 0
    assert facts["agreement"]["refined"] > facts["agreement"]["low_res"]
    with Image.open(picture) as image:
        assert min(image.size) > 1000
    with Image.open(picture.parent / "cutout.png") as image:
        assert image.mode == "RGBA" and image.width * image.height > 8e6


def test_predict(streets: Path, tmp_path: Path) -> None:
    done = run("predict", streets / "images", "--out", tmp_path / "out", "--max-density", 0.1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "0" / "result.json").read_text())
    assert facts["density"] <= 0.1


def test_predict_reports_a_bad_photo_and_does_the_rest(streets: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff nonsense")
    done = run("predict", bad, streets / "images" / "0.png", "--out", tmp_path / "out")
    assert done.returncode != 0
    assert "1 of 2 photos could not be segmented" in done.stderr
    assert (tmp_path / "out" / "0" / "labels.png").is_file()
    assert "Traceback" not in done.stderr


def test_evaluate_without_labels_prints_one_json_document(streets: Path, tmp_path: Path) -> None:
    done = run("evaluate", streets / "images", "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document["rows"]) == {
        "low_res_nearest",
        "low_res_bilinear",
        "refinement_only",
        "refined",
        "oracle",
    }
    assert [image["name"] for image in document["images"]] == ["0", "1"]


def test_evaluate_with_labels(streets: Path, tmp_path: Path) -> None:
    done = run("evaluate", streets, "--gallery", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "scores.md")
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["against"] == "labels"
    assert "miou" in document["rows"]["refined"]
    assert len((tmp_path / "images.csv").read_text().splitlines()) == 3
    pictures = (tmp_path / "gallery").glob("*.png")
    assert sorted(path.name[:8] for path in pictures) == ["best_01_", "worst_01"]


@pytest.mark.slow
def test_what_labels_mean_is_an_option_of_each_command(streets: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(streets / "images", data / "raw")
    shutil.copytree(streets / "labels", data / "cls")
    out = ["--out", tmp_path / "out"]
    done = run("evaluate", data, *out)
    assert done.returncode == 1 and "--labels FOLDER" in done.stderr
    done = run("evaluate", data, "--labels", data / "cls", "--json", *out)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["against"] == "labels"
    shutil.rmtree(data / "cls")
    (data / "masks").mkdir()
    for path in (data / "raw").iterdir():
        mask = np.zeros((128, 192), np.uint8)
        mask[:64] = 255
        Image.fromarray(mask).save(data / "masks" / path.name)
    for command in ("evaluate", "headroom", "calibrate"):
        done = run(command, data, *out)
        assert done.returncode == 1 and "--label-values binary" in done.stderr, command
    done = run("headroom", data, "--label-values", "255=1,0=0", "--json", *out)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["against"] == "labels"
    done = run("headroom", data, "--layout", "folders", "--against", "full", "--json", *out)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 2


def test_train_then_predict(streets: Path, tmp_path: Path) -> None:
    weights = tmp_path / "dense.safetensors"
    save_weights(create("espnetv2-0.5").state_dict(), weights)
    settings = ["--steps", 2, "--batch-size", 1, "--crop-size", 64, 64, "--views", 2]
    where = ["--dense", "espnetv2-0.5", "--weights", weights, "--out", tmp_path / "run"]
    network = ["--pyramid", "floor", "--inputs", "rgb", "--inputs", "entropy"]
    done = run("train", streets / "images", *where, "--targets", "dense", *settings, *network)
    assert done.returncode == 0, done.stderr
    model = Path(done.stdout.splitlines()[-1])
    assert (model / "config.json").is_file()
    photo = streets / "images" / "0.png"
    done = run("predict", photo, "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr


def test_calibrate_then_predict(streets: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrate"
    done = run("calibrate", streets, "--recall", 0.6, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = ["threshold", "recall", "precision", "density", "error_rate"]
    assert list(document)[:5] == names and document["recall"] >= 0.6
    assert document == json.loads((out / "calibration.json").read_text())
    done = run("calibrate", streets, "--recall", 0.6, "--out", out)  # from what is there
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        str(out / "calibration.png"),
        str(out / "calibration.json"),
    ]
    assert f"threshold {document['threshold']:.4g} nats" in done.stdout
    assert "max probability" in done.stdout and "oracle" in done.stdout
    photo = streets / "images" / "0.png"
    where = ["--out", tmp_path / "out"]
    done = run("predict", photo, "--calibration", out / "calibration.json", *where)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "0" / "result.json").read_text())
    assert facts["model"]["selector"]["threshold"] == document["threshold"]


def test_calibrate_names_wrong_labels_in_one_line(streets: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(streets, root)
    write_labels(np.full((128, 192), 33), np.zeros((34, 3), np.uint8), root / "labels" / "0.png")
    for command in ("calibrate", "headroom"):
        done = run(command, root, "--out", tmp_path / "out")
        assert done.returncode == 1
        assert "labels beyond 0..18 and 255; pixels per label: 33: 24576" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_headroom_of_a_dense_model_reports_a_bad_image(streets: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    shutil.copytree(streets / "images", root)
    (root / "bad.png").write_text("no photo")
    weights = tmp_path / "dense.safetensors"
    save_weights(create("espnetv2-0.5").state_dict(), weights)
    model = ["--model", "espnetv2-0.5", "--weights", weights, "--out", tmp_path / "out"]
    done = run("headroom", root, *model)
    assert done.returncode == 1
    assert "1 of 3 images could not be read" in done.stderr and "bad.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1].startswith("Don't: low resolution gets 0.0%")
    done = run("headroom", streets, *model, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["against"] == "labels" and len(document["ceilings"]) == 15


@pytest.mark.slow
def test_ablate_trains_variants_and_scores_them(streets: Path, tmp_path: Path) -> None:
    folders = tmp_path / "train", tmp_path / "held out"
    for index, folder in enumerate(folders):
        folder.mkdir()
        shutil.copy(streets / "images" / f"{index}.png", folder)
    make_model().save_pretrained(tmp_path / "model")
    make_model().with_selector(EntropySelector(0.5)).save_pretrained(tmp_path / "other")
    options = ["--model", tmp_path / "model", "--compare", tmp_path / "other", "--steps", 1]
    options += ["--train", folders[0], "--inputs", "rgb+entropy", "--out", tmp_path / "out"]
    done = run("ablate", folders[1], *options, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = ["this", "the same, trained alike", "inputs rgb+entropy", "other"]
    assert list(document) == names
    assert document["inputs rgb+entropy"]["model"]["inputs"] == ["rgb", "entropy"]
    assert document == json.loads((tmp_path / "out" / "ablations.json").read_text())
    done = run("ablate", folders[1], *options)  # from what is there
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "ablations.md")
    assert all(name in done.stdout for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "missing.jpg"], "missing.jpg"),
        (["predict", "pyproject.toml", "--model", "nothing"], "no model at 'nothing'"),
        (["predict", "x.jpg", "--threshold", "nan"], "threshold is nan"),
        (["predict", "x.jpg", "--threshold", "-1"], "threshold is -1.0"),
        (["predict", "x.jpg", "--device", "warp"], "device 'warp' cannot be used"),
        (["evaluate", "no-such-folder"], "no-such-folder"),
        (["train", ".", "--weights", "none.safetensors"], "none.safetensors"),
        (["calibrate", "no-such-folder"], "no-such-folder"),
        (["predict", "x.jpg", "--calibration", "none.json"], "no calibration at none.json"),
        (["predict", "x.jpg", "--calibration", "c", "--threshold", "1"], "Use one of them"),
        (["headroom", ".", "--weights", "w", "--model", "x"], "those of a dense model"),
        (["headroom", ".", "--model", "espnetv2-2.0"], "Give its --weights: a file, folder"),
    ],
)
def test_bad_input_gets_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(*arguments, *([] if arguments[0] == "evaluate" else ["--out", tmp_path / "out"]))
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_benchmark(streets: Path, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "model")
    options = ["--model", tmp_path / "model", "--max-density", "0.1", "--out", tmp_path]
    done = run("benchmark", streets / "images" / "0.png", "--rounds", "2", "--json", *options)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["method"] for row in document["rows"]] == ["dense", "dense_low", "sparserefine"]
    assert document["rows"][2]["density"] == pytest.approx(0.1, abs=0.001)
    p50 = {row["method"]: row["p50_ms"] for row in document["rows"]}
    assert document["speedup"]["espnetv2-0.5"] == pytest.approx(p50["dense"] / p50["sparserefine"])
    assert "reference" in document["environment"]["backends"]


def test_benchmark_env_names_the_backends_and_why() -> None:
    done = run_process("benchmark", "--env", SPARSEREFINE_BACKEND="reference")
    assert done.returncode == 0, done.stderr
    assert re.search(r"backend native +.*(can run, with|cannot run: the native)", done.stdout)
    assert re.search(r"backend reference +. runs", done.stdout)


def test_commands_are_pinned() -> None:
    commands = [name for name in app if not name.startswith("-")]
    assert commands == [
        "refine",
        "cutout",
        "demo",
        "predict",
        "check",
        "evaluate",
        "train",
        "calibrate",
        "headroom",
        "ablate",
        "frontier",
        "benchmark",
        "report",
        "export",
        "bulk",
        "serve",
        "app",
    ]


def test_help_is_instant() -> None:
    run_process("--help")  # compiles
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert "Full-resolution segmentation" in run_process("--help").stdout
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4
