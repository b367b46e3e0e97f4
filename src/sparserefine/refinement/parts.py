"""The parts of a refiner that its maker left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from sparserefine.dense import DenseModel
from sparserefine.refinement.band_selector import BandSelector
from sparserefine.refinement.checks import check_shipped
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.edge_selector import EdgeSelector
from sparserefine.refinement.ensembler import ExtractorAlone, GatedEnsembler
from sparserefine.refinement.extractor import Extractor, SparseUNet
from sparserefine.refinement.selector import EntropySelector, Selector
from sparserefine.refinement.stage_extractor import StageExtractor

Mode = Literal["default", "paper"]


@dataclass(frozen=True, eq=False)
class Parts:
    """What chooses, predicts and combines; None where it is left to the default.

    Attributes:
        selector: Chooses the pixels to refine.
        extractor: Predicts them.
        ensembler: Combines both predictions.
    """

    selector: Selector | None
    extractor: Extractor | EdgeExtractor | StageExtractor | None
    ensembler: GatedEnsembler | None

    def completed(
        self,
        dense: DenseModel | None,
        num_classes: int,
        channels: int,
        *,
        shipped: str | None,
        mode: Mode,
    ) -> tuple[
        Selector, Extractor | EdgeExtractor | StageExtractor, GatedEnsembler | ExtractorAlone
    ]:
        """All three; see `SparseRefiner`.

        Args:
            dense: The dense model, whose preset knows a threshold.
            num_classes: Number of classes K.
            channels: Features per selected pixel.
            shipped: Name of a refiner that ships with the package.
            mode: Set of defaults.

        Raises:
            ValueError: The mode is unknown; no such refiner ships, or it is given parts that it
                brings.
        """
        if mode not in get_args(Mode):
            raise ValueError(f'mode {mode!r} is unknown. Use "default" or "paper".')
        paper = mode == "paper"
        extractor = self.extractor
        if shipped is not None:
            check_shipped(shipped, extractor, self.ensembler)
            extractor = EdgeExtractor.shipped(num_classes)
        if isinstance(extractor, EdgeExtractor):
            return self.selector or BandSelector(), extractor, ExtractorAlone(num_classes)
        selector = self.selector
        if selector is None:
            selector = EdgeSelector() if dense is None else EntropySelector(dense.preset.threshold)
        if paper and isinstance(selector, EntropySelector):
            selector = replace(selector, cells="floor")
        if extractor is None:
            extractor = SparseUNet(num_classes, in_channels=channels)
        if paper and isinstance(extractor, SparseUNet):
            extractor.set_padding(0)
        if self.ensembler is not None:
            return selector, extractor, self.ensembler
        if isinstance(extractor, StageExtractor):
            return selector, extractor, ExtractorAlone(num_classes)
        return selector, extractor, GatedEnsembler(num_classes, residual=not paper)
