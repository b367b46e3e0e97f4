"""The page itself, in gradio: what is where, and what happens when something is touched."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base, Default

from sparserefine.app import markup
from sparserefine.app.catalog import EXAMPLES, Catalog
from sparserefine.app.kept import Dials, most_nats
from sparserefine.app.pictures import View
from sparserefine.app.visit import PageError, Visit
from sparserefine.app.visits import Visits
from sparserefine.photos.shipped import shipped_photo

VIEWS: list[tuple[str, View]] = [
    ("Before / after", "result"), ("Entropy", "entropy"), ("Selected", "selected")
]  # fmt: skip
STYLE = Path(__file__).with_name("page.css")
# Largest budgets that the dial goes to, in percent of the photo.
_BUDGETS = (1, 2, 5, 10, 20, 50, 100)
# Files that were uploaded are read and removed at once; what is left is looked for so often, and
# removed when it is so old, in seconds.
_SWEEP = (60, 300)
_CLICK = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-example]');
  if (button) trigger('select', {number: Number(button.dataset.example)});
});"""


def theme() -> Base:
    """Colors and letters; the letters are those of the machine, as others would be fetched."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return Default(
        primary_hue="orange", font=fonts, font_mono=["ui-monospace", "monospace"], spacing_size="sm"
    )


def build_page(catalog: Catalog, visits: Visits) -> gr.Blocks:
    """Lay the page out and connect it.

    Args:
        catalog: The models to choose from.
        visits: Where what people drop is kept.
    """
    with gr.Blocks(
        title="sparserefine", analytics_enabled=False, delete_cache=_SWEEP, fill_width=True
    ) as page:
        gr.HTML(markup.HEADER)
        with gr.Row():
            with gr.Column(scale=1, min_width=270, elem_id="sr-side"):
                photo = gr.File(label="Photo", height=112, elem_id="sr-photo")
                examples = gr.HTML(markup.examples(), js_on_load=_CLICK, elem_id="sr-examples")
                with gr.Column(elem_id="sr-more"):
                    mask = gr.File(label="Its mask, if you have one", height=112, elem_id="sr-mask")
                    model = gr.Dropdown(
                        catalog.names, value=catalog.names[0], label="Model", elem_id="sr-model"
                    )
            with gr.Column(scale=4, min_width=340, elem_id="sr-main"):
                view = gr.Radio(
                    VIEWS, value="result", show_label=False, container=False, elem_id="sr-views"
                )
                message = gr.HTML("", elem_id="sr-message")
                viewer = gr.HTML(markup.EMPTY, elem_id="sr-viewer")
                with gr.Row(visible=False) as dials:
                    threshold = gr.Slider(
                        0, 1, 0, label="Refine where the entropy exceeds, nats",
                        elem_id="sr-threshold", min_width=240, buttons=[],
                    )  # fmt: skip
                    budget = gr.Slider(
                        0, 100, 100, label="Pixel budget, % of the photo",
                        elem_id="sr-budget", min_width=240, buttons=[],
                    )  # fmt: skip
                facts = gr.HTML("", elem_id="sr-facts")

        shown = [message, viewer, facts]
        all_of_it = [*shown, dials, threshold, budget]
        handlers = _Handlers(catalog, visits)
        slow: dict[str, Any] = {
            "concurrency_id": "model", "show_progress": "full", "show_progress_on": [viewer],
            "api_visibility": "private",
        }  # fmt: skip
        photo.upload(handlers.take_photo, [photo, view], all_of_it, **slow)
        mask.upload(handlers.take_mask, [mask, view], all_of_it, **slow)
        photo.clear(handlers.drop_photo, [view], all_of_it, **slow)
        mask.clear(handlers.drop_mask, [view], all_of_it, **slow)
        model.input(handlers.choose, [model, view], all_of_it, **slow)
        examples.select(handlers.take_example, [view], [*all_of_it, photo, mask, model], **slow)
        quick: dict[str, Any] = slow | {"show_progress": "hidden", "trigger_mode": "always_last"}
        for dial in (threshold, budget):
            dial.input(handlers.turn, [threshold, budget, view], shown, **quick)
        view.input(handlers.look, [view], shown, **quick)
        page.unload(handlers.leave)
    return page.queue(max_size=32, default_concurrency_limit=1)


class _Handlers:
    """What happens when something is touched; each says in a sentence what cannot be done."""

    def __init__(self, catalog: Catalog, visits: Visits) -> None:
        self._catalog, self._visits = catalog, visits

    def take_photo(self, path: str, view: View, request: gr.Request) -> list[Any]:
        visit = self._visit(request)
        return self._restart(
            visit, view, lambda: visit.take_photo(Path(path), Path(path).name), path
        )

    def take_mask(self, path: str, view: View, request: gr.Request) -> list[Any]:
        visit = self._visit(request)
        return self._restart(
            visit, view, lambda: visit.take_mask(Path(path), Path(path).name), path
        )

    def take_example(self, view: View, request: gr.Request, event: gr.EventData) -> list[Any]:
        visit, example = self._visit(request), EXAMPLES[int(event.number)]
        path = shipped_photo(example.photo)

        def take() -> None:
            visit.drop_mask()
            visit.choose(example.model)
            visit.take_photo(path, path.name)

        return [*self._restart(visit, view, take), None, None, example.model]

    def drop_photo(self, view: View, request: gr.Request) -> list[Any]:
        visit = self._visit(request)
        return self._restart(visit, view, visit.drop_photo)

    def drop_mask(self, view: View, request: gr.Request) -> list[Any]:
        visit = self._visit(request)
        return self._restart(visit, view, visit.drop_mask)

    def choose(self, model: str, view: View, request: gr.Request) -> list[Any]:
        visit = self._visit(request)
        return self._restart(visit, view, lambda: visit.choose(model))

    def turn(
        self, threshold: float | int, budget: float | int, view: View, request: gr.Request
    ) -> list[Any]:
        visit = self._visit(request)
        try:
            visit.turn(Dials.of(threshold, budget))
        except PageError as error:
            return [markup.notice(str(error)), gr.skip(), gr.skip()]
        return _shown(visit, view)

    def look(self, view: View, request: gr.Request) -> list[Any]:
        visit = self._visit(request)
        if visit.answer is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        return _shown(visit, view)

    def leave(self, request: gr.Request) -> None:
        if request.session_hash is not None:
            self._visits.drop(request.session_hash)

    def _visit(self, request: gr.Request) -> Visit:
        return self._visits.of(request.session_hash or "")

    def _restart(
        self, visit: Visit, view: View, change: Callable[[], None], upload: str | None = None
    ) -> list[Any]:
        """Change what is looked at, then show it with dials of its own."""
        try:
            change()
            if visit.photo is None:
                text = "" if visit.mask is None else "The mask is here. Now drop its photo."
                return [markup.notice(text, bad=False), markup.EMPTY, "", *_no_dials()]
            visit.start(self._catalog)
        except PageError as error:
            empty = markup.EMPTY if visit.photo is None else ""
            return [markup.notice(str(error)), empty, "", *_no_dials()]
        finally:
            self._visits.trim()
            if upload is not None:
                with suppress(OSError):
                    Path(upload).unlink()
        return [*_shown(visit, view), gr.Row(visible=True), *_dials(visit)]


def _shown(visit: Visit, view: View) -> list[Any]:
    assert visit.answer is not None and visit.kept is not None
    start = time.perf_counter()
    picture = markup.viewer(visit, view)
    facts = markup.facts(visit, 1000 * (time.perf_counter() - start))
    text = "" if visit.kept.most else "Nothing to refine: the prediction is sure of every pixel."
    return [markup.notice(text, bad=False), picture, facts]


def _dials(visit: Visit) -> list[Any]:
    """The dials as they stand, with a range that makes a difference for this photo."""
    kept = visit.kept
    assert kept is not None
    most = next(one for one in _BUDGETS if one >= 100 * kept.most)
    top = math.ceil(20 * most_nats(kept)) / 20
    return [
        gr.Slider(maximum=top, value=visit.dials.threshold, step=0.005),
        gr.Slider(
            maximum=most, value=min(100 * visit.dials.budget, most), step=most / 200
        ),
    ]  # fmt: skip


def _no_dials() -> list[Any]:
    return [gr.Row(visible=False), gr.skip(), gr.skip()]
