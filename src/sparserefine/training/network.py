"""The part of a refiner that has weights to train, as one module."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.refinement.features import pixel_features
from sparserefine.refinement.output import RefinedPixels
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.stage_extractor import StageExtractor, see_stages
from sparserefine.sparse import ActivePixels, SparseTensor
from sparserefine.training.config import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainedNetwork(nn.Module):
    """The extractor and the ensembler of a refiner, which it shares with it.

    Args:
        model: The refiner.
        precision: Precision of the extractor; the ensembler is small, and stays in float32.
    """

    def __init__(self, model: SparseRefiner, precision: Precision) -> None:
        super().__init__()
        assert isinstance(model.extractor, nn.Module)
        self.extractor = model.extractor
        self.ensembler = model.ensembler
        self.inputs = model.inputs
        self.dtype = DTYPES[precision]
        # In a tuple, as no part of this: it is frozen, and must not be set to train.
        self._frozen = (model.dense, model.dense_size)

    def forward(
        self,
        images: Float[Tensor, "B 3 h w"],
        pixels: ActivePixels,
        dense: Float[Tensor, "N K"],
    ) -> RefinedPixels:
        """Predict the selected pixels.

        Args:
            images: RGB in 0..1.
            pixels: The selected pixels.
            dense: Logits of the low-resolution prediction at these.
        """
        lower = self.dtype != torch.float32
        with torch.autocast(images.device.type, self.dtype, enabled=lower):
            if isinstance(self.extractor, StageExtractor):
                frozen, dense_size = self._frozen
                assert frozen is not None
                shown = see_stages(frozen, images, dense_size)
                sparse = self.extractor(images, pixels, dense, shown)
            else:
                feats = pixel_features(images, pixels.coords, dense, self.inputs)
                sparse = self.extractor(SparseTensor(feats, pixels))
        sparse = sparse.float()
        return RefinedPixels(pixels.coords, dense, sparse, self.ensembler(dense, sparse))
