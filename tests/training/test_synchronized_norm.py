"""Batch norms over all processes are those of torch where there is one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn

from sparserefine.sparse.layers import BatchNorm
from sparserefine.training.synchronized_norm import synchronized_norms


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of processes with one in it."""
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (BatchNorm(5), (40, 5)),
        (BatchNorm(5, affine=False), (40, 5)),
        (nn.BatchNorm2d(5, affine=False), (2, 5, 6, 7)),
        (nn.BatchNorm2d(5), (2, 5, 6, 7)),
    ],
    ids=["rows", "plain rows", "plain grids", "grids"],
)
def test_one_process_has_what_torch_has(
    norm: nn.Module, shape: tuple[int, ...], alone: None
) -> None:
    generator = torch.Generator().manual_seed(0)
    given = 3 + 2 * torch.randn(shape, generator=generator)
    weights = torch.randn(shape, generator=generator)
    start = {name: value.clone() for name, value in norm.state_dict().items()}
    module = nn.Sequential(norm).train()
    found = []
    for count in (1, 2):  # of one nothing is replaced
        module.load_state_dict({f"0.{name}": value for name, value in start.items()})
        own = given.clone().requires_grad_()
        with synchronized_norms(module, count):
            assert (type(module[0]) is type(norm)) == (count == 1)
            output = module(own)
        (output * weights).sum().backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        module.zero_grad(set_to_none=True)
        state = [value.clone() for value in module.state_dict().values()]
        found.append([output, own.grad, *gradients, *state])
        assert module[0] is norm
    for expected, ours in zip(*found, strict=True):
        assert expected is not None and ours is not None
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("rows", [0, 1])
def test_without_statistics_the_running_ones_serve(rows: int) -> None:
    """Of norms without weights too."""
    norm = BatchNorm(3, affine=False)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    given = torch.full((rows, 3), 4.0)
    torch.testing.assert_close(norm.train()(given), torch.ones(rows, 3), atol=1e-4, rtol=0)
