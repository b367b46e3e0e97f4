"""The page served by this process, and a browser without a window to look at it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparserefine.app.catalog import Catalog
from sparserefine.app.server import build_app
from sparserefine.app.visits import Visits

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

VIEWPORTS = {"laptop": (1366, 768), "phone": (390, 844)}
# For an answer on a busy machine, in milliseconds.
PATIENCE_MS = 180_000


@contextmanager
def served_page(catalog: Catalog, visits: Visits, uploads: Path) -> Iterator[str]:
    """Serve the page in a thread, at the address that is given back.

    Args:
        catalog: The models to choose from.
        visits: Where what is dropped is kept.
        uploads: Folder for uploaded files.
    """
    import uvicorn

    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    config = uvicorn.Config(build_app(catalog, visits), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(20)
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def chromium(playwright: Playwright) -> str | None:
    """Path of a Chromium: one of the system, or one that playwright installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    own = playwright.chromium.executable_path
    found = [path for name in names if (path := shutil.which(name))]
    return next(iter([*found, *([own] if Path(own).is_file() else [])]), None)


def launched(playwright: Playwright, path: str) -> Browser:
    """A browser without a window; as root it cannot have its sandbox."""
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def opened(browser: Browser, address: str, viewport: str = "laptop") -> Page:
    """The page in a window of its own, ready for a click."""
    width, height = VIEWPORTS[viewport]
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.goto(address)
    page.wait_for_selector("[data-example]", timeout=PATIENCE_MS)
    return page


def wait_for_photo(page: Page, size: tuple[int, int]) -> None:
    """Wait until a photo of (H, W) `size` is shown, and nothing runs any more."""
    height, width = size
    page.wait_for_function(
        f"document.querySelector('#sr-facts').textContent.includes('{width}×{height}')",
        timeout=PATIENCE_MS,
    )
    page.wait_for_timeout(500)


def turn(page: Page, dial: str, value: float) -> float:
    """Turn a dial and wait for the answer, in milliseconds as the person sees them.

    Args:
        page: The page with a photo.
        dial: "threshold" or "budget".
        value: Where to.
    """
    return page.evaluate(
        """([dial, value]) => new Promise((done, failed) => {
          const facts = document.querySelector('#sr-facts');
          const input = document.querySelector(`#sr-${dial} input[type=range]`);
          const watch = new MutationObserver(() => {
            watch.disconnect();
            requestAnimationFrame(() => done(performance.now() - start));
          });
          watch.observe(facts, {childList: true, subtree: true, characterData: true});
          setTimeout(() => failed(new Error('no answer')), 60000);
          const start = performance.now();
          input.value = value;
          input.dispatchEvent(new Event('input', {bubbles: true}));
        })""",
        [dial, value],
    )


def density(page: Page) -> float:
    """Share of the pixels that is refined, as the page says it, in percent."""
    return float(page.inner_text("#sr-density").split()[0])
