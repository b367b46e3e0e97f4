"""Cut-outs: what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import sparserefine as sr
from command_line import run
from disk_photo import Redness, disk
from sparserefine.deep_images import write_png16
from sparserefine.images import ImageError, open_photo
from sparserefine.photos.cutout import Cutout
from sparserefine.photos.cutout_folder import cut_out_photos
from sparserefine.photos.foreground import parse_background
from sparserefine.viz import best_window


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """On its side, as cameras write it, with a color profile."""
    path = tmp_path / "disk.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to be upright
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(disk()).save(path, quality=95, exif=exif, icc_profile=profile)
    return path


def test_a_png_as_large_as_the_upright_photo(photo: Path, tmp_path: Path) -> None:
    result = sr.cutout(photo, model=Redness())
    assert result.alpha.shape == (128, 96)
    result.save(tmp_path / "disk_cutout.png")
    with Image.open(tmp_path / "disk_cutout.png") as image:
        assert (image.mode, image.size) == ("RGBA", (96, 128))
        assert image.info["icc_profile"]
        pixels = np.asarray(image)
    assert pixels[64, 48, 3] == 255 and pixels[4, 4, 3] == 0
    assert set(result.stages_ms) == {
        "read", "resize", "dense", "grid", "matte", "carry", "colors",
    }  # fmt: skip


def test_edges_are_sharper_and_colors_those_of_the_foreground() -> None:
    image = disk((240, 320))
    truth = (image[..., 0] > 128).astype(np.float32)
    result = sr.cutout(image, model=Redness())
    before, after = (np.abs(a - truth).mean() for a in (result.enlarged, result.alpha))
    assert after < 0.3 * before
    seen = result.on("white").astype(int)
    band = (result.alpha > 0.05) & (result.alpha < 0.95)
    # Orange on white has no blue of the background in it: its blue is the least of the three.
    assert band.any() and (seen[band][:, 2] <= seen[band][:, 0] + 3).mean() > 0.9
    unchanged = (result.alpha == 1) & (result.colors == image).all(2)
    assert unchanged.sum() > 0.5 * truth.sum()


@pytest.mark.parametrize("method", ["closed-form", "guided", "bilinear"])
def test_each_method(method: str) -> None:
    result = sr.cutout(disk(), model=Redness(), method=method)  # type: ignore[arg-type]
    assert (result.density == 0) == (method == "bilinear")
    assert np.array_equal(result.alpha, result.enlarged) == (method == "bilinear")


@pytest.mark.parametrize("background", ["white", "#102030", (16, 32, 48)])
def test_colors_behind(background: str | tuple[int, int, int]) -> None:
    result = sr.cutout(disk(), model=Redness())
    expected = {"white": (255, 255, 255)}.get(str(background), (16, 32, 48))
    assert tuple(result.on(background)[2, 2]) == expected


def test_a_picture_behind(tmp_path: Path) -> None:
    Image.new("RGB", (300, 50), (9, 8, 7)).save(tmp_path / "behind.png")
    result = sr.cutout(disk(), model=Redness())
    assert tuple(result.on(tmp_path / "behind.png")[2, 2]) == (9, 8, 7)
    with pytest.raises(ValueError, match=r"'nowhere.png' is neither a file nor a color"):
        parse_background("nowhere.png", (4, 4))
    with pytest.raises(ValueError, match="expected red, green and blue, 0 to 255"):
        parse_background((300, 0, 0), (4, 4))


def test_alpha_alone(tmp_path: Path) -> None:
    sr.cutout(disk(), model=Redness()).save(tmp_path / "a.png", alpha_only=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L" and np.asarray(image).max() == 255
    with pytest.raises(ValueError, match=r"ends in '.jpg', expected .png"):
        sr.cutout(disk(), model=Redness()).save(tmp_path / "a.jpg")


def test_16_bits_a_channel_are_kept(tmp_path: Path) -> None:
    image = disk((240, 320)).astype(np.uint16) * 257
    image += np.random.default_rng(0).integers(0, 200, image.shape).astype(np.uint16)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write_png16(image, tmp_path / "disk.png", profile)
    result = sr.cutout(tmp_path / "disk.png", model=Redness())
    assert result.colors.dtype == np.uint16 and result.rgba().dtype == np.uint16
    shallow = sr.cutout((image // 257).astype(np.uint8), model=Redness())
    assert np.abs(result.alpha - shallow.alpha).mean() < 1e-3
    assert np.abs(result.colors / 257 - shallow.colors)[result.alpha > 0.1].mean() < 1
    kept = result.alpha == 1
    assert (result.colors == image)[kept].mean() > 0.5
    path = result.save(tmp_path / "cutout.png")
    with Image.open(path) as written:
        assert written.mode == "RGBA" and written.info["icc_profile"] == profile
        assert written.tile[0].args == "RGBA;16B"
    laid = open_photo(result.save(tmp_path / "white.png", background="white")).deep
    assert laid is not None and laid[0, 0].tolist() == [65535] * 3
    np.testing.assert_array_equal(laid[120, 160], image[120, 160])
    alone = open_photo(result.save(tmp_path / "alpha.png", alpha_only=True)).deep
    assert alone is not None
    np.testing.assert_allclose(alone[..., 0] / 65535, result.alpha, atol=1e-5)
    assert result.before_after().dtype == np.uint8


def test_several_photos_of_which_one_is_bad(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    (tmp_path / "sub").mkdir()
    Image.fromarray(disk((64, 64))).save(tmp_path / "sub" / "disk.png")
    told: list[tuple[str, int, int]] = []
    result = cut_out_photos(
        [tmp_path],
        model=Redness(),
        out=tmp_path / "out",
        progress=lambda *step: told.append(step),
    )
    out = tmp_path / "out"
    names = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert names == {"disk_cutout.png", "sub/disk_cutout.png", "before_after.png"}
    assert [path.name for path, _ in result.failed] == ["bad.jpg"]
    assert len(result.done) == 2 and 0 < result.density < 1 and "write" in result.stages_ms
    assert told[-1] == ("cutout", 3, 3)


def test_a_photo_that_cannot_be_drawn_is_done_all_the_same(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(result: Cutout) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(Cutout, "added_detail", too_large)
    result = cut_out_photos([photo], model=Redness(), out=tmp_path / "out")
    assert result.done == (tmp_path / "out" / "disk_cutout.png",) and not result.failed
    assert result.picture is None
    assert result.notes[-1].startswith(f"{photo} is not in before_after.png: it needs more memory")


def test_the_place_that_is_shown_is_found_on_a_reduced_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparserefine.photos.cutout.OVERVIEW", 40)
    monkeypatch.setattr("sparserefine.photos.cutout.DETAIL", (30, 46))
    result = sr.cutout(disk((242, 319)), model=Redness())
    gain = result.added_detail()
    top, left, height, width = best_window(gain, (30, 46))
    best = gain[top : top + height, left : left + width]
    found = gain[result._most_detail()]
    assert found.shape == (30, 46) and found.sum() > 0.8 * best.sum()


def test_the_shipped_model_and_the_command(photo: Path, tmp_path: Path) -> None:
    done = run("cutout", photo, "--background", "white", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    written = [tmp_path / "out" / name for name in ("disk_cutout.png", "before_after.png")]
    assert lines[-2:] == [str(path) for path in written]
    assert "dense" in done.stdout and "Apache-2.0" in done.stderr
    with Image.open(tmp_path / "out" / "disk_cutout.png") as image:
        assert (image.mode, image.size) == ("RGB", (96, 128))


def test_what_cannot_be_used_is_one_line(photo: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("nothing.jpg",), "nothing.jpg does not exist"),
        ((photo, "--model", "nothing.onnx"), "no model 'nothing.onnx', expected u2netp, or a file"),
        ((photo, "--background", "blau"), "background 'blau' is neither a file nor a color"),
    ):
        done = run("cutout", *arguments, "--out", tmp_path / "out")
        assert done.returncode == 1 and message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="has 19 classes, expected 2"):
        sr.cutout(photo, model=sr.dense.create("espnetv2-0.5"))
    with pytest.raises(ImageError, match="does not exist"):
        sr.cutout(tmp_path / "none.jpg", model=Redness())


def test_profiles_of_other_color_spaces_are_left_out(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(disk()).save(tmp_path / "lab.png", icc_profile=profile)
    assert sr.cutout(tmp_path / "lab.png", model=Redness()).icc_profile == b""


def test_a_second_run_leaves_out_what_the_first_one_wrote(photo: Path) -> None:
    for _ in range(2):
        cut_out_photos([photo.parent], model=Redness(), out=photo.parent / "cut")
    names = {path.name for path in (photo.parent / "cut").iterdir()}
    assert names == {"disk_cutout.png", "before_after.png"}
    with pytest.raises(ImageError, match=r"left out 2: .*written by sparserefine"):
        cut_out_photos([photo.parent / "cut"], model=Redness(), out=photo.parent / "cut")


def test_results_may_lie_beside_their_photos(photo: Path) -> None:
    for _ in range(2):
        done = cut_out_photos([photo.parent], model=Redness(), out=photo.parent)
        assert [path.name for path in done.done] == ["disk_cutout.png"]


def test_a_photo_of_one_row_ends_nothing(photo: Path, tmp_path: Path) -> None:
    Image.fromarray(disk()[:1]).save(tmp_path / "row.png")
    done = cut_out_photos([photo, tmp_path / "row.png"], model=Redness(), out=tmp_path / "out")
    assert len(done.done) == 2 and done.picture is not None


def test_a_background_that_is_no_image_is_named(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "back.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"back\.jpg is not an image that Pillow can read"):
        cut_out_photos(
            [photo], model=Redness(), background=tmp_path / "back.jpg", out=tmp_path / "o"
        )
    with pytest.raises(ValueError, match="alpha alone has no background"):
        cut_out_photos(
            [photo], model=Redness(), background="red", alpha_only=True, out=tmp_path / "o"
        )
