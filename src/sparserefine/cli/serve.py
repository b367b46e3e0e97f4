"""`sparserefine serve`."""

from __future__ import annotations

from pathlib import Path

from sparserefine.cli.console import console, messages


def serve(
    *,
    model: str = "u2netp",
    port: int = 7000,
    host: str = "127.0.0.1",
    workers: int | None = None,
    threads: int | None = None,
    queue: int = 16,
    batch: int = 1,
    batch_wait_ms: float = 5.0,
    max_megabytes: float = 32.0,
    max_megapixels: float = 32.0,
    timeout: float = 60.0,
    weights: str | None = None,
    calibration: Path | None = None,
    threshold: float | None = None,
    max_density: float | None = None,
    device: str = "auto",
    optimize: bool = True,
) -> None:
    """Answer HTTP requests with a model: POST /predict, or /api/remove as rembg's server.

    Parameters
    ----------
    model
        For cut-outs u2netp, which comes with the package, or a file of U²-Net or IS-Net (.onnx,
        .safetensors); for masks that come with their photos edges; for labels demo, a folder that
        `train` or save_pretrained wrote, or a hub id.
    port
        Port; 0 takes one that is free.
    host
        Address to listen at. Whoever can reach it can use the server: 0.0.0.0 is everybody.
    workers
        Processes that compute, each with the model in memory. Default: 2, or 1 on a GPU or a
        single core.
    threads
        Threads of each. Default: the cores, shared among the workers.
    queue
        Requests that may wait; the next is answered with 503 and when to come again.
    batch
        Requests that a worker takes at once, at most; images of equal size go through a refiner
        together. On CPUs it gains nothing.
    batch_wait_ms
        How long a worker waits for a batch to fill, in milliseconds.
    max_megabytes
        Size of a request, at most.
    max_megapixels
        Size of an image, at most.
    timeout
        Seconds that an upload, waiting and computing, and the reading of an answer may each take.
    weights
        The dense model of a refiner that was saved without: a folder of transformers, an ONNX file,
        or a hub id.
    calibration
        File calibration.json of `sparserefine calibrate`, to take a refiner's threshold from.
    threshold
        Entropy in nats above which a refiner refines a pixel. Default: its own.
    max_density
        Pixel budget of a refiner, 0 to 1. Default: its own.
    device
        Device of a refiner: "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    optimize
        Run the dense model as fast as this CPU can without other answers.
    """
    from sparserefine.serving.server import serve as run
    from sparserefine.serving.wanted import Served

    loading = messages.status(f"loading {model}")

    def ready(url: str, served: Served) -> None:
        loading.stop()
        if served.license:
            text = f"license of the dense weights: {served.license}"
            messages.print(text, style="dim", markup=False)
        messages.print(f"{served.name}: {', '.join(served.outputs)}; Ctrl-C ends it", markup=False)
        console.print(url, markup=False)
        console.file.flush()

    with loading:
        run(
            model,
            port=port,
            host=host,
            workers=workers,
            threads=threads,
            queue=queue,
            batch=batch,
            batch_wait_ms=batch_wait_ms,
            max_megabytes=max_megabytes,
            max_megapixels=max_megapixels,
            timeout=timeout,
            weights=weights,
            calibration=calibration,
            threshold=threshold,
            max_density=max_density,
            device=device,
            optimize=optimize,
            ready=ready,
        )
