"""The extractor at fixed capacity against the `SparseUNet` that it is a snapshot of."""

from __future__ import annotations

import pytest
import torch
from masks import MASKS
from torch import Tensor, nn

from sparserefine.refinement.cuda.graph import GraphUNet, bucket
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import SparseTensor

pytestmark = pytest.mark.interpreter


def network(*, widths: tuple[int, ...] = (8, 16), blocks: int = 1, **options) -> SparseUNet:
    """In eval mode, with batch norms that do something."""
    net = SparseUNet(5, widths=widths, blocks=blocks, **options).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return net


@torch.no_grad()
def expected(net: SparseUNet, images: Tensor, mask: Tensor) -> Tensor:
    """In float64, by plain torch."""
    y = net.double()(SparseTensor.from_dense(images.double(), mask))
    net.float()
    return y


def captured(net: SparseUNet, mask: Tensor, **options) -> GraphUNet:
    options = {"density": 1.0, "dtype": torch.float32, **options}
    return GraphUNet(net, len(mask), tuple(mask.shape[1:]), **options)


@pytest.mark.parametrize(
    ("pyramid", "padding", "blocks"),
    [
        pytest.param("dilate", 1, 1, marks=pytest.mark.slow),
        ("dilate", 0, 1),
        pytest.param("floor", 1, 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_predicts_what_the_extractor_predicts(pyramid: str, padding: int, blocks: int) -> None:
    net = network(widths=(8, 16, 24), pyramid=pyramid, padding=padding, blocks=blocks)
    for name in ("two_images_one_empty", "one_by_one") if blocks == 1 else ("corners",):
        mask = MASKS[name]
        images = torch.randn(len(mask), 3, *mask.shape[1:])
        logits, coords = captured(net, mask)(images, mask)
        y64 = expected(net, images, mask)
        assert torch.equal(coords.long(), mask.nonzero())
        torch.testing.assert_close(logits.double(), y64, rtol=0, atol=2e-6 * float(y64.abs().max()))


def test_half_precision_rounds_features_not_sums() -> None:
    net, mask = network(), MASKS["two_images_one_empty"]
    images = torch.randn(2, 3, *mask.shape[1:])
    logits, _ = captured(net, mask, dtype=torch.float16)(images, mask)
    assert logits.dtype == torch.float32
    y64 = expected(net, images, mask)
    # Some twenty roundings to 11 bits, one per layer.
    torch.testing.assert_close(logits.double(), y64, rtol=0, atol=3e-3 * float(y64.abs().max()))


def test_no_active_pixel_gives_no_row() -> None:
    mask = MASKS["empty_mask"]
    logits, coords = captured(network(), mask)(torch.randn(1, 3, *mask.shape[1:]), mask)
    assert logits.shape == (0, 5) and coords.shape == (0, 3)


@pytest.mark.slow
def test_what_does_not_fit_is_noticed_and_run_again() -> None:
    net, full = network(), MASKS["random_30pct"][:1, :16, :20].contiguous()
    images = torch.randn(1, 3, *full.shape[1:])
    small = full & (torch.arange(full.shape[1]) < 2)[:, None]
    extractor = captured(net, full, density=0.01)
    before = extractor.capacities
    assert not extractor.launch(images, small).overflow
    assert extractor.launch(images, full).overflow
    assert extractor.capacities == before
    logits, _ = extractor(images, full)
    assert all(new > old for new, old in zip(extractor.capacities, before, strict=True))
    assert int(full.sum()) <= extractor.capacities[0] <= 1.125 * int(full.sum()) + 64
    y64 = expected(net, images, full)
    torch.testing.assert_close(logits.double(), y64, rtol=0, atol=2e-6 * float(y64.abs().max()))
    again, _ = extractor(images, small)  # nothing of the larger frame is left
    y64 = expected(net, images, small)
    torch.testing.assert_close(again.double(), y64, rtol=0, atol=2e-6 * float(y64.abs().max()))


@pytest.mark.slow
def test_results_stay_when_the_next_frame_runs() -> None:
    net, mask = network(), MASKS["one_by_one"]
    extractor = captured(net, mask)
    first, _ = extractor(torch.ones(1, 3, 1, 1), mask)
    kept = first.clone()
    extractor(-torch.ones(1, 3, 1, 1), mask)
    assert torch.equal(first, kept)


def test_another_size_than_the_captured_one_is_refused() -> None:
    extractor = captured(network(), MASKS["one_pixel"])
    with pytest.raises(ValueError, match=r"images are \(1, 3, 8, 8\) and the mask is \(1, 8, 8\)"):
        extractor(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"density is 0.0, expected a share of the pixels"):
        captured(network(), MASKS["one_pixel"], density=0.0)


def test_capacities_are_at_most_an_eighth_too_large() -> None:
    for number in (0, 1, 64, 65, 1000, 1025, 251_659):
        assert number <= bucket(number) <= max(1.125 * number, 64 + number)
        assert bucket(number) % 64 == 0
        assert bucket(bucket(number)) == bucket(number)
