"""The server of the page, on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from sparserefine.app.catalog import Catalog
from sparserefine.app.downloads import file_name, png
from sparserefine.app.visit import PageError
from sparserefine.app.visits import Visits
from sparserefine.extras import check_installed

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_UPLOAD = "100mb"


def serve_page(
    catalog: Catalog,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until the process is interrupted.

    Nothing is fetched and nothing is told to anybody. What people drop is kept in memory as long as
    their page is open, and files of it are gone when the server ends.

    Args:
        catalog: The models to choose from.
        host: Address to listen at; by default only this machine reaches it.
        port: Port to listen at; 0 takes one that is free.
        ready: Told the page's address once it can be opened.

    Raises:
        ImportError: The extra `app` is not installed.
        OSError: The port is in use, or the address is none of this machine.
    """
    check_app_installed()
    import uvicorn

    with _listening(host, port) as listener, TemporaryDirectory() as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        app = build_app(catalog, Visits(catalog.names[0]), host=host)
        config = uvicorn.Config(
            app, log_level="error", access_log=False, timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        if ready is not None:
            shown = f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{listener.getsockname()[1]}/")
        server.run(sockets=[listener])


def check_app_installed() -> None:
    """Refuse to start without what the page needs.

    Raises:
        ImportError: The extra `app` is not installed.
    """
    check_installed("the page", "gradio", extra="app")


def build_app(catalog: Catalog, visits: Visits, *, host: str = "127.0.0.1") -> Any:
    """The page and its downloads as an ASGI application.

    Args:
        catalog: The models to choose from.
        visits: Where what people drop is kept.
        host: Address that it will listen at.
    """
    # gradio asks for these when it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr
    from fastapi import FastAPI, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from sparserefine.app.page import STYLE, build_page, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOOPBACK:  # a page of elsewhere cannot call itself this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])

    @app.get("/download/{token}/{name}.png")
    def download(token: str, name: str) -> Response:
        visit = visits.by_token(token)
        if visit is None:
            return Response("The photo is no longer here. Drop it again.", 404)
        try:
            content = png(visit, name)
        except PageError as error:
            return Response(str(error), 404)
        disposition = f'attachment; filename="{file_name(visit, name)}"'
        headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
        return Response(content, media_type="image/png", headers=headers)

    return gr.mount_gradio_app(
        app,
        build_page(catalog, visits),
        path="/",
        theme=theme(),
        css=STYLE.read_text(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=MAX_UPLOAD,
    )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"port {port} of {host} cannot be listened at ({error.strerror or error}). Give "
            "another with --port, or 0 for one that is free."
        ) from None
    return listener
