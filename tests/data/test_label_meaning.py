"""What labels mean: doubts are raised with a histogram, and settled by an option."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile

from dataset_files import SIZE, label_map, photo, stripes
from sparserefine.data import LabeledFolder, open_dataset
from sparserefine.data.color_table import read_color_table, voc_colors
from sparserefine.data.label_values import MEANINGS, LabelValues
from sparserefine.data.source import sample_key
from sparserefine.images import ImageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    photo(tmp_path / "images/a.png")
    return tmp_path


def labels(root: Path, num_classes: int = 2, rule: str | None = None) -> list[list[int]]:
    """Values of the label map of each image, in the order of their columns."""
    dataset = open_dataset(root, num_classes=num_classes, label_values=rule)
    found = [sample.labels for sample in dataset]
    return [list(dict.fromkeys(one[0].tolist())) for one in found if one is not None]


class TestOneObject:
    def test_0_and_255_are_refused(self, root: Path) -> None:
        label_map(root / "labels/a.png", (0, 255))
        match = r'no label but 0 and 255.*0: 96, 255: 672.*label_values="binary" \(--label-values b'
        for classes in (2, 19):
            with pytest.raises(ValueError, match=match):
                open_dataset(root, num_classes=classes)
        with pytest.raises(ValueError, match=match):
            _ = LabeledFolder(root / "images", root / "labels", 2)[0]
        assert labels(root, rule="binary") == [[0, 1]]
        assert labels(root, rule="classes") == [[0, 255]]
        assert labels(root, rule="0=0,255=1") == [[0, 1]]

    def test_other_classes_settle_it(self, root: Path) -> None:
        label_map(root / "labels/a.png", (0, 255))
        photo(root / "images/b.png")
        label_map(root / "labels/b.png", (0, 1))
        assert labels(root) == [[0, 255], [0, 1]]

    def test_it_is_seen_where_the_first_look_did_not_meet_it(self, root: Path) -> None:
        for index in range(40):
            photo(root / f"images/{index:02}.png", (4, 4))
            label_map(root / f"labels/{index:02}.png", (0,), (4, 4))
        (root / "images/a.png").unlink()
        label_map(root / "labels/20.png", (0, 255), (4, 4))
        dataset = open_dataset(root, num_classes=2)
        assert dataset[0].labels is not None
        label_map(root / "labels/20.png", (255,), (4, 4))
        with pytest.raises(ValueError, match=r"20\.png: no label but 0 and 255"):
            _ = dataset[20]

    def test_0_and_128_are_refused(self, root: Path) -> None:
        label_map(root / "labels/a.png", (0, 128))
        with pytest.raises(ValueError, match=r"like a mask of one object.*0: 96, 128: 672.*128=1"):
            open_dataset(root, num_classes=150)
        with pytest.raises(ValueError, match=r"beyond 0\.\.1 and 255.*0=0,128=1"):
            open_dataset(root, num_classes=2)
        assert labels(root, rule="0=0,128=1") == [[0, 1]]
        with pytest.raises(ValueError, match="has the value 128, expected 0 and 255"):
            open_dataset(root, num_classes=2, label_values="binary")

    def test_0_and_1_stay(self, root: Path) -> None:
        label_map(root / "labels/a.png", (0, 1))
        assert labels(root) == labels(root, rule="binary") == [[0, 1]]

    def test_0_and_1_of_many_classes_are_refused(self, root: Path) -> None:
        label_map(root / "labels/a.png", (0, 1))
        with pytest.raises(
            ValueError, match=r"no label but 0 and 1, .* but the model has 19 class"
        ):
            open_dataset(root, num_classes=19)
        assert labels(root, 19, "classes") == [[0, 1]]

    def test_soft_edges(self, root: Path) -> None:
        label_map(root / "labels/a.png", (0, 60, 200, 255))
        with pytest.raises(ValueError, match=r'0: 96, 60: 96, .*with soft edges.*"binary"'):
            open_dataset(root, num_classes=2)
        assert labels(root, rule="binary") == [[0, 1]]

    def test_jpeg(self, root: Path) -> None:
        label_map(root / "labels/a.jpg", (0, 255))
        with pytest.raises(ValueError, match="is a JPEG, which changes class numbers"):
            open_dataset(root, num_classes=2)
        assert labels(root, rule="binary") == [[0, 1]]

    def test_saved_as_rgb(self, root: Path) -> None:
        (root / "labels").mkdir()
        Image.fromarray(stripes((0, 255))).convert("RGB").save(root / "labels/a.png")
        with pytest.raises(ValueError, match="no label but 0 and 255"):
            open_dataset(root, num_classes=2)
        assert labels(root, rule="binary") == [[0, 1]]


def test_jpegs_of_classes_are_refused_whatever_they_are_called(root: Path) -> None:
    label_map(root / "labels/a.jpg", (0, 3, 1, 2))
    (root / "labels/a.jpg").rename(root / "labels/a.png")
    for rule in (None, "classes", "from-1"):
        with pytest.raises(ValueError, match=r"a\.png is a JPEG.*pixels per value: 0: "):
            open_dataset(root, num_classes=4, label_values=rule)


def test_labels_from_1(root: Path) -> None:
    label_map(root / "labels/a.png", (0, 1, 3))
    with pytest.raises(ValueError, match=r'beyond 0\.\.2 and 255.*count from 1.*"from-1"'):
        open_dataset(root, num_classes=3)
    assert labels(root, 3, "from-1") == [[255, 0, 2]]
    dataset = open_dataset(root, num_classes=4)
    assert isinstance(dataset, LabeledFolder)
    with pytest.raises(ValueError, match=r'may count from 1.*0: 96, 1: 96, 3: 576.*"classes"'):
        dataset.check_meaning(from_1=True)


def test_ids_of_cityscapes(root: Path) -> None:
    label_map(root / "labels/a.png", (0, 7, 8, 26, 33))
    with pytest.raises(ValueError, match='the ids of Cityscapes, say label_values="cityscapes-ids'):
        open_dataset(root, num_classes=19)
    assert labels(root, 19, "cityscapes-ids") == [[255, 0, 1, 13, 18]]


def test_classes_that_were_spread_to_be_seen(root: Path) -> None:
    label_map(root / "labels/a.png", (0, 80, 160))
    with pytest.raises(ValueError, match=r"label_values=.0=0,80=1,160=2"):
        open_dataset(root, num_classes=3)
    assert labels(root, 3, "0=0,80=1,160=2") == [[0, 1, 2]]
    with pytest.raises(ValueError, match=r"has the values 160, of which 0=0,80=1 says nothing"):
        open_dataset(root, num_classes=3, label_values="0=0,80=1")


class TestColors:
    @pytest.fixture
    def colored(self, root: Path) -> Path:
        (root / "labels").mkdir()
        colors = np.array([(128, 0, 0), (0, 128, 0), (224, 224, 192)], np.uint8)
        Image.fromarray(colors[stripes((0, 1, 2))]).save(root / "labels/a.png")
        return root

    def test_they_are_refused(self, colored: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.png is a picture of colors.*label_values=FILE"):
            open_dataset(colored, num_classes=21)

    def test_those_of_voc(self, colored: Path) -> None:
        assert labels(colored, 21, "voc-colors") == [[1, 2, 255]]
        known = {0x000000: 0, 0x800000: 1, 0x008000: 2, 0xC08080: 15, 0x004080: 20}
        assert voc_colors().colors.items() >= known.items() and len(voc_colors().colors) == 22

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("c.txt", "# CamVid's\n128 0 0\troad\n0 128 0\tcar\n\n224 224 192\tVoid\n"),
            ("c.csv", "name, r, g, b\nroad, 128, 0, 0\ncar, 0, 128, 0\nvoid, 224, 224, 192\n"),
            ("c.json", '{"road": [128, 0, 0], "car": [0, 128, 0], "void": [224, 224, 192]}'),
        ],
    )
    def test_those_of_a_file(self, colored: Path, name: str, text: str) -> None:
        file = colored / name
        file.write_text(text)
        assert labels(colored, 2, str(file)) == [[0, 1, 255]]
        assert read_color_table(file).names == ("road", "car")

    def test_strange_colors(self, colored: Path) -> None:
        file = colored / "c.txt"
        file.write_text("128 0 0\n")
        with pytest.raises(ValueError, match=r"colors that .*c\.txt lacks.*\(0, 128, 0\): 96"):
            open_dataset(colored, num_classes=2, label_values=str(file))

    @pytest.mark.parametrize("text", ["", "road", "1 2 300 a", "1 2 3 a\n1 2 3 b"])
    def test_no_table(self, colored: Path, text: str) -> None:
        (colored / "c.txt").write_text(text)
        with pytest.raises(
            ValueError, match=r"c\.txt is not a table of colors \(.*128 64 128 road"
        ):
            read_color_table(colored / "c.txt")

    def test_a_palette_has_colors_too(self, root: Path) -> None:
        (root / "labels").mkdir()
        image = Image.fromarray(stripes((1, 0)))
        image.putpalette([0, 128, 0, 128, 0, 0])  # not in VOC's order
        image.save(root / "labels/a.png")
        assert labels(root) == [[1, 0]]
        assert labels(root, 21, "voc-colors") == [[1, 2]]


def test_palettes_that_differ_are_no_classes(root: Path) -> None:
    """Colors that a program turned into a palette of its own for each image."""
    photo(root / "images/b.png")
    (root / "labels").mkdir()
    for name, palette in (("a", [0, 0, 0, 128, 0, 0]), ("b", [128, 0, 0, 0, 0, 0])):
        image = Image.fromarray(stripes((0, 1)))
        image.putpalette(palette)
        image.save(root / f"labels/{name}.png")
    with pytest.raises(
        ValueError, match=r"value 0 has the color \(128, 0, 0\) in .*b\.png, but \(0, 0"
    ):
        open_dataset(root, num_classes=2)
    assert labels(root, 2, "classes") == [[0, 1], [0, 1]]
    assert labels(root, 21, "voc-colors") == [[0, 1], [1, 0]]


class TestTurned:
    """EXIF orientation 6: shown turned by 90 degrees."""

    def write(self, root: Path, of_photo: int, of_labels: int, size: tuple[int, int]) -> None:
        for folder, orientation in (("images", of_photo), ("labels", of_labels)):
            exif = Image.Exif()
            exif[0x0112] = orientation
            (root / folder).mkdir(exist_ok=True)
            stored = SIZE if folder == "images" else size
            array = stripes((0, 1), stored)
            image = Image.fromarray(array).convert("RGB" if folder == "images" else "L")
            image.save(root / folder / "a.png", exif=exif)

    @pytest.mark.parametrize("orientation", [1, 3, 6])
    def test_both_alike(self, root: Path, orientation: int) -> None:
        self.write(root, orientation, orientation, SIZE)
        found = open_dataset(root, num_classes=2)[0].labels
        stored = stripes((0, 1))
        turned = {1: stored, 3: stored[::-1, ::-1], 6: np.rot90(stored, -1)}
        assert found is not None
        np.testing.assert_array_equal(found.numpy(), turned[orientation])

    def test_upright_labels_of_a_turned_photo(self, root: Path) -> None:
        self.write(root, 6, 1, SIZE[::-1])
        found = open_dataset(root, num_classes=2)[0].labels
        assert found is not None and tuple(found.shape) == SIZE[::-1]

    def test_labels_turned_otherwise(self, root: Path) -> None:
        self.write(root, 1, 3, SIZE)
        with pytest.raises(ValueError, match="has the EXIF orientation 3, but its photo has 1"):
            open_dataset(root, num_classes=2)

    def test_labels_as_the_photo_is_stored(self, root: Path) -> None:
        self.write(root, 6, 1, SIZE)
        with pytest.raises(ValueError, match=r"24×32, but its image .* 32×24.*before its EXIF rot"):
            _ = open_dataset(root, num_classes=2)[0]


def test_transparency_is_refused(root: Path) -> None:
    (root / "labels").mkdir()
    image = Image.fromarray(stripes((0, 1))).convert("RGBA")
    image.save(root / "labels/a.png")
    assert labels(root) == [[0, 1]]
    image.putalpha(100)
    image.save(root / "labels/a.png")
    dataset = open_dataset(root, num_classes=2)
    with pytest.raises(ImageError, match="has transparent pixels, expected a class of each"):
        _ = dataset[0]


def test_rules() -> None:
    for name in MEANINGS:
        assert LabelValues.of(name).name == name
    with pytest.raises(ValueError, match="label_values is 'ids', expected one of classes, binary"):
        LabelValues.of("ids")


def test_what_is_kept_is_kept_under_the_rule(root: Path) -> None:
    """A training cache must not use targets that another rule gave."""
    label_map(root / "labels/a.png", (0, 255))
    keys = {
        rule: sample_key(open_dataset(root, num_classes=2, label_values=rule), 0)
        for rule in ("classes", "binary", "0=0,255=1", "0=1,255=0")
    }
    assert len(set(keys.values())) == 4
    label_map(root / "labels/a.png", (0, 1))
    plain = open_dataset(root, num_classes=2)
    named = open_dataset(root, num_classes=2, label_values="classes")
    assert sample_key(plain, 0) == sample_key(named, 0)


LOSSY = {
    "webp": ({"quality": 80}, "a lossy WebP"),
    "jp2": ({"irreversible": True, "quality_layers": [20]}, "a lossy JPEG 2000"),
    "tif": ({"compression": "jpeg"}, "a TIFF with JPEG in it"),
    "jpg": ({}, "a JPEG"),
}
EXACT = {"webp": {"lossless": True}, "jp2": {}, "tif": {"compression": "tiff_lzw"}}


class TestCompression:
    """What photos are compressed by changes classes."""

    @pytest.mark.parametrize("suffix", LOSSY)
    def test_lossy_files_are_refused(self, root: Path, suffix: str) -> None:
        options, kind = LOSSY[suffix]
        (root / "masks").mkdir()
        picture = Image.fromarray(stripes((0, 1, 2))).convert("RGB")
        picture.save(root / f"masks/a.{suffix}", **options)
        for rule in (None, "classes"):
            with pytest.raises(ValueError, match=rf"masks/a\.{suffix} is {kind}, which changes"):
                _ = open_dataset(root, label_values=rule)[0]

    @pytest.mark.parametrize("suffix", EXACT)
    def test_lossless_files_are_read(self, root: Path, suffix: str) -> None:
        (root / "masks").mkdir()
        picture = Image.fromarray(stripes((0, 1, 2)))
        picture.convert("RGB").save(root / f"masks/a.{suffix}", **EXACT[suffix])
        assert labels(root, 3) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("rule", "values", "match"),
    [
        ("1=2,1=3", (0, 1), "with a value twice"),
        ("0=0,1=70000", (0, 1), "expected classes below 65535"),
        ("binary", (0, 1, 255), r"has the values 0, 1 and 255.*label_values=classes"),
    ],
)
def test_rules_that_cannot_be(root: Path, rule: str, values: tuple[int, ...], match: str) -> None:
    label_map(root / "masks/a.png", values)
    with pytest.raises(ValueError, match=match):
        labels(root, rule=rule)


def test_values_that_are_no_gray_of_a_table(root: Path) -> None:
    (root / "masks").mkdir()
    Image.fromarray(stripes((0, 1)).astype(np.uint16) * 256).save(root / "masks/a.png")
    (root / "colors.txt").write_text("0 0 0 road\n1 1 1 car\n")
    with pytest.raises(ValueError, match=r"has gray values up to 256, and no colors"):
        labels(root, rule=str(root / "colors.txt"))


@pytest.mark.parametrize(("none", "dtype"), [(254, np.uint8), (65535, np.uint16)])
def test_the_last_value_is_likely_no_class(root: Path, none: int, dtype: type) -> None:
    (root / "masks").mkdir()
    values = stripes((0, 1, 2)).astype(dtype)
    values[values == 2] = none
    Image.fromarray(values).save(root / "masks/a.png")
    with pytest.raises(ValueError, match=rf"and {none} does not count, say .*0=0,1=1,{none}=255"):
        open_dataset(root, num_classes=19)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("quality", [60, 100])
def test_an_avif_label_map_is_refused(root: Path, quality: int) -> None:
    (root / "labels").mkdir()
    Image.fromarray(stripes((0, 1, 2))).convert("RGB").save(root / "labels/a.avif", quality=quality)
    with pytest.raises(ValueError, match=r"a\.avif is an AVIF, which changes class numbers"):
        open_dataset(root, num_classes=3)
    Image.fromarray(stripes((0, 255))).convert("RGB").save(root / "labels/a.avif", quality=quality)
    with pytest.raises(ValueError, match=r'a\.avif is an AVIF.*label_values="binary"'):
        open_dataset(root, num_classes=2)
    assert labels(root, rule="binary") == [[0, 1]]


def test_a_heif_label_map_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by an imitation of pillow-heif: a PNG behind the first bytes of a HEIC."""
    head = b"\0\0\0\x18ftypheic"

    class Opened(PngImageFile):
        format = "HEIF"  # type: ignore[assignment]

    def read(file: BinaryIO, name: str) -> Opened:
        file.seek(len(head))
        return Opened(BytesIO(file.read()))

    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setattr(Image, "EXTENSION", {**Image.EXTENSION})
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    Image.register_open("HEIF", read, lambda prefix: prefix.startswith(head[:8]))  # type: ignore[arg-type]
    Image.register_extension("HEIF", ".heic")
    monkeypatch.setattr("sparserefine.images.reading.can_read_heif", lambda: True)
    picture = BytesIO()
    Image.fromarray(stripes((0, 1, 2))).save(picture, "PNG")
    (root / "labels").mkdir()
    (root / "labels/a.heic").write_bytes(head + picture.getvalue())
    with pytest.raises(ValueError, match=r"a\.heic is a HEIF, which changes class numbers"):
        open_dataset(root, num_classes=3)
