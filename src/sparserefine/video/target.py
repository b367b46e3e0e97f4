"""Videos that are written: under their name only when they are whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sparserefine.atomic import WriteError
from sparserefine.extras import require
from sparserefine.video.encoding import Encoding
from sparserefine.video.source import VideoSource


def check_target(path: Path, shown: str) -> Encoding:
    """Find out before work starts whether a video can be written.

    Raises:
        FileExistsError: There is something of that name, or what an earlier run kept of it.
        OSError: There is no folder for it, or nothing may be written there.
        ValueError: No file of that ending shows that, or its encoder is missing.
    """
    av = require("av", "video")
    encoding = Encoding.of(path.suffix.lower(), shown)
    if path.exists():
        raise FileExistsError(f"{path} is there already. Move it away, or choose another name.")
    if part_path(path).exists():
        raise FileExistsError(
            f"{part_path(path)} has the frames of an earlier run, and a run that ends early would "
            f"write over them. Delete it or move it away, or choose another name."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {path}: there is no folder {path.parent}. Make it, or choose another."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: no permission. Choose another folder.")
    try:
        av.Codec(encoding.encoder, "w")
    except ValueError:
        raise ValueError(
            f"this PyAV has no encoder {encoding.encoder}, which {path.suffix} needs. Install its "
            f"wheel (pip install --force-reinstall --only-binary av av), or choose another ending."
        ) from None
    return encoding


def part_path(path: Path) -> Path:
    """Where the frames that were done are kept when work ends early."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


class VideoTarget:
    """A video that is written. A context manager: it gets its name when all went well.

    When it ends early, what was written so far is closed, so that it plays, and kept under
    `part_path`; where it cannot be closed, as on a full disk, it is removed.

    Args:
        path: Its file.
        shown: What is seen.
        source: The video that it is made of, which gives it time stamps and sound.

    Attributes:
        silent: Names of the codecs of audio that a file of this ending cannot hold.
        frames: How many frames were written.

    Raises:
        OSError: It cannot be written.
        ValueError: No file of that ending shows that, or its encoder is missing.
    """

    def __init__(self, path: Path, shown: str, source: VideoSource) -> None:
        self._av = require("av", "video")
        self._path = path
        self._encoding = check_target(path, shown)
        self._temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix.lower()}")
        self.frames = 0
        self.silent: tuple[str, ...] = ()
        try:
            with self._errors():
                self._container = self._av.open(str(self._temporary), "w")
                self._picture = self._add_picture(source)
                self._sounds = dict(self._add_sounds(source))
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise

    def __enter__(self) -> VideoTarget:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._close()
            if kind is None:
                os.replace(self._temporary, self._path)
            elif self.frames:
                os.replace(self._temporary, part_path(self._path))
        except WriteError:
            # What ended it early is what is told of.
            if kind is None:
                raise
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(
        self,
        image: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W 4"],
        time: int,
        duration: int,
    ) -> None:
        """Write a frame.

        Args:
            image: RGB; with its alpha where that is what is shown.
            time: When it is shown, in units of the source's time base.
            duration: How long, in these units; 0 where unknown.

        Raises:
            WriteError: It cannot be written.
        """
        with self._errors():
            made = self._av.VideoFrame.from_ndarray(
                image, "rgba" if image.shape[2] == 4 else "rgb24"
            )
            frame = made if self._encoding.pixels == "bgr0" else self._in_yuv(made)
            frame.pts, frame.duration = time, duration
            frame.time_base = self._time_base
            self._container.mux(self._picture.encode(frame))
        self.frames += 1

    def copy(self, packet: Any) -> None:
        """Write a packet of audio as it is, where this file can hold its like.

        Raises:
            WriteError: It cannot be written.
        """
        stream = self._sounds.get(packet.stream.index)
        if stream is not None:
            packet.stream = stream
            with self._errors():
                self._container.mux(packet)

    def _in_yuv(self, frame: Any) -> Any:
        converted = frame.reformat(
            format=self._picture.codec_context.pix_fmt,
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
        )
        converted.color_primaries = self._picture.codec_context.color_primaries
        converted.color_trc = self._picture.codec_context.color_trc
        return converted

    def _add_picture(self, source: VideoSource) -> Any:
        facts, encoding = source.facts, self._encoding
        stream = self._container.add_stream(
            encoding.encoder, rate=facts.rate, options=dict(encoding.options)
        )
        stream.height, stream.width = facts.size
        stream.pix_fmt = encoding.pixels_of(facts.size)
        self._time_base = facts.time_base
        stream.time_base = facts.time_base
        context = stream.codec_context
        context.time_base = facts.time_base
        context.sample_aspect_ratio = facts.pixel_aspect
        context.color_primaries, context.color_trc = facts.primaries, facts.transfer
        if encoding.pixels != "bgr0":
            context.colorspace, context.color_range = 1, 1  # BT.709, 16 to 235
        return stream

    def _add_sounds(self, source: VideoSource) -> Iterator[tuple[int, Any]]:
        silent = []
        for sound in source.sounds:
            if sound.codec_context is None:
                silent.append("an unknown codec")
                continue
            try:
                yield sound.index, self._container.add_stream_from_template(sound)
            except ValueError:
                silent.append(sound.codec_context.name)
        self.silent = tuple(silent)

    def _close(self) -> None:
        with self._errors():
            try:
                if self.frames:
                    self._container.mux(self._picture.encode(None))
            finally:
                self._container.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise WriteError(self._path, reason) from error
