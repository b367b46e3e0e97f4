"""Folders of transformers as people have them: the network sees what its processor feeds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sparserefine as sr

transformers = pytest.importorskip("transformers", reason="needs the extra hf")

from sparserefine.dense.adapters.transformers import FAMILIES, _override  # noqa: E402

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
UNIT = torch.from_numpy(PIXELS).permute(2, 0, 1)[None] / 255


def segformer(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        **({"num_labels": 5} | options),
    )
    return transformers.SegformerForSemanticSegmentation(config).eval()


def fed(family: Any) -> Tensor:
    """What a network is fed of the photo."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (family.mean, family.std))
    images = (UNIT - mean) / std
    return images.flip(1) if family.channels == "bgr" else images


PROCESSORS = {
    "segformer": "SegformerImageProcessorPil",
    "beit": "BeitImageProcessorPil",
    "dpt": "DPTImageProcessorPil",
    "mobilenet_v2": "MobileNetV2ImageProcessorPil",
    "mobilevit": "MobileViTImageProcessorPil",
    "maskformer": "MaskFormerImageProcessorPil",
}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
        {"do_rescale": False, "image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {"do_normalize": False},
        {"do_normalize": False, "do_rescale": False},
        {"image_mean": 0.5, "image_std": 0.25},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", PROCESSORS)
def test_the_network_is_fed_what_its_processor_feeds(family: str, settings: dict[str, Any]) -> None:
    made = getattr(transformers, PROCESSORS[family], None)
    if made is None:
        pytest.skip("this version of transformers has no processor without torchvision")
    processor = made(**settings)
    given: dict[str, Any] = {"do_resize": False, "return_tensors": "pt"}
    if hasattr(processor, "do_center_crop"):
        given["do_center_crop"] = False
    expected = processor(images=Image.fromarray(PIXELS), **given)["pixel_values"].float()
    for written in (processor.to_dict(), settings):  # in full, and as old versions wrote
        if family == "mobilevit" and written is settings and "image_mean" in settings:
            continue  # without its name a file with a mean means it
        found = _override(FAMILIES[family], dict(written), "here", None, None)
        torch.testing.assert_close(fed(found), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_rescale": False, "image_mean": MEAN, "image_std": STD}, "0..1 or in 0..255 is not"),
        ({"image_mean": [123.7, 116.3, 103.5], "image_std": STD}, "0..1 or in 0..255 is not"),
        ({"image_mean": [0.5], "image_std": [0.2, 0.2]}, "image_std=.*expected three numbers"),
        ({"rescale_factor": 0}, "rescales by 0.0, expected a factor above 0"),
    ],
)
def test_settings_that_need_a_decision_are_refused(settings: dict[str, Any], message: str) -> None:
    family = FAMILIES["segformer"]
    with pytest.raises(ValueError, match=message):
        _override(family, settings, "preprocessor_config.json", None, None)
    said = _override(family, settings, "here", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    assert (said.mean, said.std) == ((0.5, 0.5, 0.5), (0.1, 0.1, 0.1))


def test_null_is_what_is_not_said(tmp_path: Path) -> None:
    segformer().save_pretrained(tmp_path)
    empty = dict.fromkeys(("image_mean", "image_std", "do_rescale", "do_normalize"))
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {
        **empty, "image_mean": [0.1, 0.2, 0.3]}}))  # fmt: skip
    model = sr.dense.from_transformers(tmp_path)
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.normalize.std.flatten().tolist() == pytest.approx(STD)


def test_one_label_is_background_and_foreground(tmp_path: Path) -> None:
    network = segformer(num_labels=1, id2label={0: "road"})
    network.save_pretrained(tmp_path)
    model = sr.dense.from_transformers(tmp_path)
    assert model.num_classes == 2 and model.preset.class_names == ("background", "road")
    with torch.no_grad():
        expected = network(pixel_values=model.normalize(UNIT)).logits.sigmoid()
        torch.testing.assert_close(model(UNIT).softmax(1)[:, 1:], expected)


def test_labels_that_count_from_one_keep_their_order(tmp_path: Path) -> None:
    segformer(id2label={1: "sky", 2: "road", 3: "car"}, num_labels=3).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"id2label counts 1, 2, 3…, expected 0, 1, 2"):
        model = sr.dense.from_transformers(tmp_path)
    assert model.num_classes == 3 and model.preset.class_names == ("sky", "road", "car")


def test_other_channels_are_refused(tmp_path: Path) -> None:
    network = segformer(num_channels=4)
    with pytest.raises(ValueError, match=r"takes images of 4 channels, expected 3: red, green"):
        sr.dense.from_transformers(network)
    network.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"takes images of 4 channels, expected 3: red, green"):
        sr.dense.from_transformers(tmp_path)


class Pipeline:
    """With the face of the library's, which needs more than is installed here."""

    def __init__(self) -> None:
        self.model = nn.DataParallel(segformer())
        self.image_processor = transformers.SegformerImageProcessorPil(image_mean=[0.1, 0.2, 0.3])

    def preprocess(self) -> None: ...


def test_a_pipeline_gives_its_model_and_what_it_does_to_photos() -> None:
    model = sr.dense.from_transformers(Pipeline())
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not any(isinstance(part, nn.DataParallel) for part in model.modules())
    with pytest.raises(ValueError, match=r"got a SegformerImageProcessorPil, expected a folder"):
        sr.dense.from_transformers(Pipeline().image_processor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_runs_in_it(dtype: torch.dtype) -> None:
    half, full = (sr.dense.from_transformers(segformer().to(t)) for t in (dtype, torch.float32))
    torch.testing.assert_close(half(UNIT), full(UNIT), atol=0.1, rtol=0.1)
    for dense in (half, full):
        refiner = sr.SparseRefiner(dense, extractor=sr.SparseUNet(5, widths=(4,), blocks=1))
        assert refiner.predict(PIXELS).labels.shape == PIXELS.shape[:2]


@pytest.mark.parametrize("size", [(1, 1), (30, 200), (57, 57)])
def test_photos_too_small_for_segformer_are_segmented(size: tuple[int, int]) -> None:
    config = transformers.SegformerConfig(  # the smallest with the strides of B5
        hidden_sizes=[8, 16, 40, 64],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 5, 8],
        decoder_hidden_size=16,
        num_labels=5,
    )
    dense = sr.dense.from_transformers(transformers.SegformerForSemanticSegmentation(config))
    refiner = sr.SparseRefiner(dense, extractor=sr.SparseUNet(5, widths=(4,), blocks=1))
    assert refiner.predict(PIXELS.repeat(3, 1)[: size[0], : size[1]]).labels.shape == size


def test_a_pointer_in_place_of_weights_is_named(tmp_path: Path) -> None:
    segformer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"model\.safetensors is a Git LFS pointer.*git lfs pull"):
        sr.dense.from_transformers(tmp_path)
