"""`sparserefine predict` of videos."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from clips import shown, sound_of, still_and_moving, times_of, write_clip

import sparserefine as sr
from command_line import run


@pytest.mark.slow
def test_a_video_is_segmented_when_both_names_are_of_one(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    frames = [*still_and_moving(5), still_and_moving(5)[-1]]
    clip, out = write_clip(tmp_path / "clip.mp4", frames), tmp_path / "clip_labels.mp4"
    done = run("predict", clip, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "5 of 6 frames predicted" in done.stdout and "mean of 6 frames" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == str(out)
    assert times_of(out) == times_of(clip)
    again = run("predict", clip, "--out", out)
    assert again.returncode == 1 and "is there already" in again.stderr
    labels = tmp_path / "labels.mkv"
    done = run("predict", clip, "--out", labels, "--write", "labels", "--every", 3, "--change", 0)
    assert "2 of 6 frames predicted" in done.stdout
    pictures = shown(labels)
    assert all((pictures[index] == pictures[index - 1]).all() for index in (1, 2, 4, 5))
    clip.write_bytes(clip.read_bytes()[:100])
    done = run("predict", clip, "--out", tmp_path / "none.mp4")
    assert done.returncode == 1 and "clip.mp4 cannot be read as a video" in done.stderr
    assert not (tmp_path / "none.mp4").exists()


def test_words_that_do_not_go_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mov", "c.jpg"):
        Path(name).touch()
    for words, message in (
        (["a.mp4"], "a.mp4 is a video, but --out out/predict is none. Name the video to write, "
                    "such as --out a_labels.mp4."),
        (["a.mp4", "b.mov", "--out", "o.mp4"], "2 sources and a.mp4, expected one video"),
        (["c.jpg", "--out", "o.mp4"], "--out o.mp4 is a video, but c.jpg is none"),
        (["a.mp4", "--out", "o.mp4", "--resume"], "--resume is an option of photos. Leave it out"),
        (["c.jpg", "--every", "2", "--change", "1"], "--every, --change are options of a video"),
    ):  # fmt: skip
        done = run("predict", *words)
        assert done.returncode == 1 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    done = run("predict", "a.mp4", "--out", "o.mp4")
    assert "video needs av: pip install 'sparserefine[video]'" in done.stderr
    assert sorted(os.listdir()) == ["a.mp4", "b.mov", "c.jpg"]


@pytest.mark.slow
def test_what_the_page_on_scale_says_of_videos_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    page = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
    part = page.read_text().partition("\n## Video\n")[2]
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", still_and_moving(size=(96, 128)), sound="aac")
    commands = re.findall(r"^    sparserefine (predict clip.*)$", part, re.M)
    assert len(commands) == 3
    for command in commands:
        done = run(*command.split())
        assert done.returncode == 0, done.stderr
        out = tmp_path / command.split()[3]
        assert len(shown(out)) == 6 and sound_of(out)
        out.unlink()
    names: dict[str, object] = {"sr": sr}
    for block in re.findall(r"```python\n(.*?)```", part, re.S):
        exec(block, names)
    assert names["result"].frames == 6  # type: ignore[attr-defined]
    assert sorted(os.listdir()) == ["clip.mp4", "clip_labels.mp4"]
