"""A run as one HTML page, opened in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
from sparserefine.images import write_image
from sparserefine.photos.report import to_html

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "my <run>"
    (folder / "gallery").mkdir(parents=True)
    (folder / "scores.md").write_text(
        "| | right | mIoU |\n|---|---|---|\n| refined | 83.3% | **27%** |\n\n7 images & more.\n"
    )
    (folder / "evaluation.json").write_text('{"environment": {"device": "a <cpu>", "threads": 2}}')
    picture = np.zeros((300, 2400, 3), np.uint8)
    picture[..., 0] = 255
    write_image(picture, folder / "gallery" / "best_01_street.png")
    write_image(picture, folder / "gallery" / "worst_01_other.png")
    return folder


class Balanced(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_all_it_shows(run: Path) -> None:
    text = sr.report(run, out=run / "report.html")
    assert (run / "report.html").read_text(encoding="utf-8") == text
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "my &lt;run&gt;" in text and "<run>" not in text
    assert "device a &lt;cpu&gt;" in text
    assert "<td>83.3%</td>" in text
    assert "7 images &amp; more." in text
    assert text.index("gains most") < text.index("street") < text.index("gains least")
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "http" not in text
    assert 'width="1800" height="225"' in text


def test_markdown_that_the_commands_write() -> None:
    assert to_html("one **two** <three>") == "<p>one <strong>two</strong> &lt;three&gt;</p>"
    table = to_html("| a | b |\n|---|---|\n| 1 | 2 |")
    assert "<thead><tr><th>a</th><th>b</th></tr></thead>" in table
    assert "<tbody><tr><td>1</td><td>2</td></tr></tbody>" in table


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        sr.report(tmp_path / "gone", out=tmp_path / "report.html")
    with pytest.raises(FileNotFoundError, match="holds nothing to report, expected some of"):
        sr.report(tmp_path, out=tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_browser_shows_it_offline(run: Path, tmp_path: Path) -> None:
    picture, page = tmp_path / "page.png", run / "report.html"
    sr.report(run, out=page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    done = subprocess.run(
        [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars",
         f"--screenshot={picture}", "--window-size=1200,900", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert picture.is_file(), done.stderr
    with Image.open(picture) as shown:
        assert shown.size == (1200, 900)
        pixels = np.asarray(shown.convert("RGB")).reshape(-1, 3).astype(int)
    red = (pixels[:, 0] > 240) & (pixels[:, 1] < 20) & (pixels[:, 2] < 20)
    assert red.mean() > 0.1  # the gallery's pictures are there
