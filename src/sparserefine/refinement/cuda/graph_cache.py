"""A cache of one refiner's captured extractors, for the sizes of images that come again."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.refinement.cuda.graph import GraphUNet
from sparserefine.refinement.extractor import Extractor, SparseUNet
from sparserefine.sparse import SparseTensor
from sparserefine.sparse.choice import asked_backend, is_exact
from sparserefine.sparse.gpu import can_run_triton

if TYPE_CHECKING:
    from sparserefine.sparse.gpu.checksum import Checksum

# A graph keeps its buffers. Most people have one size, or an image upright and across.
MAX_KEPT = 4


class GraphCache:
    """Runs an extractor, from its second image of a size on as a CUDA graph where Triton runs.

    Capturing takes as long as some images do, so an image that comes once is not worth it.

    A graph is a snapshot of the weights. New or moved weights, and most writes, show before a
    run. What is written through `.data`, or to inference tensors, only their content shows: a
    checksum of it is computed on the device before each run, comes back with the result, and where
    it differs the result is dropped. So nobody waits for it. It reads each weight once: 20 million
    in float32 take 20 µs at 4 TB/s.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], GraphUNet | None] = OrderedDict()
        self._weights: tuple[Any, ...] = ()
        self._checksum: Checksum | None = None
        self._content: Tensor | None = None
        # The buffers of a graph serve one image at a time.
        self._lock = Lock()

    def __call__(self, extractor: Extractor, seen: SparseTensor) -> Float[Tensor, "N K"]:
        """Logits at the active pixels.

        Args:
            extractor: The network; any change of its weights is noticed. Another kind
                than `SparseUNet` just runs.
            seen: Features that it sees of the active pixels, in row-major order.
        """
        dtype = _dtype(seen.feats)
        # Subclasses may compute something else.
        if type(extractor) is SparseUNet and _can_capture(extractor, seen.feats, dtype):
            with self._lock:
                mask = seen.pixels.mask
                graph = self._graph_for(extractor, mask, dtype)
                logits = None if graph is None else self._run(graph, seen.feats, mask)
            if logits is not None:
                return logits
        return extractor(seen)

    def _run(self, graph: GraphUNet, feats: Tensor, mask: Tensor) -> Tensor | None:
        """Logits of a captured run; None if the weights have changed since they were captured."""
        assert self._checksum is not None
        self._checksum.start()
        logits = graph.of_rows(feats, mask)
        content = self._checksum.read()  # there, as `of_rows` has waited
        if self._content is None:
            self._content = content
        if torch.equal(content, self._content):
            return logits
        self._forget()
        return None

    def _forget(self) -> None:
        self._kept.clear()
        self._content = None

    def _graph_for(
        self, extractor: SparseUNet, mask: Tensor, dtype: torch.dtype
    ) -> GraphUNet | None:
        """The captured extractor for the size of a mask; None at the first mask of a size."""
        tensors = list(chain(extractor.parameters(), extractor.buffers()))
        weights = tuple(
            (tensor.data_ptr(), tensor.nbytes, 0 if tensor.is_inference() else tensor._version)
            for tensor in tensors
        )
        if weights != self._weights:
            self._forget()
            self._weights = weights
            self._checksum = None
        key = (*mask.shape, mask.device, dtype, is_exact(), torch.get_float32_matmul_precision())
        seen_before = key in self._kept
        graph = self._kept.pop(key, None)
        if seen_before and graph is None:
            batch_size, height, width = mask.shape
            density = max(float(mask.float().mean()), 1e-3)
            graph = GraphUNet(extractor, batch_size, (height, width), density=density, dtype=dtype)
            if self._checksum is None:
                from sparserefine.sparse.gpu.checksum import Checksum

                self._checksum = Checksum(tensors)
        self._kept[key] = graph
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return graph

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphCache:
        return GraphCache()

    def __reduce__(self) -> tuple[type[GraphCache], tuple[()]]:
        return GraphCache, ()


def _dtype(feats: Tensor) -> torch.dtype:
    """Type of the features in the convolutions, which autocast decides as for the extractor."""
    kind = feats.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else feats.dtype


def _can_capture(extractor: SparseUNet, feats: Tensor, dtype: torch.dtype) -> bool:
    if extractor.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if len(feats) == 0 or asked_backend("auto") not in ("auto", "triton"):
        return False
    sample = feats.detach()[:1].to(dtype)
    weight = extractor.stem.weight.detach()[:1].to(dtype)
    return can_run_triton(sample, weight) is None
