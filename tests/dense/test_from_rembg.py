"""Sessions of rembg as dense models; the real rembg's are in tests/photos/test_rembg.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sparserefine as sr
from imitated_rembg import MEAN, SIZE, STD, LogitSession, ProbabilitySession


def photo(size: tuple[int, int] = SIZE, brightest: int = 255) -> Image.Image:
    """A red disk on blue noise, of (width, height)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[1], : size[0]]
    inside = np.hypot(y - size[1] / 2, x - size[0] / 2) < 0.3 * min(size)
    back = np.array([60, 90, 180]) + rng.integers(-30, 30, (size[1], size[0], 3))
    pixels = np.where(inside[..., None], (255, 120, 20), back)
    return Image.fromarray((pixels * brightest // 255).astype(np.uint8))


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("make", [ProbabilitySession, LogitSession])
@pytest.mark.parametrize("brightest", [255, 90])
def test_says_what_the_network_says(make: Any, brightest: int) -> None:
    session, image = make(), photo(brightest=brightest)
    session.inner_session.contrast = 4  # never sure, but rembg's own masks reach from 0 to 255
    model = sr.dense.from_rembg(session)
    found = model(as_tensor(image)).softmax(1)[0, 1].numpy()
    expected = session.raw(image)
    assert np.abs(found - expected).max() < 1e-3
    assert 0.01 < expected.min() < 0.1 and 0.9 < expected.max() < 0.99


def test_each_image_of_a_batch_by_its_own_maximum() -> None:
    model = sr.dense.from_rembg(ProbabilitySession())
    both = torch.cat([as_tensor(photo()), as_tensor(photo(brightest=90))])
    assert torch.equal(model(both)[1:], model(both[1:]))
    assert bool(model(torch.zeros(1, 3, *SIZE[::-1])).isfinite().all())


def test_size_normalization_and_fit_are_those_of_the_session() -> None:
    session = ProbabilitySession()
    before = dict(vars(session))
    model = sr.dense.from_rembg(session)
    assert model.preset.dense_size == SIZE[::-1] and model.preset.fit == "stretch"
    assert np.allclose(model.normalize.mean.flatten(), MEAN)
    assert np.allclose(model.normalize.std.flatten(), STD)
    assert model.num_classes == 2 and "redness" in model.preset.license
    assert vars(session) == before


def test_is_named_by_the_content_of_its_file_or_not_at_all(tmp_path: Path) -> None:
    session = ProbabilitySession()
    assert sr.dense.from_rembg(session).identity() is None
    named = []
    for content in (b"one", b"two"):
        (tmp_path / "model.onnx").write_bytes(content)
        session.inner_session._model_path = str(tmp_path / "model.onnx")  # type: ignore[attr-defined]
        named.append(sr.dense.from_rembg(session).identity())
    assert None not in named and named[0] != named[1]


def test_logits_that_are_taken_for_probabilities_are_refused() -> None:
    session = ProbabilitySession(sigmoid=False)
    with pytest.raises(ValueError, match=r'expected probabilities 0..1.*output="logits"'):
        sr.dense.from_rembg(session)(as_tensor(photo()))
    told = sr.dense.from_rembg(session, output="logits")
    same = sr.dense.from_rembg(LogitSession())
    assert torch.equal(told(as_tensor(photo())), same(as_tensor(photo())))
    assert told.describe()["output"] == "logits"


def test_an_output_of_no_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    with pytest.raises(ValueError, match="output='scores': expected"):
        sr.dense.from_rembg(ProbabilitySession(), output="scores")  # type: ignore[arg-type]


def test_sessions_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="'u2net' has no network of its own"):
        sr.dense.from_rembg(SimpleNamespace(model_name="u2net", predict=print))
    with pytest.raises(ValueError, match="'redness' finds 4 classes, expected one channel"):
        sr.dense.from_rembg(ProbabilitySession(channels=4))
    odd = ProbabilitySession()
    odd.predict = lambda image: []  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="how 'redness' prepares photos cannot be told"):
        sr.dense.from_rembg(odd)
    odd.predict = lambda image: [1 / 0]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="how 'redness' prepares photos cannot be told"):
        sr.dense.from_rembg(odd)
