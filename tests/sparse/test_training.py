"""A small sparse network learns, with nothing of the package but `sparserefine.sparse`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparserefine.sparse import (
    ActivePixels,
    NormReLU,
    Pointwise,
    SparseConv2d,
    SparseInverseConv2d,
    SparseTensor,
    SubMConv2d,
    use_backend,
)


class Network(nn.Module):
    """Down, up, and a class for each active pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SubMConv2d(1, 8)
        self.down = SparseConv2d(8, 16)
        self.up = SparseInverseConv2d(16, 8)
        self.norm = NormReLU(8)
        self.head = Pointwise(8, 2)

    def forward(self, x: SparseTensor) -> torch.Tensor:
        fine = self.stem(x)
        y = self.up(self.down(fine), fine.pixels)
        return self.head(y.replace(y.feats + fine.feats), norm=self.norm).feats


def crossings_and_lines(generator: torch.Generator) -> tuple[SparseTensor, torch.Tensor]:
    """Thin lines; class 1 are the pixels next to a crossing."""
    mask = torch.zeros(1, 48, 48, dtype=torch.bool)
    mask[0, torch.randint(2, 46, (4,), generator=generator)] = True
    mask[0, :, torch.randint(2, 46, (4,), generator=generator)] = True
    neighbors = F.avg_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0] * 9
    pixels = ActivePixels.from_mask(mask)
    batch, y, x = pixels.coords.long().unbind(1)
    labels = (neighbors[batch, y, x] > 3.5).long()
    return SparseTensor(torch.ones(len(pixels), 1), pixels), labels


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_network_learns_where_lines_cross(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with use_backend(backend):  # type: ignore[arg-type]
        for _ in range(60):
            x, labels = crossings_and_lines(generator)
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            x, labels = crossings_and_lines(generator)
            right = (model(x).argmax(1) == labels).float().mean()
    assert 0.05 < labels.float().mean() < 0.6, "both classes occur"
    assert right > 0.97


def test_the_rest_of_the_package_is_not_needed() -> None:
    code = (
        "import sys, sparserefine.sparse; "
        "print([m for m in sys.modules if m.startswith('sparserefine.') "
        "and not m.startswith('sparserefine.sparse')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
