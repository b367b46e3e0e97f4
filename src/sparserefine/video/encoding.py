"""How videos are encoded, by the ending of their file and by what they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from sparserefine.video.suffixes import WRITTEN

Shown = Literal["overlay", "labels", "alpha"]
"""What a video shows: colors of the classes over the frames, these colors alone, or the frames with
the share of the foreground as their alpha."""


@dataclass(frozen=True)
class Encoding:
    """An encoder and its settings.

    Attributes:
        encoder: Name of the encoder in FFmpeg.
        pixels: Its pixel format.
        options: Its options.
        odd_pixels: Pixel format where width or height is odd; empty where it is the same.
    """

    encoder: str
    pixels: str
    options: Mapping[str, str] = field(default_factory=dict)
    odd_pixels: str = ""

    @classmethod
    def of(cls, suffix: str, shown: str) -> Encoding:
        """The encoding of a file.

        Args:
            suffix: Ending of the file, in lower case.
            shown: What is to be seen.

        Raises:
            ValueError: There is no such file, or it cannot show that.
        """
        if shown not in get_args(Shown):
            raise ValueError(
                f"a video cannot show {shown!r}, expected one of {', '.join(get_args(Shown))}."
            )
        if suffix not in WRITTEN:
            raise ValueError(
                f"a video is written to a file that ends in {', '.join(WRITTEN)}, not in "
                f"{suffix or 'nothing'}. Choose one of them."
            )
        if shown == "alpha":
            if suffix not in _WITH_ALPHA:
                raise ValueError(
                    f"a video that ends in {suffix} has no alpha. Choose .mov (ProRes 4444) or "
                    f".webm (VP9)."
                )
            return _WITH_ALPHA[suffix]
        if shown == "labels" and suffix == ".mkv":
            return _LOSSLESS
        return _VP9 if suffix == ".webm" else _H264

    def pixels_of(self, size: tuple[int, int]) -> str:
        """The pixel format of frames of (height, width) `size`."""
        odd = size[0] % 2 or size[1] % 2
        return self.odd_pixels if odd and self.odd_pixels else self.pixels


# Without frames that refer to later ones the order of writing is that of the time stamps, so that
# nothing has to be moved to begin at the same time. Half of the colors need an even size.
_H264 = Encoding(
    "libx264", "yuv420p", {"crf": "18", "preset": "veryfast", "bf": "0"}, odd_pixels="yuv444p"
)
_VP9_OPTIONS = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}
_VP9 = Encoding("libvpx-vp9", "yuv420p", _VP9_OPTIONS)
_LOSSLESS = Encoding("ffv1", "bgr0", {"level": "3", "slices": "4"})
_WITH_ALPHA = {
    ".mov": Encoding("prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0"}),
    ".webm": Encoding("libvpx-vp9", "yuva420p", {**_VP9_OPTIONS, "auto-alt-ref": "0"}),
}
