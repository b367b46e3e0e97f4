"""What the server takes and gives: as OpenAPI for programs, as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, get_args

from sparserefine.serving.limits import Limits
from sparserefine.serving.wanted import Fit, Kind, Served

VERSION = "1"
"""Of what is taken and given, not of the package."""

PAGE_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    ),
)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fdfdfd; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #f1f1ee; }
pre { padding: .7rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid #ddd; padding: .3rem .5rem; text-align: left; vertical-align: top; }
form { border: 1px solid #ccc; padding: 1rem; }
label { display: block; margin: .4rem 0; }
"""


def openapi(served: Served, limits: Limits) -> dict[str, Any]:
    """The document of the OpenAPI initiative, version 3.1."""
    failures = {str(status): _failure(text) for status, text in _statuses(limits).items()}
    image = {"200": _answer(served), **failures}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"sparserefine: {served.name}",
            "version": VERSION,
            "description": "Segmentation of photos at their full resolution.",
        },
        "paths": {
            "/predict": {"post": _operation("Segment a photo", _predict_form(served), image)},
            "/api/remove": {
                "post": _operation("As rembg's server answers", _remove_form(served), image)
            },
            "/health": {
                "get": _get("Whether workers are ready", "application/json", ("200", "503"))
            },
            "/metrics": {"get": _get("Counts, as Prometheus reads them", "text/plain", ("200",))},
            "/openapi.json": {"get": _get("This document", "application/json", ("200",))},
        },
        "components": {
            "schemas": {
                "Failure": {
                    "type": "object",
                    "required": ["detail"],
                    "properties": {"detail": {"type": "string"}},
                }
            }
        },
    }


def page(document: Mapping[str, Any], served: Served) -> str:
    """The same for people, with a form to try it."""
    parts = [f"<h1>{escape(document['info']['title'])}</h1>"]
    parts.append("<p>Segmentation of photos at their full resolution.</p>")
    parts.append(_try_form(served))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2>")
            parts.append(f"<p>{escape(operation['summary'])}.</p>")
            parts.append(_fields(operation))
            rows = "".join(
                f"<tr><td>{status}</td><td>{escape(one['description'])}</td></tr>"
                for status, one in operation["responses"].items()
            )
            parts.append(f"<table><tr><th>status</th><th></th></tr>{rows}</table>")
    parts.append('<p>For programs: <a href="/openapi.json">/openapi.json</a></p>')
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    title = escape(document["info"]["title"])
    return (
        f"<!doctype html><html lang=en><head>{head}<title>{title}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _predict_form(served: Served) -> dict[str, Any]:
    return {
        **_files(served),
        "output": {
            "type": "string",
            "enum": list(served.outputs),
            "default": served.outputs[0],
            "description": "labels, alpha and cutout are PNGs; json has a segment for each label, "
            "with COCO's uncompressed run lengths",
        },
        **_mask_settings(served),
    }


def _remove_form(served: Served) -> dict[str, Any]:
    flags = {
        "om": "only the mask, as a gray PNG",
        "ppm": "alpha as black and white",
        "dc": "the colors cleaned of the background's",
    }
    return {
        **_files(served),
        **{
            name: {"type": "boolean", "default": False, "description": text}
            for name, text in flags.items()
        },
        "bgc": {
            "type": "string",
            "description": "red, green, blue and alpha behind the foreground: 255,255,255,255",
        },
        "model": {
            "type": "string",
            "description": f"not looked at, as a, af, ab, ae, vm and extras: it is {served.name}",
        },
    }


def _files(served: Served) -> dict[str, Any]:
    files = {"file": {"type": "string", "format": "binary", "description": "the photo"}}
    if served.needs_mask:
        files["mask"] = {
            "type": "string",
            "format": "binary",
            "description": "its mask, of any size: a picture, or an array of numpy.save",
        }
    return files


def _mask_settings(served: Served) -> dict[str, Any]:
    if not served.needs_mask:
        return {}
    return {
        "kind": {
            "type": "string",
            "enum": list(get_args(Kind)),
            "description": "what the mask's numbers mean, where they do not say",
        },
        "fit": {
            "type": "string",
            "enum": list(get_args(Fit)),
            "description": "how a mask of other proportions lies on its photo",
        },
    }


def _statuses(limits: Limits) -> dict[int, str]:
    return {
        400: "a broken form",
        408: f"an upload of more than {limits.timeout:g} s",
        413: f"more than {limits.max_megabytes:g} MB",
        415: "no multipart/form-data",
        422: f"no image, one of more than {limits.max_megapixels:g} megapixels, a mask that does "
        "not fit, an unknown setting",
        500: "a fault of the server, or an image that ends its workers",
        503: f"{limits.queue} requests wait already; Retry-After says when to come again",
        504: f"more than {limits.timeout:g} s of waiting and computing",
    }


def _operation(
    summary: str, properties: Mapping[str, Any], responses: Mapping[str, Any]
) -> dict[str, Any]:
    required = [name for name in properties if name in ("file", "mask")]
    schema = {"type": "object", "required": required, "properties": dict(properties)}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": dict(responses),
    }


def _answer(served: Served) -> dict[str, Any]:
    content: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    content["application/json"] = {"schema": {"type": "object"}}
    return {"description": f"what {served.name} finds", "content": content}


def _failure(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Failure"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _get(summary: str, media_type: str, statuses: tuple[str, ...]) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "string" if "text" in media_type else "object"}}}
    answers = {status: {"description": summary, "content": content} for status in statuses}
    return {"summary": summary, "responses": answers}


def _fields(operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody")
    if body is None:
        return ""
    schema = body["content"]["multipart/form-data"]["schema"]
    rows = []
    for name, one in schema["properties"].items():
        values = ", ".join(one.get("enum", ()))
        text = "; ".join(part for part in (one.get("description", ""), values) if part)
        needed = "needed" if name in schema["required"] else ""
        rows.append(
            f"<tr><td><code>{name}</code></td><td>{escape(text)}</td><td>{needed}</td></tr>"
        )
    return f"<table><tr><th>field</th><th></th><th></th></tr>{''.join(rows)}</table>"


def _try_form(served: Served) -> str:
    mask = '<label>Mask <input type="file" name="mask" required></label>' * served.needs_mask
    outputs = "".join(f"<option>{name}</option>" for name in served.outputs)
    curl = "curl -F file=@photo.jpg" + " -F mask=@mask.png" * served.needs_mask
    return (
        '<form method="post" action="/predict" enctype="multipart/form-data">'
        f'<label>Photo <input type="file" name="file" required></label>{mask}'
        f'<label>Answer <select name="output">{outputs}</select></label>'
        '<button type="submit">Segment</button></form>'
        f"<pre>{curl} -F output={served.outputs[0]} -o out.png URL/predict</pre>"
    )
