"""The processes of a run: one alone, or several that torchrun started, each with its device.

torch's own functions and not accelerate: its state is one per process and refuses a second run of
another precision in it, and it averages losses where ours are weighed by pixels of all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

# The first process reads all images while the others wait.
_PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: Number of this process.
        count: Number of all processes.
        device: Device of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes of a tensor on the device."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def from_first(self, value: Any) -> Any:
        """What the first process has; values of the others do not count."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device if self._is_nccl() else None)
        return box[0]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors on the device, in place, the values that they have in the first process."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def _is_nccl(self) -> bool:
        return dist.get_backend() == "nccl"


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; a process that is alone needs none.

    Args:
        device: Device of the model. Of several GPUs each process of a machine takes its own.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_available() and dist.is_initialized():  # by the caller, who ends it too
        yield Processes(dist.get_rank(), dist.get_world_size(), own_device(device))
    elif count == 1:
        yield Processes(0, 1, device)
    else:
        own = own_device(device)
        if own.type == "cuda":
            torch.cuda.set_device(own)
        dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
        try:
            yield Processes(dist.get_rank(), dist.get_world_size(), own)
        finally:
            dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The device of this process among those that torchrun started on this machine."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def is_first_process() -> bool:
    """Whether this process is the one that speaks, also before they are joined."""
    return int(os.environ.get("RANK", "0")) == 0
