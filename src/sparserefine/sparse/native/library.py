"""Finding and loading the compiled library."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import torch

from sparserefine.sparse.native.build import LIBRARY, source_hash


class Convolution(ctypes.Structure):
    """The structure `sr_convolution` of csrc/api.h."""

    _fields_ = (
        ("feats", c_void_p * 2),
        ("feats_stride", c_int64 * 2),
        ("channels", c_int32 * 2),
        ("scale", c_void_p),
        ("shift", c_void_p),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("add", c_void_p),
        ("add_stride", c_int64),
        ("out", c_void_p),
        ("out_stride", c_int64),
        ("out_channels", c_int32),
        ("grid", c_void_p),
    )


class Windows(ctypes.Structure):
    """The structure `sr_windows` of csrc/api.h."""

    _fields_ = (
        ("base", c_void_p),
        ("rows", c_void_p),
        ("count", c_int64),
        ("taps", c_int32),
        ("tap_ids", c_void_p),
        ("tap_offsets", c_void_p),
    )


class Blocks(ctypes.Structure):
    """The structure `sr_blocks` of csrc/api.h."""

    _fields_ = (
        ("origins", c_void_p),
        ("count", c_int64),
        ("size", c_int32),
        ("grid_width", c_int64),
    )


class Level(ctypes.Structure):
    """The structure `sr_level` of csrc/api.h."""

    _fields_ = (
        ("height", c_int32),
        ("width", c_int32),
        ("grid_height", c_int32),
        ("grid_width", c_int32),
        ("grid", c_void_p),
        ("coords", c_void_p),
        ("count", c_int64),
    )


class Scores(ctypes.Structure):
    """The structure `sr_scores` of csrc/api.h."""

    _fields_ = (
        ("values", c_void_p),
        ("batch", c_int32),
        ("classes", c_int32),
        ("height", c_int32),
        ("width", c_int32),
        ("strides", c_int64 * 4),
    )


class Sides(ctypes.Structure):
    """The structure `sr_sides` of csrc/api.h."""

    _fields_ = tuple(
        (name, c_void_p) for name in ("top", "bottom", "down", "left", "right", "across")
    )


class Linear(ctypes.Structure):
    """The structure `sr_linear` of csrc/api.h."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("outputs", c_int32))


class Fusion(ctypes.Structure):
    """The structure `sr_fusion` of csrc/api.h."""

    _fields_ = (
        ("classes", c_int32),
        ("gate", Linear * 2),
        ("fuser", Linear * 2),
        ("residual", c_int32),
    )


_SIGNATURES = {
    "sr_source": (c_uint64, ()),
    "sr_isa_count": (c_int32, ()),
    "sr_isa_name": (c_char_p, (c_int32,)),
    "sr_isa_supported": (c_int32, (c_int32,)),
    "sr_packed_floats": (c_int64, (c_int32,) * 4),
    "sr_pack_direct": (None, (c_int32, c_void_p, *(c_int32,) * 5, c_void_p)),
    "sr_pack_winograd": (None, (c_int32, c_void_p, *(c_int32,) * 5, c_void_p)),
    "sr_hash": (c_uint64, (c_void_p, c_int64)),
    "sr_direct": (c_int32, (c_int32, POINTER(Convolution), POINTER(Windows), c_int32)),
    "sr_winograd": (c_int32, (c_int32, POINTER(Convolution), POINTER(Blocks), c_int32)),
    "sr_direct_weight_gradient": (
        c_int32,
        (c_int32, POINTER(Convolution), POINTER(Windows), c_void_p, c_int64, c_void_p, c_int32),
    ),
    "sr_winograd_weight_gradient": (
        c_int32,
        (c_int32, POINTER(Convolution), POINTER(Blocks), c_void_p, c_int64, c_void_p, c_int32),
    ),
    "sr_list_blocks": (c_int64, (c_void_p, *(c_int32,) * 4, c_void_p)),
    "sr_build_levels": (c_int32, (POINTER(Level), *(c_int32,) * 4)),
    "sr_group_by_parity": (None, (c_void_p, c_int64, *(c_int32,) * 2, *(c_void_p,) * 3)),
    "sr_score_cells": (None, (c_int32, POINTER(Scores), c_void_p, c_void_p, c_int32)),
    "sr_sample_scores": (
        None,
        (c_int32, POINTER(Scores), POINTER(Sides), c_void_p, c_int64, c_void_p, c_int32),
    ),
    "sr_upsample_labels": (
        None,
        (
            *(c_int32, POINTER(Scores), POINTER(Sides), c_void_p, c_void_p),
            *(c_int32, c_int32, c_void_p, c_int32),
        ),
    ),
    "sr_fuse_rows": (
        None,
        (c_int32, POINTER(Fusion), *(c_void_p,) * 2, c_int64, c_void_p, c_int32),
    ),
}

