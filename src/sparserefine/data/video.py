"""Frames of a video as images."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.utils.data import Dataset

from sparserefine.data.sample import Sample


class VideoFrames(Dataset[Sample]):
    """Every n-th frame of a video, decoded once and kept.

    Args:
        path: The video.
        every: Distance of the frames taken.

    Raises:
        ImportError: PyAV is missing.
        ValueError: The file cannot be decoded.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self._samples = _decode(Path(path), every)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


def _decode(path: Path, every: int) -> list[Sample]:
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise ImportError('reading videos needs PyAV: pip install "sparserefine[video]"') from None
    samples = []
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    image = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                    samples.append(
                        Sample(f"{path.stem}_{number:05d}", image.permute(2, 0, 1).contiguous())
                    )
    except (FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is not a video that can be decoded ({error}).") from None
    return samples
