"""Mask2Former checkpoints of mmsegmentation, under the names that transformers reads from files.

The networks are the same, but mmsegmentation packs projections, and its Swin merges 2×2 pixels in
another order: a file loaded without reordering fits and is silently wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_SWIN = "model.pixel_level_module.encoder"
_PIXELS = "model.pixel_level_module.decoder"
_QUERIES = "model.transformer_module"

# (theirs, ours); \1 and \2 are numbers.
_NAMES = tuple(
    (re.compile(theirs.replace(".", r"\.").replace("#", r"(\d+)") + r"(?=\.|$)"), ours)
    for theirs, ours in (
        ("backbone.patch_embed.projection", f"{_SWIN}.embeddings.patch_embeddings.projection"),
        ("backbone.patch_embed.norm", f"{_SWIN}.embeddings.norm"),
        ("backbone.stages.#.downsample", rf"{_SWIN}.encoder.layers.\1.downsample"),
        ("decode_head.pixel_decoder.input_convs.#.conv", rf"{_PIXELS}.input_projections.\1.0"),
        ("decode_head.pixel_decoder.input_convs.#.gn", rf"{_PIXELS}.input_projections.\1.1"),
        ("decode_head.pixel_decoder.lateral_convs.0.conv", f"{_PIXELS}.adapter_1.0"),
        ("decode_head.pixel_decoder.lateral_convs.0.gn", f"{_PIXELS}.adapter_1.1"),
        ("decode_head.pixel_decoder.output_convs.0.conv", f"{_PIXELS}.layer_1.0"),
        ("decode_head.pixel_decoder.output_convs.0.gn", f"{_PIXELS}.layer_1.1"),
        ("decode_head.pixel_decoder.mask_feature", f"{_PIXELS}.mask_projection"),
        ("decode_head.pixel_decoder.level_encoding.weight", f"{_PIXELS}.level_embed"),
        ("decode_head.query_embed", f"{_QUERIES}.queries_embedder"),
        ("decode_head.query_feat", f"{_QUERIES}.queries_features"),
        ("decode_head.level_embed", f"{_QUERIES}.level_embed"),
        ("decode_head.transformer_decoder.post_norm", f"{_QUERIES}.decoder.layernorm"),
        ("decode_head.cls_embed", "class_predictor"),
    )
)
_BLOCK = re.compile(r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.")
_IN_BLOCK = {
    "attn.w_msa.proj": "attention.output.dense",
    "attn.w_msa.relative_position_bias_table": "attention.self.relative_position_bias_table",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ffn.layers.0.0": "intermediate.dense",
    "ffn.layers.1": "output.dense",
}
_ENCODER_LAYER = re.compile(r"decode_head\.pixel_decoder\.encoder\.layers\.(\d+)\.")
_IN_ENCODER_LAYER = {
    "self_attn": "self_attn",
    "norms.0": "self_attn_layer_norm",
    "norms.1": "final_layer_norm",
    "ffn.layers.0.0": "fc1",
    "ffn.layers.1": "fc2",
}
_DECODER_LAYER = re.compile(r"decode_head\.transformer_decoder\.layers\.(\d+)\.")
_IN_DECODER_LAYER = {
    "cross_attn.attn": "cross_attn",
    "self_attn.attn.out_proj": "self_attn.out_proj",
    "norms.0": "cross_attn_layer_norm",
    "norms.1": "self_attn_layer_norm",
    "norms.2": "final_layer_norm",
    "ffn.layers.0.0": "fc1",
    "ffn.layers.1": "fc2",
}
_LAYERS = (
    (_BLOCK, rf"{_SWIN}.encoder.layers.\1.blocks.\2.", _IN_BLOCK),
    (_ENCODER_LAYER, rf"{_PIXELS}.encoder.layers.\1.", _IN_ENCODER_LAYER),
    (_DECODER_LAYER, rf"{_QUERIES}.decoder.layers.\1.", _IN_DECODER_LAYER),
)
_MASK_EMBED = re.compile(r"decode_head\.mask_embed\.([024])\.")
_SWIN_NORM = re.compile(r"backbone\.norm(\d)\.")
# Query, key and value in one tensor: where they go instead.
_PACKED = (
    (re.compile(r"(backbone\..*\.)attn\.w_msa\.qkv\.(weight|bias)"), "attention.self.{}"),
    (
        re.compile(
            r"(decode_head\.transformer_decoder\..*\.)self_attn\.attn\.in_proj_(weight|bias)"
        ),
        "self_attn.{}_proj",
    ),
)
_PARTS = (("query", "q"), ("key", "k"), ("value", "v"))
_COMPUTED = ("relative_position_index",)


def is_mmseg_mask2former(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of mmsegmentation's Mask2Former."""
    return "decode_head.query_feat.weight" in state


