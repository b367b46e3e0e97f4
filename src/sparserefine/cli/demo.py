"""The command `sparserefine demo`, which refines photos that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sparserefine.cli.console import console, progress_bars, stage_table


def demo(*, photo: Literal["lund", "highway"] = "lund", out: Path = Path("out/demo")) -> None:
    """Refine a street beside the full-resolution result, and cut a bird out of a large photo.

    Parameters
    ----------
    photo
        Name of the street.
    out
        Folder for before_after.png, detail.png, labels.png, overlay.png and result.json of the
        street, cutout.png and cutout_before_after.png of the bird.
    """
    from sparserefine.photos.demo import demo as run

    with progress_bars() as progress:
        result = run(photo=photo, out=out, progress=progress)
    table = stage_table(result.stages_ms, "refined")
    table.add_section()
    table.add_row("full-resolution dense model", f"{result.full_res_ms:.0f}")
    console.print(table)
    console.print(
        f"density {result.density:.1%}; agreement with the full-resolution model "
        f"{result.agreement_low_res:.1%} at low resolution, {result.agreement_refined:.1%} refined"
    )
    console.print(f"license of the dense weights: {result.license}", style="dim")
    console.print(str(result.picture), markup=False)
    height, width = result.cutout.alpha.shape
    console.print(stage_table(result.cutout.stages_ms, f"cut-out, {width}×{height}"))
    console.print(
        f"density {result.cutout.density:.1%}; the foreground was predicted on 320×320 by "
        "U²-Net-p, which comes with the package"
    )
    console.print(str(result.cutout_picture), markup=False)
