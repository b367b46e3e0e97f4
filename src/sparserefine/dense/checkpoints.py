"""Published HRNet and SegNeXt checkpoints, renamed to the names of our modules."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def hrnet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An HRNet-W48 checkpoint under the names of `HRNet`.

    Args:
        state: Tensors under the names of mmsegmentation (`decode_head.convs.0…`), of the official
            repository (with or without `model.` before each name), or of `HRNet`.

    Returns:
        The tensors, unchanged. Whether "head.0.bias" is among them depends on the source.
    """
    if any(name.startswith("decode_head.") for name in state):
        return {_of_mmseg_hrnet(name): tensor for name, tensor in state.items()}
    if any(name.startswith("backbone.") for name in state):
        return dict(state)
    # The official trainer saves its loss with the network.
    official = {
        name.removeprefix("module.").removeprefix("model."): tensor
        for name, tensor in state.items()
        if not name.removeprefix("module.").startswith("loss.")
    }
    return {
        name.replace("last_layer.", "head.", 1)
        if name.startswith("last_layer.")
        else f"backbone.{name}": tensor
        for name, tensor in official.items()
    }


def segnext_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A SegNeXt checkpoint, official or of mmsegmentation, under the names of `SegNeXt`."""
    return {
        name.replace(".mlp.dwconv.dwconv.", ".mlp.dwconv."): tensor
        for name, tensor in state.items()
    }


def _of_mmseg_hrnet(name: str) -> str:
    for theirs, ours in (
        ("decode_head.convs.0.conv.", "head.0."),
        ("decode_head.convs.0.bn.", "head.1."),
        ("decode_head.conv_seg.", "head.3."),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
