"""The page in a browser: offline, on a laptop and a phone, with good files and bad ones.

Screenshots are written to $APP_SCREENSHOTS where that is set, else to pytest's folder.
"""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from disk_photo import inside, write_mask, write_photo
from sparserefine.app.catalog import Catalog
from sparserefine.app.visits import Visits

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("gradio", reason="needs the extra app")

# What gradio and its server warn of is theirs.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("APP_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def called() -> Iterator[list[str]]:
    """Hosts other than this machine that the process has tried to reach."""
    hosts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        connect, resolve = socket.socket.connect, socket.getaddrinfo

        def watched_connect(self: socket.socket, address: Any) -> None:
            if isinstance(address, tuple) and address[0] not in LOOPBACK:
                hosts.append(str(address[0]))
            connect(self, address)

        def watched_resolve(host: Any, *rest: Any, **named: Any) -> Any:
            if host not in (None, *LOOPBACK):
                hosts.append(str(host))
            return resolve(host, *rest, **named)

        patch.setattr(socket.socket, "connect", watched_connect)
        patch.setattr(socket, "getaddrinfo", watched_resolve)
        yield hosts


@pytest.fixture(scope="module")
def visits() -> Visits:
    return Visits(Catalog().names[0])


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def helper() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import app_browser

        yield app_browser


@pytest.fixture(scope="module")
def address(helper: Any, called: list[str], visits: Visits, uploads: Path) -> Iterator[str]:
    with helper.served_page(Catalog(), visits, uploads) as found:
        yield found


@pytest.fixture(scope="module")
def browser(helper: Any) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        path = helper.chromium(playwright)
        if path is None:
            pytest.skip("no Chromium is installed")
        found = helper.launched(playwright, path)
        yield found
        found.close()


@pytest.fixture
def open_page(helper: Any, browser: Any, address: str) -> Iterator[Any]:
    """Opens the page, whose requests to elsewhere and errors are refused."""
    pages, outside, errors = [], [], []

    def open_it(viewport: str = "laptop") -> Any:
        width, height = helper.VIEWPORTS[viewport]
        page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        pages.append(page)
        page.on(
            "request",
            lambda request: (
                request.url.startswith((address, "data:", "blob:")) or outside.append(request.url)
            ),
        )
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("[data-example]", timeout=helper.PATIENCE_MS)
        return page

    yield open_it
    for page in pages:
        page.context.close()
    assert not outside and not errors


def _says(page: Any, kind: str, helper: Any) -> str:
    page.wait_for_selector(f"#sr-message .sr-{kind}", timeout=helper.PATIENCE_MS)
    return page.inner_text("#sr-message")


def _upload(page: Any, what: str, path: Path) -> None:
    page.set_input_files(f"#sr-{what} input[type=file]", path)


@pytest.mark.parametrize("viewport", ["laptop", "phone"])
def test_a_stranger_s_first_minutes(
    viewport: str, open_page: Any, helper: Any, screenshots: Path, called: list[str]
) -> None:
    page = open_page(viewport)
    width, height = helper.VIEWPORTS[viewport]

    def shoot(name: str) -> None:
        page.screenshot(path=screenshots / f"{viewport}_{name}.png", full_page=True)
        size = page.evaluate("[document.body.scrollWidth, document.body.scrollHeight]")
        assert size[0] <= width, name
        if viewport == "laptop":
            assert size[1] <= height, name

    shoot("0_empty")
    # All that there is to begin with is in sight, on the phone too.
    for place in ("#sr-photo", "[data-example='2']", "#sr-viewer"):
        box = page.locator(place).bounding_box()
        assert box["y"] + min(box["height"], 60) < height, place
    examples = [one.bounding_box() for one in page.locator("[data-example]").all()]
    assert len({(box["y"], box["height"]) for box in examples}) == 1
    page.click("[data-example='0']")
    helper.wait_for_photo(page, (2160, 3840))
    shoot("1_cutout")
    before = helper.density(page)
    helper.turn(page, "budget", 1)
    assert 0 < helper.density(page) <= 1 < before
    page.get_by_role("radio", name="Selected").click()
    page.wait_for_function("document.querySelector('#sr-viewer').innerText.includes('pixels')")
    shoot("2_selected")
    page.get_by_role("radio", name="Before / after").click()
    page.click("[data-example='1']")
    helper.wait_for_photo(page, (768, 1024))
    shoot("3_streets")
    assert page.input_value("#sr-model input") == "Streets (demo pair)"
    before = helper.density(page)
    helper.turn(page, "threshold", 1.5)
    assert helper.density(page) < before
    page.get_by_role("radio", name="Entropy").click()
    page.wait_for_function("document.querySelector('#sr-viewer').innerText.includes('entropy')")
    shoot("4_entropy")
    assert not called


