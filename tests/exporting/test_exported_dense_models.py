"""The paper's dense models in one file with their refiner: small ones of each family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from onnx_files import OPERATORS, operators, session

import sparserefine as sr
import sparserefine.dense.hrnet as hrnet
import sparserefine.dense.segnext as segnext
from exported_models import full_logits, trained_like

for _name in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(_name, reason="needs the extra onnx")

pytestmark = pytest.mark.slow

CLASSES, SIZE = 5, (128, 256)
Patch = pytest.MonkeyPatch


def small_hrnet(patch: Patch) -> sr.dense.DenseModel:
    patch.setattr(hrnet, "STAGE_MODULES", (1, 1, 1))
    patch.setattr(hrnet, "BLOCKS", 1)
    return hrnet.HRNet(CLASSES, width=4)


def small_segnext(patch: Patch) -> sr.dense.DenseModel:
    patch.setattr(segnext, "WIDTHS", (8, 16, 24, 32))
    patch.setattr(segnext, "DEPTHS", (1, 1, 1, 1))
    patch.setattr(segnext, "HAM_CHANNELS", 32)
    return segnext.SegNeXt(CLASSES, rank=4)


def of_transformers(name: str) -> Callable[[Patch], sr.dense.DenseModel]:
    def make(patch: Patch) -> sr.dense.DenseModel:
        pytest.importorskip("transformers", reason="needs the extra hf")
        from small_transformers import SMALL

        return sr.dense.from_transformers(SMALL[name]())

    return make


FAMILIES = {
    "hrnet": small_hrnet,
    "segnext": small_segnext,
    "segformer": of_transformers("segformer"),
    "mask2former": of_transformers("mask2former"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dense_model_is_exported_with_its_refiner(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    dense = FAMILIES[family](monkeypatch).eval().requires_grad_(False)
    # All pixels are refined: of scores that differ in their last digits a budget takes others.
    selector = sr.EntropySelector(0.0, 1.0)
    model = trained_like(selector, classes=CLASSES, dense=dense, widths=(8, 8))
    sr.export(model, SIZE, returns="logits", out=tmp_path / "out")
    file = tmp_path / "out" / "pipeline.onnx"
    assert operators(file) <= OPERATORS
    image = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        expected = model(image)
    assert expected.mask.all()
    (found,) = session(file).run(None, {"image": image.numpy()})
    logits = torch.from_numpy(found)
    assert torch.equal(logits.argmax(1), expected.labels.long())
    torch.testing.assert_close(logits, full_logits(model, expected, SIZE), rtol=0, atol=1e-3)
