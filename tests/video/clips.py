"""Small videos, made for tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

SIZE = (32, 48)
# Uneven, and not from 0: a variable frame rate with an offset.
TIMES = (500, 540, 560, 640, 680, 720)


def still_and_moving(count: int = 6, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames of colored stripes, before which a square moves."""
    y, x = np.mgrid[: size[0], : size[1]]
    behind = np.stack([40 + 3 * x, 60 + 4 * y, np.full(size, 90)], -1).clip(0, 255)
    frames = []
    for index in range(count):
        frame = behind.copy()
        frame[8:16, 2 + 3 * index : 10 + 3 * index] = (230, 30, 30)
        frames.append(frame.astype(np.uint8))
    return frames


def write_clip(
    path: Path,
    frames: Sequence[UInt8[np.ndarray, "H W 3"]],
    *,
    times: Sequence[int] = TIMES,
    encoder: str = "libx264rgb",
    pixels: str = "rgb24",
    sound: str = "",
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames at times in milliseconds, without loss unless told otherwise; and a tone.

    Args:
        path: File to write.
        frames: RGB.
        times: When each is shown.
        encoder: Name of the encoder.
        pixels: Its pixel format.
        sound: Name of the encoder of the tone; empty for none.
        options: Of the encoder.
    """
    import av

    with av.open(str(path), "w") as container:
        lossless = {"crf": "0", "bf": "0"} if "264" in encoder else {}
        stream: Any = container.add_stream(encoder, rate=25, options=lossless | (options or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        tone = _tone(container, sound, times) if sound else []
        for frame, time in zip(frames, times, strict=False):
            made = av.VideoFrame.from_ndarray(frame, "rgb24")
            made.pts, made.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
        container.mux(tone)
    return path


def _tone(container: Any, encoder: str, times: Sequence[int]) -> list[Any]:
    import av

    stream = container.add_stream(encoder, rate=48000, layout="mono")
    packets = []
    for index in range(20):
        wave = np.sin(np.arange(1024) / (5 + index))[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        frame.sample_rate = 48000
        frame.pts = times[0] * 48 + 1024 * index
        frame.time_base = Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write (a, b, c, d) of a display matrix into the picture's track of an MP4 file."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (np.array(value * 65536, ">i4").tobytes() for value in matrix)
    zero = bytes(4)
    one = np.array(1 << 30, ">i4").tobytes()
    start = content.index(b"tkhd")
    assert content[start + 4] == 0, "expected the first version of the box"
    place = start + 4 + 4 + 20 + 8 + 8
    content[place : place + 36] = a + b + zero + c + d + zero + zero + zero + one
    path.write_bytes(bytes(content))


def shown(path: Path) -> list[np.ndarray]:
    """The frames of a video, RGB, as they are stored."""
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times_of(path: Path) -> list[Fraction]:
    """When the frames of a video are shown, in seconds."""
    import av

    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]  # type: ignore


def sound_of(path: Path) -> list[tuple[Fraction, bytes]]:
    """The packets of audio, and when each is heard."""
    import av

    with av.open(str(path)) as container:
        packets = container.demux(audio=0)
        return [(one.pts * one.time_base, bytes(one)) for one in packets if one.size]  # type: ignore
