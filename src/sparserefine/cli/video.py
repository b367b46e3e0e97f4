"""`sparserefine predict` of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sparserefine.cli.console import console, messages, progress_bars, stage_table
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license
from sparserefine.cli.stopping import stoppable
from sparserefine.video.suffixes import WRITTEN, is_video


def names_video(photos: Sequence[str], out: Path) -> bool:
    """Whether a video is to be segmented, by the endings of what is read and of what is written.

    Raises:
        ValueError: Only one of both ends like a video, or there are several.
    """
    videos = [photo for photo in photos if is_video(photo)]
    if not videos and not is_video(out):
        return False
    if len(photos) != 1:
        raise ValueError(
            f"{len(photos)} sources and {(videos or [out])[0]}, expected one video and the video "
            f"to write. Give one at a time."
        )
    if not videos:
        raise ValueError(f"--out {out} is a video, but {photos[0]} is none. Name a folder.")
    if not is_video(out):
        raise ValueError(
            f"{videos[0]} is a video, but --out {out} is none. Name the video to write, such as "
            f"--out {Path(videos[0]).stem}_labels{_suffix(videos[0])}."
        )
    return True


def refuse_options(options: Mapping[str, bool], kind: str) -> None:
    """Refuse options that say nothing of what is segmented.

    Args:
        options: Whether each was given.
        kind: What they are options of.

    Raises:
        ValueError: One was given.
    """
    given = [name for name, is_given in options.items() if is_given]
    if given:
        verb = "is an option" if len(given) == 1 else "are options"
        raise ValueError(f"{', '.join(given)} {verb} of {kind}. Leave it out.")


def predict_clip(
    source: str,
    out: Path,
    write: str,
    every: int,
    change: float | None,
    options: RefinerOptions,
    optimize: bool,
) -> None:
    """Segment one video, and say what was done.

    Args:
        source: The video.
        out: File to write.
        write: What is seen; empty for the overlay.
        every: Predict every n-th frame.
        change: Least change of a cell; None for the default.
        options: The model and its settings.
        optimize: As `predict` takes it.
    """
    from sparserefine.extras import check_installed
    from sparserefine.paths import user_path
    from sparserefine.video.changes import CHANGE
    from sparserefine.video.predict_video import predict_video
    from sparserefine.video.source import VideoSource
    from sparserefine.video.target import check_target, part_path

    check_installed("video", "av", extra="video")
    shown = write or "overlay"
    check_target(user_path(out), shown)  # before the model is loaded
    VideoSource(source).close()
    model = load_refiner(options)
    with (
        stoppable(f"Frames that were done are kept, and play: {part_path(out)}."),
        progress_bars() as progress,
    ):
        result = predict_video(
            model,
            source,
            out,
            write=shown,
            every=every,
            change=CHANGE if change is None else change,
            optimize=optimize,
            progress=progress,
        )
    console.print(stage_table(result.stages_ms, f"mean of {result.frames} frames"))
    console.print(
        f"density {result.density:.1%}; {result.predicted} of {result.frames} frames predicted, "
        f"{result.renewed:.1%} of the pixels"
    )
    show_license(model)
    if result.broken:
        note = f"note: {result.broken} broken frames of {source} have no labels of their own"
        messages.print(note, markup=False)
    console.print(str(result.path), markup=False)
    if result.ended_early:
        raise SystemExit(f"{source} ends early: it is cut off, or damaged. All before is done.")


def _suffix(source: str) -> str:
    suffix = Path(source).suffix.lower()
    return suffix if suffix in WRITTEN else ".mp4"