def mask2former_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Mask2Former with Swin backbone under the names of transformers 4, which files still have.

    Args:
        state: Tensors under the names of mmsegmentation 1.x.

    Returns:
        Tensors under the names of a model.safetensors.

    Raises:
        ValueError: A name is not of that model; the first few are listed.
    """
    renamed: dict[str, Tensor] = {}
    strange = []
    for name, tensor in state.items():
        if name.endswith(_COMPUTED):
            continue
        parts = _unpacked(name, tensor) or {_rename(name): _reordered(name, tensor)}
        if None in parts:
            strange.append(name)
        renamed |= {ours: part for ours, part in parts.items() if ours is not None}
    if strange:
        listed = ", ".join(strange[:3]) + (", …" if len(strange) > 3 else "")
        raise ValueError(
            f"{len(strange)} names are not of mmsegmentation's Mask2Former ({listed}). "
            "Check that the checkpoint is of a Mask2Former with Swin backbone."
        )
    return renamed


def _rename(name: str) -> str | None:
    for pattern, prefix, inside in _LAYERS:
        if match := pattern.match(name):
            rest = name[match.end() :]
            for theirs, ours in inside.items():
                if rest == theirs or rest.startswith(f"{theirs}."):
                    return match.expand(prefix) + ours + rest[len(theirs) :]
            return None
    if match := _MASK_EMBED.match(name):
        index = int(match[1]) // 2
        prefix = f"{_QUERIES}.decoder.mask_predictor.mask_embedder.{index}.0."
        return prefix + name[match.end() :]
    if match := _SWIN_NORM.match(name):
        return f"{_SWIN}.hidden_states_norms.stage{int(match[1]) + 1}." + name[match.end() :]
    for pattern, ours in _NAMES:
        if match := pattern.match(name):
            return match.expand(ours) + name[match.end() :]
    return None


def _unpacked(name: str, tensor: Tensor) -> dict[str | None, Tensor]:
    for pattern, place in _PACKED:
        match = pattern.fullmatch(name)
        if not match:
            continue
        layer = _layer_prefix(match[1])
        by_long_name = place.startswith("attention")
        thirds = tensor.chunk(3)
        return {
            f"{layer}{place.format(long if by_long_name else short)}.{match[2]}": third.clone()
            for (long, short), third in zip(_PARTS, thirds, strict=True)
        }
    return {}


def _layer_prefix(prefix: str) -> str:
    for pattern, ours, _ in _LAYERS:
        if match := pattern.fullmatch(prefix):
            return match.expand(ours)
    raise AssertionError(prefix)


def _reordered(name: str, tensor: Tensor) -> Tensor:
    """A tensor with the inputs of Swin's merging brought to the order of transformers.

    mmsegmentation has the four pixels of each channel, row by row; transformers has all channels of
    each pixel, column by column. Other tensors stay as they are.
    """
    if ".downsample." not in name:
        return tensor
    by_channel = tensor.unflatten(-1, (-1, 4))
    return by_channel.transpose(-1, -2)[..., (0, 2, 1, 3), :].flatten(-2)
