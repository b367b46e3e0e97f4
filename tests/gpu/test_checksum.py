"""A checksum of weights on their device: what is written to them changes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparserefine.sparse.gpu.checksum import Checksum

pytestmark = pytest.mark.interpreter


def read(checksum: Checksum) -> Tensor:
    checksum.start()
    return checksum.read()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_any_write_changes_it_and_only_a_write(dtype: torch.dtype) -> None:
    tensors = [torch.randn(size).to(dtype) for size in (1, 7, 40_001)]
    tensors += [torch.tensor(3), torch.zeros(0)]
    checksum = Checksum(tensors)
    before = read(checksum)
    assert len(before) == 5 + (dtype == torch.float32)  # 2^15 words of 16 bits at most in each
    assert torch.equal(before, read(checksum))
    for tensor in tensors[:3]:
        for place in (0, len(tensor) - 1):
            old = tensor[place].clone()
            tensor.data[place] = -old  # one bit
            assert not torch.equal(before, read(checksum))
            tensor.data[place] = old
            assert torch.equal(before, read(checksum))
    tensors[2].data[:2] = tensors[2][:2].flip(0)  # the same numbers in another order
    assert not torch.equal(before, read(checksum))


def test_slices_are_read_to_their_end() -> None:
    wide = torch.randn(3, 40)
    checksum = Checksum([wide[:, 30:]])
    before = read(checksum)
    wide[2, 39] += 1
    assert not torch.equal(before, read(checksum))


def test_tensors_of_several_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tensors are on \['cpu', 'meta'\], expected one device"):
        Checksum([torch.zeros(2), torch.zeros(2, device="meta")])
    assert len(read(Checksum([torch.zeros(0)]))) == 0
