"""Alpha mattes without training: what a coarse mask and the colors of a photo say together."""

from sparserefine.matting.closed_form import closed_form_alpha
from sparserefine.matting.colors import SideColors, foreground_colors
from sparserefine.matting.local_linear import LocalLinear
from sparserefine.matting.trimap import Trimap

__all__ = ["LocalLinear", "SideColors", "Trimap", "closed_form_alpha", "foreground_colors"]
