"""Weights under the names of each source: written, read, forward passes compared."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.dense import DenseModel, HRNet, SegNeXt
from sparserefine.dense.mmseg_mask2former import mask2former_state
from sparserefine.dense.weights import read_weights

SIZE = (64, 128)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "dense"


def assert_same_forward(found: DenseModel, expected: DenseModel) -> None:
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(found(images), expected(images))


@pytest.fixture
def foreign() -> Iterator[type]:
    """An object as mmengine pickles it, of a class that readers do not have."""
    module = types.ModuleType("mmengine_like")

    class HistoryBuffer:
        built = 0

        def __init__(self) -> None:
            self.values = [1.0, 2.0]

        def __setstate__(self, state: dict[str, object]) -> None:
            HistoryBuffer.built += 1
            self.__dict__.update(state)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = "mmengine_like", "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    sys.modules["mmengine_like"] = module
    yield HistoryBuffer
    del sys.modules["mmengine_like"]


def with_random_statistics(model: DenseModel) -> DenseModel:
    """So that no tensor can be swapped for another without a difference."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and "layer_scale" not in name:
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.mul_(1 + 0.2 * noise) if tensor.ndim > 1 else tensor.copy_(0.5 + noise)
    return model


@pytest.fixture(scope="module")
def hrnet() -> HRNet:
    model = with_random_statistics(sr.dense.create("hrnet-w48"))
    assert isinstance(model, HRNet)
    return model


@pytest.fixture(scope="module")
def hrnet_with_bias() -> HRNet:
    model = with_random_statistics(sr.dense.create("hrnet-w48", head_bias=True))
    assert isinstance(model, HRNet)
    return model


@pytest.mark.slow
def test_hrnet_of_mmsegmentation(hrnet: HRNet, tmp_path: Path, foreign: type) -> None:
    def rename(name: str) -> str:
        name = name.replace("head.0.", "decode_head.convs.0.conv.")
        name = name.replace("head.1.", "decode_head.convs.0.bn.")
        return name.replace("head.3.", "decode_head.conv_seg.")

    state = {rename(name): tensor for name, tensor in hrnet.state_dict().items()}
    assert "decode_head.convs.0.conv.weight" in state
    content = {"state_dict": state, "message_hub": {"log": foreign()}, "meta": {"epoch": 3}}
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="is a pickle"):
        sr.dense.create("hrnet-w48", tmp_path / "net.pth")
    read = sr.dense.create("hrnet-w48", tmp_path / "net.pth", allow_pickle=True)
    assert_same_forward(read, hrnet)
    assert "non-commercial" in read.preset.license
    assert foreign.built == 0  # type: ignore[attr-defined]
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert foreign.built == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("prefix", [pytest.param("", marks=pytest.mark.slow), "model."])
def test_hrnet_of_its_authors(hrnet_with_bias: HRNet, tmp_path: Path, prefix: str) -> None:
    state = {
        prefix + re.sub("^head", "last_layer", name.removeprefix("backbone.")): tensor
        for name, tensor in hrnet_with_bias.state_dict().items()
    }
    if prefix:
        state["loss.criterion.weight"] = torch.ones(19)
    torch.save(state, tmp_path / "net.pth")
    read = sr.dense.create("hrnet-w48", tmp_path / "net.pth", allow_pickle=True)
    assert_same_forward(read, hrnet_with_bias)


def test_align_corners_changes_the_prediction() -> None:
    created = sr.dense.create("hrnet-w48", device="meta", align_corners=True)
    assert isinstance(created, HRNet) and created.align_corners
    first, aligned = (HRNet(5, width=4, align_corners=asked).eval() for asked in (False, True))
    aligned.load_state_dict(with_random_statistics(first).state_dict())
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert not torch.allclose(aligned(images), first(images), rtol=1e-2)


