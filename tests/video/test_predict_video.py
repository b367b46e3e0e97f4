"""Videos: the frames, their times and their sound go in and come out."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import SIZE, TIMES, shown, sound_of, still_and_moving, times_of, turn, write_clip

import sparserefine as sr
from small_models import make_patch_model
from sparserefine import viz
from sparserefine.atomic import WriteError
from sparserefine.images.error import ImageError
from sparserefine.video.predict_video import predict_video
from sparserefine.video.source import Frame, VideoSource

av = pytest.importorskip("av", reason="needs the extra video")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", still_and_moving())


def colors(model: sr.SparseRefiner, frame: np.ndarray) -> np.ndarray:
    """What a photo of a frame would show."""
    return viz.colorize(model.predict(frame).labels, viz.default_palette(model.num_classes))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_frame_is_labeled_as_a_photo_at_its_time(clip: Path, tmp_path: Path) -> None:
    model, told = make_patch_model(), []
    out = tmp_path / "labels.mkv"
    result = predict_video(
        model, clip, out, write="labels", change=0.0, progress=lambda *step: told.append(step)
    )
    assert times_of(out) == times_of(clip) == [Fraction(time, 1000) for time in TIMES]
    for frame, labels in zip(still_and_moving(), shown(out), strict=True):
        assert np.array_equal(labels, colors(model, frame))
    assert result.path == out and result.frames == result.predicted == 6
    assert not result.broken and not result.ended_early and result.renewed == 1
    assert told == [("predict", done, 6) for done in (*range(7), 6)]
    assert left(tmp_path) == {"clip.mp4", "labels.mkv"}


@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".webm", marks=pytest.mark.slow)])
def test_the_overlay_lies_over_the_frames(suffix: str, clip: Path, tmp_path: Path) -> None:
    model = make_patch_model()
    out = tmp_path / f"overlay{suffix}"
    predict_video(model, clip, out, change=0.0)
    palette = viz.default_palette(5)
    for frame, picture in zip(still_and_moving(), shown(out), strict=True):
        expected = viz.overlay(frame, model.predict(frame).labels, palette)
        difference = np.abs(picture.astype(int) - expected)
        # Half of the color resolution, and an encoder.
        assert (
            difference.mean() < 12
            and np.abs(picture.mean((0, 1)) - expected.mean((0, 1))).max() < 3
        )
    assert times_of(out) == times_of(clip)


MATRICES = {
    "quarter": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
    "half": ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
    "three quarters": ((0, -1, 1, 0), lambda frame: np.rot90(frame)),
    "mirrored": ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_turned_upright(name: str, clip: Path, tmp_path: Path) -> None:
    matrix, expected = MATRICES[name]
    turn(clip, matrix)
    model, out = make_patch_model(), tmp_path / "labels.mkv"
    predict_video(model, clip, out, write="labels", change=0.0)
    for frame, labels in zip(still_and_moving(), shown(out), strict=True):
        upright = np.ascontiguousarray(expected(frame))
        assert np.array_equal(labels, colors(model, upright))
    with av.open(str(out)) as container:  # they are not turned again when they are shown
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied(suffix: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / f"clip{suffix}", still_and_moving(), sound="aac")
    out = tmp_path / f"out{suffix}"
    predict_video(make_patch_model(), clip, out)
    assert len(sound_of(out)) >= 20 and sound_of(out) == sound_of(clip)
    assert times_of(out) == times_of(clip)


@pytest.mark.slow
def test_sound_that_a_file_cannot_hold_is_named(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", still_and_moving(), sound="aac")
    with pytest.warns(UserWarning, match=r"out.webm has no sound of .*cannot hold aac.*mkv can"):
        predict_video(make_patch_model(), clip, tmp_path / "out.webm")
    assert len(shown(tmp_path / "out.webm")) == 6


def test_frames_between_have_the_labels_of_the_one_before(clip: Path, tmp_path: Path) -> None:
    model, out = make_patch_model(), tmp_path / "labels.mkv"
    result = predict_video(model, clip, out, write="labels", every=4, change=0.0)
    frames, labels = still_and_moving(), shown(out)
    for index in range(6):
        assert np.array_equal(labels[index], colors(model, frames[index - index % 4])), index
    assert result.predicted == 2 and result.renewed == pytest.approx(2 / 6)


def test_where_nothing_changes_nothing_is_predicted(tmp_path: Path) -> None:
    frames = [still_and_moving()[0]] * 5 + [still_and_moving()[5]]
    clip = write_clip(tmp_path / "clip.mp4", frames)
    model, out = make_patch_model(), tmp_path / "labels.mkv"
    runs = []
    assert model.dense is not None
    model.dense.register_forward_hook(lambda *_: runs.append(1))
    result = predict_video(model, clip, out, write="labels", optimize=False)
    labels = shown(out)
    assert len(runs) == result.predicted == 2
    assert all(np.array_equal(one, colors(model, frames[0])) for one in labels[:5])
    changed = (labels[5] != labels[4]).any(-1)
    assert changed.any() and 0 < result.renewed < 2 / 6
    # Two cells beyond the square, where it was and where it is.
    assert not changed[32:].any() and not changed[:, 40:].any()


def test_odd_sizes_stay(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", still_and_moving(size=(33, 47)))
    for suffix in (".mp4", ".mkv"):
        predict_video(make_patch_model(), clip, tmp_path / f"out{suffix}")
        assert shown(tmp_path / f"out{suffix}")[0].shape == (33, 47, 3)


class _Foreground(sr.dense.DenseModel):
    """Red is the foreground."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.size_divisor = 2, 1
        self.preset = sr.dense.Preset()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = 20 * (images[:, :1] - images[:, 1:2] - 0.4)
        return torch.cat([-score, score], 1)


