"""Videos that are read, from the first frame to the last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sparserefine.extras import require
from sparserefine.images.error import ImageError
from sparserefine.paths import user_path
from sparserefine.video.orientation import Orientation

# Frames of so many rows are in the colors of high definition where they do not say it.
HIGH_DEFINITION = 720
_UNSPECIFIED = 2
# Files that end by so much before the time that their header tells are cut off.
TOLERANCE_S = 1.0


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        image: Upright RGB.
        time: When it is shown, in units of the video's `time_base`.
        duration: How long it is shown, in these units; 0 where the file does not say it.
        damaged: The decoder says that parts of it are made up.
    """

    image: UInt8[np.ndarray, "H W 3"]
    time: int
    duration: int = 0
    damaged: bool = False


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before it is read.

    Attributes:
        size: (height, width) of its upright frames.
        time_base: Seconds of one unit of its time stamps.
        rate: Frames per second, on average.
        frames: How many frames it has, as far as its header or its duration tell; else 0.
        pixel_aspect: Width of a pixel by its height.
        primaries: Number of its color primaries in H.273; 2 where nobody says it.
        transfer: Number of its transfer characteristics there.
    """

    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    frames: int
    pixel_aspect: Fraction
    primaries: int
    transfer: int


class VideoSource:
    """A video that is read once. A context manager, which closes the file.

    Args:
        path: Its file.

    Attributes:
        facts: What is known of it.
        sounds: Its audio streams, as PyAV has them.
        broken: How many frames could not be decoded, or only in part, so far.
        ended_early: Whether the file ended before it should have, once all is read.

    Raises:
        ImageError: The file is no video, holds none, or no frame of it can be decoded.
        OSError: It cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._av = require("av", "video")
        self._path = user_path(path)
        if not self._path.is_file():
            raise FileNotFoundError(f"there is no video {path}. Check the path.")
        self.facts = self._look()
        self._container = self._open()
        self.sounds: tuple[Any, ...] = tuple(self._container.streams.audio)
        self.broken = 0
        self.ended_early = False

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self) -> Iterator[Frame | Any]:
        """The frames, and between them the packets of audio, as the file has them.

        A frame that cannot be decoded is left out and counted.
        """
        picture = self._picture(self._container)
        last, count, end = -1, 0, 0.0
        for packet in self._packets(picture):
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not picture:
                yield packet
                continue
            for frame in self._decoded(packet):
                count += 1
                if frame.damaged:
                    self.broken += 1
                if count == 1:
                    last = frame.time - 1
                # No two frames may be shown at one time; a time stamp that is wrong is moved.
                last = max(frame.time, last + 1)
                yield replace(frame, time=last)
        # Headers that count frames also count some that are not shown.
        if picture.duration:
            expected = ((picture.start_time or 0) + picture.duration) * float(picture.time_base)
        else:
            expected = (self._container.duration or 0) / self._av.time_base
        if end < expected - TOLERANCE_S:
            self.ended_early = True

    def _packets(self, picture: Any) -> Iterator[Any]:
        packets = self._container.demux(picture, *self.sounds)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (self._av.FFmpegError, OSError):
                self.ended_early = True
                yield self._flush(picture)
                return
            # The last of audio is empty.
            if packet.stream is picture or packet.size:
                yield packet

    def _flush(self, picture: Any) -> Any:
        """An empty packet, for which a decoder gives what it still holds."""
        packet = self._av.Packet()
        packet.stream = picture
        return packet

    def _decoded(self, packet: Any) -> Iterator[Frame]:
        try:
            frames = packet.decode()
        except self._av.FFmpegError:
            self.broken += 1
            return
        for frame in frames:
            yield self._frame(frame)

    def _frame(self, frame: Any) -> Frame:
        height, width = self.facts.size
        oriented = _orientation(frame)
        stored = (width, height) if oriented.transposed else (height, width)
        guess = "ITU709" if frame.height >= HIGH_DEFINITION else "ITU601"
        converted = frame.reformat(
            # A stream may change its size on the way; the video that is written does not.
            width=stored[1],
            height=stored[0],
            format="rgb24",
            src_colorspace=guess if frame.colorspace == _UNSPECIFIED else None,
        )
        time = frame.pts if frame.pts is not None else frame.dts
        if time is None:
            time = -1  # moved behind the frame before
        elif frame.time_base is not None and frame.time_base != self.facts.time_base:
            time = round(time * frame.time_base / self.facts.time_base)
        image = oriented.turned(converted.to_ndarray())
        return Frame(image, time, max(frame.duration or 0, 0), bool(frame.is_corrupt))

    def _open(self) -> Any:
        try:
            return self._av.open(str(self._path), metadata_errors="replace")
        except (self._av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(
                f"{self._path} cannot be read as a video ({reason}). It is damaged, cut off or of "
                f"another kind: play it, or copy it once more."
            ) from error

    def _picture(self, container: Any) -> Any:
        """The stream of moving pictures; the cover of a song is none."""
        still = self._av.stream.Disposition.attached_pic
        streams = [one for one in container.streams.video if not one.disposition & still]
        if not streams:
            raise ImageError(f"{self._path} has no moving pictures. Name a video.")
        return streams[0]

    def _look(self) -> VideoFacts:
        """Open the file, and decode as much as shows the size."""
        container = self._open()
        with container:
            picture = self._picture(container)
            for packet in container.demux(picture):
                with suppress(self._av.FFmpegError):
                    for frame in packet.decode():
                        return self._facts(container, picture, frame)
        raise ImageError(f"no frame of {self._path} can be decoded. Is it damaged, or cut off?")

    def _facts(self, container: Any, picture: Any, frame: Any) -> VideoFacts:
        transposed = _orientation(frame).transposed
        aspect = Fraction(picture.sample_aspect_ratio or 1) or Fraction(1)
        rate = picture.average_rate or picture.guessed_rate or Fraction(25)
        frames = picture.frames
        if not frames and container.duration:
            frames = round(container.duration / self._av.time_base * rate)
        return VideoFacts(
            size=(frame.width, frame.height) if transposed else (frame.height, frame.width),
            time_base=picture.time_base,
            rate=rate,
            frames=max(frames, 0),
            pixel_aspect=1 / aspect if transposed else aspect,
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
        )


def _orientation(frame: Any) -> Orientation:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return Orientation.of_matrix(bytes(data))
    return Orientation()