_OTHER_SOURCES = (
    f"it was compiled from another version of its sources. Build it anew: python "
    f"{Path(__file__).with_name('build.py')}"
)


class Library:
    """The loaded library.

    Attributes:
        c: Functions of the library, as csrc/api.h declares them.
        isa: Number of the instruction set that its kernels use, the widest this processor has.

    Raises:
        OSError: The file is no library, or the system refuses it.
        ImportError: The file was compiled from other sources than those that this package has.
    """

    def __init__(self, path: Path) -> None:
        _share_openmp()
        self.c = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.c, name, None)
            if function is None:
                raise ImportError(_OTHER_SOURCES)
            function.restype, function.argtypes = result, arguments
        # Structures of another layout would be read all the same. Where somebody has taken the
        # sources out of an installed package, the library in it is still the one it came with.
        if source_hash() not in (None, self.c.sr_source()):
            raise ImportError(_OTHER_SOURCES)
        self.isa = self.isas.index(self.supported_isas[0])

    @property
    def isas(self) -> tuple[str, ...]:
        """Instruction sets that the library was built for, widest first."""
        return tuple(self.c.sr_isa_name(isa).decode() for isa in range(self.c.sr_isa_count()))

    @property
    def supported_isas(self) -> tuple[str, ...]:
        """Instruction sets among `isas` that this processor has."""
        return tuple(name for isa, name in enumerate(self.isas) if self.c.sr_isa_supported(isa))

    def use_isa(self, name: str) -> None:
        """Use the kernels of another instruction set from now on."""
        self.isa = self.isas.index(name)


@cache
def load() -> Library | str:
    """The library, or the reason why there is none."""
    if not LIBRARY.is_file():
        return (
            "the native library was not built when sparserefine was installed. Install a C++ "
            "compiler and reinstall."
        )
    try:
        return Library(LIBRARY)
    except (OSError, ImportError) as error:
        return f"the native library cannot be loaded: {error}"


def loaded() -> Library:
    """The library, where `load` found one."""
    library = load()
    assert isinstance(library, Library)
    return library


_in_forked_child = False


def _remember_fork() -> None:
    global _in_forked_child
    _in_forked_child = True


os.register_at_fork(after_in_child=_remember_fork)


def num_threads() -> int:
    """Threads that a kernel may use: as many as torch, or one in a forked child.

    OpenMP's threads do not exist there.
    """
    return 1 if _in_forked_child else torch.get_num_threads()


def _share_openmp() -> None:
    """Offer the symbols of the OpenMP runtime that torch runs on to the library.

    Two runtimes would each keep threads spinning on all cores.
    """
    folder = Path(torch.__file__).parent
    bundled = [
        str(path)
        for pattern in ("libgomp*", "libiomp5*", "libomp*")
        for place in (folder / "lib", folder.parent / "torch.libs")
        for path in sorted(place.glob(pattern))
    ]
    for name in (*bundled, "libgomp.so.1"):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError:
            continue
