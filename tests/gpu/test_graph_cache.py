"""On the GPU backend a size that comes again is captured, and nothing else changes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tiny_dense import TinyDense

import sparserefine as sr
from sparserefine.refinement.cuda.graph_cache import MAX_KEPT, GraphCache
from sparserefine.sparse import SparseTensor, use_backend

pytestmark = pytest.mark.interpreter


def network() -> sr.SparseUNet:
    return sr.SparseUNet(4, widths=(8, 16), blocks=1).eval()


def seen(mask: torch.Tensor) -> SparseTensor:
    return SparseTensor.from_dense(torch.randn(len(mask), 3, *mask.shape[1:]), mask)


def by_torch(net: sr.SparseUNet, x: SparseTensor) -> torch.Tensor:
    with use_backend("torch"):
        return net(x)


@torch.no_grad()
def test_only_a_size_that_comes_again_is_captured() -> None:
    net, graphs = network(), GraphCache()
    for height, width in ((9, 12), (9, 12), (9, 12), (8, 7)):
        mask = torch.rand(1, height, width) < 0.3
        x = seen(mask)
        logits = graphs(net, x)
        torch.testing.assert_close(logits, by_torch(net, x), rtol=0, atol=1e-5)
    captured = {key[1:3]: value is not None for key, value in graphs._kept.items()}
    assert captured == {(9, 12): True, (8, 7): False}


@torch.no_grad()
def test_changed_weights_are_noticed() -> None:
    net, graphs = network(), GraphCache()
    mask = torch.rand(2, 6, 9) < 0.4
    mask[0] = False
    x = seen(mask)
    before = [graphs(net, x) for _ in range(2)][-1]
    net.head.weight.mul_(3)
    after = [graphs(net, x) for _ in range(2)][-1]
    torch.testing.assert_close(after, by_torch(net, x), rtol=0, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.slow
@torch.no_grad()
def test_writes_that_torch_does_not_count_are_noticed() -> None:
    """Through `.data`, as weight averages do, and to inference tensors."""
    net, graphs = sr.SparseUNet(4, widths=(8,), blocks=1).eval(), GraphCache()
    with torch.inference_mode():
        net.head_norm.norm.running_mean = torch.zeros(8)
    mask = torch.rand(1, 4, 5) < 0.4
    x = seen(mask)
    for write in (average, shift_a_mean):
        before = [graphs(net, x) for _ in range(2)][-1]
        assert None not in graphs._kept.values()
        versions = [t._version for t in net.parameters()]
        write(net)
        assert [t._version for t in net.parameters()] == versions
        after = graphs(net, x)
        torch.testing.assert_close(after, by_torch(net, x), rtol=0, atol=1e-5)
        assert not torch.allclose(before, after, atol=1e-3)


def test_a_graph_made_in_inference_mode_serves_outside_it() -> None:
    net, graphs = sr.SparseUNet(4, widths=(8,), blocks=1).eval(), GraphCache()
    mask = torch.rand(1, 4, 5) < 0.4
    x = seen(mask)
    with torch.inference_mode():
        before = [graphs(net, x) for _ in range(2)][-1]
    with torch.no_grad():
        assert torch.equal(graphs(net, x), before)


def average(net: sr.SparseUNet) -> None:
    for weight in net.parameters():
        weight.data.lerp_(torch.randn_like(weight), 0.05)


def shift_a_mean(net: sr.SparseUNet) -> None:
    mean = net.head_norm.norm.running_mean
    assert mean is not None and mean.is_inference()
    with torch.inference_mode():
        mean.add_(1)


def test_a_refiner_runs_its_extractor_by_it() -> None:
    assert type(sr.SparseRefiner(TinyDense())._run) is GraphCache


def test_gradients_training_and_other_backends_are_not_captured() -> None:
    net, graphs = network(), GraphCache()
    mask = torch.rand(1, 6, 9) < 0.4
    x = seen(mask)
    for _ in range(2):
        assert graphs(net, x).requires_grad
    with torch.no_grad():
        with use_backend("torch"):
            graphs(net, x)
        graphs(net.train(), x)
        empty = torch.zeros_like(mask)
        assert graphs(net.eval(), seen(empty)).shape == (0, 4)
    assert not graphs._kept


@pytest.mark.slow
@torch.no_grad()
def test_few_graphs_are_kept_and_none_is_copied() -> None:
    net, graphs = network(), GraphCache()
    for width in range(4, 4 + MAX_KEPT + 2):
        mask = torch.ones(1, 4, width, dtype=torch.bool)
        graphs(net, seen(mask))
    assert [key[2] for key in graphs._kept] == list(range(6, 6 + MAX_KEPT))
    for twin in (copy.deepcopy(graphs), pickle.loads(pickle.dumps(graphs))):
        assert isinstance(twin, GraphCache) and not twin._kept


@pytest.mark.slow
def test_a_refiner_says_the_same_of_an_image_every_time() -> None:
    dense = TinyDense()
    model = sr.SparseRefiner(
        dense,
        selector=sr.EntropySelector(0.0, max_density=0.3),
        extractor=sr.SparseUNet(dense.num_classes, widths=(8, 16), blocks=1),
    ).eval()
    image = torch.rand(3, 16, 20)
    with use_backend("torch"):
        expected = model.predict(image).labels
    for _ in range(3):
        assert (model.predict(image).labels == expected).all()
