"""A network that computes what a model does, in less time: batch norms folded, channels last."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Pair = tuple[str, str]
"""Names of a convolution and of the batch norm that alone takes its result."""


class FastRun:
    """Runs a model by a network of its own, made when needed, that shares what it does not change.

    What is not the case that it was planned for is left to the model itself: gradients, other
    devices, training mode, tracing, hooks of its parts. Weights that change are noticed, unless
    they are changed in place through `.data`, which leaves no trace.

    Args:
        pairs: Batch norms to fold into convolutions.
        channels_last: Whether images and weights of convolutions have the channels last in memory.
    """

    def __init__(self, pairs: Sequence[Pair], channels_last: bool) -> None:
        self.pairs = tuple(pairs)
        self.channels_last = channels_last
        self._made: _Made | None = None

    def __getstate__(self) -> dict[str, Any]:  # copies and pickles make their own network
        return {**self.__dict__, "_made": None}

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor | None:
        """The model's logits; None where it has to find them itself."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore
            return None
        if images.device.type != "cpu" or model.training:
            return None
        made = self._made
        if made is None or not made.is_of(model):
            made = self._made = _Made.of(model, self.pairs, self.channels_last)
        if made.network is None or (torch.is_grad_enabled() and made.wants_gradients(images)):
            return None
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return made.network(images)


@dataclass(frozen=True, eq=False)
class _Made:
    """The network, and the state of the model that it was made of.

    Attributes:
        network: The network; None where that state is not one that it can be made of.
        parts: Each module of the model by the place that holds it.
        tensors: Each tensor by the place that holds it, with what changes when its numbers do.
        hooks: The hooks of each of its parts, which those of the network would not call.
        hooked: Whether there were some.
    """

    network: nn.Module | None
    parts: list[tuple[dict[str, Any], str, nn.Module | None]]
    tensors: list[tuple[dict[str, Any], str, Tensor, tuple[int, int]]]
    hooks: list[dict[int, Any]]
    hooked: bool

    @classmethod
    def of(cls, model: nn.Module, pairs: Sequence[Pair], channels_last: bool) -> _Made:
        modules = list(model.modules())
        parts = [
            (one._modules, name, part) for one in modules for name, part in one._modules.items()
        ]
        tensors = [
            (held, name, tensor, _state(tensor))
            for one in modules
            for held in (one._parameters, one._buffers)
            for name, tensor in held.items()
            if tensor is not None
        ]
        usable = all(tensor.device.type == "cpu" for _, _, tensor, _ in tensors)
        usable &= not any(one.training for one in modules)
        hooks = [
            held
            for one in modules
            if one is not model
            for held in (one._forward_hooks, one._forward_pre_hooks)
        ]
        hooked = any(hooks)
        network = make_network(model, pairs, channels_last) if usable and not hooked else None
        return cls(network, parts, tensors, hooks, hooked)

    def is_of(self, model: nn.Module) -> bool:
        """Whether the model is still what it was."""
        return (
            any(self.hooks) == self.hooked
            and all(held.get(name) is part for held, name, part in self.parts)
            and all(
                held.get(name) is tensor and _state(tensor) == state
                for held, name, tensor, state in self.tensors
            )
        )

    def wants_gradients(self, images: Tensor) -> bool:
        return images.requires_grad or any(one.requires_grad for _, _, one, _ in self.tensors)


def make_network(model: nn.Module, pairs: Sequence[Pair], channels_last: bool) -> nn.Module:
    """A network that computes what a model does; see `FastRun`.

    Args:
        model: The model, in evaluation mode; it is left as it was.
        pairs: Batch norms to fold into convolutions.
        channels_last: Whether weights of convolutions have the channels last in memory.

    Raises:
        Exception: A part of the model cannot be copied.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    network = copy.deepcopy(model, dict(shared))
    network.__dict__.pop("_fast", None)
    for conv_name, norm_name in pairs:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        weight, bias = _folded(conv, norm)
        conv.weight, conv.bias = (nn.Parameter(one, requires_grad=False) for one in (weight, bias))
        parent, _, name = norm_name.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
    if channels_last:
        for conv in network.modules():
            if isinstance(conv, nn.Conv2d) and "weight" in conv._parameters:
                weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
                conv.weight = nn.Parameter(weight, requires_grad=False)
    return network


def has_convolutions(model: nn.Module) -> bool:
    """Whether a model has what channels last may make faster."""
    return any(isinstance(one, nn.Conv2d) for one in model.modules())


@contextmanager
def watched_pairs(model: nn.Module) -> Iterator[list[Pair]]:
    """Note, while the model runs once, the batch norms that take the result of a convolution.

    That nothing else takes it too cannot be seen: compare what the folded network computes.

    Returns:
        A list that is filled when the block ends.
    """
    made: dict[int, tuple[str, Tensor, tuple[int, int]]] = {}
    calls: dict[str, int] = {}
    found: list[Pair] = []
    pairs: list[Pair] = []
    hooks = []

    def note_conv(name: str, result: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(result, Tensor):
            made[id(result)] = (name, result, _state(result))  # held: ids are not used twice

    def note_norm(name: str, given: tuple[Any, ...]) -> None:
        calls[name] = calls.get(name, 0) + 1
        known = made.get(id(given[0])) if given else None
        if known is not None and known[2] == _state(known[1]):
            found.append((known[0], name))

    for name, one in model.named_modules():
        if type(one) is nn.Conv2d and not one._forward_hooks and "weight" in one._parameters:
            hooks.append(
                one.register_forward_hook(lambda *seen, name=name: note_conv(name, seen[2]))
            )
        elif type(one) is nn.BatchNorm2d and one.running_var is not None:
            hooks.append(
                one.register_forward_pre_hook(lambda *seen, name=name: note_norm(name, seen[1]))
            )
    try:
        yield pairs
    finally:
        for hook in hooks:
            hook.remove()
        pairs += [pair for pair in found if calls[pair[0]] == calls[pair[1]] == 1]


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what both do, in its precision."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.float() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().float()
    bias = -norm.running_mean.float()
    if conv.bias is not None:
        bias = bias + conv.bias.detach().float()
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias.detach().float()
    weight = conv.weight.detach().float() * scale[:, None, None, None]
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)


def _state(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