@pytest.mark.slow
def test_segnext_of_its_authors(tmp_path: Path) -> None:
    model = with_random_statistics(sr.dense.create("segnext-l"))
    state = {
        name.replace("mlp.dwconv.", "mlp.dwconv.dwconv."): tensor
        for name, tensor in model.state_dict().items()
    }
    assert state.keys() != model.state_dict().keys()
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    read = sr.dense.create("segnext-l", tmp_path / "net.pth", allow_pickle=True)
    assert_same_forward(read, model)


@pytest.mark.slow
def test_the_rank_and_the_bases_of_segnext_are_chosen() -> None:
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    default = sr.dense.create("segnext-l")
    with torch.inference_mode():
        for options in ({"rank": 16}, {"seed": 1}):
            model = sr.dense.create("segnext-l", **options)
            model.load_state_dict(default.state_dict())  # which has no bases
            assert not torch.equal(model(images), default(images))
    assert SegNeXt(5, rank=16).decode_head.hamburger.ham.bases.shape == (1024, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("segnext-l", {"rank": 16, "seed": 1}),
        pytest.param(
            "hrnet-w48", {"align_corners": True, "head_bias": True}, marks=pytest.mark.slow
        ),
    ],
)
def test_options_are_described_and_saved(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """A refiner that is read again has the dense model that it was trained for."""
    model = sr.dense.create(name, **options)
    assert model.describe()["options"] == options
    extractor = sr.SparseUNet(model.num_classes, widths=(4,), blocks=1)
    sr.SparseRefiner(model, extractor=extractor).save_pretrained(tmp_path)
    read = sr.SparseRefiner.from_pretrained(tmp_path).dense
    assert read is not None and read.describe() == model.describe()
    assert_same_forward(read, model)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ValueError, match=r"option 'ranks' is unknown to 'segnext-l', expected"):
        sr.dense.create("segnext-l", ranks=3)
    with pytest.raises(ValueError, match="option 'rank' is unknown to 'segformer-b5', which takes"):
        sr.dense.create("segformer-b5", rank=3)


@pytest.mark.slow
def test_weights_with_another_number_of_classes_are_named(tmp_path: Path) -> None:
    state = HRNet(7).state_dict()
    sr.dense.weights.save_weights(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"weights have 7 outputs .*expects 19"):
        sr.dense.create("hrnet-w48", tmp_path)


