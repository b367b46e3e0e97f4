"""Pictures of labels, uncertainty and selected pixels: pure functions, arrays in and arrays out.

All images are [H, W, 3] uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Integer, Num, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

RGB = UInt8[np.ndarray, "H W 3"]
Drawing = UInt8[np.ndarray, "rows columns 3"]
Box = tuple[int, int, int, int]
"""(top, left, height, width) in pixels."""

HIGHLIGHT = (255, 112, 0)
_INK = (38, 38, 38)
_GAP_PX = 14
# Dark to bright, evenly in perceived lightness, so that it also reads in gray.
_ENTROPY_ANCHORS = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)]
)


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture with a title, for `panel_grid`."""

    title: str
    image: UInt8[np.ndarray, "H W 3"]


def default_palette(num_classes: int) -> UInt8[np.ndarray, "K 3"]:
    """Well separated colors for classes without colors of their own.

    Each color is the one farthest from all before it in Oklab, among colors that stand out from
    black, so the palette of fewer classes begins that of more. After 256 colors it repeats.

    Args:
        num_classes: Number of classes K.

    Source: Ottosson 2020, bottosson.github.io/posts/oklab.
    """
    return _distinct_colors()[np.arange(num_classes) % 256]


def colorize(labels: Integer[np.ndarray, "H W"], palette: UInt8[np.ndarray, "K 3"]) -> RGB:
    """Paint each label in its color; labels outside the palette, such as 255, are black."""
    num_classes = len(palette)
    known = (labels >= 0) & (labels < num_classes)
    colors = np.concatenate([palette, np.zeros((1, 3), np.uint8)])
    return colors[np.where(known, labels, num_classes)]


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    labels: Integer[np.ndarray, "H W"],
    palette: UInt8[np.ndarray, "K 3"],
    alpha: float = 0.5,
) -> RGB:
    """Lay the colors of the labels over the photo.

    Args:
        image: The photo.
        labels: Label of each of its pixels; those outside the palette show the bare photo.
        palette: RGB of each class.
        alpha: Opacity of the colors, 0..1.
    """
    known = (labels >= 0) & (labels < len(palette))
    blended = _blend(image, colorize(labels, palette), alpha)
    return np.where(known[..., None], blended, image)


def entropy_map(entropy: Float[np.ndarray, "h w"], max_nats: float) -> UInt8[np.ndarray, "h w 3"]:
    """Paint uncertainty from black (sure) over purple and orange to yellow (unsure).

    Args:
        entropy: Entropy of each pixel in nats; NaN counts as 0.
        max_nats: Entropy that is shown brightest, such as ln K; more is as bright.
    """
    share = np.nan_to_num(entropy.astype(np.float64)) / max_nats
    stops = np.linspace(0, 1, len(_ENTROPY_ANCHORS))
    positions = np.linspace(0, 1, 256)
    ramp = np.stack([np.interp(positions, stops, channel) for channel in _ENTROPY_ANCHORS.T], 1)
    return ramp.round().astype(np.uint8)[(share.clip(0, 1) * 255).round().astype(np.uint8)]


def mask_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    color: tuple[int, int, int] = HIGHLIGHT,
) -> RGB:
    """Highlight the selected pixels on a pale gray copy of the photo."""
    gray = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    pale = np.broadcast_to(70 + gray * 0.6, image.shape).astype(np.uint8)
    marked = _blend(pale, np.broadcast_to(np.array(color, np.uint8), image.shape), 0.85)
    return np.where(mask[..., None], marked, pale)


def box_outline(
    image: UInt8[np.ndarray, "H W 3"],
    box: Box,
    color: tuple[int, int, int] = HIGHLIGHT,
    thickness: int | None = None,
) -> RGB:
    """Outline a box with a line of `thickness` pixels around it, by default 1 per 250 pixels."""
    height, width = image.shape[:2]
    thickness = thickness or max(1, round(max(height, width) / 250))
    top, left = box[0], box[1]
    bottom, right = top + box[2], left + box[3]
    outlined = image.copy()
    rows = slice(max(top - thickness, 0), bottom + thickness)
    columns = slice(max(left - thickness, 0), right + thickness)
    outlined[rows, columns] = color
    outlined[top:bottom, left:right] = image[top:bottom, left:right]
    return outlined


