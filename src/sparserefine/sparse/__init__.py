"""2-D sparse convolution: active pixels, kernel maps, convolutions and layers.

Knows nothing of segmentation and can be used on its own.
"""

from sparserefine.sparse.backends import explain_backends
from sparserefine.sparse.choice import Backend, use_backend
from sparserefine.sparse.functional import (
    pointwise_conv2d,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.kernel_map import KernelMap
from sparserefine.sparse.layers import (
    BatchNorm,
    NormReLU,
    Pointwise,
    SparseConv2d,
    SparseInverseConv2d,
    SubMConv2d,
)
from sparserefine.sparse.memory import reuse_memory
from sparserefine.sparse.pixels import (
    ActivePixels,
    Downsampling,
    DownsamplingMode,
    check_downsampling,
)
from sparserefine.sparse.pyramid import build_pyramid
from sparserefine.sparse.tensor import SparseTensor, cat

__all__ = [
    "ActivePixels",
    "Backend",
    "BatchNorm",
    "Downsampling",
    "DownsamplingMode",
    "KernelMap",
    "NormReLU",
    "Pointwise",
    "SparseConv2d",
    "SparseInverseConv2d",
    "SparseTensor",
    "SubMConv2d",
    "build_pyramid",
    "cat",
    "check_downsampling",
    "explain_backends",
    "pointwise_conv2d",
    "reuse_memory",
    "sparse_conv2d",
    "sparse_inverse_conv2d",
    "submanifold_conv2d",
    "use_backend",
]
