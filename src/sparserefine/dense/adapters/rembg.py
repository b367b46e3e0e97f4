"""Sessions of rembg, which find the foreground of photos, as dense models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sparserefine.dense.adapters.onnx import OnnxModel
from sparserefine.dense.adapters.onnx_input import OnnxInput
from sparserefine.dense.fingerprint import file_fingerprint
from sparserefine.dense.protocol import Preset
from sparserefine.dense.u2net import THRESHOLD

Output = Literal["probabilities", "logits"]

# How far from 0 and 1 a float32 probability may be and still have a finite logit.
EPSILON = 1e-7
# How far beyond 0..1 a network that ends in a sigmoid may come; half precision rounds.
TOLERANCE = 1e-3


class RembgModel(OnnxModel):
    """The network of a session of rembg; made by `from_rembg`."""

    def __init__(self, session: Any, output: Output, file: Path | None, **options: Any) -> None:
        super().__init__(session, OnnxInput.of(session), "binary", 2, **options)
        self.output: Output = output
        self._file = file

    def identity(self) -> str | None:
        """The content of the ONNX file; None where rembg does not tell which it is."""
        # Read when asked for: the largest of these files have a gigabyte.
        if self._identity is None and self._file is not None:
            self._identity = file_fingerprint(self._file)
        return self._identity

    def describe(self, *, weights: bool = True) -> dict[str, Any]:
        """Everything that a prediction depends on; see `DenseModel.describe`."""
        return {**super().describe(weights=weights), "output": self.output}

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 2 h_out w_out"]:
        """Predict logits; see `DenseModel.forward`.

        As in rembg, each image is divided by its own maximum before it is normalized.

        Raises:
            ValueError: The network returns something other than one channel of `output`.
        """
        brightest = images.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
        return super().forward(images / brightest)

    def _call(self, images: Tensor) -> Any:
        outputs = super()._call(images)
        # The others are predictions at lower resolutions, made for training.
        first = (outputs if isinstance(outputs, Tensor) else outputs[0]).float()
        if self.output == "logits":
            return first
        low, high = (value.item() for value in first.aminmax())
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            raise ValueError(
                f"the session returned {low:.4g} to {high:.4g}, expected probabilities 0..1. If "
                f'these are logits, wrap it with from_rembg(session, output="logits").'
            )
        return first.logit(EPSILON)


def from_rembg(session: Any, *, output: Output | None = None) -> RembgModel:
    """Wrap a session of rembg: its network, its size and its normalization.

    What the network says is taken as it is. The masks of rembg are stretched so that the least
    probable pixel of each photo becomes 0 and the most probable 255; how sure such a mask is means
    nothing.

    Args:
        session: A session of one network and two classes, such as `rembg.new_session("u2net")`;
            it is not changed. Those that ask a remote service, take prompts or find several
            classes are refused.
        output: What its network returns: "probabilities", or "logits". Default: logits where the
            session itself applies a sigmoid to them, as those of BiRefNet do.

    Raises:
        ValueError: It is no such session, or `output` is neither. When run: the network returns
            no probabilities.
    """
    if output is not None and output not in get_args(Output):
        raise ValueError(f'output={output!r}: expected "probabilities" or "logits".')
    name = getattr(session, "model_name", type(session).__name__)
    inner = getattr(session, "inner_session", None)
    if inner is None or not hasattr(session, "predict"):
        raise ValueError(
            f"{name!r} has no network of its own (inner_session): a remote service, a model that "
            f'takes prompts, or no session of rembg. Use one such as rembg.new_session("u2net").'
        )
    channels = inner.get_outputs()[0].shape[1:2]
    if isinstance(channels[0] if channels else None, int) and channels[0] != 1:
        raise ValueError(
            f"{name!r} finds {channels[0]} classes, expected one channel: the foreground. Wrap its "
            f'ONNX file: from_onnx(path, "logits", {channels[0]}).'
        )
    if output is None:
        output = "logits" if callable(getattr(session, "sigmoid", None)) else "probabilities"
    seen = _preparation(session, name)
    width, height = seen.size
    path = getattr(inner, "_model_path", None)
    model = RembgModel(
        inner,
        output,
        Path(path) if isinstance(path, str) and Path(path).is_file() else None,
        mean=seen.mean,
        std=seen.std,
        preset=Preset(
            dense_size=(height, width),
            fit="stretch",
            threshold=THRESHOLD,
            class_names=("background", "foreground"),
            license=f"that of the model {name!r} of rembg",
        ),
    )
    return model.eval()


class _Preparation(Exception):
    """How a session prepares photos; raised to end its `predict` where enough is known.

    Attributes:
        mean: Mean of red, green and blue in 0..1.
        std: Standard deviation of red, green and blue in 0..1.
        size: (width, height) that photos are resized to.
    """

    def __init__(self, image: Any, mean: Any, std: Any, size: Any, *_: Any, **__: Any) -> None:
        super().__init__()
        self.mean = tuple(map(float, mean))
        self.std = tuple(map(float, std))
        self.size = (int(size[0]), int(size[1]))


def _preparation(session: Any, name: str) -> _Preparation:
    """How a session prepares photos.

    That stands nowhere but in the code of its `predict`, which passes it to `normalize`; so a copy
    of the session is called, with a `normalize` that tells.
    """

    def tell(*arguments: Any, **named: Any) -> None:
        raise _Preparation(*arguments, **named)

    watched = copy.copy(session)
    watched.normalize = tell
    try:
        watched.predict(Image.new("RGB", (8, 8)))
    except _Preparation as seen:
        return seen
    except Exception as error:
        raise _unknown_preparation(name) from error
    raise _unknown_preparation(name)


def _unknown_preparation(name: str) -> ValueError:
    return ValueError(
        f"how {name!r} prepares photos cannot be told: its predict calls no normalize(image, mean, "
        f"std, size), as sessions of rembg do. Wrap its ONNX file: from_onnx(path, …)."
    )
