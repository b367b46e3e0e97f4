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
    for name, tensor in (("feats", feats), ("the weight", weight)):
        if tensor.dtype not in DTYPES:
            return f"{name} are {tensor.dtype}, the kernels take float16, bfloat16 and float32"
    if find_spec("triton") is None:
        return "triton is not installed; it comes with torch for CUDA, or by pip install triton"
    if feats.is_cuda:
        if torch.version.hip is not None:
            return "the kernels are for NVIDIA devices, and this torch is built for AMD's"
        found = torch.cuda.get_device_capability(feats.device)
        if found < MIN_CAPABILITY:
            return f"the device has compute capability {found[0]}.{found[1]}, the kernels need 8.0"
        return None
    if not interpreting():
        return f"feats are on {feats.device}, the kernels run on CUDA devices"
    if torch.bfloat16 in (feats.dtype, weight.dtype):
        return "Triton's interpreter computes bfloat16 products wrongly"
    return None


def interpreting() -> bool:
    """Whether this process runs kernels in Triton's interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0", "false", "off")
