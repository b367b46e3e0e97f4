"""Segmentation of a video."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sparserefine import viz
from sparserefine.arguments import real_number, whole_number
from sparserefine.extras import check_installed
from sparserefine.paths import user_path
from sparserefine.progress import Progress, as_report
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.predictions import check_has_alpha
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer
from sparserefine.video.changes import CHANGE
from sparserefine.video.held import FramePrediction, HeldPrediction
from sparserefine.video.source import Frame, VideoSource
from sparserefine.video.target import VideoTarget, check_target
from sparserefine.video.threads import WriteBehind, read_ahead

# So many frames are decoded ahead of the model, and as many wait to be encoded.
WAITING_FRAMES = 2


@dataclass(kw_only=True)
class PredictedVideo:
    """Result of `predict_video`.

    Attributes:
        path: The video that was written.
        frames: How many frames it has.
        predicted: For how many of them the dense model was run.
        broken: How many frames of the source could not be decoded, which are left out, or only in
            part, which have the labels of the frame before.
        ended_early: Whether the source ended before it should have.
        renewed: Share of the pixels that were predicted anew, mean of all frames.
        density: Share of the pixels that were refined, mean of all frames.
        stages_ms: Milliseconds of each stage, mean of all frames.
    """

    path: Path
    frames: int = 0
    predicted: int = 0
    broken: int = 0
    ended_early: bool = False
    renewed: float = 0.0
    density: float = 0.0
    stages_ms: dict[str, float] = field(default_factory=dict)

    def count(self, prediction: FramePrediction) -> None:
        """Add a frame to the sums."""
        self.frames += 1
        self.predicted += prediction.renewed > 0
        self.renewed += prediction.renewed
        self.density += prediction.density


def predict_video(
    model: SparseRefiner,
    source: str | Path,
    out: str | Path,
    *,
    write: str = "overlay",
    every: int = 1,
    change: float = CHANGE,
    optimize: bool = True,
    progress: Progress | None = None,
) -> PredictedVideo:
    """Segment a video and write a video of the same frames, time stamps and sound.

    Frames are decoded and encoded in threads beside the model, a few at a time, so memory does not
    depend on the length. They are turned upright, sound is copied as it is. The file gets its name
    when it is whole; of work that ends early what was done is kept as NAME.part.SUFFIX.

    Args:
        model: The refiner.
        source: The video.
        out: File to write: .mp4, .mov, .mkv or .webm.
        write: "overlay" of the labels' colors over the frames; "labels", the colors alone, in .mkv
            exactly, elsewhere as lossy as the frames; or "alpha", the frames with the share of the
            foreground as alpha, of models of two classes, in .mov (ProRes 4444) or .webm (VP9).
        every: Predict every n-th frame; those between have the labels of the one before.
        change: How much the mean of 8×8 pixels must differ from the picture that its labels are
            of, in levels of 255, to be predicted anew. 0 predicts every frame as a photo.
        optimize: Run the dense model as `dense.optimize` does.
        progress: Told of each frame.

    Raises:
        ImportError: PyAV is not installed.
        ImageError: The source is no video, or cannot be decoded at all.
        ValueError: An argument makes no sense, or the encoder is missing.
        FileExistsError: There is something at `out`, or at NAME.part.SUFFIX.
        OSError: The source cannot be read, or the video cannot be written.
    """
    check_installed("video", "av", extra="video")
    check_refiner(model)
    every = whole_number("every", every, 1)
    change = real_number("change", change, "4")
    if change < 0:
        raise ValueError(f"change is {change}, expected 0 or more, in levels of 255.")
    path = user_path(out)
    check_target(path, write)
    if write == "alpha":
        check_has_alpha(model)
    model = with_fast_dense(model) if optimize else model
    report = as_report(progress)
    result = PredictedVideo(path=path)
    read, work, wrote = StageTimer(), StageTimer(model.device), StageTimer()
    held = HeldPrediction(model, alpha=write == "alpha", change=change, timer=work)
    draw = _Drawing(model, write)
    with VideoSource(source) as video, VideoTarget(path, write, video) as target:
        if target.silent:
            warnings.warn(
                f"{path} has no sound of {source}: {path.suffix} cannot hold "
                f"{', '.join(target.silent)}. Another ending such as .mkv can.",
                stacklevel=2,
            )

        def finish(frame: Frame, prediction: FramePrediction) -> None:
            with wrote.stage("write"):
                target.write(draw(frame.image, prediction), frame.time, frame.duration)

        expected = video.facts.frames
        report("predict", 0, expected)
        ahead = read_ahead(_timed(video.read(), read), WAITING_FRAMES)
        # Neither file is closed while a thread is at work on it.
        with closing(ahead), WriteBehind(WAITING_FRAMES) as writer:
            for item in ahead:
                if not isinstance(item, Frame):
                    writer.call(target.copy, item)
                    continue
                prediction = held.last
                if prediction is None or (result.frames % every == 0 and not item.damaged):
                    prediction = held.predict(item.image)
                writer.call(finish, item, prediction)
                result.count(prediction)
                report("predict", result.frames, max(expected, result.frames))
        if not result.frames:
            raise OSError(f"no frame of {source} could be decoded. Is it damaged, or cut off?")
        report("predict", result.frames, result.frames)
    result.broken, result.ended_early = video.broken, video.ended_early
    result.renewed /= result.frames
    result.density /= result.frames
    stages = {**read.stages_ms, **work.stages_ms, **wrote.stages_ms}
    result.stages_ms = {name: ms / result.frames for name, ms in stages.items()}
    return result


class _Drawing:
    """What is written of a frame and its labels."""

    def __init__(self, model: SparseRefiner, shown: str) -> None:
        palette = model.preset.palette
        self._shown = shown
        self._colors = (
            np.array(palette, np.uint8) if palette else viz.default_palette(model.num_classes)
        )

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], prediction: FramePrediction
    ) -> UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W 4"]:
        if self._shown == "overlay":
            return viz.overlay(image, prediction.labels, self._colors)
        if self._shown == "labels":
            return viz.colorize(prediction.labels, self._colors)
        assert prediction.alpha is not None
        return np.dstack([image, (prediction.alpha * 255).round().astype(np.uint8)])


def _timed(items: Iterator[Any], timer: StageTimer) -> Iterator[Any]:
    while True:
        with timer.stage("read"):
            item = next(items, None)
        if item is None:
            return
        yield item
