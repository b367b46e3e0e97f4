"""`dense.optimize`: the same answers, by a network that takes less time."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparserefine as sr
from small_models import PatchDense
from sparserefine import memory_pages as pages
from sparserefine.dense.fast_run import FastRun
from sparserefine.refinement.fast_dense import with_fast_dense

optimizing = sys.modules["sparserefine.dense.optimize"]


class NormDense(sr.dense.DenseModel):
    """Convolutions and batch norms that have learned something."""

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__()
        self.num_classes, self.size_divisor, self.preset = 5, 4, sr.dense.Preset()
        self.shared = shared
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.inner = nn.Sequential(nn.BatchNorm2d(8, affine=False), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(8, 5, 1)
        generator = torch.Generator().manual_seed(0)
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.2
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at full size."""
        convolved = self.first(images - 0.5)
        y = self.norm(convolved)
        if self.shared:  # the convolution's own result is used, too
            y = y + convolved
        return self.last(self.inner(self.second(y))).float()


IMAGES = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))


def norms_of(model: sr.dense.DenseModel) -> str:
    assert model.optimization is not None
    return model.optimization.norms


def test_folded_norms_give_the_same_logits_and_leave_the_model() -> None:
    model = NormDense()
    before = copy.deepcopy(model.state_dict())
    expected = model(IMAGES)
    optimized = sr.dense.optimize(model, (24, 40))
    found = optimized(IMAGES)
    assert norms_of(optimized) == "2 folded"
    assert isinstance(optimized._fast, FastRun) and optimized._fast._made is not None
    network = optimized._fast._made.network
    assert network is not None and not [
        one for one in network.modules() if isinstance(one, nn.BatchNorm2d)
    ]
    assert not torch.equal(found, expected)  # it did run another way
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert model._fast is None and model.optimization is None
    assert torch.equal(model(IMAGES), expected)
    for state in (model.state_dict(), optimized.state_dict()):
        assert list(state) == list(before)
        assert all(torch.equal(state[name], before[name]) for name in before)
    assert optimized.describe() == model.describe()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = NormDense().to(dtype)
    optimized = sr.dense.optimize(model, (24, 40))
    assert norms_of(optimized) == "2 folded"
    found, expected = optimized(IMAGES.to(dtype)), model(IMAGES.to(dtype))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize("last", [True, False])
