"""Files whose pixels can be read in several ways: bands, depth, no data, pages."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparserefine.images import ImageError, ImageWarning, as_uint8_rgb, open_photo, read_image
from sparserefine.images.tiff import read_pages, read_samples
from tiff_files import tiff


def noise(bands: int, dtype: str = "u1", size: tuple[int, int] = (13, 17)) -> np.ndarray:
    random = np.random.default_rng(0)
    if dtype == "f4":
        return random.random((*size, bands), np.float32)
    return random.integers(0, np.iinfo(dtype).max, (*size, bands), dtype, endpoint=True)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("bands", "dtype", "options"),
    [
        (8, "u2", {}),
        (8, "u2", {"compression": 8, "predictor": 2}),
        (5, "u1", {"tile": (16, 16), "compression": 8}),
        (3, "f4", {"planar": 2}),
        (2, "i2", {"tile": (16, 16), "planar": 2, "predictor": 2}),
    ],
)
def test_every_value_of_a_tiff_is_read(
    order: str, bands: int, dtype: str, options: dict[str, int]
) -> None:
    values = noise(bands, dtype, (37, 21))
    file = BytesIO(tiff(values, order=order, **options))
    (page,) = read_pages(file)
    np.testing.assert_array_equal(read_samples(file, page), values)


def test_what_libtiff_unpacks(tmp_path: Path) -> None:
    for compression in ("tiff_lzw", "packbits", "tiff_adobe_deflate"):
        values = noise(3)
        Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
        with (tmp_path / "a.tif").open("rb") as file:
            (page,) = read_pages(file)
            np.testing.assert_array_equal(read_samples(file, page), values)


def test_files_of_more_than_4_gb(tmp_path: Path) -> None:
    values = noise(3)
    Image.fromarray(values).save(tmp_path / "a.tif", big_tiff=True)
    with (tmp_path / "a.tif").open("rb") as file:
        assert file.read(4)[2] == 43
        (page,) = read_pages(file)
        np.testing.assert_array_equal(read_samples(file, page), values)


def test_near_infrared_is_no_transparency() -> None:
    values = noise(4)
    for extra in (1, 2):
        with pytest.warns(ImageWarning, match="does not look like transparency.*--bands 1,2,3"):
            found = read_image(BytesIO(tiff(values, extra=[extra])))
        np.testing.assert_array_equal(found, values[..., :3])
    deep = noise(4, "u2")
    with pytest.warns(ImageWarning, match="does not look like transparency"):
        found = read_image(BytesIO(tiff(deep, extra=[2])))
    np.testing.assert_allclose(found, deep[..., :3] / 257, atol=0.51)
    # Said, it is not said again.
    np.testing.assert_array_equal(
        read_image(BytesIO(tiff(values, extra=[2])), bands=(4, 1, 2)), values[..., [3, 0, 1]]
    )


def test_what_looks_like_transparency_is() -> None:
    values = noise(4)
    values[..., 3] = np.where(values[..., 3] > 127, 255, 0)
    values[0, 0, 3] = 51
    found = read_image(BytesIO(tiff(values, extra=[2])))
    assert (found[values[..., 3] == 0] == 255).all()
    opaque = values[..., 3] == 255
    np.testing.assert_array_equal(found[opaque], values[opaque][:, :3])
    with pytest.warns(ImageWarning, match=r"fourth channel.*pass image\[..., :3\]"):
        as_uint8_rgb(noise(4))


def test_bands_that_nothing_names_are_asked_for() -> None:
    file = tiff(noise(8, "u2"), photometric=1, extra=[0] * 7)
    with pytest.raises(ImageError, match=r"has 8 bands and does not say which are.*--bands 3,2,1"):
        read_image(BytesIO(file))
    values = noise(8, "u2")
    found = read_image(BytesIO(file), bands=(7, 3, 1))
    np.testing.assert_allclose(found, values[..., [6, 2, 0]] / 257, atol=0.51)
    gray = read_image(file, bands=(5,))
    np.testing.assert_allclose(gray[..., 2], values[..., 4] / 257, atol=0.51)
    with pytest.raises(ImageError, match="has 8 bands, and --bands asks for band 9"):
        read_image(BytesIO(file), bands=(9, 1, 1))
    with pytest.raises(ImageError, match="has 4 bands and does not say"):
        read_image(BytesIO(tiff(noise(4), photometric=1, extra=[0, 0, 0])))
    with pytest.warns(ImageWarning, match="3 bands are taken for red, green and blue"):
        read_image(BytesIO(tiff(noise(3, "u2"), photometric=1, extra=[0, 0])))
    with pytest.raises(ValueError, match=r"bands are \(1, 2\), expected three"):
        read_image(BytesIO(file), bands=(1, 2))


def png16(values: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("depth", [8, 10, 12, 14])
def test_fewer_bits_in_16_are_not_black(depth: int) -> None:
    top = (1 << depth) - 1
    values = np.linspace(0, top, 300).astype(np.uint16).reshape(15, 20)
    message = f"reach {top} of 65535 and are read as {depth} bits; --range 0,65535"
    with pytest.warns(ImageWarning, match=message):
        found = read_image(png16(values))
    np.testing.assert_allclose(found[..., 0], values / top * 255, atol=0.51)
    with pytest.warns(ImageWarning, match=message):
        np.testing.assert_array_equal(as_uint8_rgb(values), found)
    # All that is read of it agrees.
    np.testing.assert_allclose(open_photo(values).deep[..., 0], values / top * 65535, atol=0.51)
    np.testing.assert_array_equal(open_photo(BytesIO(png16(values))).deep, open_photo(values).deep)
    # Said, it is as dark as that.
    dark = read_image(png16(values), value_range=(0.0, 65535.0))
    np.testing.assert_allclose(dark[..., 0], values / 257, atol=0.51)


def test_colors_of_12_bits_in_16() -> None:
    values = noise(3, "u2") >> 4
    with pytest.warns(ImageWarning, match="read as 12 bits"):
        found = read_image(BytesIO(tiff(values)))
    np.testing.assert_allclose(found, values / 4095 * 255, atol=0.51)


def test_a_few_bright_values_leave_no_black_image() -> None:
    values = np.linspace(0, 3000, 3000).astype(np.uint16).reshape(50, 60)
    values[0, :3] = 20000, 40000, 65000
    with pytest.warns(ImageWarning, match="but for the brightest reach .* 12 bits"):
        found = read_image(png16(values))
    assert found[0, 0, 0] == 255 and found.mean() > 80


def test_reflectance_and_no_data() -> None:
    values = (noise(1, "f4") * 0.3 + 0.01).astype(np.float32)
    values[:3] = -9999
    span = f"from {values[3:].min():.6g} as black to {values.max():.6g} as white"
    share = (values == -9999).mean()
    with pytest.warns(ImageWarning, match=f"{share:.1%} of its values are -9999.*{span}"):
        found = read_image(BytesIO(tiff(values, photometric=1)))
    assert (found[:3] == 0).all() and found.max() == 255 and 100 < found[3:].mean() < 160
    with pytest.warns(ImageWarning, match=span):
        named = read_image(BytesIO(tiff(values, photometric=1, nodata="-9999")))
    np.testing.assert_array_equal(named, found)
    chosen = read_image(
        BytesIO(tiff(values, photometric=1, nodata="-9999")), value_range=(0.0, 0.3)
    )
    np.testing.assert_allclose(
        chosen[3:, :, 0], (values[3:, :, 0] / 0.3).clip(0, 1) * 255, atol=0.51
    )
    shares = noise(1, "f4")
    np.testing.assert_allclose(
        read_image(BytesIO(tiff(shares, photometric=1)))[..., 0], shares[..., 0] * 255, atol=0.51
    )
    with pytest.raises(ValueError, match="range of values is 1 to 0"):
        read_image(BytesIO(tiff(shares, photometric=1)), value_range=(1.0, 0.0))


def test_a_range_of_8_bits() -> None:
    values = noise(3) // 4
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG")
    found = read_image(file, value_range=(0.0, 63.0))
    np.testing.assert_allclose(found, values / 63 * 255, atol=0.51)
    assert (read_image(file, bands=(2,)) == values[..., [1]]).all()


def test_the_largest_page_is_read() -> None:
    small, large = noise(3), noise(3, size=(40, 50))
    with pytest.warns(ImageWarning, match="of its 2 pages page 2 is read, the largest"):
        np.testing.assert_array_equal(read_image(BytesIO(tiff(small, large))), large)
    with pytest.warns(ImageWarning, match="of its 3 pages page 1 is read, the first of that size"):
        np.testing.assert_array_equal(read_image(tiff(large, large[::-1], large)), large)
    # Smaller copies, as in a pyramid, are said to be some.
    np.testing.assert_array_equal(read_image(tiff(large, small, reduced=[1])), large)
    deep = noise(3, "u2", (40, 50))
    with pytest.warns(ImageWarning, match="page 2"):
        found = read_image(tiff(noise(3, "u2"), deep))
    np.testing.assert_allclose(found, deep / 257, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_values_are_turned_as_pillow_turns_them(orientation: int) -> None:
    values = noise(3)
    plain = read_image(tiff(values, orientation=orientation))
    deep = read_image(tiff(values.astype(np.uint16) * 257, orientation=orientation))
    np.testing.assert_array_equal(deep, plain)


def test_damaged_values_are_one_line() -> None:
    file = tiff(noise(8, "u2"), compression=8)
    for cut in (file.replace(b"x\x9c", b"x\x9d"), file[:8] + bytes(200) + file[208:]):
        with pytest.raises(ImageError, match=r"is damaged: .*Copy or export it again\.$"):
            read_image(cut, bands=(1, 2, 3))


def test_a_jpeg_without_its_end_is_read_and_one_without_pixels_is_not() -> None:
    for options in ({}, {"progressive": True}):
        file = BytesIO()
        Image.fromarray(noise(3, size=(60, 80))).save(file, "JPEG", **options)
        whole = file.getvalue()
        with pytest.warns(ImageWarning, match="last bytes are missing, but all pixels are there"):
            found = read_image(whole[:-2])
        np.testing.assert_array_equal(found, read_image(whole))
        for missing in (20, 200, len(whole) // 2):
            with pytest.raises(ImageError, match="is damaged"):
                read_image(whole[:-missing])


@pytest.mark.parametrize("suffix", ["dng", "NEF", "mp4", "psd"])
def test_what_only_seems_to_be_an_image_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(tiff(noise(3)))  # as raw files begin, with a preview
    with pytest.raises(ImageError, match=r"raw file.*Develop|a video.*frames|picture that is not"):
        read_image(path)


def test_heic_is_read_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setattr("sparserefine.images.reading.can_read_heif", lambda: False)
    with pytest.raises(ImageError, match=r"is HEIC, which needs pillow-heif.*pip install"):
        read_image(path)


def test_heic_with_its_package(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    values = np.full((32, 48, 3), (200, 40, 90), np.uint8)
    heif.from_pillow(Image.fromarray(values)).save(tmp_path / "a.heic", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "a.heic"), values, atol=6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the image is None, as OpenCV gives it"),
        ([1, 2], "a list of 2 was given, expected one image"),
        ({}, "given as dict, expected a path"),
        ("", "a path is empty"),
        ("https://example.org/a.jpg", "is a URL.*Download it"),
        ("-", "standard input"),
        ("*.png", "a pattern, take off the quotes"),
    ],
)
def test_what_is_no_image(given: object, message: str) -> None:
    # Unchecked, as a user's calls are.
    plain = getattr(open_photo, "__wrapped__", open_photo)
    with pytest.raises(ValueError, match=message if plain is not open_photo else ""):
        plain(given)


def test_bytes_and_what_converts_to_an_array() -> None:
    values = noise(3)
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG")
    np.testing.assert_array_equal(as_uint8_rgb(file.getvalue()), values)
    photo = open_photo(torch.from_numpy(values).permute(2, 0, 1))
    assert open_photo(photo) is photo
