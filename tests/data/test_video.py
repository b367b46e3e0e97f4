"""Frames of a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparserefine.data.video import VideoFrames


def test_every_third_frame(shared: Path) -> None:
    frames = VideoFrames(shared / "data" / "street-free" / "highway.mp4", every=3)
    assert len(frames) == 13
    assert frames[0].image.shape == (3, 720, 1280)
    assert [frame.name for frame in frames][:2] == ["highway_00000", "highway_00003"]


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("not a video")
    with pytest.raises(ValueError, match="is not a video that can be decoded"):
        VideoFrames(path)
