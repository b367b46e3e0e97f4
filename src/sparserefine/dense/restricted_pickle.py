"""A reader of tensors in pickled checkpoints that never builds the foreign objects beside them.

mmengine writes its logs and configuration beside the weights, so that torch's own restricted
reader refuses the file. Here such objects become placeholders that swallow what is done to them.

The module has the face of `pickle`, as far as `torch.load(pickle_module=…)` asks for it.
"""

from __future__ import annotations

import pickle
from typing import IO, Any

# What tensors and plain containers are made of. Nothing of this runs code of the file.
_ALLOWED = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    *(
        ("torch", f"{kind}Storage")
        for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte")
    ),
    ("torch", "BoolStorage"),
}


class Placeholder:
    """Stands for an object of the file that was not built.

    Attributes:
        is_module: Whether the object was a module of torch, as far as its state tells.
    """

    is_module = False

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        """Make one from any arguments."""
        return object.__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> Placeholder:
        """Answer any call with the placeholder itself."""
        return self

    def __setstate__(self, state: Any) -> None:
        """Swallow a state."""
        self.is_module = isinstance(state, dict) and "_modules" in state

    def __setitem__(self, _: Any, __: Any) -> None:
        """Swallow an item."""

    def append(self, _: Any) -> None:
        """Swallow an item."""

    def extend(self, _: Any) -> None:
        """Swallow items."""

    def add(self, _: Any) -> None:
        """Swallow an item."""


class Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers, and placeholders for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of that name if it is allowed, else a `Placeholder` of the same name."""
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        return type(name, (Placeholder,), {})

    def get_extension(self, code: int) -> Any:
        """A placeholder, as registered extensions could be anything."""
        return Placeholder


def load(file: IO[bytes], **options: Any) -> Any:
    """Read a pickle as `pickle.load` does, with placeholders for foreign objects."""
    return Unpickler(file, **options).load()
