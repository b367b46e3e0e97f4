"""A worker without a model, for tests of what stands before it: its images are what it shall do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from sparserefine.serving import frame

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import stub_worker; stub_worker.main()"
)
SERVED = {"name": "stub", "outputs": ["cutout", "alpha"], "needs_mask": False}


def main() -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    first = frame.read(requests)
    assert first is not None
    model = first.header["model"]

    def write(header: dict[str, Any], content: bytes = b"") -> None:
        for chunk in frame.encode(header, [content]):
            answers.write(chunk)
        answers.flush()

    if model == "missing":
        write({"error": "there is no such model. Name another."})
        return
    if model == "crash":
        os._exit(3)
    write({"served": SERVED})
    while (message := frame.read(requests)) is not None:
        count = len(message.parts)
        for task, image in zip(message.header["tasks"], message.parts, strict=True):
            word, _, value = image.decode().partition(" ")
            if word == "die" or (word == "die-once" and not os.path.exists(value)):
                if value:
                    Path(value).touch()
                os._exit(9)
            if word == "sleep":
                time.sleep(float(value))
            if word == "large":
                image += bytes(int(value))
            content = f"{os.getpid()} {count} ".encode() + image
            header = {"number": task["number"], "status": 200, "type": "text/plain"}
            write({**header, "stages_ms": {"stub": 1.0}}, content)
