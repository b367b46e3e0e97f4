"""The five models of the paper: sizes, costs, presets, real forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from behavior import assert_equal_but_for_rounding
from torch.utils.flop_counter import FlopCounterMode

import sparserefine as sr
from sparserefine.refinement.dense_size import DenseSize

pytest.importorskip("transformers", reason="needs the extra hf")

# Low resolution of 1024×2048, threshold in nats, parameters in millions, 10⁹ MACs at
# 1024×2048, stride of the logits.
FIVE = {
    "hrnet-w48": ((512, 1024), 0.3, 65.86, 747, 4),
    "segformer-b5": ((512, 1024), 0.1, 84.6, 1446, 4),
    "mask2former-swin-tiny": ((512, 1024), 0.05, 47.4, 533, 1),
    "mask2former-swin-large": ((512, 1024), 0.005, 215.5, 1899, 1),
    "segnext-l": ((640, 1280), 0.1, 48.8, 553, 8),
}
FULL = (1024, 2048)


def only(fast: str) -> list[Any]:
    """All of them, one alone in the fast tests: small ones of each kind run in test_behavior."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name == fast else slow) for name in FIVE]


@pytest.mark.parametrize("name", FIVE)
def test_presets_are_those_of_the_paper(name: str) -> None:
    model = sr.dense.create(name, device="meta")
    low, threshold, *_ = FIVE[name]
    assert DenseSize(model.preset.dense_size, model.size_divisor).resized(FULL) == low
    assert model.preset.threshold == threshold
    assert model.num_classes == len(model.preset.class_names) == len(model.preset.palette) == 19
    assert model.preset.license == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", FIVE)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    model = sr.dense.create(name, device="meta")
    low, _, millions, billions, stride = FIVE[name]
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.05)
    for size in (low, FULL):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = model(torch.empty(1, 3, *size, device="meta"))
        assert logits.shape == (1, 19, size[0] // stride, size[1] // stride)
    # The sum over 100 masks, which the published counts leave out.
    masks = 100 * 19 * size[0] * size[1] if name.startswith("mask2former") else 0
    found = (counter.get_total_flops() / 2 - masks) / 1e9
    assert found == pytest.approx(billions, abs=0.6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIVE)
def test_a_real_forward_pass(name: str) -> None:
    model = sr.dense.create(name)
    stride = FIVE[name][-1]
    images = torch.rand(1, 3, 256, 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for size in ((256, 512), (250, 500)):
            logits = model(images[:, :, : size[0], : size[1]])
            assert logits.shape == (1, 19, *(-(-side // stride) for side in size))
            assert logits.dtype == torch.float32
            assert bool(logits.isfinite().all())
            assert logits.std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("resolution", ["low", "full"])
def test_a_forward_pass_at_full_size(name: str, resolution: str) -> None:
    low, *_, stride = FIVE[name]
    size = low if resolution == "low" else FULL
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = sr.dense.create(name)(images)
    assert logits.shape == (1, 19, size[0] // stride, size[1] // stride)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", only("mask2former-swin-tiny"))
def test_the_seed_decides_the_weights(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, other = sr.dense.create(name, seed=1), sr.dense.create(name, seed=2)
    assert torch.equal(torch.rand(3), expected)
    again = sr.dense.create(name, seed=1).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.state_dict().items())
    assert any(
        not torch.equal(tensor, other.state_dict()[key])
        for key, tensor in first.state_dict().items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segnext-l", "hrnet-w48", "segformer-b5"])
def test_the_large_ones_compile_and_export(name: str) -> None:
    model = sr.dense.create(name)
    images = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        exported = torch.export.export(model, (images,)).module()(images)
    assert_equal_but_for_rounding(exported, expected)


def test_a_folder_of_another_model_or_size_is_named(tmp_path: Path) -> None:
    import transformers

    wrong = {
        "tiny": (
            transformers.SegformerConfig(depths=[2, 2, 2, 2], num_labels=19),
            r"has hidden_sizes \[32, 64, 160, 256\], 'segformer-b5' \[64, 128, 320, 512\]",
        ),
        "beit": (transformers.BeitConfig(), "is a beit, 'segformer-b5' a segformer"),
        "classes": (
            transformers.SegformerConfig(
                hidden_sizes=[64, 128, 320, 512],
                depths=[3, 6, 40, 3],
                decoder_hidden_size=768,
                num_labels=7,
            ),
            "has 7 classes, 'segformer-b5' the 19 of Cityscapes.*from_transformers",
        ),
    }
    for name, (config, message) in wrong.items():
        config.save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            sr.dense.create("segformer-b5", tmp_path / name)
