import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.dense.mask_scores import as_log, log_scores
from sparserefine.refinement.uncertainty import entropy


def masks(batch: int = 2, queries: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    class_logits = torch.randn(batch, queries, classes + 1, generator=generator)
    mask_logits = 3 * torch.randn(batch, queries, 12, 18, generator=generator)
    return class_logits, mask_logits


def scores_at_once(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The definition: all masks at full size."""
    up = F.interpolate(mask_logits, size, mode="bilinear", align_corners=False).sigmoid()
    return torch.einsum("bqc,bqhw->bchw", class_logits.softmax(2)[..., :-1], up)


@pytest.mark.parametrize("size", [(12, 18), (48, 72), (47, 71), (13, 19), (5, 7), (1, 1)])
@pytest.mark.parametrize("chunk", [1, 7 * 71 * 2, 2**24])
def test_chunks_of_rows_give_the_definition(size: tuple[int, int], chunk: int) -> None:
    found = log_scores(*masks(), size, chunk)
    expected = scores_at_once(*masks(), size)
    assert found.shape == (2, 4, *size)
    torch.testing.assert_close(found.exp(), expected, rtol=1e-5, atol=1e-6)


def test_softmax_gives_the_normalized_scores_back() -> None:
    scores = scores_at_once(*masks(), (24, 36))
    torch.testing.assert_close(as_log(scores).softmax(1), scores / scores.sum(1, keepdim=True))


def test_a_score_of_zero_stays_finite() -> None:
    assert as_log(torch.zeros(1, 2, 1, 1)).isfinite().all()


def test_softmax_of_the_scores_themselves_would_select_every_pixel() -> None:
    """Two sure masks side by side: only their border is uncertain."""
    width = 64
    side = torch.where(torch.arange(width) < width // 2, 9.0, -9.0).expand(1, 1, width, width)
    mask_logits = torch.cat([side, -side], 1)
    class_logits = 12 * F.one_hot(torch.tensor([[0, 1]]), 20).float()
    size = (4 * width, 4 * width)
    right = entropy(log_scores(class_logits, mask_logits, size))
    wrong = entropy(scores_at_once(class_logits, mask_logits, size))
    threshold = sr.dense.create("mask2former-swin-tiny", device="meta").preset.threshold
    assert (right > threshold).float().mean() < 0.1
    assert (wrong > threshold).all()
    assert (wrong > 2).all()


def test_all_masks_at_full_size_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    upsample = F.interpolate

    def spy(*arguments: object, **options: object) -> Tensor:
        nonlocal largest
        result = upsample(*arguments, **options)  # type: ignore[arg-type]
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(F, "interpolate", spy)
    log_scores(*masks(1, 100, 19), (256, 512), chunk=2**20)
    assert 0 < largest <= 2**20
