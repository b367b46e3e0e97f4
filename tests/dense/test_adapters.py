"""Adapters for libraries that need not be installed: their models imitated, or their own run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense.adapters.windows import in_windows

SIZE = (32, 64)


def images(batch: int = 1, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)}

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x[:, :, ::2, ::2]]


class Head(nn.Module):
    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.cat([maps[0], 2 * maps[0]], 1)


def test_timm_normalizes_as_its_backbone_says() -> None:
    model = sr.dense.from_timm(Backbone(), Head(), 6)
    expected = (images() - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.1, 0.2, 0.3]
    ).view(3, 1, 1)
    torch.testing.assert_close(model(images()), torch.cat([expected, 2 * expected], 1))


class Smp(nn.Module):
    """As segmentation_models_pytorch builds them."""

    def __init__(self, classes: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.encoder.output_stride = 32
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(3, classes, 3, padding=1), nn.Identity(), activation or nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        assert not any(side % 32 for side in x.shape[2:])
        return self.segmentation_head(x)


def test_smp_counts_its_classes_and_pads() -> None:
    model = sr.dense.from_smp(Smp(4))
    assert (model.num_classes, model.size_divisor, model.kind) == (4, 32, "logits")
    refiner = sr.SparseRefiner(model, extractor=sr.SparseUNet(4, widths=(4,), blocks=1))
    assert refiner.predict((255 * images()[0]).byte()[:, :21, :43]).labels.shape == (21, 43)


def test_smp_with_one_channel_is_background_and_foreground() -> None:
    model = sr.dense.from_smp(Smp(1))
    assert (model.num_classes, model.kind) == (2, "binary")
    inside = model.model.segmentation_head(model.normalize(images()))  # type: ignore[operator]
    torch.testing.assert_close(model(images()).softmax(1)[:, 1:], inside.sigmoid())


def test_smp_that_ends_in_probabilities_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ends in Softmax, expected logits\. Make it with"):
        sr.dense.from_smp(Smp(3, nn.Softmax(1)))


class Torchvision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 21, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.classifier(x), "aux": x}


def test_torchvision_takes_the_main_output() -> None:
    model = sr.dense.from_torchvision(Torchvision())
    assert model.num_classes == 21
    assert model(images()).shape == (1, 21, *SIZE)


@pytest.mark.parametrize(
    "adapt",
    [sr.dense.from_smp, sr.dense.from_torchvision, lambda m: sr.dense.from_mmseg(m, "logits")],
)
def test_a_model_of_another_library_is_named(adapt: Any) -> None:
    with pytest.raises(ValueError, match=r"got a Conv2d, expected a .*from_callable"):
        adapt(nn.Conv2d(3, 5, 1))


class Segmentor(nn.Module):
    """As mmsegmentation 1.x builds them."""

    def __init__(self) -> None:
        super().__init__()
        self.decode_head = nn.Conv2d(3, 4, 1)
        self.decode_head.num_classes = 4
        self.data_preprocessor = SimpleNamespace(
            mean=torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1),
            std=torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1),
            channel_conversion=True,
        )
        self.dataset_meta = {"classes": list("abcd"), "palette": [[i, i, i] for i in range(4)]}

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        assert len(batch_img_metas) == len(inputs)
        assert batch_img_metas[0]["img_shape"] == tuple(inputs.shape[2:])
        return self.decode_head(inputs).softmax(1) * 0.7


def test_mmseg_scores_are_normalized_and_names_taken() -> None:
    model = sr.dense.from_mmseg(Segmentor(), "scores")
    assert model.preset.class_names == ("a", "b", "c", "d")
    assert model.preset.palette[3] == (3, 3, 3)
    normalized = model.normalize(images(2))
    assert normalized.mean().abs() < 1
    torch.testing.assert_close(
        model(images(2)).softmax(1),
        Segmentor.encode_decode(
            model.model.model,
            normalized,
            [{"img_shape": SIZE}] * 2,  # type: ignore[arg-type]
        )
        / 0.7,
    )


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(1, 7, 4, 4), r"returned a tensor \[1, 7, 4, 4\], expected a tensor \[B, 5"),
        (torch.zeros(1, 4, 4), r"returned a tensor \[1, 4, 4\]"),
        ({"out": torch.zeros(1)}, "returned a dict with out, expected"),
        ((torch.zeros(1), torch.zeros(2)), r"a tuple of a tensor \[1\], a tensor \[2\]"),
    ],
)
def test_an_output_of_another_kind_is_named(output: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sr.dense.from_callable(lambda _: output, "logits", 5)
    model = sr.dense.from_callable(lambda _: output, "logits", 5, check=False)
    with pytest.raises(ValueError, match=message):
        model(images())


def test_masks_of_another_kind_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected class logits \[B, Q, 6\] and mask logits"):
        sr.dense.from_callable(lambda x: x, "masks", 5)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes=1 with kind='logits': expected 2"):
        sr.dense.from_callable(lambda x: x, "logits", 1)


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (37, 50), (5, 30), (100, 17)])
def test_windows_of_a_pixelwise_model_change_nothing(size: tuple[int, int]) -> None:
    seen: list[tuple[int, int]] = []

    def predict(part: Tensor) -> Tensor:
        seen.append((part.shape[2], part.shape[3]))
        return part

    result = in_windows(predict, images(2, size), 16)
    assert set(seen) == {(16, 16)}
    assert min(result.shape[2:]) >= 16
    if min(size) >= 16:
        torch.testing.assert_close(result, images(2, size))


def test_preprocessing_of_the_files_counts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    config = transformers.MobileNetV2Config(num_labels=3, depth_multiplier=0.35)
    transformers.MobileNetV2ForSemanticSegmentation(config).save_pretrained(tmp_path)
    preprocessor = tmp_path / "preprocessor_config.json"
    preprocessor.write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 2]}))
    model = sr.dense.from_transformers(tmp_path)
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.normalize.std.flatten().tolist() == [1, 1, 2]
    assert model.channels == "rgb"
    preprocessor.write_text(json.dumps({"do_flip_channel_order": True, "do_normalize": False}))
    model = sr.dense.from_transformers(tmp_path)
    assert model.channels == "bgr"
    preprocessor.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        sr.dense.from_transformers(tmp_path)


def test_another_number_of_classes_than_the_configuration_says(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    config = transformers.MobileNetV2Config(num_labels=3, depth_multiplier=0.35)
    transformers.MobileNetV2ForSemanticSegmentation(config).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    content["id2label"] = {str(index): str(index) for index in range(4)}
    content["label2id"] = {str(index): index for index in range(4)}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"names 4 classes, but its weights are of 3 \("):
        sr.dense.from_transformers(tmp_path)


def test_a_model_of_labels_from_1_says_so_and_keeps_that(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    config = transformers.MobileNetV2Config(num_labels=3, depth_multiplier=0.35)
    transformers.MobileNetV2ForSemanticSegmentation(config).save_pretrained(tmp_path)
    assert not sr.dense.from_transformers(tmp_path).preset.labels_from_1
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_reduce_labels": True}))
    model = sr.dense.from_transformers(tmp_path)
    assert model.preset.labels_from_1
    model.save_files(tmp_path)
    assert sr.dense.from_transformers(tmp_path).preset.labels_from_1


def test_a_model_type_that_is_not_known_is_named(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is of type 'bert', expected one of segformer, .*calla"):
        sr.dense.from_transformers(tmp_path)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Any:
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    network = nn.Conv2d(3, 4, 4, stride=4)

    def write(name: str, dynamic: bool) -> tuple[Path, nn.Module]:
        shapes = {"input": {2: "h", 3: "w"}} if dynamic else None
        path = tmp_path / name
        torch.onnx.export(
            network, (images(),), str(path), input_names=["input"], dynamic_axes=shapes,
            dynamo=False,
        )  # fmt: skip
        return path, network

    return write


legacy = pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript")


@legacy
def test_onnx(onnx_file: Any) -> None:
    path, network = onnx_file("any.onnx", dynamic=True)
    model = sr.dense.from_onnx(path, "logits", 4)
    for size in (SIZE, (16, 24)):
        torch.testing.assert_close(model(images(2, size)), network(images(2, size)))


@legacy
def test_onnx_of_one_size_is_padded_up_to(onnx_file: Any) -> None:
    path, _ = onnx_file("fixed.onnx", dynamic=False)
    preset = sr.dense.Preset(dense_size=0.25, threshold=0.2)
    with pytest.warns(UserWarning, match=r"^fixed.onnx takes 32×64 only: photos .*free_size\('/"):
        model = sr.dense.from_onnx(path, "logits", 4, preset=preset)
    assert (model.preset.dense_size, model.preset.threshold) == (SIZE, 0.2)
    logits = model(images(1, (20, 40)))
    assert logits.shape == (1, 4, 20, 40)
    with pytest.raises(ValueError, match="images are 64×64, the ONNX file takes 32×64 only"):
        model(images(1, (64, 64)))
    refiner = sr.SparseRefiner(model, extractor=sr.SparseUNet(4, widths=(4,), blocks=1))
    assert refiner.predict((255 * images(1, (60, 100))[0]).byte()).labels.shape == (60, 100)


def test_a_fit_that_is_none_is_refused() -> None:
    preset = sr.dense.Preset()
    object.__setattr__(preset, "fit", "squash")  # the tests' check of types comes before ours
    with pytest.raises(ValueError, match='fit=\'squash\': expected "keep" or "stretch"'):
        preset.__post_init__()


@legacy
def test_an_onnx_file_of_one_size_takes_squashed_photos(onnx_file: Any) -> None:
    path, network = onnx_file("fixed.onnx", dynamic=False)
    with pytest.warns(UserWarning, match="takes 32×64 only"):
        model = sr.dense.from_onnx(path, "logits", 4, fit="stretch")
    size = model.preset.dense_size
    assert isinstance(size, tuple) and model.preset.fit == "stretch"
    refiner = sr.SparseRefiner(model, extractor=sr.SparseUNet(4, widths=(4,), blocks=1))
    images = torch.rand(1, 3, 3 * size[0], 2 * size[1])  # of other proportions than the file's
    squashed = F.interpolate(images, size, mode="bilinear", antialias=True)
    with torch.inference_mode():
        expected = F.interpolate(network(squashed), size, mode="bilinear")
        torch.testing.assert_close(refiner.dense_pass(images).logits, expected)


def test_an_onnx_file_that_is_none_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        sr.dense.from_onnx(tmp_path / "gone.onnx", "logits", 4)
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not an ONNX model that onnxruntime can run"):
        sr.dense.from_onnx(tmp_path / "bad.onnx", "logits", 4)


@legacy
def test_an_onnx_file_is_named_by_its_bytes_and_by_those_of_its_weights(
    onnx_file: Any, tmp_path: Path
) -> None:
    import onnx

    path, _ = onnx_file("one.onnx", dynamic=True)
    same = tmp_path / "same.onnx"
    same.write_bytes(path.read_bytes())
    apart = tmp_path / "apart.onnx"
    onnx.save_model(
        onnx.load(path), apart, save_as_external_data=True, location="w.bin", size_threshold=0
    )

    def identity(path: Path) -> str | None:
        return sr.dense.from_onnx(path, "logits", 4).identity()

    assert identity(same) == identity(path) is not None
    before = identity(apart)
    weights = bytearray((tmp_path / "w.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "w.bin").write_bytes(weights)
    assert len({identity(path), before, identity(apart)}) == 3


def test_a_function_is_named_by_its_user_or_not_at_all() -> None:
    def wrap(identity: str | None) -> sr.dense.DenseModel:
        return sr.dense.from_callable(lambda x: 2 * x, "logits", 3, identity=identity)

    assert wrap("mine 1").describe() == wrap("mine 1").describe() != wrap("mine 2").describe()
    nameless = wrap(None)
    assert nameless.identity() is None
    assert nameless.describe() == nameless.describe() != wrap(None).describe()


def test_a_module_is_named_by_its_weights_and_what_is_done_around_it() -> None:
    network = nn.Conv2d(3, 4, 4, stride=4)

    def described(**options: Any) -> dict[str, Any]:
        return sr.dense.from_callable(network, "logits", 4, **options).describe()

    before = described()
    assert described() == before
    assert described(std=(0.5, 0.5, 0.5)) != before and described(channels="bgr") != before
    with torch.no_grad():
        network.bias[3] += 1
    assert described() != before