def resize_nearest(
    array: Shaped[np.ndarray, "h w *C"], size: tuple[int, int]
) -> Shaped[np.ndarray, "H W *C"]:
    """Repeat or drop rows and columns to reach (height, width) `size`; any dtype."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(array.shape[:2], size, strict=True)
    )
    return array[rows[:, None], columns]


def fit(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> Drawing:
    """Scale an image to lie in (height, width) `size`, on white where the proportions differ.

    Enlarging keeps the pixels visible as squares; shrinking averages them.
    """
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = max(round(height * scale), 1), max(round(width * scale), 1)
    if scale >= 1:
        scaled = resize_nearest(image, inner)
    else:
        shrunk = Image.fromarray(image).resize(inner[::-1], Image.Resampling.BOX)
        scaled = np.asarray(shrunk)
    canvas = np.full((*size, 3), 255, np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = scaled
    return canvas


def legend(names: Sequence[str], colors: UInt8[np.ndarray, "K 3"], width: int) -> Drawing:
    """Draw the names of classes beside swatches of their colors, in as many lines as needed.

    Args:
        names: Name of each class.
        colors: RGB of each class.
        width: Width of the result, in pixels; the text grows with it.
    """
    font = _font(width)
    size = _text_height(font)
    row = round(size * 1.5)
    columns = [size * 1.5 + font.getlength(name) + size * 1.2 for name in names]
    places: list[tuple[float, int]] = []
    x, y = 0.0, 0
    for advance in columns:
        if x and x + advance - size * 1.2 > width:
            x, y = 0.0, y + row
        places.append((x, y))
        x += advance
    canvas = Image.new("RGB", (width, y + row), "white")
    draw = ImageDraw.Draw(canvas)
    for name, color, (left, top) in zip(names, colors.tolist(), places, strict=True):
        middle = top + row / 2
        swatch = (left, middle - size / 2, left + size, middle + size / 2)
        draw.rectangle(swatch, fill=tuple(color), outline=(120, 120, 120))
        draw.text((left + size * 1.5, middle), name, fill=_INK, font=font, anchor="lm")
    return np.array(canvas)


def panel_grid(panels: Sequence[Panel], columns: int, width: int = 2000) -> Drawing:
    """Lay out pictures in rows, each below its title, all of the same size.

    Args:
        panels: The pictures, row by row. The first gives the proportions, within 1:3 and 3:1; the
            others are fitted.
        columns: Number of pictures in a row.
        width: Width of the result, in pixels.

    Raises:
        ValueError: There are no panels, or they would be less than 16 pixels wide.
    """
    if not panels or columns < 1 or width < columns * (16 + _GAP_PX):
        raise ValueError(
            f"{len(panels)} panels in {columns} columns do not fit {width} pixels. Give one panel "
            f"and one column or more, and {16 + _GAP_PX} pixels of width for each column."
        )
    font = _font(width)
    cell_width = (width - (columns - 1) * _GAP_PX) // columns
    height, first_width = panels[0].image.shape[:2]
    cell_height = round(cell_width * min(max(height / first_width, 1 / 3), 3))
    title_height = round(_text_height(font) * 1.6)
    pitch = title_height + cell_height + _GAP_PX
    rows = -(-len(panels) // columns)
    canvas = Image.new("RGB", (width, rows * pitch - _GAP_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = column * (cell_width + _GAP_PX), row * pitch
        title = _shorten(panel.title, font, cell_width)
        draw.text((left, top + title_height / 2), title, fill=_INK, font=font, anchor="lm")
        picture = Image.fromarray(fit(panel.image, (cell_height, cell_width)))
        canvas.paste(picture, (left, top + title_height))
    return np.array(canvas)


def best_window(
    gain: Num[np.ndarray, "H W"] | Bool[np.ndarray, "H W"], size: tuple[int, int]
) -> Box:
    """Find the box with the largest sum of `gain`; of equal ones the first, row by row.

    Args:
        gain: Gain of each pixel, such as +1 where a label was corrected and −1 where it regressed.
        size: (height, width) of the box; cut to the image where larger.
    """
    height, width = (min(want, have) for want, have in zip(size, gain.shape, strict=True))
    integral = np.zeros((gain.shape[0] + 1, gain.shape[1] + 1), np.float64)
    integral[1:, 1:] = gain.astype(np.float64).cumsum(0).cumsum(1)
    sums = (
        integral[height:, width:]
        - integral[:-height, width:]
        - integral[height:, :-width]
        + integral[:-height, :-width]
    )
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left), height, width


def before_after(
    image: UInt8[np.ndarray, "H W 3"],
    low_labels: Integer[np.ndarray, "h w"],
    entropy: Float[np.ndarray, "h2 w2"],
    mask: Bool[np.ndarray, "H W"],
    labels: Integer[np.ndarray, "H W"],
    full_labels: Integer[np.ndarray, "H W"] | None = None,
    *,
    palette: UInt8[np.ndarray, "K 3"],
    class_names: Sequence[str] = (),
    reference: Integer[np.ndarray, "H W"] | None = None,
    width: int = 2000,
    detail_only: bool = False,
) -> Drawing:
    """Show in one picture what refinement did to an image.

    Two rows of three: photo, low-resolution labels, entropy; selected pixels, refined labels,
    labels of the dense model at full resolution. Below, the detail where most was gained,
    enlarged to its pixels, and a legend of the classes that occur.

    Args:
        image: The photo.
        low_labels: Labels of the dense model at low resolution, at any size.
        entropy: Entropy of that low-resolution prediction in nats, at any size; shown from 0 to
            ln K.
        mask: True at the pixels that were selected for refinement.
        labels: Labels after refinement.
        full_labels: Labels of the dense model at full resolution, where it was run.
        palette: RGB of each class.
        class_names: Name of each class; a class without one is shown by its number.
        reference: True labels that decide what is a gain; by default `full_labels`, without which
            every changed pixel is one.
        width: Width of the result, in pixels.
        detail_only: Show only the detail and the legend.
    """
    size = image.shape[0], image.shape[1]
    low_labels = resize_nearest(low_labels, size)
    truth = full_labels if reference is None else reference
    if truth is None:
        gain = (labels != low_labels).astype(np.int8)
    else:
        gain = (labels == truth).astype(np.int8) - (low_labels == truth)
    box = best_window(gain, _inset_size(size))

    named = {
        "Photo": image,
        "Dense, low resolution": overlay(image, low_labels, palette, 0.6),
        "Refined": overlay(image, labels, palette, 0.6),
    }
    if full_labels is not None:
        named["Dense, full resolution"] = overlay(image, full_labels, palette, 0.6)
    max_nats = float(np.log(max(len(palette), 2)))
    uncertain = entropy_map(resize_nearest(entropy, size), max_nats)
    selected = mask_overlay(image, mask)
    outlined = [Panel(title, box_outline(picture, box)) for title, picture in named.items()]
    panels = [
        outlined[0],
        outlined[1],
        Panel(f"Entropy, 0 to {max_nats:.2f} nats", uncertain),
        Panel(f"Refined pixels, {mask.mean():.1%}", selected),
        *outlined[2:],
    ]
    rows = slice(box[0], box[0] + box[2])
    columns = slice(box[1], box[1] + box[3])
    insets = [Panel(f"Detail: {t.lower()}", named[t][rows, columns]) for t in named]
    inner = width - 4 * _GAP_PX
    blocks = [panel_grid(insets, len(insets), inner)]
    if not detail_only:
        blocks.insert(0, panel_grid(panels, 3, inner))

    drawn = [low_labels, labels] if full_labels is None else [low_labels, labels, full_labels]
    present = [int(k) for k in np.unique(np.concatenate(drawn)) if 0 <= k < len(palette)]
    if present:
        names = [class_names[k] if k < len(class_names) else str(k) for k in present]
        blocks.append(legend(names, palette[present], inner))
    return _stack(blocks)


def _stack(blocks: Sequence[np.ndarray]) -> Drawing:
    """Put blocks of equal width below each other, within a margin."""
    below = ((0, 2 * _GAP_PX), (0, 0), (0, 0))
    padded = [np.pad(block, below, constant_values=255) for block in blocks]
    margins = ((2 * _GAP_PX, 0), (2 * _GAP_PX, 2 * _GAP_PX), (0, 0))
    return np.pad(np.concatenate(padded), margins, constant_values=255)


def _inset_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the enlarged detail: 3:4, small enough for its pixels to be seen."""
    width = min(max(size[1] // 8, 48), 160)
    return width * 3 // 4, width


def _blend(below: np.ndarray, above: np.ndarray, alpha: float) -> np.ndarray:
    mixed = below * np.float32(1 - alpha) + above * np.float32(alpha)
    return mixed.round().astype(np.uint8)


def _font(width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that is readable when a picture of this width fills a screen."""
    return ImageFont.load_default(size=max(width / 66, 9))


def _text_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(getattr(font, "size", 10))


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text


@cache
def _distinct_colors() -> UInt8[np.ndarray, "256 3"]:
    levels = np.linspace(0, 255, 13).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _oklab(candidates)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > 0.38) & (lab[:, 0] < 0.93) & (chroma > 0.05)
    candidates, lab = candidates[usable], lab[usable]
    # The first is a calm blue.
    chosen = [int(((candidates - (64, 128, 191)) ** 2).sum(1).argmin())]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < 256:
        distance = np.minimum(distance, ((lab - lab[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return candidates[chosen].astype(np.uint8)


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """Perceptual coordinates of sRGB 0..255."""
    srgb = rgb / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            (0.4122214708, 0.5363325363, 0.0514459929),
            (0.2119034982, 0.6806995451, 0.1073969566),
            (0.0883024619, 0.2817188376, 0.6299787005),
        ]
    )
    to_lab = np.array(
        [
            (0.2104542553, 0.7936177850, -0.0040720468),
            (1.9779984951, -2.4285922050, 0.4505937099),
            (0.0259040371, 0.7827717662, -0.8086757660),
        ]
    )
    return np.cbrt(linear @ to_lms.T) @ to_lab.T
