"""Reading and writing of images: every oddity that a user's folder holds."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparserefine.atomic import atomic_write
from sparserefine.images import (
    ImageError,
    ImageWarning,
    as_uint8_rgb,
    list_images,
    read_image,
    read_labels,
    reading,
    write_image,
    write_labels,
)

RED = np.array([255, 0, 0], np.uint8)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encode(image: Image.Image, format: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


class TestReadImage:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (6, 9)])
    @pytest.mark.parametrize("name", ["a.png", "mit Lücke 写真.png", "UPPER.PNG"])
    def test_round_trip(self, tmp_path: Path, shape: tuple[int, int], name: str) -> None:
        array = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
        write_image(array, tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), array)

    def test_sources(self, tmp_path: Path, photo: np.ndarray) -> None:
        path = tmp_path / "photo.png"
        write_image(photo, path)
        for source in (path, str(path), io.BytesIO(path.read_bytes()), Image.fromarray(photo)):
            np.testing.assert_array_equal(read_image(source), photo)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr"])
    def test_mode_is_close_to_rgb(self, mode: str) -> None:
        image = Image.new("RGB", (4, 3), (255, 0, 0))
        expected = {"1": 76, "L": 76, "LA": 76}.get(mode)
        result = read_image(
            image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
        )
        assert result.shape == (3, 4, 3) and result.dtype == np.uint8
        if mode == "1":
            assert set(np.unique(result)) <= {0, 255}
        elif expected is not None:
            np.testing.assert_array_equal(result, expected)
        else:
            np.testing.assert_allclose(result.astype(int), np.broadcast_to(RED, (3, 4, 3)), atol=2)

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa"])
    def test_transparency_is_laid_on_white(self, mode: str) -> None:
        plain = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
        image = Image.new(plain, (2, 2), (0, 0, 0, 51) if plain == "RGBA" else (0, 51))
        np.testing.assert_array_equal(read_image(image.convert(mode)), 204)

    def test_transparent_palette_entry_is_white(self) -> None:
        image = Image.fromarray(np.array([[0, 1]], np.uint8))
        image.putpalette([255, 0, 0, 0, 0, 255])
        result = read_image(encode(image, "PNG", transparency=b"\xff\x00"))
        np.testing.assert_array_equal(result, [[[255, 0, 0], [255, 255, 255]]])

    def test_16_bit_uses_the_full_range(self) -> None:
        values = np.array([[0, 257, 32896, 65535]], np.uint16)
        for format in ("PNG", "TIFF"):
            gray = read_image(encode(Image.fromarray(values), format))[..., 0]
            np.testing.assert_array_equal(gray, [[0, 1, 128, 255]])
        np.testing.assert_array_equal(
            read_image(Image.fromarray(values.astype(np.int32)))[..., 1], [[0, 1, 128, 255]]
        )

    def test_float_uses_its_own_range(self) -> None:
        values = np.array([[-2.0, 0.0, 2.0, np.nan, np.inf]], np.float32)
        with pytest.warns(ImageWarning, match="from -2 as black to 2 as white; --range"):
            gray = read_image(encode(Image.fromarray(values), "TIFF"))[..., 0]
        np.testing.assert_array_equal(gray, [[0, 128, 255, 0, 255]])
        with pytest.warns(ImageWarning, match="from 7 as black to 7 as white"):
            assert (read_image(Image.fromarray(np.full((2, 2), 7.0, np.float32))) == 0).all()

    def test_exif_orientation_is_applied(self, photo: np.ndarray) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        file = encode(Image.fromarray(photo), "PNG", exif=exif)
        np.testing.assert_array_equal(read_image(file), np.rot90(photo, -1))

    def test_broken_exif_is_no_error(self, photo: np.ndarray) -> None:
        file = encode(
            Image.fromarray(photo), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense"
        )
        assert read_image(file).shape == photo.shape

    def test_first_frame_of_an_animation(self) -> None:
        frames = [Image.new("RGB", (3, 2), color) for color in ("red", "lime", "blue")]
        file = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        with pytest.warns(ImageWarning, match="an animation, of which the first frame is read"):
            np.testing.assert_array_equal(read_image(file), np.broadcast_to(RED, (2, 3, 3)))

    def test_pillow_image_is_left_open(self, photo: np.ndarray) -> None:
        image = Image.open(encode(Image.fromarray(photo), "PNG"))
        read_image(image)
        np.testing.assert_array_equal(read_image(image), photo)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"no\.jpg does not exist") as error:
            read_image(tmp_path / "no.jpg")
        one_line(error)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="is a folder") as error:
            read_image(tmp_path)
        one_line(error)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"bad\.jpg is empty"),
            (b"hello, I am text\n", r"bad\.jpg is not an image"),
            (b"\x89PNG\r\n\x1a\n", r"bad\.jpg is (not an image|damaged)"),
        ],
    )
    def test_no_image(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "bad.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=message) as error:
            read_image(path)
        one_line(error)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
    def test_truncated(self, tmp_path: Path, format: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        data = encode(Image.fromarray(noise), format).getvalue()
        path = tmp_path / "cut.jpg"
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=r"cut\.jpg is (damaged|not an image)") as error:
            read_image(path)
        one_line(error)

    def test_decompression_bomb(self) -> None:
        # A header that promises 60000×60000 pixels, and the start of their data.
        header = struct.pack(">2I5B", 60000, 60000, 8, 2, 0, 0, 0)
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
        with pytest.raises(ImageError, match="more than 179 megapixels") as error:
            read_image(io.BytesIO(png))
        one_line(error)

    def test_pixel_limit_is_ours(
        self, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "MAX_PIXELS", photo.shape[0] * photo.shape[1])
        assert read_image(Image.fromarray(photo)).shape == photo.shape
        monkeypatch.setattr(reading, "MAX_PIXELS", photo.shape[0] * photo.shape[1] - 1)
        with pytest.raises(ImageError, match="megapixels"):
            read_image(Image.fromarray(photo))

    def test_half_of_pillows_limit_does_not_warn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        assert read_image(encode(Image.new("L", (15, 10)), "PNG")).shape == (10, 15, 3)

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=200), st.sampled_from(["", "PNG", "JPEG", "GIF", "TIFF", "PPM"]))
    def test_random_bytes_are_an_image_or_an_image_error(self, noise: bytes, format: str) -> None:
        """Noise alone, and noise in the middle of a real file."""
        real = encode(Image.new("RGB", (8, 8), "red"), format).getvalue() if format else b""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageWarning)
                result = read_image(io.BytesIO(real[:40] + noise + real[40 + len(noise) :]))
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3

    @settings(max_examples=80, deadline=None)
    @given(
        mode=st.sampled_from(
            [
                "1",
                "L",
                "P",
                "RGB",
                "RGBA",
                "CMYK",
                "YCbCr",
                "LAB",
                "HSV",
                "I",
                "F",
                "LA",
                "PA",
                "RGBX",
                "RGBa",
                "La",
                "I;16",
                "I;16B",
            ]
        ),
        width=st.integers(1, 40),
        height=st.integers(1, 40),
        orientation=st.integers(0, 9),
    )
    def test_every_mode_is_read(self, mode: str, width: int, height: int, orientation: int) -> None:
        image = Image.new(mode, (width, height))
        image.getexif()[0x0112] = orientation
        result = read_image(image)
        turned = orientation in (5, 6, 7, 8)
        assert result.shape == ((width, height, 3) if turned else (height, width, 3))


class TestAsUint8Rgb:
    def test_every_form_gives_the_same(self, tmp_path: Path, photo: np.ndarray) -> None:
        write_image(photo, tmp_path / "a.png")
        tensor = torch.from_numpy(photo).permute(2, 0, 1)
        forms = [
            tmp_path / "a.png",
            Image.fromarray(photo),
            photo,
            photo.astype(np.uint16) * 257,
            photo.astype(np.float32) / 255,
            np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]),
            tensor,
            tensor[None],
            tensor.double() / 255,
            (tensor.float() / 255).requires_grad_(),
        ]
        for form in forms:
            np.testing.assert_array_equal(as_uint8_rgb(form), photo)

    def test_gray(self, photo: np.ndarray) -> None:
        gray = photo[..., 0]
        expected = np.repeat(gray[..., None], 3, axis=2)
        np.testing.assert_array_equal(as_uint8_rgb(gray), expected)
        np.testing.assert_array_equal(as_uint8_rgb(torch.from_numpy(gray)[None]), expected)
        np.testing.assert_array_equal(as_uint8_rgb(gray > 127)[..., 0], (gray > 127) * 255)

    def test_alpha_is_laid_on_white(self) -> None:
        array = np.zeros((2, 2, 4), np.uint8)
        np.testing.assert_array_equal(as_uint8_rgb(array), 255)

    def test_bfloat16(self) -> None:
        assert (as_uint8_rgb(torch.ones(3, 2, 2, dtype=torch.bfloat16)) == 255).all()

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros((3, 8, 8), np.uint8), r"shape \[3, 8, 8\], expected \[H, W\]"),
            (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
            (np.zeros(8, np.uint8), r"shape \[8\]"),
            (np.zeros((8, 8, 3), np.int64), "dtype int64"),
            (np.full((8, 8, 3), 255.0), "from 255 to 255, expected 0..1"),
            (np.full((8, 8), np.nan), "without NaN"),
            (np.full((8, 8), -0.5), "from -0.5"),
            (torch.zeros(8, 8, 3), r"shape \[8, 8, 3\], expected \[3, H, W\]"),
            (torch.zeros(2, 3, 8, 8), "one image at a time"),
            (torch.zeros(3, 0, 8, dtype=torch.uint8), r"shape \[3, 0, 8\].* at least one pixel"),
            (torch.zeros(8, 8), r"shape \[8, 8\]"),
            (torch.zeros(3, 8, 8, dtype=torch.int32), "dtype int32"),
        ],
    )
    def test_what_is_no_image(self, image: object, message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            as_uint8_rgb(image)
        one_line(error)


class TestListImages:
    def test_folders_and_files(self, tmp_path: Path) -> None:
        for name in (
            "b.PNG",
            "a.jpg",
            "sub/c.webp",
            ".hidden.png",
            ".git/d.png",
            "note.txt",
            "raw",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        expected = [tmp_path / name for name in ("a.jpg", "b.PNG", "sub/c.webp")]
        assert list_images(tmp_path) == expected
        assert list_images([tmp_path / "raw", str(tmp_path), expected[0]]) == [
            tmp_path / "raw",
            *expected,
        ]

    def test_hidden_folder_may_be_named(self, tmp_path: Path) -> None:
        (tmp_path / ".cache").mkdir()
        (tmp_path / ".cache/a.png").touch()
        assert list_images(tmp_path / ".cache") == [tmp_path / ".cache/a.png"]

    def test_nothing_found(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="has no images") as error:
            list_images([tmp_path])
        one_line(error)
        with pytest.raises(ImageError, match="nowhere does not exist"):
            list_images(tmp_path / "nowhere")


class TestLabels:
    def test_round_trip_with_palette(self, tmp_path: Path) -> None:
        labels = np.array([[0, 1, 2], [255, 17, 2]])
        palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
        write_labels(labels, palette, tmp_path / "labels.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), labels)
        colors = read_image(tmp_path / "labels.png")
        np.testing.assert_array_equal(colors[0], palette)
        np.testing.assert_array_equal(colors[1, :2], 0)

    def test_gray_values(self, tmp_path: Path) -> None:
        for dtype in (np.uint8, np.uint16):
            labels = np.array([[0, 1], [18, np.iinfo(dtype).max]], dtype)
            Image.fromarray(labels).save(tmp_path / "gray.png")
            read = read_labels(tmp_path / "gray.png")
            assert read.dtype == dtype
            np.testing.assert_array_equal(read, labels)

    def test_one_bit(self) -> None:
        image = Image.fromarray(np.array([[True, False]]))
        np.testing.assert_array_equal(read_labels(image), [[1, 0]])

    def test_rgb_is_refused(self, tmp_path: Path, photo: np.ndarray) -> None:
        write_image(photo, tmp_path / "rgb.png")
        with pytest.raises(ImageError, match="mode RGB, expected class indices") as error:
            read_labels(tmp_path / "rgb.png")
        one_line(error)

    def test_what_a_palette_png_cannot_hold(self, tmp_path: Path) -> None:
        palette = np.zeros((2, 3), np.uint8)
        with pytest.raises(ValueError, match="-1 to 65536, and cannot be written to"):
            write_labels(np.array([[-1, 65536]]), palette, tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"Use \.png"):
            write_labels(np.array([[0, 1]]), palette, tmp_path / "a.jpg")
        assert not list(tmp_path.iterdir())

    def test_more_than_256_classes_take_16_bits(self, tmp_path: Path) -> None:
        labels = np.array([[0, 256], [300, 65535]])
        write_labels(labels, np.zeros((301, 3), np.uint8), tmp_path / "a.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
        write_labels(labels[:1, :1], np.zeros((301, 3), np.uint8), tmp_path / "b.png")
        assert read_labels(tmp_path / "b.png").dtype == np.uint8


class TestAtomicWrite:
    def test_failure_leaves_the_old_file_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")

        def fail(temporary: Path) -> None:
            temporary.write_text("half")
            raise RuntimeError("interrupted")

        with pytest.raises(RuntimeError, match="interrupted"):
            atomic_write(path, fail)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_replaces_and_follows_links(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target.txt", tmp_path / "link.txt"
        target.write_text("old")
        link.symlink_to(target)
        atomic_write(link, lambda temporary: temporary.write_text("new"))
        assert link.is_symlink() and target.read_text() == "new"

    def test_permissions_follow_the_umask(self, tmp_path: Path) -> None:
        (tmp_path / "plain").touch()
        atomic_write(tmp_path / "a", lambda temporary: temporary.touch())
        modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain", "a")}
        assert len(modes) == 1

    def test_where_nothing_can_be_written(self, tmp_path: Path, photo: np.ndarray) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder.png").mkdir()
        cases = {
            "no/a.png": "there is no folder",
            "file/a.png": "there is no folder",
            "folder.png": "it is a folder",
        }
        for name, message in cases.items():
            with pytest.raises(OSError, match=message) as error:
                write_image(photo, tmp_path / name)
            one_line(error)

    def test_device_is_not_replaced(self) -> None:
        with pytest.raises(OSError, match="not a regular file"):
            atomic_write(os.devnull, lambda temporary: temporary.touch())
        assert not Path(os.devnull).is_file()

    def test_error_of_the_system_names_the_path(self, tmp_path: Path) -> None:
        def full(temporary: Path) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match=r"cannot write .*a\.png: No space left") as error:
            atomic_write(tmp_path / "a.png", full)
        one_line(error)

    def test_unknown_suffix(self, tmp_path: Path, photo: np.ndarray) -> None:
        for name in ("a.xyz", "a"):
            with pytest.raises(ValueError, match="unknown image suffix"):
                write_image(photo, tmp_path / name)
