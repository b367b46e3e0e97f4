"""One sentence on whether refinement is worth a try."""

from __future__ import annotations

from collections.abc import Mapping

# Below this share of wrong pixels there is next to nothing to win.
NEGLIGIBLE_LOSS = 0.005
# Refinement itself takes time: below this ratio of milliseconds there is no room for it.
LEAST_RATIO = 1.5
# Refined pixels must hold much more of the errors than as many pixels taken blindly.
LEAST_RECALL, MUCH_OF_IT = 0.5, 0.8


def advise(
    *,
    low_error: float,
    full_error: float,
    recall: Mapping[float, float],
    won_by_replacing: float | None,
    low_ms: float,
    full_ms: float,
) -> str:
    """Say whether to train a refiner, and why.

    Args:
        low_error: Share of the pixels that low resolution gets wrong.
        full_error: Share of the pixels that full resolution gets wrong; 0 where it is the truth.
        recall: Share of the low-resolution errors in the most uncertain pixels, by the share of
            these pixels.
        won_by_replacing: Drop of the error if the largest of these shares takes the labels of full
            resolution; None where these are the truth.
        low_ms: Milliseconds of the dense model at low resolution.
        full_ms: Milliseconds of the dense model at full resolution.
    """
    lost = low_error - full_error
    most = max(recall)
    if lost < NEGLIGIBLE_LOSS:
        return (
            f"Don't: low resolution gets {low_error:.1%} of the pixels wrong and full resolution "
            f"{full_error:.1%}, so run the model at low resolution."
        )
    if full_ms < LEAST_RATIO * low_ms:
        return (
            f"Don't: full resolution takes {full_ms:.0f} ms and low resolution {low_ms:.0f}, which "
            f"leaves no time for refinement; run the model at full resolution."
        )
    if recall[most] < LEAST_RECALL:
        return (
            f"Don't: the most uncertain {most:.0%} of the pixels hold only {recall[most]:.0%} of "
            f"the errors, as the model is sure of most of its mistakes."
        )
    if won_by_replacing is not None and won_by_replacing < lost / 2:
        return (
            f"Hardly: the labels of full resolution in the most uncertain {most:.0%} of the pixels "
            f"would win {100 * won_by_replacing:.1f} of the {100 * lost:.1f} points lost; only "
            f"training on labels could win more."
        )
    enough = min((share for share in recall if recall[share] >= MUCH_OF_IT), default=most)
    return (
        f"Worth a try: the most uncertain {enough:.0%} of the pixels hold {recall[enough]:.0%} of "
        f"the errors, and a refiner that takes less than the {full_ms - low_ms:.0f} ms between "
        f"{low_ms:.0f} and {full_ms:.0f} is the faster way to correct them."
    )
