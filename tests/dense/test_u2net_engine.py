"""U²-Net and IS-Net inside onnxruntime: the same network, and the same as published files."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense import u2net_engine
from sparserefine.dense.u2net import TABLES, U2Net
from sparserefine.images import read_image

pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
exports = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript",
    "ignore:Constant folding",
    "ignore::torch.jit.TracerWarning",
)


class Published(nn.Module):
    """A network with what its authors' files do besides: probabilities as large as the image."""

    def __init__(self, network: U2Net) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logit = self.network(images)[:, 1:]
        return F.interpolate(logit, images.shape[2:], mode="bilinear").sigmoid()


def narrow(kind: str, monkeypatch: pytest.MonkeyPatch) -> U2Net:
    """A network of the family with a sixteenth of the channels."""

    def fewer(widths: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
        return tuple((max(3, a // 16), max(2, b // 16), c // 16) for a, b, c in widths)

    table = TABLES[kind]
    few = replace(table, down=fewer(table.down), up=fewer(table.up), stem=table.stem // 16)
    monkeypatch.setitem(TABLES, kind, few)
    return lively(U2Net(kind))


def lively(network: U2Net) -> U2Net:
    """Weights that keep the answers apart, as random ones do not."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network.eval().requires_grad_(False)


def run(file: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("size", [(96, 64), (83, 111), (9, 7)], ids=str)
def test_it_runs_the_same_network(
    kind: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = narrow(kind, monkeypatch)
    optimized = sr.dense.optimize(model)
    monkeypatch.setattr(optimized, "_find_logit", None)  # torch's way
    images = torch.rand(2, 3, *size)
    found, expected = optimized(images), model(images)
    assert float(expected[:, 1].std()) > 0.05
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_optimized_model_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sr.dense.create("u2netp")
    optimized = sr.dense.optimize(model)
    images = torch.rand(1, 3, 32, 32)
    assert optimized is not model and type(optimized) is U2Net
    optimized(images)
    assert optimized.describe() == model.describe()
    assert list(optimized.state_dict()) == list(model.state_dict())
    torch.testing.assert_close(copy.deepcopy(optimized)(images), optimized(images))
    refiner = sr.SparseRefiner(optimized, extractor=sr.SparseUNet(2, widths=(4,), blocks=1))
    refiner.save_pretrained(tmp_path / "refiner")
    again = sr.SparseRefiner.from_pretrained(tmp_path / "refiner")
    assert again.dense is not None and again.dense.identity() == model.identity()


def test_what_onnxruntime_cannot_do_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sr.dense.optimize(narrow("u2netp", monkeypatch))
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    model(images)[:, 1].sum().backward()
    assert images.grad is not None and bool(images.grad.any())
    half = copy.deepcopy(model).bfloat16()
    assert half(images.detach()).dtype == torch.float32
    with torch.inference_mode():
        difference = (half(images) - model(images)).abs().max()
    assert 1e-6 < float(difference) < 0.5


def test_changed_weights_and_threads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sr.dense.optimize(narrow("u2netp", monkeypatch))
    assert isinstance(model, U2Net)
    opened: list[Any] = []
    original = u2net_engine.to_onnx
    monkeypatch.setattr(
        u2net_engine, "to_onnx", lambda network: opened.append(network) or original(network)
    )
    images = torch.rand(1, 3, 32, 32)
    before = model(images)
    assert torch.equal(model(images), before) and len(opened) == 1
    model.sides[0].bias.add_(1.0)  # pyright: ignore
    after = model(images)
    assert len(opened) == 2 and not torch.equal(after, before)
    torch.testing.assert_close(after, plain(model)(images), atol=1e-4, rtol=1e-4)


def plain(model: U2Net) -> U2Net:
    other = copy.copy(model)
    other._engine = None
    return other


def test_machines_without_onnxruntime_run_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = narrow("u2netp", monkeypatch)
    monkeypatch.setattr(u2net_engine, "find_spec", lambda name: None)
    optimized = sr.dense.optimize(model)
    assert optimized.optimization is not None and "extra onnx" in optimized.optimization.engine
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(optimized(images), model(images))


@exports
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["u2netp", "isnet"])
def test_it_agrees_with_an_exported_file_at_any_size(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ((128, 128), (256, 192), (250, 333), (61, 47))
    agrees_at(narrow(kind, monkeypatch), sizes, tmp_path)


@exports
@pytest.mark.slow
@pytest.mark.parametrize("kind", TABLES)
def test_networks_of_full_width_agree_with_an_exported_file(kind: str, tmp_path: Path) -> None:
    sizes = ((256, 256), (512, 512), (1024, 1024), (250, 333))
    agrees_at(lively(U2Net(kind)), sizes, tmp_path)


def agrees_at(network: U2Net, sizes: Sequence[tuple[int, int]], folder: Path) -> None:
    """A file is exported at the first size, then freed."""
    published = Published(network)
    file = folder / "net.onnx"
    images = torch.rand(1, 3, *sizes[0])
    torch.onnx.export(published, (images,), str(file), opset_version=15, dynamo=False)
    free = sr.dense.free_size(file)
    optimized = Published(sr.dense.optimize(network))  # pyright: ignore
    for size in sizes:
        images = torch.rand(1, 3, *size)
        expected = run(free, images)
        assert float(expected.std()) > 0.01
        for found in (published(images), optimized(images)):
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1024, 1024), (512, 512), (250, 333)], ids=str)
def test_it_agrees_with_the_published_file_of_isnet(
    size: tuple[int, int], tmp_path: Path, shared: Path
) -> None:
    path = os.environ.get("SPARSEREFINE_ISNET", "")
    if not path:
        pytest.skip("needs a file of IS-Net, named by SPARSEREFINE_ISNET: docs/dense-models.md")
    network = sr.dense.create("isnet", path)
    assert isinstance(network, U2Net)
    photo = sorted((shared / "data" / "photos").rglob("*.jpg"))[0]
    images = torch.from_numpy(read_image(photo)).permute(2, 0, 1)[None].float() / 255
    images = F.interpolate(images, size, mode="bilinear", antialias=True)
    file = Path(path) if size == (1024, 1024) else sr.dense.free_size(path, tmp_path / "free.onnx")
    expected = run(file, network.normalize(images))
    assert float(expected.std()) > 0.1  # something is there
    for model in (network, sr.dense.optimize(network)):
        found = Published(model)(images)  # pyright: ignore
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
