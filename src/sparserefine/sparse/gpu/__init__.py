"""The sparse convolutions on NVIDIA GPUs, as Triton kernels. Triton is imported when first used."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

MIN_CAPABILITY = (8, 0)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def can_run_triton(feats: Tensor, weight: Tensor) -> str | None:
    """Why the kernels cannot convolve `feats` with `weight` here; None where they can.

    CPU tensors reach them in Triton's interpreter only (TRITON_INTERPRET=1), which is for tests.
    """
    if not feats.is_cuda and not interpreting():
        return f"feats are on {feats.device}. Move them to a CUDA device, or use another backend."
    for name, tensor in (("feats are", feats), ("the weight is", weight)):
        if tensor.dtype not in DTYPES:
            return f"{name} {tensor.dtype}, expected float16, bfloat16 or float32."
    if find_spec("triton") is None:
        return 'Triton is missing. Install it: pip install "sparserefine[triton]"'
    if not feats.is_cuda:
        if torch.bfloat16 in (feats.dtype, weight.dtype):
            return "Triton's interpreter computes bfloat16 products wrongly. Use float32."
        return None
    if torch.version.hip is not None:
        return "the kernels are for NVIDIA devices, this torch is built for AMD's."
    found = torch.cuda.get_device_capability(feats.device)
    if found < MIN_CAPABILITY:
        return f"the device has compute capability {found[0]}.{found[1]}, expected 8.0 or more."
    return None


def interpreting() -> bool:
    """Whether this process runs kernels in Triton's interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0", "false", "off")
