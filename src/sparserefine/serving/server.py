"""The server: a port, workers, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparserefine.extras import check_installed
from sparserefine.serving.limits import Limits
from sparserefine.serving.metrics import Metrics
from sparserefine.serving.pool import Pool
from sparserefine.serving.spec import Spec
from sparserefine.serving.wanted import Served

if TYPE_CHECKING:
    import uvicorn

_BACKLOG = 256
Ready = Callable[[str, Served], object]


def serve(
    model: str | Path = "u2netp",
    *,
    port: int = 7000,
    host: str = "127.0.0.1",
    workers: int | None = None,
    threads: int | None = None,
    queue: int = Limits.queue,
    batch: int = Limits.batch,
    batch_wait_ms: float = Limits.batch_wait_ms,
    max_megabytes: float = Limits.max_megabytes,
    max_megapixels: float = Limits.max_megapixels,
    timeout: float = Limits.timeout,
    weights: str | Path | None = None,
    calibration: str | Path | None = None,
    threshold: float | None = None,
    max_density: float | None = None,
    device: str = "auto",
    optimize: bool = True,
    ready: Ready | None = None,
) -> None:
    """Answer HTTP requests with a model until SIGTERM or Ctrl-C, and finish what was accepted.

    See docs/deploy.md for what it answers.

    Args:
        model: "u2netp", or a file of U²-Net or IS-Net (.onnx, .safetensors), for cut-outs; "edges",
            for masks that come with their photos; "demo", a folder that `train` or
            `save_pretrained` wrote, or a hub id, for labels.
        port: Port; 0 takes one that is free.
        host: Address to listen at. Everybody who can reach it can use the server.
        workers: Processes that compute, each with the model in memory. Default: 2, or 1 on a GPU
            or a single core.
        threads: Threads of each. Default: the cores, shared among the workers.
        queue: Requests that may wait; the next is answered with 503.
        batch: Requests that a worker takes at once, at most; images of equal size go through a
            refiner together.
        batch_wait_ms: How long a worker waits for a batch to fill, in milliseconds.
        max_megabytes: Size of a request, at most.
        max_megapixels: Size of an image, at most.
        timeout: Seconds that an upload, waiting and computing, and the reading of an answer may
            each take.
        weights: The dense model of a refiner that was saved without: a folder of transformers, an
            ONNX file, or a hub id.
        calibration: File calibration.json, to take a refiner's threshold from.
        threshold: Entropy in nats above which a refiner refines a pixel.
        max_density: Pixel budget of a refiner, 0 to 1.
        device: Device of a refiner; "auto" takes a GPU where there is one.
        optimize: Run the dense model as `dense.optimize` does.
        ready: Told the URL, and what the model takes and gives, once requests are answered.

    Raises:
        ImportError: uvicorn is not installed.
        ValueError: The model cannot be loaded, or a setting makes no sense.
        OSError: The port is in use, or not to be had.
    """
    check_installed("a server", "uvicorn", extra="serve")
    if not isinstance(model, str | Path):
        raise ValueError(
            f"the model is a {type(model).__name__}, expected a name or a path: its workers are "
            "other processes. Save it with save_pretrained, and name the folder."
        )
    limits = Limits(
        queue=queue,
        batch=batch,
        batch_wait_ms=batch_wait_ms,
        max_megabytes=max_megabytes,
        max_megapixels=max_megapixels,
        timeout=timeout,
    )
    workers, threads = share_cores(workers, threads, device)
    spec = Spec(
        model=str(model),
        weights=None if weights is None else str(weights),
        calibration=None if calibration is None else str(calibration),
        threshold=threshold,
        max_density=max_density,
        device=device,
        threads=threads,
        max_pixels=limits.max_pixels,
        optimize=optimize,
    )
    with _bound(host, port) as listener:
        asyncio.run(_run(listener, spec, workers, limits, ready or (lambda *_: None)))


def share_cores(workers: int | None, threads: int | None, device: str) -> tuple[int, int]:
    """How many workers, and how many threads each.

    Processes of one thread each use cores better than threads of one process, which wait for
    one another; each has the model in memory.

    Raises:
        ValueError: A number is below 1.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, expected 1 or more.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    if workers is None:
        workers = 1 if device.startswith("cuda") else min(2, cores)
    return workers, threads or max(1, cores // workers)


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens: before minutes of loading it is known whether the port is free."""
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}, expected 0 to 65535.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(f"cannot listen at {host}: {error.strerror or error}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise OSError(
                f"cannot listen at {host}, port {port}: {error.strerror or error}. Give another "
                "--port, or end what uses it."
            ) from None
        yield listener
    finally:
        listener.close()


async def _run(
    listener: socket.socket, spec: Spec, workers: int, limits: Limits, ready: Ready
) -> None:
    import uvicorn

    from sparserefine.serving.app import App
    from sparserefine.serving.connection import GuardedConnection

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    metrics = Metrics()
    pool = Pool(spec, workers, limits, metrics, _log)
    try:
        loading = asyncio.ensure_future(pool.start())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            return
        served = loading.result()
        config = uvicorn.Config(
            App(pool, served, limits, metrics),
            http=GuardedConnection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            # Reading, waiting and computing, and the sending of what was accepted.
            timeout_graceful_shutdown=int(3 * limits.timeout) + 1,
        )
        server = _server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        ready(_url(listener), served)
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        await pool.close()


def _server(config: uvicorn.Config) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn's, which otherwise ends the process with the signal that it got."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(config)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log(line: str) -> None:
    print(f"sparserefine: {line}", file=sys.stderr, flush=True)
