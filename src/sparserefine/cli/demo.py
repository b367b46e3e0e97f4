"""The command `sparserefine demo`, which refines photos that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sparserefine.cli.console import console, progress_bars, stage_table

if TYPE_CHECKING:
    from sparserefine.photos.demo import DemoResult


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
    from sparserefine.refinement.prediction import FILE_STAGES

    with progress_bars() as progress:
        result = run(photo=photo, out=out, progress=progress)
    files = {stage: ms for stage, ms in result.stages_ms.items() if stage in FILE_STAGES}
    computed = {stage: ms for stage, ms in result.stages_ms.items() if stage not in files}
    table = stage_table(computed, "refined")
    table.add_section()
    table.add_row("full-resolution dense model", f"{result.full_res_ms:.0f}")
    table.add_section()
    for stage, ms in files.items():
        full_ms = result.full_stages_ms[stage]
        table.add_row(f"{stage} files", f"{ms:.0f} (at full resolution {full_ms:.0f})")
    console.print(table)
    console.print(what_pays(result))
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


def what_pays(result: DemoResult) -> str:
    """Sentences on how many times as long full resolution takes, with files and without."""
    alone = result.full_res_ms / result.refined_ms
    whole = sum(result.full_stages_ms.values()) / sum(result.stages_ms.values())
    pays = "pays" if whole > 1.05 else "does not pay"
    return (
        f"at full resolution the photo takes {alone:.2f} times as long as refined, with its files "
        f"{whole:.2f} times: in time, refinement {pays} for a dense model as light as this one. "
        "A larger input may be the better buy still: docs/frontier.md. For heavy models see "
        "docs/latency.md; for masks that come at a fixed size, the cut-out."
    )
