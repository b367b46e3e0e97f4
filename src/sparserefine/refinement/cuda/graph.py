"""The extractor at fixed capacity, on CUDA captured as one graph.

A `SparseUNet` on a GPU waits for the device to learn how many pixels are active, allocates for
them, and starts a hundred kernels from Python: more time than the kernels need. Here everything
from mask to logits, the maps of all levels included, has shapes fixed beforehand; it is captured
once and then started as a whole. What does not fit is noticed after the frame and run again with
more room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse.gpu import can_run_triton

if TYPE_CHECKING:
    from sparserefine.refinement.cuda.fused_unet import FusedUNet
    from sparserefine.sparse.gpu.levels import DeviceLevels

# Active pixels lie in bands, so coarser levels are filled more densely; measured on masks of label
# boundaries: 1.1 to 1.4 times per level. It is a first guess: the first overflow corrects it.
_DENSITY_GROWTH = 1.5


@dataclass(frozen=True, eq=False)
class GraphLogits:
    """Result of one run, on the device; the next run overwrites it.

    Attributes:
        logits: float32 logits, a row per active pixel in row-major order, then rows without
            meaning.
        found: Number of active pixels of every level, finest first; see `overflow` for more than
            there is room for.
    """

    logits: Float[Tensor, "capacity K"]
    found: Int[Tensor, " L"]
    _levels: DeviceLevels

    # Both are not captured: they are a dozen small kernels, for callers who ask.
    @property
    def coords(self) -> Int[Tensor, "capacity 3"]:
        """(batch, y, x) of each row of `logits`."""
        return self._levels.coords()

    @property
    def overflow(self) -> Bool[Tensor, ""]:
        """Whether a level had more active pixels than room; `logits` are wrong then."""
        return self._levels.overflow


class GraphUNet:
    """Runs a snapshot of a `SparseUNet` in evaluation mode at fixed capacity.

    On CUDA the run is captured as one graph. On the CPU it needs Triton's interpreter and is for
    tests. Later changes of the extractor's weights do not reach it.

    Args:
        extractor: The network, on a CUDA device.
        batch_size: Number of images per call.
        spatial_shape: (H, W) of the images.
        density: Share of active pixels to make room for at first.
        dtype: Type of features and weights: float16, bfloat16 or float32.

    Raises:
        RuntimeError: The kernels cannot run here; the message says why.
    """

    def __init__(
        self,
        extractor: SparseUNet,
        batch_size: int,
        spatial_shape: tuple[int, int],
        *,
        density: float = 0.25,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        if not 0 < density <= 1:
            raise ValueError(f"density is {density}, expected a share of the pixels in (0, 1].")
        weight = extractor.head.weight.detach()[:1, :1].to(dtype)
        reason = can_run_triton(weight, weight)
        if reason is not None:
            raise RuntimeError(
                f"the extractor cannot be captured: {reason} The SparseUNet itself runs anywhere."
            )
        from sparserefine.refinement.cuda.fused_unet import FusedUNet

        self.batch_size = batch_size
        self.spatial_shape = spatial_shape
        self._network = FusedUNet(extractor, dtype)
        pixels = batch_size * spatial_shape[0] * spatial_shape[1]
        self.capacities: tuple[int, ...] = tuple(
            bucket(round(pixels / 4**level * min(density * _DENSITY_GROWTH**level, 1)))
            for level in range(self._network.num_levels)
        )
        self._of_images: _Graph | None = None
        self._of_rows: _Graph | None = None

    def __call__(
        self, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B H W"]
    ) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N 3"]]:
        """Logits and (batch, y, x) of the active pixels, in row-major order.

        Waits for the device once, at the end; if there was not enough room, makes more and runs
        again.

        Args:
            images: Features that the extractor sees of each pixel, as images.
            mask: True at the active pixels.
        """
        done = self.launch(images, mask)
        found = done.found.tolist()
        if self._too_many(found):
            self.grow(found)
            done = self.launch(images, mask)
        number = found[0]
        return done.logits[:number].clone(), done.coords[:number].clone()

    def of_rows(
        self, feats: Float[Tensor, "N C"], mask: Bool[Tensor, "B H W"]
    ) -> Float[Tensor, "N K"]:
        """Logits of the active pixels from their features, both in row-major order.

        This is for callers who know N already and whose features are no images. It waits for the
        device and makes room as a call does.

        Args:
            feats: Features that the extractor sees, a row per active pixel.
            mask: True at the N active pixels.
        """
        number = len(feats)
        if self._too_many([number]):
            self.grow([number, *self.capacities[1:]])
        done = self._launch_rows(feats, mask)
        # Copied before the wait: afterwards another thread may run on another stream.
        logits, found = done.logits[:number].clone(), done.found.tolist()
        if self._too_many(found):
            self.grow(found)
            logits = self._launch_rows(feats, mask).logits[:number].clone()
        return logits

    def launch(self, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B H W"]) -> GraphLogits:
        """Start a run and do not wait for it. The caller must look at `overflow` at some time."""
        self._check(images, mask)
        if self._of_images is None:
            shape = (self.batch_size, self._network.in_channels, *self.spatial_shape)
            self._of_images = _Graph(self._network, self._levels(), shape)
        return self._of_images(images, mask)

    def _launch_rows(self, feats: Tensor, mask: Tensor) -> GraphLogits:
        if self._of_rows is None:
            levels = self._levels()
            shape = (levels.levels[0].capacity, self._network.in_width)
            self._of_rows = _Graph(self._network, levels, shape)
        return self._of_rows(feats, mask)

    def _too_many(self, found: Sequence[int]) -> bool:
        return any(n > room for n, room in zip(found, self.capacities, strict=False))

    def grow(self, found: Sequence[int]) -> None:
        """Make room for `found` active pixels per level; the next run is captured anew."""
        self.capacities = tuple(
            max(bucket(n), room) for n, room in zip(found, self.capacities, strict=True)
        )
        self._of_images = self._of_rows = None

    # What is made in inference mode could not be written to outside it, by the next caller.
    @torch.inference_mode(False)
    def _levels(self) -> DeviceLevels:
        from sparserefine.sparse.gpu.levels import DeviceLevels

        network = self._network
        return DeviceLevels(
            self.batch_size,
            self.spatial_shape,
            self.capacities,
            mode=network.pyramid,
            padding=network.padding,
            device=network.device,
        )

    def _check(self, images: Tensor, mask: Tensor) -> None:
        height, width = self.spatial_shape
        expected = (self.batch_size, self._network.in_channels, height, width)
        if tuple(images.shape) != expected or mask.shape != images[:, 0].shape:
            raise ValueError(
                f"images are {tuple(images.shape)} and the mask is {tuple(mask.shape)}, but "
                f"{expected} with a mask of the same size was captured. Make a GraphUNet "
                f"for that size."
            )


class _Graph:
    """One run: buffers of fixed size, and on CUDA the graph that fills them.

    What the network sees is an array of `shape`: images [B, C, H, W] that the graph gathers the
    active pixels from, or the rows [capacity, width] themselves, wider than what there is to see.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, network: FusedUNet, levels: DeviceLevels, shape: tuple[int, ...]) -> None:
        self._network = network
        self._levels = levels
        self._seen = torch.zeros(shape, dtype=network.dtype, device=network.device)
        mask_shape = (levels.batch_size, *levels.levels[0].spatial_shape)
        self._mask = torch.zeros(mask_shape, dtype=torch.bool, device=network.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: GraphLogits | None = None
        if network.device.type == "cuda":
            self._capture()

    def __call__(self, seen: Tensor, mask: Tensor) -> GraphLogits:
        self._seen[: len(seen), : seen.shape[1]].copy_(seen)
        self._mask.copy_(mask)
        if self._graph is None:
            return self._run()
        self._graph.replay()
        assert self._result is not None
        return self._result

    def _run(self) -> GraphLogits:
        levels, network = self._levels, self._network
        levels.update(self._mask)
        feats = self._seen
        if feats.ndim == 4:
            rows = feats.new_empty(levels.levels[0].capacity, network.in_width)
            feats = levels.gather(feats, rows)
        logits = network(feats, levels)
        return GraphLogits(logits, levels.found, levels)

    def _capture(self) -> None:
        # The first run compiles the kernels, which a capture does not allow.
        with torch.cuda.device(self._network.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._result = self._run()
            self._graph = graph


def bucket(number: int) -> int:
    """The capacity for `number` pixels, with some to spare so that small changes need no other.

    Capacities are multiples of 64, beyond 512 pixels at most an eighth more than `number`.
    """
    step = max(1 << max(number.bit_length() - 4, 0), 64)
    return max(-(-number // step), 1) * step
