"""The library's passes over class scores, beside plain torch in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement import resampling
from sparserefine.refinement.ensembler import GatedEnsembler
from sparserefine.refinement.resampling import classes_of, sample, upsampled_labels
from sparserefine.refinement.uncertainty import MIN_PROBABILITY, entropy
from sparserefine.sparse import use_backend
from sparserefine.sparse.native import library, scores

pytestmark = pytest.mark.skipif(
    isinstance(library.load(), str), reason="the native library was not built"
)
SHAPES = [(1, 19, 5, 33), (2, 2, 3, 16), (3, 150, 4, 7), (1, 256, 2, 3)]
ISAS = () if isinstance(library.load(), str) else library.loaded().supported_isas
LAYOUTS = ("planes", "channels_last", "cropped")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this processor has."""
    before = library.loaded().isas[library.loaded().isa]
    library.loaded().use_isa(request.param)
    yield request.param
    library.loaded().use_isa(before)


def made(shape: tuple[int, int, int, int], layout: str, scale: float = 4.0) -> Tensor:
    """Random scores in some order in memory."""
    generator = torch.Generator().manual_seed(sum(shape))
    batch, classes, height, width = shape
    if layout == "cropped":
        wide = scale * torch.randn(batch, classes, height + 2, width + 5, generator=generator)
        return wide[:, :, :height, :width]
    values = scale * torch.randn(shape, generator=generator)
    if layout == "channels_last":
        values = values.contiguous(memory_format=torch.channels_last)
    return values


def entropy64(values: Tensor) -> Tensor:
    p = values.double().softmax(1)
    return -(p * p.clamp(min=MIN_PROBABILITY).log()).sum(1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_entropies_and_classes(shape: tuple[int, int, int, int], layout: str, isa: str) -> None:
    values = made(shape, layout)
    assert scores.can_score(values, classes=shape[1])
    torch.testing.assert_close(entropy(values).double(), entropy64(values), atol=2e-6, rtol=2e-6)
    assert torch.equal(classes_of(values), values.max(1).indices)
    rows = values.permute(0, 2, 3, 1).reshape(-1, shape[1])
    torch.testing.assert_close(entropy(rows).double(), entropy64(rows), atol=2e-6, rtol=2e-6)
    assert torch.equal(classes_of(rows), rows.max(1).indices)


def test_entropies_of_the_surest_and_the_least_sure(isa: str) -> None:
    values = torch.zeros(1, 19, 1, 3)
    values[0, 3, 0, 1], values[0, 3, 0, 2] = 1e4, 12.0
    found = entropy(values)
    torch.testing.assert_close(found.double(), entropy64(values), atol=1e-6, rtol=1e-6)
    assert float(found[0, 0, 1]) == 0
    tied = torch.tensor([[2.0, 5.0, 5.0]])
    assert classes_of(tied).tolist() == [1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(10, 66), (11, 70), (5, 33), (3, 9)], ids=str)
def test_samples_and_labels_are_those_of_interpolation(
    size: tuple[int, int], layout: str, isa: str
) -> None:
    values = made((2, 19, 5, 33), layout)
    full = F.interpolate(values.double(), size, mode="bilinear")
    mask = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)) < 0.3
    coords = mask.nonzero().int()
    found = sample(values, coords, size)
    expected = full.permute(0, 2, 3, 1)[mask]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    labels = upsampled_labels(values, size)
    assert labels.dtype == torch.uint8
    lead = full.topk(2, dim=1).values
    sure = lead[:, 0] - lead[:, 1] > 1e-4
    assert sure.float().mean() > 0.99
    assert torch.equal(labels[sure].long(), full.max(1).indices[sure])
    partly = upsampled_labels(values, size, settled=mask)
    assert torch.equal(partly[~mask], labels[~mask])


def test_samples_round_as_those_of_windows() -> None:
    # Rasters read cells by `mix_cells`; their labels are those of whole images, bit by bit.
    values, size = made((1, 19, 5, 33), "planes"), (11, 70)
    coords = torch.ones(1, *size).nonzero().int()
    with use_backend("torch"):
        expected, labels = sample(values, coords, size), upsampled_labels(values, size)
    assert torch.equal(sample(values, coords, size), expected)
    assert torch.equal(upsampled_labels(values, size), labels)


@pytest.mark.parametrize("classes", [2, 19, 150])
@pytest.mark.parametrize("residual", [True, False])
def test_the_ensembler_is_that_of_torch(classes: int, residual: bool, isa: str) -> None:
    torch.manual_seed(0)
    ensembler = GatedEnsembler(classes, residual=residual, hidden=37).requires_grad_(False)
    for parameter in ensembler.parameters():
        parameter.uniform_(-0.5, 0.5)
    dense, sparse = 4 * torch.randn(2, 1037, classes)
    found = ensembler(dense, sparse)
    expected = ensembler.double()(dense.double(), sparse.double())
    torch.testing.assert_close(found.double(), expected, atol=3e-5, rtol=3e-5)
    ensembler.float()
    for rows in (0, 1, 17):
        assert torch.equal(ensembler(dense[:rows], sparse[:rows]), found[:rows])


def test_what_the_passes_cannot_do_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("not here")

    monkeypatch.setattr(resampling, "sampled", refuse)
    values = made((1, 3, 4, 6), "planes")
    coords = torch.ones(1, 8, 12).nonzero().int()
    assert sample(values.double(), coords, (8, 12)).dtype == torch.float64
    assert sample(values, coords, (8, 12), "nearest").shape == (96, 3)
    with use_backend("reference"):
        assert sample(values, coords, (8, 12)).shape == (96, 3)
    with_gradient = values.clone().requires_grad_()
    sample(with_gradient, coords, (8, 12)).sum().backward()
    assert with_gradient.grad is not None
    many = made((1, 300, 2, 3), "planes")
    assert upsampled_labels(many, (4, 6)).dtype == torch.int32
    monkeypatch.setattr(library, "load", lambda: "none was built")
    assert sample(values, coords, (8, 12)).shape == (96, 3)
