"""Exported files, run by onnxruntime, find what the refiner finds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from onnx_files import OPERATORS, operators, session
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
import sparserefine.exporting.selection as selection
import sparserefine.extras as extras
from command_line import run
from exported_models import full_logits, trained_like
from small_models import PatchDense
from sparserefine.exporting.pipeline import FixedRefiner
from sparserefine.photos.shipped import shipped_photo

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")


def resized_by_permutations(path: Path) -> bool:
    """Whether logits are permuted to be resized, which takes twice as long."""
    graph = onnx.load(path).graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    return any(made.get(n.input[0]) == "Transpose" for n in graph.node if n.op_type == "Resize")


def small_model() -> sr.SparseRefiner:
    torch.manual_seed(0)  # of the dense model's bias
    return trained_like(sr.EntropySelector(0.5, 0.3), classes=5, dense=PatchDense(), widths=(8,))


@pytest.mark.slow  # torch takes seconds for the smallest file
def test_a_file_finds_what_the_refiner_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "STEPS", 8)  # fewer nodes; both sides select by the same
    model = small_model()
    done = sr.export(model, (48, 64), form="refiner", out=tmp_path / "out")
    assert [path.name for path in done.files] == ["refiner.onnx", "refiner.pt2"]
    assert operators(done.files[0]) <= OPERATORS
    assert not resized_by_permutations(done.files[0])
    image, logits = torch.rand(1, 3, 48, 64), 3 * torch.randn(1, 5, 24, 32)
    feed = {"image": image.numpy(), "low_logits": logits.numpy()}
    with torch.no_grad():
        active, _ = FixedRefiner(model, (48, 64)).select(logits)
        expected = model.refine(image, sr.DensePass(logits), active[0][None])
    (found,) = session(done.files[0]).run(None, feed)
    assert 0 < active[0].sum() <= done.plan.budget
    np.testing.assert_array_equal(found, expected.labels.numpy())
    text = done.files[0].read_bytes() + b"".join(
        path.read_bytes() for path in (tmp_path / "out").rglob("*.json")
    )
    assert str(Path(sr.__file__).parent).encode() not in text  # no place on this machine


def sure(logits: Tensor) -> Tensor:
    """The same labels, without a doubt."""
    return 20 * F.one_hot(logits.argmax(1), logits.shape[1]).permute(0, 3, 1, 2).float()


def few(logits: Tensor) -> Tensor:
    left = sure(logits)
    left[:, :, :20, :30] = logits[:, :, :20, :30] / 10
    return left


def budget(logits: Tensor, pixels: int) -> Tensor:
    """As many unsure cells, of four pixels each, as there are pixels in the budget."""
    cells = sr.DensePass(logits).entropy[0].flatten().argsort(descending=True)[: pixels // 4]
    left = sure(logits).flatten(2)
    left[:, :, cells] = logits.flatten(2)[:, :, cells] / 10
    return left.view_as(logits)


@pytest.fixture(scope="module", params=[(512, 512), (1000, 750)], ids=str)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[sr.SparseRefiner, tuple[int, int], Path]:
    model = sr.SparseRefiner.from_pretrained("demo")
    model = model.with_selector(sr.EntropySelector(0.5, 0.1))
    folder = tmp_path_factory.mktemp("exported") / "out"
    sr.export(model, request.param, form="both", returns="logits", out=folder)
    return model, request.param, folder


@pytest.fixture
def picture(exported: Any) -> Tensor:
    return street(exported[1])


def street(size: tuple[int, int]) -> Tensor:
    from sparserefine.images import as_uint8_rgb

    image = torch.from_numpy(as_uint8_rgb(shipped_photo("lund"))).permute(2, 0, 1)[None]
    return F.interpolate(image.float() / 255, size, mode="bilinear", antialias=True).clamp(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("selected", ["none", "few", "budget", "more"])
def test_parity_at_any_number_of_selected_pixels(
    exported: Any, picture: Tensor, selected: str
) -> None:
    model, size, folder = exported
    with torch.no_grad():
        logits = model.dense_pass(picture).logits
        fixed = FixedRefiner(model, size, output="logits")
        logits = {
            "none": sure,
            "few": few,
            "budget": lambda given: budget(given, fixed.plan.budget),
            "more": lambda given: given / 10,
        }[selected](logits)
        active, _ = fixed.select(logits)
        expected = model.refine(picture, sr.DensePass(logits), active[0][None])
    wanted = model.selector(sr.DensePass(logits), size)[0]
    count = int(active[0].sum())
    if selected == "more":  # a coarser level may be full before the budget is
        assert 0.5 * fixed.plan.budget < count <= fixed.plan.budget
    else:
        sizes = {"none": 0, "few": 2400, "budget": fixed.plan.budget // 4 * 4}
        assert count == sizes[selected] and torch.equal(active[0], wanted)
    feed = {"image": picture.numpy(), "low_logits": logits.numpy()}
    (found,) = session(folder / "refiner.onnx").run(None, feed)
    reference = full_logits(model, expected, size)
    changed = torch.from_numpy(found)
    assert (changed.argmax(1) == expected.labels).float().mean() >= 0.9999
    assert (changed - reference).abs().max() <= 1e-3


@pytest.mark.slow
def test_the_whole_pipeline_in_both_formats(exported: Any, picture: Tensor) -> None:
    model, size, folder = exported
    assert operators(folder / "pipeline.onnx") <= OPERATORS
    with torch.no_grad():
        low = model.dense_pass(picture)
        active, _ = FixedRefiner(model, size).select(low.logits)
        expected = model.refine(picture, low, active[0][None])
        program = torch.export.load(folder / "pipeline.pt2").module()(picture)
    (found,) = session(folder / "pipeline.onnx").run(None, {"image": picture.numpy()})
    for logits in (torch.from_numpy(found), program):
        assert (logits.argmax(1) == expected.labels).float().mean() >= 0.9999
        away = (logits - full_logits(model, expected, size)).abs()
        # The dense model itself differs in its last digits; at the edge of the budget that is
        # enough to choose another cell.
        assert (away.amax(1) <= 1e-3).float().mean() >= 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("pyramid", ["floor", "dilate"])
def test_half_precision_agrees_on_all_but_a_few_pixels(tmp_path: Path, pyramid: str) -> None:
    model = trained_like(sr.EntropySelector(0.5, 0.3), widths=(16, 32), pyramid=pyramid)
    done = sr.export(model, (96, 64), form="both", precision="fp16", out=tmp_path / "out")
    image, logits = torch.rand(1, 3, 96, 64), 3 * torch.randn(1, 19, 48, 32)
    feed = {"image": image.numpy(), "low_logits": logits.numpy()}
    with torch.no_grad():
        active, _ = FixedRefiner(model, (96, 64)).select(logits)
        expected = model.refine(image, sr.DensePass(logits), active[0][None]).labels
    runs = session(tmp_path / "out" / "refiner.onnx")
    assert {port.type for port in runs.get_inputs()} == {"tensor(float)"}
    (found,) = runs.run(None, feed)
    assert (found == expected.numpy()).mean() >= 0.99
    sizes = [path.stat().st_size for path in done.files if path.name == "refiner.onnx"]
    assert sizes and {i.data_type for i in onnx.load(done.files[2]).graph.initializer} >= {
        onnx.TensorProto.FLOAT16
    }
    assert session(tmp_path / "out" / "pipeline.onnx").run(None, {"image": feed["image"]})


@pytest.fixture(scope="module")
def segmentation_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gis") / "out"
    model = small_model()
    sr.export(model, (64, 64), returns="probabilities", resolution=12.5, out=folder)
    return folder / "pipeline.onnx"


@pytest.mark.slow
def test_deepness_reads_a_file_as_a_segmentation_model(segmentation_model: Path) -> None:
    """What its ModelBase, Segmentor and dock widget do with a file, in their order."""
    runs = session(segmentation_model)
    (port,), given = runs.get_inputs(), runs.get_modelmeta().custom_metadata_map
    assert port.shape == [1, 3, 64, 64]
    assert str(json.loads(given["model_type"])).capitalize() == "Segmentor"
    names = json.loads(given["class_names"])
    assert [int(key) for key in names] == list(range(5))
    assert float(json.loads(given["resolution"])) == 12.5
    assert int(json.loads(given["tile_size"])) == int(json.loads(given["tiles_size"])) == 64
    assert 0 < int(json.loads(given["tiles_overlap"])) < 100
    mean, std = (json.loads(given[f"standardization_{one}"]) for one in ("mean", "std"))
    tile = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    batch = (np.float32(tile * 1.0 / 255.0) - mean) / std
    batch = batch.transpose(0, 3, 1, 2).astype(np.float32)
    (scores,) = runs.run(None, {port.name: batch})
    assert scores.shape == (1, 5, 64, 64)
    scores = scores.copy()
    scores[scores < float(json.loads(given["seg_thresh"]))] = 0.0
    with torch.no_grad():
        model = small_model()
        expected = model(torch.from_numpy(tile).permute(0, 3, 1, 2)).labels
    assert (scores.argmax(1) == expected.numpy()).mean() >= 0.9999


@pytest.mark.slow
def test_geoai_reads_a_file_as_a_segmentation_model(segmentation_model: Path) -> None:
    """What its ONNXGeoModel does with a file and the one beside it."""
    beside = json.loads(Path(f"{segmentation_model}.json").read_text())
    assert beside["task"] == "semantic-segmentation"
    assert {int(key): name for key, name in beside["id2label"].items()}[4] == "class 4"
    runs = session(segmentation_model)
    side = (beside["input_height"], beside["input_width"])
    tile = np.random.default_rng(0).integers(0, 256, (*side, 3), dtype=np.uint8)
    tensor = (tile.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    names = [port.name for port in runs.get_outputs()]
    logits = runs.run(names, {runs.get_inputs()[0].name: tensor})[0]
    assert names == beside["output_names"] and logits.ndim == 4
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    labels = exponents.argmax(axis=1).squeeze()
    with torch.no_grad():
        expected = small_model()(torch.from_numpy(tile).permute(2, 0, 1)[None]).labels[0]
    assert (labels == expected.numpy()).mean() >= 0.9999


@pytest.mark.slow
def test_the_command_writes_a_folder_and_says_where(tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = tmp_path / "model"
    trained_like(sr.EntropySelector(0.5, 0.3), widths=(8, 8)).save_pretrained(model)
    words = [model, "--size", "64x96", "--max-density", 0.1, "--form", "refiner", "--out", out]
    done = run("export", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names == {
        "refiner.onnx", "refiner.pt2", "export.json", "triton/refiner/config.pbtxt",
    }  # fmt: skip
    document = json.loads((out / "export.json").read_text())
    assert document["refiner"]["capacities"][0] == 614
    config = (out / "triton" / "refiner" / "config.pbtxt").read_text()
    ports = re.findall(r'name: "(\w+)"\s+data_type: (\w+)\s+dims: \[ ([\d, ]+) \]', config)
    assert ports == [
        ("image", "TYPE_FP32", "1, 3, 64, 96"),
        ("low_logits", "TYPE_FP32", "1, 19, 32, 48"),
        ("labels", "TYPE_UINT8", "1, 64, 96"),
    ]
    assert re.findall(r"\bplatform: \"(\w+)\"", config) == ["onnxruntime_onnx"]
    done = run("export", *words)
    assert done.returncode == 1 and "is not empty, expected a new or empty folder" in done.stderr


def refusals() -> list[Any]:
    selector = sr.EntropySelector(0.5, 0.3)
    plain: dict[str, Any] = {"size": (48, 64)}
    cases: dict[str, tuple[Any, dict[str, Any], str]] = {
        "edges": (
            lambda: sr.load("edges"),
            plain,
            r"'edges' cannot be exported: it solves .* Ask it by HTTP \(`sparserefine serve",
        ),
        "selector": (
            lambda: trained_like(selector).with_selector(sr.EdgeSelector(1.0)),  # type: ignore[arg-type]
            plain,
            "selects by edges cannot be exported, expected one that selects by entropy",
        ),
        "alpha": (small_model, plain | {"returns": "alpha"}, "has 5 classes"),
        "returns": (small_model, plain | {"returns": "masks"}, "output='masks': expected one of"),
        "form": (small_model, plain | {"form": "all"}, "form='all': expected one of"),
        "precision": (small_model, plain | {"precision": "int8"}, "precision='int8': expected"),
        "size": (small_model, {"size": (0, 64)}, r"size=\(0, 64\): expected"),
        "small": (
            lambda: trained_like(selector, pyramid="dilate", padding=0, widths=(8,) * 5),
            {"size": (20, 20)},
            "has no pixel at level",
        ),
        "budget": (
            lambda: small_model().with_selector(sr.EntropySelector(0.5, 0.0)),
            plain,
            "max_density is 0.0, expected a share of the image above 0",
        ),
        "one cell": (
            lambda: small_model().with_selector(sr.EntropySelector(0.5, 0.001)),
            plain,
            "is 3 pixels, expected 4, a cell of the prediction",
        ),
        "share": (small_model, plain | {"coarse_share": 0.0}, "coarse_share is 0.0, expected"),
        "low size": (small_model, plain | {"low_size": (8, 8)}, "the dense model runs at"),
        "no dense model": (
            lambda: trained_like(selector, classes=2),
            plain | {"form": "pipeline"},
            "no dense model, so there is no whole pipeline",
        ),
        "dense model": (
            lambda: trained_like(
                selector,
                classes=5,
                dense=sr.dense.from_callable(
                    lambda images: torch.from_numpy(9 * images.numpy()[:, :1].repeat(5, 1)),
                    "logits",
                    5,
                ),
            ),
            plain,
            r'the dense model cannot be exported .* Export form="refiner" \(--form refiner\)',
        ),
        "no refiner": (lambda: "demo", plain, "expected a SparseRefiner. Open it"),
    }
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("make", "arguments", "message"), refusals())
def test_what_cannot_be_exported_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    arguments: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    with pytest.raises(ValueError, match=message) as caught:
        sr.export(make(), **arguments, out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda module: module != "onnxscript")
    with pytest.raises(ImportError, match=r"exporting needs onnxscript: .*sparserefine\[onnx\]"):
        sr.export(small_model(), (48, 64), out=tmp_path / "out")


def test_a_dense_model_is_no_refiner_to_export(tmp_path: Path) -> None:
    done = run("export", "u2netp", "--size", "64x64", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "'u2netp' is a dense model, for which no refiner is trained" in done.stderr
    done = run("export", "demo", "--size", "64", "--out", tmp_path / "out")
    assert done.returncode == 1 and "expected HEIGHTxWIDTH" in done.stderr


@pytest.mark.slow
def test_the_ten_lines_of_the_page_run_without_torch(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()
    lines = re.search(r"```python\n(import numpy.*?)```", page, re.S)
    assert lines is not None
    model = small_model()
    sr.export(model, (48, 64), out=tmp_path / "out" / "export")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    alone = "import sys; sys.modules['torch'] = sys.modules['sparserefine'] = None\n"
    command = [sys.executable, "-c", alone + lines[1]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "labels.png") as labels, torch.no_grad():
        expected = model.predict(tmp_path / "photo.jpg").labels
        np.testing.assert_array_equal(np.asarray(labels), expected)
