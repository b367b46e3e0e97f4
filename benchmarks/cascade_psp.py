"""CascadePSP as a peer: its own code with random weights, for time and memory.

Its package (PyPI: segmentation-refinement, MIT licence) is read without its front door, which needs
torchvision: `pip install --no-deps segmentation-refinement`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from sparserefine.refinement.features import MEAN, STD

PACKAGE = "segmentation_refinement"
# Its parts that the way it goes over a picture asks for.
OUTPUTS = ("pred_224", "pred_28_3", "pred_56_2")


class Certain(nn.Module):
    """Its network, whose answer is the mask that it was given.

    It leaves parts of a picture out by what it has found there; random weights find nothing.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        images: Float[Tensor, "1 3 h w"],
        masks: Float[Tensor, "1 1 h w"],
        *earlier: Tensor | None,
    ) -> dict[str, Tensor]:
        """Take as long as its network, and answer what is known."""
        found = self.network(images, masks, *earlier)
        return {name: (masks > 0).to(found[name].dtype) for name in OUTPUTS}


def is_installed() -> bool:
    """Whether its package is there."""
    return find_spec(PACKAGE) is not None


def cascade_psp(
    image: UInt8[np.ndarray, "H W 3"], mask: Bool[Tensor, "H W"]
) -> Callable[[], object]:
    """One run of it on a picture, in its slow and good way, ready to start.

    Args:
        image: RGB.
        mask: The foreground.
    """
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations is not None
    package = ModuleType(PACKAGE)
    package.__path__, package.__spec__ = list(spec.submodule_search_locations), spec
    sys.modules[PACKAGE] = package
    torch.manual_seed(0)
    network = import_module(f"{PACKAGE}.models.psp.pspnet").RefinementModule()
    process = import_module(f"{PACKAGE}.eval_helper").process_high_res_im
    certain = Certain(network).eval()

    @torch.inference_mode()
    def run() -> object:
        colors = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        mean, std = (colors.new_tensor(value)[:, None, None] for value in (MEAN, STD))
        return process(certain, (colors - mean) / std, 2 * mask[None, None].float() - 1)

    return run
