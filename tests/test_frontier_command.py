"""`sparserefine frontier`, from photos to the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sparserefine as sr
from sparserefine.cli import main
from synthetic_street.scene import SyntheticStreet


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    street = SyntheticStreet(2, size=(96, 160))
    found = tmp_path / "held_out", tmp_path / "train"
    for index, folder in enumerate(found):
        folder.mkdir()
        picture = street[index].image.permute(1, 2, 0).numpy()
        sr.images.write_image(picture, folder / "photo.png")
    return found


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.mark.slow
def test_widths_and_points_are_trained_and_compared(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out, train = folders
    out = tmp_path / "out"
    command = ["frontier", held_out, "--train", train, "--steps", 1, "--width", "half"]
    command += ["--rounds", 1, "--no-memory", "--out", out]
    assert not run(*command, "--json")
    document = json.loads(capsys.readouterr().out)
    families = list(dict.fromkeys(point["family"] for point in document["points"]))
    assert families == ["dense", "tiles", "ours", "ours width half", "ours retrained", "points"]
    assert document["score"] == "right" and document["memory_verdict"] is None
    assert (out / "frontier.png").is_file() and (out / "frontier.md").is_file()
    assert not run(*command)
    told = capsys.readouterr().out
    assert str(out / "frontier.png") in told.replace("\n", "")
    assert "By peak memory" not in told


def test_widths_without_images_to_train_on(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("frontier", folders[0], "--width", "half")
    assert (
        "width compares what is yet to be trained. Give images: train=FOLDER (--train)."
        in capsys.readouterr().err
    )
