"""A report of a run as one HTML page that needs no other file: its tables and pictures."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path

from PIL import Image

from sparserefine.atomic import atomic_write

PAGE = "report.html"
# Pictures are embedded at most this wide; the files beside the page stay as they are.
WIDTH, QUALITY = 1800, 88

# What a run may have made, in the order of the page: file, heading, text below the heading.
TABLES = (
    ("scores.md", "Scores", "What each row and column means is in the help of evaluate."),
    ("ablations.md", "Ablations", ""),
    ("latency.md", "Latency", ""),
    ("frontier.md", "Accuracy at the same milliseconds", ""),
)
PICTURES = (
    ("training.png", "Training", ""),
    ("calibration.png", "Which threshold", "Errors found over pixels selected, by selector."),
    ("frontier.png", "Accuracy over milliseconds", ""),
    ("latency.png", "Milliseconds", ""),
    ("before_after.png", "Before and after", ""),
    ("overlay.png", "Labels", ""),
)
GALLERY = "gallery"

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
td:first-child, th:first-child { text-align: left; }
tbody tr:hover { background: var(--soft); }
.wide { overflow-x: auto; }
figure { margin: 1.2rem 0; } img { max-width: 100%; height: auto; border-radius: 4px; }
figcaption { font-size: .9rem; opacity: .8; }
footer { margin-top: 3rem; font-size: .85rem; opacity: .7; }
"""


def report(run: str | Path, *, out: str | Path | None = None) -> str:
    """Show a run as one HTML page that opens anywhere, offline.

    Args:
        run: Folder that evaluate, ablate, train, calibrate, frontier, benchmark or predict wrote.
        out: File for the page; None writes nothing.

    Returns:
        The page as HTML.

    Raises:
        FileNotFoundError: There is no such folder, or nothing in it that a report could show.
        OSError: The page cannot be written.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. Give the output folder of a command.")
    sections = [*_tables(folder), *_pictures(folder), *_gallery(folder)]
    if not sections:
        known = ", ".join(name for name, *_ in (*TABLES, *PICTURES))
        raise FileNotFoundError(
            f"{folder} holds nothing to report, expected some of {known}. Give the output folder "
            "of evaluate, ablate, train, calibrate, frontier, benchmark or predict."
        )
    title = html.escape(folder.resolve().name)
    page = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · sparserefine</title>\n<style>{STYLE}</style>\n"
        f"<h1>{title}</h1>\n" + "\n".join(sections) + _footer(folder) + "\n</html>\n"
    )
    if out is not None:
        atomic_write(out, lambda partial: partial.write_text(page, encoding="utf-8"))
    return page


def _tables(folder: Path) -> list[str]:
    return [
        f"<h2>{heading}</h2>\n" + (f"<p>{text}</p>\n" if text else "") + to_html(file.read_text())
        for name, heading, text in TABLES
        if (file := folder / name).is_file()
    ]


def _pictures(folder: Path) -> list[str]:
    found = []
    for name, heading, text in PICTURES:
        for file in sorted(folder.glob(name)) or sorted(folder.glob(f"*/{name}")):
            caption = text or str(file.relative_to(folder))
            found.append(f"<h2>{heading}</h2>\n{_figure(file, caption)}")
    return found


def _gallery(folder: Path) -> list[str]:
    sections = []
    for kind, heading in (("best", "Where it gains most"), ("worst", "Where it gains least")):
        files = sorted((folder / GALLERY).glob(f"{kind}_*.png"))
        if files:
            figures = [_figure(file, file.stem.split("_", 2)[-1]) for file in files]
            sections.append(f"<h2>{heading}</h2>\n" + "\n".join(figures))
    return sections


def _figure(file: Path, caption: str) -> str:
    with Image.open(file) as picture:
        picture = picture.convert("RGB")
        if picture.width > WIDTH:
            picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" width="{picture.width}" height="{picture.height}" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{text}</figcaption></figure>'
    )


def _footer(folder: Path) -> str:
    """A footer with the machine that was measured on, from the first result file that names it."""
    for file in sorted(folder.glob("*.json")):
        try:
            environment = json.loads(file.read_text())["environment"]
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
            continue
        facts = " · ".join(
            f"{key} {value}" for key, value in environment.items() if isinstance(value, str | int)
        )
        return f"\n<footer>{html.escape(facts)}</footer>"
    return ""


def to_html(markdown: str) -> str:
    """Turn as much of Markdown as the commands write into HTML: tables, paragraphs, bold text."""
    blocks = re.split(r"\n\s*\n", markdown.strip())
    return "\n".join(_table(block) if block.startswith("|") else _text(block) for block in blocks)


def _text(block: str) -> str:
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(block))
    return f"<p>{text}</p>"


def _table(block: str) -> str:
    rows = [
        [html.escape(cell.strip()) for cell in line.strip().strip("|").split("|")]
        for line in block.splitlines()
        if not re.fullmatch(r"[|\-: ]+", line)
    ]
    head, *body = (
        "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in row) + "</tr>"
        for row, tag in zip(rows, ["th", *["td"] * (len(rows) - 1)], strict=True)
    )
    table = f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="wide">{table}</div>'
