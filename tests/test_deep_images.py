"""Images of 16 bits a channel: no bit is lost in reading and writing."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparserefine.deep_images import write_png16
from sparserefine.images import open_photo, read_image


def noise(channels: int, size: tuple[int, int] = (5, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (*size, channels)).astype(np.uint16)


def png(pixels: np.ndarray) -> bytes:
    """A PNG without filters, by the letter of its specification."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    color = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, order: str, compression: int, orientation: int = 1) -> bytes:
    """A TIFF of one strip; order "<" or ">", compression 1 (none) or 8 (deflate)."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    short, long = 3, 4
    entries = [
        (256, long, 1, width), (257, long, 1, height), (258, short, channels, 0),
        (259, short, 1, compression), (262, short, 1, 2), (273, long, 1, 0),
        (274, short, 1, orientation), (277, short, 1, channels), (278, long, 1, height),
        (279, long, 1, len(data)), (284, short, 1, 1),
    ]  # fmt: skip
    behind = 8 + 2 + 12 * len(entries) + 4
    depths = struct.pack(f"{order}{channels}H", *[16] * channels)
    places = {258: behind, 273: behind + len(depths)}
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        packed = "HH" if (kind, count) == (short, 1) else "I"
        values = (places.get(tag, value), 0)[: len(packed)]
        out += struct.pack(f"{order}HHI{packed}", tag, kind, count, *values)
    return out + struct.pack(f"{order}I", 0) + depths + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
def test_tiffs_are_read_in_full(order: str, compression: int) -> None:
    pixels = noise(3)
    found = open_photo(BytesIO(tiff(pixels, order, compression))).deep
    np.testing.assert_array_equal(found, pixels)
    turned = open_photo(BytesIO(tiff(pixels, order, compression, orientation=6))).deep
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))


def test_pngs_are_read_in_full(tmp_path: Path) -> None:
    pixels = noise(3)
    (tmp_path / "deep.png").write_bytes(png(pixels))
    np.testing.assert_array_equal(open_photo(tmp_path / "deep.png").deep, pixels)
    gray = noise(1)
    np.testing.assert_array_equal(open_photo(BytesIO(png(gray))).deep, np.repeat(gray, 3, 2))
    np.testing.assert_array_equal(open_photo(gray[..., 0]).deep, np.repeat(gray, 3, 2))
    np.testing.assert_array_equal(open_photo(pixels).deep, pixels)


def test_transparency_is_laid_on_white_as_in_8_bits() -> None:
    pixels = noise(4)
    found = open_photo(BytesIO(png(pixels))).deep
    assert found is not None
    shallow = read_image(BytesIO(png(pixels)))
    assert np.abs(found / 257 - shallow).max() < 3


def test_other_images_have_no_16_bits(tmp_path: Path) -> None:
    pixels = noise(3).astype(np.uint8)
    for suffix in ("png", "jpg", "tif", "bmp", "webp", "gif"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        assert open_photo(tmp_path / f"a.{suffix}").deep is None
    assert open_photo(pixels).deep is None
    assert open_photo(Image.open(BytesIO(png(noise(3))))).deep is None


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_written_png_holds_every_bit(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.deep_images._CHUNK", 40)  # several parts
    pixels = noise(channels, (9, 5))
    if channels == 4:
        pixels[..., 3] = 65535
    write_png16(pixels, tmp_path / "a.png", icc_profile=b"a profile" * 99)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (5, 9) and image.info["icc_profile"] == b"a profile" * 99
    expected = np.broadcast_to(pixels[..., :3], (9, 5, 3))
    np.testing.assert_array_equal(open_photo(tmp_path / "a.png").deep, expected)