# Mask2Former of mmsegmentation: what its names are, from ours. Written apart from the reader.
INTO_MMSEG = (
    (r"model\.pixel_level_module\.encoder\.embeddings\.patch_embeddings\.",
     "backbone.patch_embed."),
    (r"model\.pixel_level_module\.encoder\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (r"model\.pixel_level_module\.encoder\.encoder\.layers\.", "backbone.stages."),
    (r"attention\.self\.rel", "attn.w_msa.rel"),
    (r"attention\.output\.dense", "attn.w_msa.proj"),
    (r"intermediate\.dense", "ffn.layers.0.0"),
    (r"(blocks\.\d+)\.output\.dense", r"\1.ffn.layers.1"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"model\.pixel_level_module\.decoder\.encoder\.", "decode_head.pixel_decoder.encoder."),
    (r"model\.transformer_module\.decoder\.layers\.", "decode_head.transformer_decoder.layers."),
    (r"\.cross_attn\.", ".cross_attn.attn."),
    (r"\.cross_attn_layer_norm\.", ".norms.0."),
    (r"(transformer_decoder.*)\.self_attn_layer_norm\.", r"\1.norms.1."),
    (r"(transformer_decoder.*)\.final_layer_norm\.", r"\1.norms.2."),
    (r"(pixel_decoder.*)\.self_attn_layer_norm\.", r"\1.norms.0."),
    (r"(pixel_decoder.*)\.final_layer_norm\.", r"\1.norms.1."),
    (r"(transformer_decoder.*)\.self_attn\.out_proj\.", r"\1.self_attn.attn.out_proj."),
    (r"\.fc1\.", ".ffn.layers.0.0."),
    (r"\.fc2\.", ".ffn.layers.1."),
    (r"model\.pixel_level_module\.decoder\.input_projections\.(\d)\.0\.",
     r"decode_head.pixel_decoder.input_convs.\1.conv."),
    (r"model\.pixel_level_module\.decoder\.input_projections\.(\d)\.1\.",
     r"decode_head.pixel_decoder.input_convs.\1.gn."),
    (r"model\.pixel_level_module\.decoder\.adapter_1\.0\.",
     "decode_head.pixel_decoder.lateral_convs.0.conv."),
    (r"model\.pixel_level_module\.decoder\.adapter_1\.1\.",
     "decode_head.pixel_decoder.lateral_convs.0.gn."),
    (r"model\.pixel_level_module\.decoder\.layer_1\.0\.",
     "decode_head.pixel_decoder.output_convs.0.conv."),
    (r"model\.pixel_level_module\.decoder\.layer_1\.1\.",
     "decode_head.pixel_decoder.output_convs.0.gn."),
    (r"model\.pixel_level_module\.decoder\.mask_projection\.",
     "decode_head.pixel_decoder.mask_feature."),
    (r"model\.pixel_level_module\.decoder\.level_embed$",
     "decode_head.pixel_decoder.level_encoding.weight"),
    (r"model\.transformer_module\.queries_embedder\.", "decode_head.query_embed."),
    (r"model\.transformer_module\.queries_features\.", "decode_head.query_feat."),
    (r"model\.transformer_module\.level_embed\.", "decode_head.level_embed."),
    (r"model\.transformer_module\.decoder\.layernorm\.",
     "decode_head.transformer_decoder.post_norm."),
    (r"class_predictor\.", "decode_head.cls_embed."),
)  # fmt: skip


def into_mmseg(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if "swin.layernorm" in name or name == "criterion.empty_weight":
            continue
        if re.search(r"(self\.query|transformer_module.*self_attn\.q_proj)\.", name):
            parts = [name, *(re.sub(r"query|q_proj", to, name) for to in ("key", "value"))]
            if "q_proj" in name:
                parts = [name, *(name.replace("q_proj", to) for to in ("k_proj", "v_proj"))]
                packed = re.sub(r"self_attn\.q_proj\.", "self_attn.attn.in_proj_", name)
            else:
                packed = name.replace("attention.self.query", "attn.w_msa.qkv")
            name, tensor = packed, torch.cat([state[part] for part in parts])
        elif re.search(r"self\.(key|value)|transformer_module.*self_attn\.[kv]_proj", name):
            continue
        if norm := re.search(r"hidden_states_norms\.stage(\d)\.(.*)", name):
            name = f"backbone.norm{int(norm[1]) - 1}.{norm[2]}"
        if embed := re.search(r"mask_embedder\.(\d)\.0\.(.*)", name):
            name = f"decode_head.mask_embed.{2 * int(embed[1])}.{embed[2]}"
        for ours, theirs in INTO_MMSEG:
            name = re.sub(ours, theirs, name)
        renamed[name] = in_unfold_order(tensor) if ".downsample." in name else tensor
    return renamed


def in_unfold_order(tensor: Tensor) -> Tensor:
    """From pixels side by side, column by column, to the order in which nn.Unfold lists them."""
    channels = tensor.shape[-1] // 4
    ids = torch.arange(4 * channels, dtype=torch.float32).view(4, channels)
    square = torch.empty(1, channels, 2, 2)
    for part, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        square[0, :, row, column] = ids[part]
    order = nn.Unfold(2, stride=2)(square).flatten().long()
    return tensor[..., order]


@pytest.fixture(scope="module")
def mask2former() -> DenseModel:
    pytest.importorskip("transformers", reason="needs the extra hf")
    return with_random_statistics(sr.dense.create("mask2former-swin-tiny"))


@pytest.fixture(scope="module")
def mask2former_files(mask2former: DenseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask2former")
    mask2former.save_files(folder)
    return folder


@pytest.mark.slow
def test_mask2former_of_mmsegmentation(
    mask2former: DenseModel, mask2former_files: Path, tmp_path: Path, foreign: type
) -> None:
    state = into_mmseg(read_weights(mask2former_files / "model.safetensors"))
    torch.save({"state_dict": state, "message_hub": foreign()}, tmp_path / "net.pth")
    read = sr.dense.create("mask2former-swin-tiny", tmp_path / "net.pth", allow_pickle=True)
    assert_same_forward(read, mask2former)
    assert foreign.built == 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_large_mask2former_of_mmsegmentation(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    model = with_random_statistics(sr.dense.create("mask2former-swin-large"))
    model.save_files(tmp_path)
    state = into_mmseg(read_weights(tmp_path / "model.safetensors"))
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    (tmp_path / "config.json").unlink()
    read = sr.dense.create("mask2former-swin-large", tmp_path / "net.pth", allow_pickle=True)
    assert_same_forward(read, model)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/dense beside the repository")
def test_the_names_of_mmsegmentation_are_those_of_its_files(mask2former_files: Path) -> None:
    listed = (SHARED / "keys_mmseg_m2f_swint.txt").read_text().splitlines()
    real = {line.split(" ")[0]: line.split(" ", 1)[1] for line in listed if line}
    real = {name: shape for name, shape in real.items() if "relative_position_index" not in name}
    ours = into_mmseg(read_weights(mask2former_files / "model.safetensors"))
    assert {name: str(tuple(tensor.shape)) for name, tensor in ours.items()} == real


def test_merging_without_reordering_is_wrong(mask2former_files: Path) -> None:
    """The trap: the shapes fit, the numbers do not."""
    state = into_mmseg(read_weights(mask2former_files / "model.safetensors"))
    name = "backbone.stages.0.downsample.reduction.weight"
    ours = "model.pixel_level_module.encoder.encoder.layers.0.downsample.reduction.weight"
    read = mask2former_state(state)[ours]
    assert read.shape == state[name].shape
    assert not torch.equal(read, state[name])
    assert torch.equal(read, read_weights(mask2former_files / "model.safetensors")[ours])


def test_a_foreign_name_is_listed() -> None:
    state = {"decode_head.query_feat.weight": torch.zeros(1), "neck.conv.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"1 names are not of mmsegmentation.*\(neck\.conv"):
        mask2former_state(state)


def test_a_transformers_folder(mask2former: DenseModel, mask2former_files: Path) -> None:
    read = sr.dense.create("mask2former-swin-tiny", mask2former_files)
    assert_same_forward(read, mask2former)
    assert "non-commercial" in read.preset.license


def test_segformer_of_mmsegmentation_is_another_network(tmp_path: Path) -> None:
    state = {"decode_head.fusion_conv.conv.weight": torch.zeros(1)}
    sr.dense.weights.save_weights(state, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"head is another network.*dense\.from_mmseg"):
        sr.dense.create("segformer-b5", tmp_path / "net.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "pickle", "missing", "no_config"])
def test_a_damaged_folder_is_answered_in_one_line(
    mask2former_files: Path, tmp_path: Path, damage: str
) -> None:
    for file in mask2former_files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "missing":
        weights.unlink()
    elif damage == "pickle":
        torch.save(read_weights(weights), tmp_path / "pytorch_model.bin")
        weights.unlink()
    else:
        (tmp_path / "config.json").unlink()
    message = {
        "truncated": "cannot be read .*Check that the download is complete",
        "missing": "cannot be read",
        "pickle": "is a pickle, expected model.safetensors.*allow-pickle",
        "no_config": "has no config.json",
    }[damage]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        sr.dense.create("mask2former-swin-tiny", tmp_path)
    assert "\n" not in str(caught.value)
    if damage == "pickle":
        sr.dense.create("mask2former-swin-tiny", tmp_path, allow_pickle=True)


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="no folder 'nobody/nothing' here, and the hub") as caught:
        sr.dense.create("segformer-b5", "nobody/nothing")
    assert "\n" not in str(caught.value)
