"""The loop of optimizer steps, on one process or on several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.training.checkpoint import Checkpoint
from sparserefine.training.config import TrainConfig
from sparserefine.training.crops import CropCutter, CutCrop, batch_crops
from sparserefine.training.draws import Draw, draws_of
from sparserefine.training.loss import FIGURES, Objective, as_row, refinement_loss
from sparserefine.training.moving_average import MovingAverage
from sparserefine.training.network import TrainedNetwork
from sparserefine.training.processes import Processes


class Loop:
    """The state of a run, and its steps.

    Args:
        model: The refiner, on the device of this process.
        config: The hyperparameters.
        steps: Number of steps of the whole run.
        objective: What is minimized.
        processes: The processes of the run.

    Attributes:
        step: Number of steps done.
        best: Step and score of the best weights so far; None without a score.
        since: Number of scores since then.
    """

    def __init__(
        self,
        model: SparseRefiner,
        config: TrainConfig,
        steps: int,
        objective: Objective,
        processes: Processes,
    ) -> None:
        self.model, self.config, self.steps = model, config, steps
        self.objective, self.processes = objective, processes
        self.network = TrainedNetwork(model, config.precision)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, config), lr=config.learning_rate
        )
        self.scaler = torch.amp.GradScaler(
            processes.device.type, enabled=config.precision == "fp16"
        )
        self.average = MovingAverage(self.network, config.ema)
        self.step, self.since = 0, 0
        self.best: tuple[int, float] | None = None
        self._parallel: nn.Module = self.network

    def checkpoint(self) -> Checkpoint:
        """The state now."""
        values = {"best": self.best, "since": self.since, "scaler": self.scaler.state_dict()}
        return Checkpoint.of(self.step, self.network, self.optimizer, self.average.tensors, values)

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state."""
        state.restore(self.network, self.optimizer)
        self.average.load(state.average)
        self.step = state.step
        self.since, best = state.values["since"], state.values["best"]
        self.best = None if best is None else (best[0], best[1])
        if state.values["scaler"]:
            self.scaler.load_state_dict(state.values["scaler"])

    def connect(self) -> None:
        """Let the processes average their gradients, from the weights that the first one has."""
        if self.processes.count > 1:
            device = self.processes.device
            self._parallel = DistributedDataParallel(
                self.network,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # batch norms agree by themselves, or are not to
            )

    def share_buffers(self) -> None:
        """Give all processes what the batch norms of the first have seen, which is what is kept."""
        if not self.config.sync_norm:
            self.processes.copy_from_first(self.network.buffers())

    def batches(self, cutter: CropCutter, areas: Sequence[int]) -> Iterator[list[list[CutCrop]]]:
        """The crops of this process for each step that is left, in their parts.

        Args:
            cutter: Cuts them, in worker processes.
            areas: Number of pixels of each image.
        """
        parts = self.config.accumulate
        loader = DataLoader(
            cutter,
            batch_sampler=_OwnDraws(self, areas),  # type: ignore[arg-type]
            num_workers=self.config.workers,
            collate_fn=list,
            generator=torch.Generator(),  # not the user's random state
        )
        held: list[list[CutCrop]] = []
        for part in loader:
            held.append(part)
            if len(held) == parts:
                yield held
                held = []

    def advance(self, parts: Sequence[Sequence[CutCrop]]) -> dict[str, float]:
        """Take a step, and say what is known of it.

        Args:
            parts: The crops of this process.

        Raises:
            ValueError: The loss is not finite.
        """
        config, processes = self.config, self.processes
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(self.step, self.steps, config)
        batches = [batch_crops(self.model, part, config) for part in parts]
        weights = [self.objective.weights(one.dense, one.targets) for one in batches]
        total = processes.sum(torch.stack([one.sum() for one in weights]).sum())
        share = 1 / (processes.count * len(batches))
        self.optimizer.zero_grad(set_to_none=True)
        figures: Tensor = torch.zeros(len(FIGURES), device=processes.device)
        for number, (crops, own) in enumerate(zip(batches, weights, strict=True)):
            with self._summing(last=number == len(batches) - 1):
                pixels = self._parallel(crops.images, crops.pixels, crops.dense)
                loss, found = refinement_loss(
                    pixels, crops.targets, crops.teacher, self.objective,
                    weights=own, total=total, share=share,
                )  # fmt: skip
                # Gradients are averaged over processes, and the loss is a sum over them.
                self.scaler.scale(loss * processes.count).backward()
            figures += found
        row = as_row(processes.sum(figures))
        if not math.isfinite(row["loss"]):
            raise ValueError(
                f"the loss of step {self.step + 1} is {row['loss']}, expected a finite number. Use "
                f"a lower learning rate than {config.learning_rate:g}, in a new output folder."
            )
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm))
            # In half precision it overflows now and then; the scaler leaves such a step out.
            if math.isfinite(norm):
                row["gradient_norm"] = norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.average.update(self.step)
        return row

    def _summing(self, *, last: bool) -> Any:
        """Gradients of all parts but the last stay in this process."""
        if isinstance(self._parallel, DistributedDataParallel) and not last:
            return self._parallel.no_sync()
        return nullcontext()


class _OwnDraws:
    """The draws of one process for the steps that are left, a list for each part."""

    def __init__(self, loop: Loop, areas: Sequence[int]) -> None:
        self.loop, self.areas, self.start = loop, areas, loop.step

    def __iter__(self) -> Iterator[list[Draw]]:
        config, processes = self.loop.config, self.loop.processes
        parts = processes.count * config.accumulate
        each = config.batch_size // parts
        for step in range(self.start, self.loop.steps):
            draws = draws_of(step, self.areas, config)
            for part in range(config.accumulate):
                first = (processes.rank * config.accumulate + part) * each
                yield draws[first : first + each]


def check_batch(config: TrainConfig, processes: Processes) -> None:
    """Refuse a batch that cannot be split into equal parts.

    Raises:
        ValueError: It cannot.
    """
    parts = processes.count * config.accumulate
    if config.batch_size % parts:
        raise ValueError(
            f"batch_size is {config.batch_size}, expected a multiple of {parts}: {processes.count} "
            f"processes times accumulate={config.accumulate}."
        )


def _schedule(step: int, steps: int, config: TrainConfig) -> float:
    warmup = min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
    return warmup * 0.5 * (1 + math.cos(math.pi * step / steps))


def _parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Decay matrices only: decaying norms and biases shrinks what has no scale to lose."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
