"""What the input of an ONNX file takes: layout, precision, and the sizes that are fixed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}


@dataclass(frozen=True)
class OnnxInput:
    """The input of an ONNX file that takes images.

    Attributes:
        name: Its name.
        dtype: Precision of the images; uint8 means 0..255.
        batch: Number of images that it takes at once; None: any.
        height: The only height that it takes; None: any.
        width: The only width that it takes; None: any.
        channels_last: Images are [B, h, w, 3], not [B, 3, h, w].
        said: Whether the file itself says which of the two they are.
    """

    name: str
    dtype: torch.dtype = torch.float32
    batch: int | None = None
    height: int | None = None
    width: int | None = None
    channels_last: bool = False
    said: bool = True

    @classmethod
    def of(cls, session: Any) -> OnnxInput:
        """The input of a session of onnxruntime.

        Raises:
            ValueError: It has several inputs, or one that takes no RGB images.
        """
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(f"{one.name} {_shown(one.shape)}" for one in inputs)
            raise ValueError(
                f"the ONNX file takes {len(inputs)} inputs ({names}), expected images alone. "
                "Export it with the others as constants, or wrap a function that fills them in."
            )
        (first,) = inputs
        if first.type not in _DTYPES:
            raise ValueError(
                f"the ONNX file takes {first.type}, expected images as one of "
                f"{', '.join(_DTYPES)}. Export it in float32."
            )
        shape = list(first.shape) or [None] * 4
        sides = [side if isinstance(side, int) and side > 0 else None for side in shape]
        rgb = [axis for axis in (1, 3) if len(sides) == 4 and sides[axis] == 3]
        few = [axis for axis in (1, 3) if len(sides) == 4 and sides[axis] in (1, 2, 4)]
        if len(sides) != 4 or (not rgb and (few or (sides[1] and sides[3]))):
            raise ValueError(
                f"the ONNX file takes {_shown(first.shape)}, expected RGB images of 3 channels: "
                "[B, 3, h, w] or [B, h, w, 3] (NHWC). Export it so."
            )
        made = cls(first.name, _DTYPES[first.type], sides[0], said=bool(rgb))
        if rgb and rgb[0] == 3:
            return replace(made, height=sides[1], width=sides[2], channels_last=True)
        return replace(made, height=sides[2], width=sides[3])

    @property
    def size(self) -> tuple[int, int] | None:
        """The only (height, width) that it takes; None where it takes several."""
        return (self.height, self.width) if self.height and self.width else None

    def array(self, images: Float[Tensor, "B 3 h w"]) -> Any:
        """Images as the file takes them, an array of numpy."""
        images = images.detach().cpu()
        if self.channels_last:
            images = images.permute(0, 2, 3, 1)
        if self.dtype == torch.uint8:
            images = (images * 255).round().clamp(0, 255)
        return images.to(self.dtype).contiguous().numpy()


def _shown(shape: Any) -> str:
    return f"[{', '.join(map(str, shape))}]"
