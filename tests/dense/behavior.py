"""What every dense model does, whoever wrote it."""

from __future__ import annotations

import copy
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import Tensor

import sparserefine as sr
from sparserefine.dense import DenseModel
from sparserefine.refinement.dense_size import DenseSize


class DenseModelBehavior:
    """Subclasses `make` the model, and say what does not work and why.

    Attributes:
        size: Of the images.
        odd: A size that is a multiple of nothing; padded to the model's divisor by the refiner.
        no_half: Why the model does not run in bfloat16; empty if it does.
        no_compile: Why `torch.compile(fullgraph=True)` does not take it; likewise.
        no_export: Why `torch.export` does not take it; likewise.
    """

    size = (64, 128)
    odd = (61, 125)
    no_half = no_compile = no_export = ""

    @classmethod
    def make(cls) -> DenseModel:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> DenseModel:
        return cls.make()

    def test_is_frozen(self, model: DenseModel) -> None:
        assert isinstance(model, DenseModel)
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_predicts_finite_logits_in_float32(self, model: DenseModel) -> None:
        logits = predict(model, self.size)
        assert logits.shape[:2] == (1, model.num_classes)
        assert logits.dtype == torch.float32
        assert bool(logits.isfinite().all())
        assert 0 < logits.shape[2] <= self.size[0]
        assert logits.shape[2] * self.size[1] == logits.shape[3] * self.size[0]

    def test_takes_odd_sizes_padded_to_its_divisor(self, model: DenseModel) -> None:
        padded = DenseSize(1.0, model.size_divisor).padded(self.odd)
        logits = predict(model, padded)
        assert logits.shape[1] == model.num_classes
        assert bool(logits.isfinite().all())

    def test_the_same_images_give_the_same_logits(self, model: DenseModel) -> None:
        assert torch.equal(predict(model, self.size), predict(model, self.size))

    def test_a_batch_does_not_change_an_image(self, model: DenseModel) -> None:
        images = random_images(2, *self.size)
        with torch.no_grad():
            both = model(images)
            alone = torch.cat([model(image[None]) for image in images])
        assert_equal_but_for_rounding(both, alone)

    def test_the_images_matter(self, model: DenseModel) -> None:
        assert not torch.equal(predict(model, self.size), predict(model, self.size, seed=1))

    def test_runs_under_autocast(self, model: DenseModel) -> None:
        if self.no_half:
            pytest.skip(self.no_half)
        images = random_images(1, *self.size)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        assert logits.dtype == torch.float32
        assert bool(logits.isfinite().all())

    def test_runs_with_weights_in_bfloat16(self, model: DenseModel) -> None:
        if self.no_half:
            pytest.skip(self.no_half)
        with torch.no_grad():
            logits = copy.deepcopy(model).to(torch.bfloat16)(random_images(1, *self.size))
        assert logits.dtype == torch.float32
        assert bool(logits.isfinite().all())

    def test_a_refiner_around_it_is_saved_and_read(self, model: DenseModel, tmp_path: Path) -> None:
        extractor = sr.SparseUNet(model.num_classes, widths=(4, 8), blocks=1)
        refiner = sr.SparseRefiner(
            model,
            selector=sr.EntropySelector(0.0, max_density=0.05),
            extractor=extractor,
            dense_size=1.0,
        ).eval()
        refiner.save_pretrained(tmp_path)
        again = bool(model.name or model.files)
        read = sr.SparseRefiner.from_pretrained(tmp_path, dense=None if again else model)
        images = random_images(1, *self.odd)
        with torch.no_grad():
            expected, found = refiner(images), read(images)
        assert torch.equal(found.labels, expected.labels)
        assert read.dense.preset.license == model.preset.license

    @pytest.mark.slow
    def test_compiles_into_one_graph(
        self, model: DenseModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if self.no_compile:
            pytest.skip(self.no_compile)
        images = random_images(1, *self.size)
        torch.compiler.reset()
        # The checks of shapes that tests run with are no part of the package and not traceable.
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        with torch.no_grad():
            # First: in its first pass transformers takes a lock, which no graph can.
            expected = model(images)
            assert_equal_but_for_rounding(compiled(images), expected)

    @pytest.mark.slow
    def test_exports(self, model: DenseModel) -> None:
        if self.no_export:
            pytest.skip(self.no_export)
        assert_exports(model, self.size)


def assert_exports(model: DenseModel, size: tuple[int, int]) -> None:
    images = random_images(1, *size)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        assert_equal_but_for_rounding(program.module()(images), model(images))


def assert_equal_but_for_rounding(found: Tensor, expected: Tensor) -> None:
    """The same sums of the same terms.

    Libraries choose the order of a matrix product's sums by its shape, and a batch has another: a
    layer then differs by some units in the last place, some dozen layers by some dozen.
    """
    unit = torch.finfo(torch.float32).eps * float(expected.abs().max())
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 128 * unit


def random_images(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator)


def predict(model: DenseModel, size: tuple[int, int], seed: int = 0) -> Tensor:
    with torch.no_grad():
        return model(random_images(1, *size, seed=seed))
