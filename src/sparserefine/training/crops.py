"""Training crops: read and cut in worker processes, then made a batch on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from sparserefine.data import Crop, apply_crop_labels, draw_crop, ignore_index, scaled_size
from sparserefine.data.jitter import jitter_colors
from sparserefine.data.source import SampleSource
from sparserefine.data.window import crop_window
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import Upsampling
from sparserefine.refinement.selector import EntropySelector
from sparserefine.sparse import ActivePixels
from sparserefine.training.config import TrainConfig
from sparserefine.training.draws import Draw
from sparserefine.training.grid_window import GridWindow, spans_of, valid_coords
from sparserefine.training.logits_cache import (
    CachedView,
    LogitsCache,
    Predictions,
    predict_views,
)
from sparserefine.training.survey import ImageFacts
from sparserefine.training.views import view_of


@dataclass(frozen=True, eq=False)
class CutCrop:
    """A crop as a worker process cuts it.

    Attributes:
        image: RGB of the crop.
        labels: Labels of the crop; None where there are none.
        crop: Where it lies in the scaled view.
        size: (height, width) of the scaled view.
        scale: How the view is scaled.
        seed: Seeds what is still random.
        view: The whole view, for the dense model to see; None where predictions are cached.
        low: Logits of the low-resolution prediction around the crop; None where there is no cache.
        entropy: Entropy of all its cells; None likewise, and where `low` is all of it.
        teacher: Class probabilities at full resolution around the crop; None where none are cached.
    """

    image: UInt8[Tensor, "3 h w"]
    labels: Integer[Tensor, "h w"] | None
    crop: Crop
    size: tuple[int, int]
    scale: float
    seed: int
    view: UInt8[Tensor, "3 H W"] | None = None
    low: GridWindow | None = None
    entropy: Float[Tensor, "rows columns"] | None = None
    teacher: GridWindow | None = None


class CropCutter(Dataset[CutCrop]):
    """Cuts the crops that are drawn.

    Args:
        dataset: The images.
        facts: What is known of them.
        num_classes: Number of classes K.
        config: Settings that say how crops are cut.
        upsampling: How the refiner reads a prediction at pixels.
        by_entropy: Whether the refiner chooses pixels by entropy alone.
        cache: The cached predictions; None where the dense model runs in the loop.
    """

    def __init__(
        self,
        dataset: SampleSource,
        facts: Sequence[ImageFacts],
        num_classes: int,
        config: TrainConfig,
        upsampling: Upsampling,
        *,
        by_entropy: bool,
        cache: LogitsCache | None,
    ) -> None:
        self.dataset, self.facts, self.config = dataset, facts, config
        self.num_classes, self.by_entropy = num_classes, by_entropy
        self.upsampling: Upsampling = upsampling
        # Not the cache itself: it holds a model, which may be on a device.
        self.paths = None if cache is None else [cache.path(at) for at in range(len(facts))]

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, draw: Draw) -> CutCrop:
        """Cut a crop."""
        config, generator = self.config, torch.Generator().manual_seed(draw.seed)
        sample = self.dataset[draw.image]
        key = self.facts[draw.image].key
        image, labels = view_of(sample, key, draw.view, self.num_classes, config)
        cached = None if self.paths is None else CachedView(self.paths[draw.image], draw.view)
        if config.targets == "dense":
            labels = None if cached is None else cached.read("labels")
        size = (image.shape[1], image.shape[2])
        crop = draw_crop(
            generator,
            size,
            config.crop_size,
            config.crop_scales,
            labels=labels,
            flip=0.5 if config.flip else 0.0,
        )
        place, scaled = replace(crop, scale=1.0), scaled_size(size, crop.scale)
        found = CutCrop(
            image=crop_window(image, crop),
            labels=None if labels is None else apply_crop_labels(labels, crop),
            crop=place,
            size=scaled,
            scale=crop.scale,
            seed=int(torch.randint(2**62, (), generator=generator)),
        )
        if cached is None:
            return replace(found, view=image)
        low = self._window(cached, "logits", place, scaled, self.upsampling, self.by_entropy)
        entropy = cached.read("entropy") if self.by_entropy else None
        teacher = None
        if config.needs_teacher:
            teacher = self._window(cached, "teacher", place, scaled, "bilinear", True)
        return replace(found, low=low, entropy=entropy, teacher=teacher)

    def _window(
        self,
        cached: CachedView,
        name: str,
        crop: Crop,
        size: tuple[int, int],
        upsampling: Upsampling,
        part: bool,
    ) -> GridWindow:
        if not part:
            return GridWindow.whole(cached.read(name))
        grid = cached.grid(name)
        rows, columns = spans_of(crop, size, grid, upsampling)
        return GridWindow(cached.window(name, rows, columns), (rows[0], columns[0]), grid)


@dataclass(frozen=True, eq=False)
class Crops:
    """A batch of training crops, on the device.

    Attributes:
        images: RGB in 0..1.
        pixels: The selected pixels.
        dense: Logits of the low-resolution prediction at the selected pixels, row-major.
        targets: Classes at the selected pixels; `ignore_index(K)` does not count.
        teacher: Class probabilities at the selected pixels; None where no teacher gives any.
    """

    images: Float[Tensor, "B 3 h w"]
    pixels: ActivePixels
    dense: Float[Tensor, "N K"]
    targets: Integer[Tensor, " N"]
    teacher: Float[Tensor, "N K"] | None


@torch.no_grad()
def batch_crops(model: SparseRefiner, cuts: Sequence[CutCrop], config: TrainConfig) -> Crops:
    """Choose the pixels of crops as the selector does in whole images, and distort colors.

    Args:
        model: The refiner, whose dense model sees the views where predictions are not cached.
        cuts: The crops.
        config: Settings.
    """
    device = model.device
    online = _predictions(model, cuts, config)
    images, masks, dense, targets, teacher = [], [], [], [], []
    for number, one in enumerate(cuts):
        generator = torch.Generator().manual_seed(one.seed)
        floats = as_unit_floats(one.image.to(device))[None]
        if config.jitter:
            floats = jitter_colors(floats, config.jitter, generator)
        images.append(floats)
        found = online.get(number)
        if one.low is not None:
            low, taught = one.low.to(device), one.teacher
        else:
            assert found is not None
            low, taught = GridWindow.whole(found.low.logits[0]), None
            if found.teacher is not None:
                taught = GridWindow.whole(found.teacher[0])
        # The selector sees the whole image: a pixel budget is a share of that.
        mask = apply_crop_labels(_selected(model, one, low), one.crop, fill=0)
        masks.append(mask)
        coords = valid_coords(mask.to(torch.uint8), one.crop)
        read = low.around(one.crop, one.size, model.upsampling)
        dense.append(read.at(coords, one.size, model.upsampling))
        targets.append(_targets(one, found, config, model.num_classes).to(device)[mask])
        if taught is not None:
            read = taught.around(one.crop, one.size, "bilinear").to(device)
            teacher.append(read.at(coords, one.size, "bilinear"))
    return Crops(
        images=torch.cat(images),
        pixels=ActivePixels.from_mask(torch.stack(masks)),
        dense=torch.cat(dense),
        targets=torch.cat(targets),
        teacher=torch.cat(teacher) if teacher else None,
    )


def _predictions(
    model: SparseRefiner, cuts: Sequence[CutCrop], config: TrainConfig
) -> dict[int, Predictions]:
    """What the dense model says of the views of crops, by their number; those of a size at once."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for number, one in enumerate(cuts):
        if one.view is not None:
            sizes.setdefault(tuple(one.view.shape), []).append(number)
    found = {}
    for numbers in sizes.values():
        shown = [view for number in numbers if (view := cuts[number].view) is not None]
        views = torch.stack(shown).to(model.device)
        whole = predict_views(model, views, teacher=config.needs_teacher)
        for place, number in enumerate(numbers):
            part = slice(place, place + 1)
            found[number] = Predictions(
                DensePass(whole.low.logits[part]),
                None if whole.teacher is None else whole.teacher[part],
                None if whole.labels is None else whole.labels[part],
            )
    return found


def _selected(model: SparseRefiner, one: CutCrop, low: GridWindow) -> Bool[Tensor, "H W"]:
    selector = model.selector
    if one.entropy is not None:
        assert isinstance(selector, EntropySelector)
        return selector.choose(one.entropy[None].to(low.cells.device), one.size)[0]
    return selector(DensePass(low.cells[None]), one.size)[0]


def _targets(
    one: CutCrop, found: Predictions | None, config: TrainConfig, num_classes: int
) -> Integer[Tensor, "h w"]:
    if one.labels is not None:
        return one.labels
    assert config.targets == "dense" and found is not None and found.labels is not None
    whole = replace(one.crop, scale=one.scale)
    return apply_crop_labels(found.labels[0], whole, min(ignore_index(num_classes), 255))
