"""The command `sparserefine app`, which opens a page to play with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparserefine.cli.console import console, messages

if TYPE_CHECKING:
    from sparserefine.app.keeping import Model


def open_page(*, model: str = "edges", host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve a page for the browser: drop a photo, see where it is refined, turn the dials.

    It works offline, and nothing leaves this machine. Ctrl+C ends it.

    Parameters
    ----------
    model
        What the page begins with: edges (cutting out, behind U²-Net-p), demo (street labels), a
        file of U²-Net or IS-Net, or a refiner that `train` wrote.
    host
        Address to listen at. With another than the default everybody who reaches this machine can
        use the page.
    port
        Port to listen at; 0 takes one that is free.
    """
    from sparserefine.app.server import check_app_installed

    check_app_installed()
    with messages.status("opening the page"):
        from sparserefine.app.catalog import CUTOUT, STREETS, Catalog
        from sparserefine.app.server import serve_page

        if model in ("edges", "u2netp"):
            catalog = Catalog(first=CUTOUT)
        elif model == "demo":
            catalog = Catalog(first=STREETS)
        else:
            catalog = Catalog(own=(Path(model).name or model, _own(model)))
    serve_page(
        catalog,
        host=host,
        port=port,
        ready=lambda address: console.print(f"open {address}", markup=False),
    )


def _own(model: str) -> Model:
    from sparserefine.cli.refiners import RefinerOptions, load_refiner
    from sparserefine.photos.cutout import foreground_model

    path = Path(model).expanduser()
    if path.suffix.lower() in (".onnx", ".safetensors") and path.is_file():
        return foreground_model(path)
    return load_refiner(RefinerOptions(model=model))