def test_the_layout_that_takes_less_time_is_taken(
    last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(network: nn.Module, images: Tensor) -> float:
        return 1.0 if images.is_contiguous(memory_format=torch.channels_last) is last else 2.0

    monkeypatch.setattr(optimizing, "_seconds", seconds)
    model = NormDense()
    optimized = sr.dense.optimize(model, (24, 40))
    assert optimized._fast is not None and optimized._fast.channels_last is last
    assert optimized.optimization is not None
    assert optimized.optimization.layout.startswith("channels_last:" if last else "as it was:")
    torch.testing.assert_close(optimized(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    assert model.second.weight.is_contiguous()


def test_a_layout_that_is_asked_for_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizing, "_seconds", None)
    for last in (True, False):
        optimized = sr.dense.optimize(NormDense(), (24, 40), channels_last=last)
        assert optimized._fast is not None and optimized._fast.channels_last is last
        assert optimized.optimization is not None
        assert optimized.optimization.channels_last is last


def test_what_others_use_too_is_not_folded() -> None:
    model = NormDense(shared=True)
    optimized = sr.dense.optimize(model)
    assert norms_of(optimized).startswith("left: folded, logits differ by")
    assert optimized._fast is None and torch.equal(optimized(IMAGES), model(IMAGES))


def test_models_without_norms_or_convolutions() -> None:
    assert norms_of(sr.dense.optimize(PatchDense().eval())) == "none"
    plain = sr.dense.from_callable(lambda images: images, "logits", 3, check=False)
    optimized = sr.dense.optimize(plain, (8, 8))
    assert optimized.optimization is not None
    assert optimized.optimization.layout == "no convolutions"
    assert torch.equal(optimized(IMAGES), plain(IMAGES))


def test_a_model_that_cannot_run_the_small_image_stays() -> None:
    class Picky(NormDense):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[3] != 40:
                raise RuntimeError("only 40")
            return super().forward(images)

    optimized = sr.dense.optimize(Picky())
    assert norms_of(optimized) == "left: only 40" and optimized._fast is None
    assert optimized(IMAGES).shape == (2, 5, 24, 40)


def test_training_and_devices_are_left() -> None:
    model = NormDense().train()
    state = copy.deepcopy(model.state_dict())
    optimized = sr.dense.optimize(model)
    assert norms_of(optimized) == "left: the model is in training mode"
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    elsewhere = sr.dense.optimize(NormDense().to("meta"))
    assert norms_of(elsewhere) == "left: the model is on meta" and elsewhere._fast is None


def test_what_changes_afterwards_counts() -> None:
    model = NormDense()
    optimized = sr.dense.optimize(model)
    before = optimized(IMAGES)
    model.norm.running_mean.add_(0.5)  # pyright: ignore
    assert not torch.allclose(optimized(IMAGES), before)
    torch.testing.assert_close(optimized(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    model.last = nn.Conv2d(8, 5, 1).requires_grad_(False)
    torch.testing.assert_close(optimized(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    optimized.train()
    assert torch.equal(optimized(IMAGES), model(IMAGES))
    model.eval()
    images = IMAGES.clone().requires_grad_()
    model.requires_grad_(True)
    optimized(images).sum().backward()
    assert images.grad is not None and model.first.weight.grad is not None


def test_copies_and_pickles_run_their_own_network() -> None:
    optimized = sr.dense.optimize(NormDense())
    expected = optimized(IMAGES)
    for other in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
        assert torch.equal(other(IMAGES), expected)
        assert other._fast is not optimized._fast
    other = copy.deepcopy(optimized)
    other.last.bias.add_(1.0)  # pyright: ignore
    assert not torch.equal(other(IMAGES), expected) and torch.equal(optimized(IMAGES), expected)


def test_a_refiner_is_optimized_once_and_left_as_it_was() -> None:
    refiner = sr.SparseRefiner(
        NormDense(), extractor=sr.SparseUNet(5, widths=(4,), blocks=1), dense_size=1.0
    )
    fast = with_fast_dense(refiner)
    assert fast.dense is not refiner.dense and fast.extractor is refiner.extractor
    assert with_fast_dense(fast) is fast and fast.describe() == refiner.describe()
    bare = sr.SparseRefiner(None, num_classes=2)
    assert with_fast_dense(bare) is bare


def test_pages_are_kept_where_glibc_is(monkeypatch: pytest.MonkeyPatch) -> None:
    uncached = pages.keep_pages.__wrapped__
    monkeypatch.setattr(pages, "_glibc", lambda: None)
    assert uncached() == "the C library is not glibc"
    pages.return_pages()  # does nothing
    monkeypatch.undo()
    if pages.platform.libc_ver()[0] == "glibc":
        assert uncached() == ""
        assert sr.dense.explain_optimization()["pages"] == "kept"


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of the process")
def test_pages_of_freed_arrays_are_returned() -> None:
    """Between arrays that stay, where the C library does not return them by itself."""
    if pages.platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")
    arrays = [np.ones(1 << 16, np.uint8) for _ in range(2000)]
    before = resident_mib()
    del arrays[:1900:2]
    assert resident_mib() > before - 20
    pages.return_pages()
    assert resident_mib() < before - 40


def resident_mib() -> float:
    held = int(Path("/proc/self/statm").read_text().split()[1])
    return held * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_hooks_of_parts_are_called_whenever_they_were_made() -> None:
    """Who looks into the encoder of a model has not to know that it is optimized."""
    optimized = sr.dense.optimize(NormDense(), (24, 40))
    expected = optimized(IMAGES)
    seen: list[int] = []
    hook = optimized.second.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(optimized(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert seen == [1]
    hook.remove()
    assert torch.equal(optimized(IMAGES), expected) and seen == [1]  # by the network again