def test_the_slider_moves_by_mouse_and_stays_where_it_was(open_page: Any, helper: Any) -> None:
    page = open_page()
    page.click("[data-example='2']")
    helper.wait_for_photo(page, (720, 1280))
    box = page.locator(".sr-whole").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 20)
    place = "getComputedStyle(document.documentElement).getPropertyValue('--sr-x')"
    moved = float(page.evaluate(place).rstrip("%"))
    assert 15 < moved < 25
    helper.turn(page, "budget", 5)
    assert float(page.evaluate(place).rstrip("%")) == moved
    line = page.locator(".sr-whole .sr-line").bounding_box()
    assert abs(line["x"] - box["x"] - moved / 100 * box["width"]) < 3


def test_results_are_downloaded_at_full_size(
    open_page: Any, helper: Any, address: str, tmp_path: Path
) -> None:
    page = open_page()
    _upload(page, "photo", write_photo(tmp_path))
    helper.wait_for_photo(page, (96, 128))
    modes = {}
    for link in page.locator(".sr-downloads a").all():
        with page.expect_download() as started:
            link.click()
        picture = Image.open(started.value.path())
        assert picture.size == (128, 96)
        modes[started.value.suggested_filename] = picture.mode
    assert modes == {"disk_cutout.png": "RGBA", "disk_alpha.png": "L", "disk_labels.png": "P"}
    for wrong in ("download/nobody/alpha.png", "download/../../x.png"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + wrong)


def test_a_photo_and_its_mask_in_any_order(
    open_page: Any, helper: Any, tmp_path: Path, uploads: Path
) -> None:
    page = open_page()
    _upload(page, "mask", write_mask(tmp_path / "mask.png", inside()[::4, ::4]))
    assert "Now drop its photo" in _says(page, "good", helper)
    _upload(page, "photo", write_photo(tmp_path))
    helper.wait_for_photo(page, (96, 128))
    assert 0 < helper.density(page) < 60
    # gradio leaves empty files behind; none has a byte of what was dropped.
    assert sum(path.stat().st_size for path in uploads.rglob("*") if path.is_file()) == 0


@pytest.mark.parametrize("viewport", ["laptop", "phone"])
def test_what_is_wrong_is_a_sentence(
    viewport: str, open_page: Any, helper: Any, tmp_path: Path, screenshots: Path
) -> None:
    page = open_page(viewport)
    (tmp_path / "notes.txt").write_text("no photo")
    Image.new("L", (6000, 5000)).save(tmp_path / "huge.png")
    for name, words in {
        "notes.txt": "notes.txt is not an image",
        "huge.png": "huge.png has 30 megapixels, and this page takes up to 24",
    }.items():
        _upload(page, "photo", tmp_path / name)
        page.wait_for_selector(f"#sr-message :text('{words}')", timeout=helper.PATIENCE_MS)
        page.get_by_label("Clear").or_(page.get_by_label("Remove")).first.click()
        page.wait_for_selector("#sr-message .sr-bad", state="detached")
    _upload(page, "photo", write_photo(tmp_path))
    helper.wait_for_photo(page, (96, 128))
    masks = {
        "empty": (np.zeros((24, 32)), "has no"),
        "square": (np.eye(32), "other proportions. Drop the mask of this photo"),
    }
    for name, (mask, words) in masks.items():
        _upload(page, "mask", write_mask(tmp_path / f"{name}.png", mask > 0))
        page.wait_for_selector(f"#sr-message :text('{name}.png')", timeout=helper.PATIENCE_MS)
        text = _says(page, "bad", helper)
        assert words in text and "fit=" not in text and str(tmp_path) not in text
        page.screenshot(path=screenshots / f"{viewport}_5_{name}.png")
        page.locator("#sr-mask").get_by_label("Clear").first.click()
        helper.wait_for_photo(page, (96, 128))  # the model predicts again


def test_a_page_that_is_closed_leaves_nothing(
    open_page: Any, helper: Any, visits: Visits, tmp_path: Path
) -> None:
    page = open_page()
    _upload(page, "photo", write_photo(tmp_path))
    helper.wait_for_photo(page, (96, 128))
    had = len(visits)
    page.close()
    for _ in range(100):
        if len(visits) < had:
            break
        time.sleep(0.2)
    assert len(visits) < had


def test_the_command_serves_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sparserefine.cli", "app", "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert running.stdout is not None
        found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/)\n", running.stdout.readline())
        assert found is not None
        text = _answer(found[1])
        assert "<gradio-app" in text and "fonts.googleapis" not in text
        with pytest.raises(urllib.error.HTTPError, match="400"):
            _answer(found[1], Host="elsewhere.example")
        running.send_signal(signal.SIGINT)
        assert running.wait(60) in (0, 130)
        assert not list(tmp_path.iterdir())
    finally:
        running.kill()


def _answer(address: str, **headers: str) -> str:
    for _ in range(100):
        try:
            request = urllib.request.Request(address, headers=headers)
            return io.TextIOWrapper(urllib.request.urlopen(request)).read()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError("no answer")