@pytest.mark.parametrize(
    ("suffix", "decoder", "pixels"),
    [
        (".mov", "prores", "yuva444p12le"),
        pytest.param(".webm", "libvpx-vp9", "yuva420p", marks=pytest.mark.slow),
    ],
)
def test_a_foreground_has_alpha(
    suffix: str, decoder: str, pixels: str, clip: Path, tmp_path: Path
) -> None:
    model, out = (
        sr.SparseRefiner(_Foreground(), selector=sr.EntropySelector(10.0)),
        tmp_path / f"cut{suffix}",
    )
    predict_video(model, clip, out, write="alpha")
    context = av.CodecContext.create(decoder, "r")
    with av.open(str(out)) as container:
        context.extradata = container.streams.video[0].codec_context.extradata
        context.width, context.height = SIZE[1], SIZE[0]
        context.codec_tag = container.streams.video[0].codec_context.codec_tag
        packets = [packet for packet in container.demux(video=0) if packet.size]
        decoded = [frame for packet in packets for frame in context.decode(packet)]
        decoded += context.decode(None)
    assert len(decoded) == 6
    for index, frame in enumerate(decoded):
        assert frame.format.name in (pixels, "yuva444p10le")
        rgba = frame.to_ndarray(format="rgba")
        inside = rgba[9:15, 4 + 3 * index : 8 + 3 * index]
        assert inside[..., 3].min() > 240 and inside[..., 0].mean() > 200
        assert rgba[24:, :, 3].max() < 15


def test_broken_frames_are_left_out_and_counted(tmp_path: Path) -> None:
    """Of PNG every frame stands alone."""
    clip = write_clip(tmp_path / "clip.mov", still_and_moving(), encoder="png", pixels="rgb24")
    content = bytearray(clip.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 4] == b"\x89PNG"]
    assert len(starts) == 6
    content[starts[2] : starts[2] + 100] = bytes(100)
    clip.write_bytes(bytes(content))
    out = tmp_path / "out.mkv"
    result = predict_video(make_patch_model(), clip, out)
    assert result.broken == 1 and result.frames == 5
    expected = [Fraction(time, 1000) for index, time in enumerate(TIMES) if index != 2]
    assert times_of(out) == expected


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_of_a_file_that_was_cut_off_all_before_is_done(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3)).astype(np.uint8)
    clip = tmp_path / f"clip{suffix}"
    # The index in front, as of files for the net.
    write_clip(clip, list(noise), times=range(0, 4000, 100))
    if suffix == ".mp4":
        with (
            av.open(str(clip)) as whole,
            av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as front,
        ):
            stream = front.add_stream_from_template(whole.streams.video[0])
            for packet in whole.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    front.mux(packet)
        clip = tmp_path / "front.mp4"
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) * 6 // 10])
    result = predict_video(make_patch_model(), clip, tmp_path / "out.mkv", every=100)
    assert result.ended_early and 15 < result.frames < 30
    assert len(shown(tmp_path / "out.mkv")) == result.frames


def test_sources_that_are_no_video_are_named(clip: Path, tmp_path: Path) -> None:
    model, out = make_patch_model(), tmp_path / "out.mp4"
    with pytest.raises(FileNotFoundError, match=r"there is no video .*none.mp4. Check"):
        predict_video(model, tmp_path / "none.mp4", out)
    content = clip.read_bytes()
    clip.write_bytes(content[: content.index(b"moov")])  # the index is at the end
    with pytest.raises(ImageError, match=r"clip.mp4 cannot be read as a video .*cut off"):
        predict_video(model, clip, out)
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream: Any = container.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match=r"sound.mp4 has no moving pictures. Name a video."):
        predict_video(model, sound, out)
    assert left(tmp_path) == {"clip.mp4", "sound.mp4"}


