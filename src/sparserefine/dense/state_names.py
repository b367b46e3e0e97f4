"""Names of a state dict, without what training put around the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

# Under which DataParallel, Lightning modules and others keep the network.
_WRAPPERS = ("module.", "model.", "net.", "network.")
# What such a module keeps beside the network; nothing of it predicts.
_BESIDE = ("loss", "criterion", "metric", "train_", "val_", "test_")
# torch.compile puts this before the names of what it compiled, at any depth.
_COMPILED = "_orig_mod."
# Counted in training, or by profilers; nothing that a prediction depends on.
COUNTERS = (".num_batches_tracked", "total_ops", "total_params")


def bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of the network itself.

    Args:
        state: Tensors by name, maybe with `module.` or the like before each, alone or beside the
            weights of a loss, which are left out.
    """
    found = {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}
    while wrapper := _wrapper(found):
        found = {
            name.removeprefix(wrapper): tensor
            for name, tensor in found.items()
            if name.startswith(wrapper)
        }
    return found


def names_within(state: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """The part of a state dict that is a network, wherever in it the network is.

    Args:
        state: Tensors by name.
        expected: Names that the network has.

    Returns:
        All tensors where the network is not found, or not inside another.

    Raises:
        ValueError: The network is there more than once.
    """
    wanted = {name for name in expected if not name.endswith(COUNTERS)}
    if not wanted or wanted <= state.keys():
        return dict(state)
    first = min(wanted)
    before = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    places = [place for place in before if all(f"{place}{name}" in state for name in wanted)]
    if not places:
        return dict(state)
    if len(places) > 1:
        raise ValueError(
            f"the weights are there {len(places)} times, under {', '.join(sorted(places))}. Write "
            "those that are meant to a file of their own, with save_weights()."
        )
    return {
        name.removeprefix(places[0]): tensor
        for name, tensor in state.items()
        if name.startswith(places[0])
    }


def _wrapper(state: Mapping[str, Tensor]) -> str:
    """What stands before the name of each tensor of the network; empty if nothing does."""
    network = [name for name in state if not name.startswith(_BESIDE)]
    shared = (w for w in _WRAPPERS if all(name.startswith(w) for name in network))
    return next(shared, "") if network else ""
