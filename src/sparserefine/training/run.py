"""One training run: its images, its files, and its course."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sparserefine.atomic import ABANDONED, make_folder, remove_partials
from sparserefine.data.source import SampleSource
from sparserefine.dense.weights import read_weights, save_weights
from sparserefine.evaluation.evaluate import evaluate
from sparserefine.evaluation.example import draw_example
from sparserefine.evaluation.result import Evaluation
from sparserefine.images import write_image
from sparserefine.plots import training_curves
from sparserefine.progress import Progress, as_report, count_steps
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import StageTimer
from sparserefine.training.checkpoint import Checkpoint
from sparserefine.training.config import COUNTED_WEIGHTS, FREE, TrainConfig
from sparserefine.training.crops import CropCutter
from sparserefine.training.logits_cache import LogitsCache, shown_size
from sparserefine.training.loop import Loop
from sparserefine.training.loss import Objective
from sparserefine.training.part import Part
from sparserefine.training.processes import Processes
from sparserefine.training.result import TrainResult
from sparserefine.training.step_log import Row, StepLog
from sparserefine.training.survey import (
    ImageFacts,
    Survey,
    balanced_weights,
    fingerprint,
    log_weights,
)
from sparserefine.training.synchronized_norm import synchronized_norms
from sparserefine.training.trackers import Trackers
from sparserefine.training.validation import set_aside, validate

CHECKPOINT, BEST, LOG = "checkpoint.safetensors", "best.safetensors", "log.jsonl"
EVALUATION = "evaluation"
# So many images are looked at for something to refine.
_LOOKED_AT = 32
Tell = Callable[[str], object]


class Run:
    """One run.

    Args:
        model: The refiner, on the device of this process.
        dataset: Images to train on, and to set some aside of.
        held: Images that choose the best weights; None sets some aside.
        config: The hyperparameters.
        processes: The processes of the run.
        folder: Folder of all files.
        progress: Told of each image and step, by the first process.
        tell: Told in a sentence what is worth knowing.
    """

    def __init__(
        self,
        model: SparseRefiner,
        dataset: SampleSource,
        held: SampleSource | None,
        config: TrainConfig,
        processes: Processes,
        folder: Path,
        progress: Progress | None,
        tell: Tell,
    ) -> None:
        self.model, self.config, self.processes = model, config, processes
        self.folder, self.tell = folder, tell
        self.progress = progress if processes.is_first else None
        everything = self._survey(dataset, "survey.json", "read")
        self.skipped = {fact.name: fact.error for fact in everything if fact.error}
        readable = Part.readable(dataset, everything)
        if held is None:
            self.part, self.held = set_aside(readable, config.set_aside, config.seed)
        else:
            facts = self._survey(held, "survey_held_out.json", "read held out")
            self.part, self.held = readable, Part.readable(held, facts)
            _check_apart(self.part, self.held)
        self.steps = config.steps_for(len(self.part))

    def finish(self, cache_folder: Path) -> TrainResult:
        """Train up to the end, from wherever the files of the run say that it was.

        Args:
            cache_folder: Folder of the cache of predictions.
        """
        config, processes, model = self.config, self.processes, self.model
        loop = Loop(model, config, self.steps, self._objective(), processes)
        run = self._described()
        self._restore(loop, run)
        timer = StageTimer(model.device)
        cache = None
        if config.dense_logits == "cached":
            cache = LogitsCache(cache_folder, model, self.part.facts, config)
        if loop.step < self.steps:
            with timer.stage("dense"):
                if cache is not None:
                    self._fill(cache)
                self._check_selection()
        if loop.step == 0 and processes.is_first:
            # The same call after a kill must start from these weights, not from new random ones.
            loop.checkpoint().save(self.folder / CHECKPOINT, run)
        with timer.stage("train"):
            losses = self._train(loop, run, cache)
        best = self._keep(loop)
        processes.wait()
        if not processes.is_first:
            return TrainResult(None, losses, (), self.skipped, (), dict(timer.stages_ms), best)
        rows = StepLog.read(self.folder / LOG)
        with timer.stage("write"):
            evaluation, pictures = self._write(rows)
        return TrainResult(
            self.folder, losses, tuple(rows), self.skipped, pictures, dict(timer.stages_ms), best,
            evaluation,
        )  # fmt: skip

    def _survey(self, dataset: SampleSource, name: str, stage: str) -> Sequence[ImageFacts]:
        """What is in the images; the first process reads, the others are told."""
        facts, reason = None, None
        if self.processes.is_first:
            labeled = self.config.targets == "labels"
            survey = Survey(dataset, self.model.num_classes, needs_labels=labeled)
            try:
                facts = survey.take(
                    self.folder / name,
                    self.config.workers,
                    count_steps(self.progress, stage, len(dataset)),
                )
            except (ValueError, OSError) as error:
                if self.processes.count == 1:
                    raise
                reason = error
        facts, reason = self.processes.from_first((facts, reason))
        if reason is not None:
            raise reason
        return facts

    def _objective(self) -> Objective:
        config, weights = self.config, None
        if config.class_weights in COUNTED_WEIGHTS and config.targets == "dense":
            raise ValueError(
                f'class_weights is "{config.class_weights}", which needs labels, but targets is '
                '"dense". Give a number for each class, or none.'
            )
        if config.class_weights == "balanced":
            weights = balanced_weights(self.part.facts, config.balance)
        elif config.class_weights == "log":
            weights = log_weights(self.part.facts)
        elif (given := config.weights_of_classes()) is not None:
            if len(given) != self.model.num_classes:
                raise ValueError(
                    f"class_weights has {len(given)} numbers, expected {self.model.num_classes}, "
                    f"one for each class of the model."
                )
            weights = torch.tensor(given)
        return Objective.of(config, None if weights is None else weights.to(self.model.device))

    def _described(self) -> dict[str, Any]:
        """Everything that the end of the run depends on, as plain values."""
        settings = {name: value for name, value in asdict(self.config).items() if name not in FREE}
        described = {**settings, **_untrained(self.model), "data": fingerprint(self.part.facts)}
        return {**described, "held_out": fingerprint(self.held.facts)}

    def _restore(self, loop: Loop, run: dict[str, Any]) -> None:
        path, state, reason = self.folder / CHECKPOINT, None, None
        if self.processes.is_first and path.is_file():
            try:
                state = Checkpoint.load(path, run)
            except ValueError as error:
                reason = error
        state, reason = self.processes.from_first((state, reason))
        if reason is not None:
            raise reason
        if state is not None:
            loop.restore(state)
            if 0 < loop.step < self.steps:
                self.tell(f"going on after step {loop.step} of {self.steps}")
        loop.connect()

    def _fill(self, cache: LogitsCache) -> None:
        """Make the files of the cache, each process its share of them."""
        needed = 0
        if self.processes.is_first:
            # Other runs may be writing into a cache that is not this run's own.
            own = self.folder in cache.folder.parents
            remove_partials(make_folder(cache.folder), older_than=0.0 if own else ABANDONED)
            needed = cache.bytes_needed()
        if needed:
            self.tell(f"the cache of predictions takes {shown_size(needed)} in {cache.folder}")
            cache.check_space(needed)
        self.processes.wait()
        own = range(self.processes.rank, len(self.part), self.processes.count)
        total = len(own) * self.config.views
        make_folder(cache.folder)
        cache.fill(self.part, own, count_steps(self.progress, "dense model", total))
        self.processes.wait()

    def _check_selection(self) -> None:
        """Check that something is selected in at least one image."""
        highest = 0.0
        count = min(len(self.part), _LOOKED_AT)
        for index in range(count):
            image = self.part[index].image
            low = self.model.dense_pass(image[None].to(self.model.device))
            if bool(self.model.selector(low, (image.shape[1], image.shape[2])).any()):
                return
            highest = max(highest, float(low.entropy.max()))
        which = "any image" if count == len(self.part) else f"any of {count} images"
        raise ValueError(
            f"nothing is selected in {which} by {self.model.selector}: the highest entropy is "
            f"{highest:.4f} nats. Use a lower threshold or a larger budget."
        )

    def _train(
        self, loop: Loop, run: dict[str, Any], cache: LogitsCache | None
    ) -> tuple[float, ...]:
        config, model, processes = self.config, self.model, self.processes
        report = as_report(self.progress)
        cutter = CropCutter(
            self.part, self.part.facts, model.num_classes, config, model.upsampling,
            by_entropy=type(model.selector) is EntropySelector, cache=cache,
        )  # fmt: skip
        areas = [math.prod(fact.size) for fact in self.part.facts]
        every = config.validate_every or max(self.steps // 10, 1)
        losses: list[float] = []
        model.train()
        with ExitStack() as stack:
            norms = processes.count if config.sync_norm else 1
            stack.enter_context(synchronized_norms(loop.network, norms))
            model.train()
            log = trackers = None
            if processes.is_first:
                log = stack.enter_context(StepLog(self.folder / LOG, loop.step))
                trackers = stack.enter_context(Trackers(config, self.folder))
            if self._is_over(loop):
                return ()
            for parts in loop.batches(cutter, areas):
                row = loop.advance(parts)
                losses.append(row["loss"])
                last = loop.step == self.steps
                scored = bool(len(self.held)) and (last or loop.step % every == 0)
                if scored:
                    row |= self._score(loop)
                if log is not None and trackers is not None:
                    log.append({"step": loop.step, **row})
                    trackers.log(row, loop.step)
                report("train", loop.step, self.steps)
                over = self._is_over(loop)
                if processes.is_first and (
                    scored or over or last or loop.step % config.checkpoint_every == 0
                ):
                    loop.checkpoint().save(self.folder / CHECKPOINT, run)
                if over:
                    break
        return tuple(losses)

    def _is_over(self, loop: Loop) -> bool:
        """Whether scores have stopped rising."""
        return bool(self.config.patience) and loop.since >= self.config.patience

    def _score(self, loop: Loop) -> dict[str, float]:
        """Score the images set aside, and keep the weights if they are the best so far."""
        own = range(self.processes.rank, len(self.held), self.processes.count)
        advance = count_steps(self.progress, "validate", len(own))
        loop.share_buffers()
        with loop.average.in_place():
            row = validate(self.model, self.held, self.processes, advance)
            loop.since += 1
            if loop.best is None or row["validation"] > loop.best[1]:
                loop.best, loop.since = (loop.step, row["validation"]), 0
                if self.processes.is_first:
                    save_weights(loop.network.state_dict(), self.folder / BEST)
        return row

    def _keep(self, loop: Loop) -> int | None:
        """Give the model the weights to keep: the best, else the average, else the last."""
        self.model.eval()
        if loop.best is not None:
            state = None
            if self.processes.is_first:
                state = read_weights(self.folder / BEST)
            loop.network.load_state_dict(self.processes.from_first(state))
            return loop.best[0]
        if loop.average.tensors:
            loop.network.load_state_dict(loop.average.tensors)
        return None

    def _write(self, rows: Sequence[Row]) -> tuple[Evaluation | None, tuple[Path, ...]]:
        model, folder = self.model, self.folder
        evaluation = None
        if len(self.held):
            evaluation = evaluate(model, self.held, self.progress, out=folder / EVALUATION)
        model.trained_on |= {fact.content for fact in self.part.facts}
        model.save_pretrained(folder / "model")
        pictures = (folder / "training.png", folder / "before_after.png")
        write_image(training_curves(rows), pictures[0], stamp=True)
        shown = self.held if len(self.held) else self.part
        full_resolution = self.config.targets == "dense"
        write_image(draw_example(model, shown[0], full_resolution), pictures[1], stamp=True)
        return evaluation, pictures


def _untrained(model: SparseRefiner) -> dict[str, Any]:
    """The description of a refiner, without the weights that training changes."""
    described = model.describe()
    for part in ("extractor", "ensembler"):
        described[part] = {
            name: value for name, value in described[part].items() if name != "identity"
        }
    return described


def _check_apart(part: Part, held: Part) -> None:
    known = {fact.content: fact.name for fact in part.facts}
    shared = [fact.name for fact in held.facts if fact.content in known]
    if shared:
        raise ValueError(
            f"{len(shared)} of {len(held)} images that are to choose the weights are trained on: "
            f"{', '.join(shared[:3])}. Give others, or leave these out."
        )
