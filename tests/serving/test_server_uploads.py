"""Files that strangers send: refused by their headers, before anything is decoded."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from serving_files import bomb, png, saved

from sparserefine.images import ImageError
from sparserefine.serving.uploaded import check_mask, read_upload

LIMIT = 1_000_000


def test_photos_are_read_as_elsewhere() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert (read_upload(png(image), LIMIT).image == image).all()
    deep = saved(Image.fromarray(image[..., 0].astype(np.uint16) * 257), "TIFF")
    assert read_upload(deep, LIMIT).deep is not None


@pytest.mark.parametrize("side", [1200, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(ImageError, match=r"megapixels|too large"):
        read_upload(bomb(side), LIMIT)
    with pytest.raises(ImageError, match="the mask"):
        check_mask(bomb(side), LIMIT)


def test_a_large_page_behind_a_small_one_is_seen() -> None:
    small, large = Image.new("L", (10, 10)), Image.new("L", (1500, 1500))
    pages = saved(small, "TIFF", save_all=True, append_images=[large], compression="packbits")
    with pytest.raises(ImageError, match=r"2\.2 megapixels"):
        read_upload(pages, LIMIT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello", "none of JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "none of JPEG"),
        (bomb(9)[:20], "none of JPEG|damaged"),
        (png(np.arange(4800).reshape(40, 40, 3).astype(np.uint8))[:90], "damaged"),
        (b"\x93NUMPY", "none of JPEG"),
    ],
)
def test_what_is_no_photo_is_told(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_upload(data, LIMIT)


def test_arrays_are_masks_if_their_header_is_true() -> None:
    file = BytesIO()
    np.save(file, np.eye(5, dtype=np.float32))
    assert (check_mask(file.getvalue(), LIMIT) == np.eye(5)).all()
    lie = file.getvalue().replace(b"(5, 5)", b"(9999999, 5)").replace(b" " * 6 + b"\n", b"\n")
    for data in (lie, file.getvalue()[:-4], b"\x93NUMPY\x01", b"\x93NUMPY\x09\x00" + bytes(90)):
        with pytest.raises(ImageError, match="the mask is no array"):
            check_mask(data, LIMIT)
    objects = BytesIO()
    np.save(objects, np.array([{}], dtype=object))
    with pytest.raises(ImageError, match="no array"):
        check_mask(objects.getvalue(), LIMIT)