def test_what_cannot_be_written_is_named_before_work(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_patch_model()
    with pytest.raises(FileExistsError, match=r"clip.mp4 is there already. Move it away"):
        predict_video(model, clip, clip)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none. Make it"):
        predict_video(model, clip, tmp_path / "none" / "out.mp4")
    with pytest.raises(ValueError, match=r"ends in .mp4, .m4v, .mov, .mkv, .webm, not in .gif"):
        predict_video(model, clip, tmp_path / "out.gif")
    with pytest.raises(ValueError, match=r"cannot show 'mask', expected one of overlay, labels"):
        predict_video(model, clip, tmp_path / "out.mp4", write="mask")
    with pytest.raises(ValueError, match=r"ends in .mp4 has no alpha. Choose .mov"):
        predict_video(model, clip, tmp_path / "out.mp4", write="alpha")
    with pytest.raises(ValueError, match=r"the model has 5 classes, expected 2"):
        predict_video(model, clip, tmp_path / "out.mov", write="alpha")
    with pytest.raises(ValueError, match=r"every is 0, expected a whole number of 1 or more"):
        predict_video(model, clip, tmp_path / "out.mp4", every=0)
    with pytest.raises(ValueError, match=r"change is -1.0, expected 0 or more"):
        predict_video(model, clip, tmp_path / "out.mp4", change=-1.0)

    def lacking(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    with monkeypatch.context() as patched:
        patched.setattr(av, "Codec", lacking)
        with pytest.raises(ValueError, match=r"no encoder libx264, which .mp4 needs. Install its"):
            predict_video(model, clip, tmp_path / "out.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"video needs av: pip install 'sparserefine\[video\]'"):
        predict_video(model, clip, tmp_path / "out.mp4")
    assert left(tmp_path) == {"clip.mp4"}


def test_on_a_full_disk_nothing_is_left(clip: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits are of Unix")
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3)).astype(np.uint8)
    clip = write_clip(tmp_path / "noise.mp4", list(noise), times=range(0, 480, 40))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"cannot write .*out.mp4: .*the free space"):
            predict_video(make_patch_model(), clip, tmp_path / "out.mp4", every=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left(tmp_path) == {"clip.mp4", "noise.mp4"}


def test_what_was_done_before_an_interrupt_is_kept_and_plays(clip: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_video(make_patch_model(), clip, tmp_path / "out.mp4", progress=interrupt)
    assert left(tmp_path) == {"clip.mp4", "out.part.mp4"}
    kept = times_of(tmp_path / "out.part.mp4")
    assert 1 <= len(kept) <= 5 and kept == times_of(clip)[: len(kept)]
    with pytest.raises(FileExistsError, match=r"out.part.mp4 has the frames of an ear.*Delete"):
        predict_video(make_patch_model(), clip, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.part.mp4") == kept and not (tmp_path / "out.mp4").exists()


def test_a_frame_that_the_decoder_patched_up_keeps_the_labels_before(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VideoSource._frame

    def damaged(self: VideoSource, frame: Any) -> Frame:
        made = whole(self, frame)
        seconds = made.time * self.facts.time_base
        return replace(made, damaged=seconds == Fraction(TIMES[2], 1000))

    monkeypatch.setattr(VideoSource, "_frame", damaged)
    model, out = make_patch_model(), tmp_path / "labels.mkv"
    result = predict_video(model, clip, out, write="labels", change=0.0)
    assert result.broken == 1 and result.predicted == 5 and result.frames == 6
    frames, labels = still_and_moving(), shown(out)
    for index, of in enumerate((0, 1, 1, 3, 4, 5)):
        assert np.array_equal(labels[index], colors(model, frames[of])), index


@pytest.mark.parametrize(
    ("encoder", "pixels"),
    [
        ("libx264", "yuv444p"),
        ("mjpeg", "yuvj420p"),  # all of 0 to 255
        ("prores_ks", "yuv422p10le"),
    ],
)
def test_colors_are_read_as_they_are_shown(encoder: str, pixels: str, tmp_path: Path) -> None:
    frames = still_and_moving(1)
    clip = write_clip(tmp_path / "clip.mov", frames, encoder=encoder, pixels=pixels)
    with VideoSource(clip) as source:
        (frame,) = source.read()
    assert np.abs(frame.image.mean((0, 1)) - frames[0].mean((0, 1))).max() < 3


@pytest.mark.slow
def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    frames = still_and_moving(8, (256, 320)) * 40
    clip = write_clip(
        tmp_path / "clip.mp4", frames, times=range(0, 40 * len(frames), 40), encoder="libx264",
        pixels="yuv420p",
    )  # fmt: skip
    sizes: dict[int, float] = {}

    def told(stage: str, done: int, total: int) -> None:
        sizes[done] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    predict_video(make_patch_model(), clip, tmp_path / "out.mp4", progress=told)
    # A frame is a quarter of a MiB, so that 160 of them would be 40.
    late, early = (max(sizes[done] for done in range(at, at + 100)) for at in (220, 60))
    assert late - early < 8
