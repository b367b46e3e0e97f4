"""Compiles kernel calls for a GPU that is not there, and reads what the assembler says of them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# Shared memory that one block may use, in bytes.
SHARED_LIMIT = {80: 166_912, 86: 101_376, 87: 166_912, 89: 101_376, 90: 232_448}

_TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.bool: "i1",
}
_OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class Cubin:
    """Machine code of one kernel call.

    Attributes:
        registers: Per thread.
        spilled: Bytes that a thread stores outside its registers.
        shared: Bytes of shared memory per block.
        ptx: What the assembler was given.
    """

    registers: int
    spilled: int
    shared: int
    ptx: str


class Recorder:
    """Stands in for a kernel and keeps the calls instead of running them."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            self.calls.append((args, kwargs))

        return call


def compile_call(kernel: Any, args: Any, kwargs: dict[str, Any], capability: int) -> Cubin:
    """Compile what `kernel[grid](*args, **kwargs)` would run on such a device."""
    options = {name: kwargs[name] for name in _OPTIONS if name in kwargs}
    meta = {name: value for name, value in kwargs.items() if name not in _OPTIONS}
    names = kernel.arg_names
    values = {**dict(zip(names, args, strict=False)), **meta}
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for position, (name, parameter) in enumerate(zip(names, kernel.params, strict=True)):
        value = values[name]
        if isinstance(value, torch.Tensor):
            signature[name] = "*" + _TYPES[value.dtype]
            attributes[(position,)] = [["tt.divisibility", 16]]
        elif name in meta or value is None:
            signature[name] = "constexpr"
            constants[(position,)] = value
        elif parameter.do_not_specialize:
            signature[name] = "i32"
        elif value == 1:  # as triton specializes
            signature[name] = "constexpr"
            constants[(position,)] = value
        else:
            signature[name] = "i32"
            if value % 16 == 0:
                attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.asm["cubin"]
    registers, spilled = _resources(compiled.asm["cubin"])
    return Cubin(registers, spilled, compiled.metadata.shared, compiled.asm["ptx"])


def _resources(cubin: bytes) -> tuple[int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers = re.search(r"REG:(\d+)", told)
    stack = re.search(r"STACK:(\d+)", told)
    local = re.search(r"LOCAL:(\d+)", told)
    assert registers and stack and local, told
    return int(registers[1]), int(stack[1]) + int(local[1])
