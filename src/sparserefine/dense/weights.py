"""Reading, checking and writing of weight files, without ever executing what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparserefine.atomic import atomic_write
from sparserefine.dense.checkpoint_file import read_checkpoint, refuse_programs
from sparserefine.dense.readable import read_head
from sparserefine.dense.state_names import COUNTERS

# .tar: of files such as checkpoint.pth.tar, which are none.
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")
SAFETENSORS_SUFFIX = ".safetensors"
# How files of torch.save begin, of the zipped format and of the one before.
_PICKLE_HEADS = (b"PK\x03\x04", b"\x80\x02")

_SHOWN = 3


def read_weights(path: str | Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Read a state dict onto the CPU.

    Args:
        path: A .safetensors file; or, if allowed, a file that torch.save wrote (.pth, .pt, .bin,
            .ckpt, .pth.tar, or of any other suffix).
        allow_pickle: Accept torch's pickled files. They are read without executing anything: only
            tensors and plain containers are built, whatever else is in them is left out. Of a
            checkpoint, the weights are taken from beside the optimizer.

    Returns:
        Tensors by name.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: The file is a pickle and those are not allowed, has an unknown suffix, is
            truncated, or holds something other than a state dict.
    """
    path, head = read_head(path, "weights file", f"a {SAFETENSORS_SUFFIX} file")
    suffix = path.suffix.lower()
    if suffix == SAFETENSORS_SUFFIX:
        return _read_safetensors(path)
    if suffix not in PICKLE_SUFFIXES and not head.startswith(_PICKLE_HEADS):
        raise ValueError(
            f"{path} has the suffix {suffix!r}, expected {SAFETENSORS_SUFFIX}. "
            "Give a safetensors file."
        )
    refuse_programs(path)
    if not allow_pickle:
        raise ValueError(
            f"{path} is a pickle, expected a {SAFETENSORS_SUFFIX} file. If you trust its source, "
            "pass allow_pickle=True (--allow-pickle); nothing in it is executed."
        )
    return read_checkpoint(path)


def save_weights(
    state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state dict as safetensors; a reader sees the old file or the new one, never a part.

    Turns a trusted .pth into safetensors:
    `save_weights(read_weights("net.pth", allow_pickle=True), "net.safetensors")`.

    Args:
        state: Tensors by name, on any device. Tensors that share memory are written one by one.
        path: File to write, ending in .safetensors; folders on the way are made.
        metadata: Strings by name, written to the head of the file.

    Raises:
        ValueError: `path` does not end in .safetensors.
        OSError: The file cannot be written; an older one is left as it was.
    """
    path = Path(path)
    if path.suffix.lower() != SAFETENSORS_SUFFIX:
        raise ValueError(
            f"{path} has the suffix {path.suffix!r}, expected {SAFETENSORS_SUFFIX}. Rename it."
        )
    # safetensors refuses strided tensors and those that share memory; a fresh copy is neither.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(partial: Path) -> None:
        # safetensors makes files that only their owner can read; keep an ordinary file's mode.
        partial.touch()
        mode = partial.stat().st_mode
        try:
            save_file(tensors, partial, metadata=dict(metadata) if metadata else None)
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(str(error)) from error
        partial.chmod(mode)

    atomic_write(path, write)


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict into a model, all of it or nothing.

    Args:
        model: Model to fill, changed in place.
        state: One tensor per entry of `model.state_dict()`, same names, same shapes. What counts
            batches may be missing, as in files of old versions of torch, and what profilers count
            is left out.

    Raises:
        ValueError: Names or shapes differ; the first few are named.
    """
    expected = model.state_dict()
    state = {
        **{name: counted for name, counted in expected.items() if name.endswith(COUNTERS)},
        **{name: t for name, t in state.items() if name in expected or not name.endswith(COUNTERS)},
    }
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    mismatched = [
        name for name in expected if name in state and state[name].shape != expected[name].shape
    ]
    if not missing and not unexpected and mismatched:
        outputs = _differing_outputs(mismatched, state, expected)
        if outputs is not None:
            got, wanted = outputs
            raise ValueError(
                f"weights have {got} outputs (at {mismatched[-1]}), {type(model).__name__} expects "
                f"{wanted}: they were trained for another number of classes. "
                "Use weights trained for these classes."
            )
    problems = [
        _describe("missing", missing),
        _describe("unexpected", unexpected),
        _describe(
            "of another shape",
            [
                f"{name} {_shape(state[name])} instead of {_shape(expected[name])}"
                for name in mismatched
            ],
        ),
    ]
    if any(problems):
        raise ValueError(
            f"weights do not fit {type(model).__name__}, which expects {len(expected)} tensors and "
            f"got {len(state)}: {'; '.join(filter(None, problems))}. "
            "Check that the weights belong to this model and size."
        )
    model.load_state_dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}). Download or export it again."
        ) from error


def _differing_outputs(
    mismatched: list[str], state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[int, int] | None:
    """(got, expected) outputs if only the number of classes differs, else None.

    A hidden width would show in the input side of the next layer too, so shapes that differ
    in their first side only, all by the same pair of numbers, belong to the last layer.
    """
    pairs = set()
    for name in mismatched:
        got, wanted = state[name].shape, expected[name].shape
        if not got or not wanted or got[1:] != wanted[1:]:
            return None
        pairs.add((got[0], wanted[0]))
    return pairs.pop() if len(pairs) == 1 else None


def _describe(problem: str, names: list[str]) -> str:
    return f"{len(names)} {problem} ({_list(names)})" if names else ""


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
