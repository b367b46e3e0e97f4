"""The command as a user runs it: a process of its own, with the models that ship."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="needs the extra serve")

from asking import FORM, form
from serving_files import bomb, png, saved

import sparserefine as sr
from command_line import run, run_process
from sparserefine.photos.shipped import shipped_photo


class Server:
    """A running command.

    Attributes:
        process: The process that answers.
        port: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.port = process, urlsplit(url).port

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = FORM) -> tuple[int, bytes]:
        assert self.port is not None
        one = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            one.request(method, path, body, {"Content-Type": kind})
            answer = one.getresponse()
            return answer.status, answer.read()
        finally:
            one.close()

    def workers(self) -> list[int]:
        """Processes that this one has started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextmanager
def running(*options: object) -> Iterator[Server]:
    command = [sys.executable, "-m", "sparserefine.cli", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().strip()
        if not url:
            raise AssertionError(process.stderr.read())
        yield Server(process, url)
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def small_photo() -> np.ndarray:
    with Image.open(shipped_photo("wren")) as photo:
        return np.array(photo.convert("RGB").resize((360, 240)))


@pytest.mark.slow
def test_cutouts_of_the_shipped_model_and_1000_mutated_bodies() -> None:
    photo = small_photo()
    expected = sr.cutout(photo)
    chance = random.Random(0)
    jpeg = saved(Image.fromarray(photo[:60, :90]), "JPEG")
    seeds = [form(file=one) for one in (png(photo[:40, :60]), jpeg, bomb(3000))]
    with running("--max-megapixels", 0.5, "--queue", 64) as server:
        status, content = server.ask("POST", "/predict", form(file=png(photo)))
        assert status == 200
        # Threads and runtimes of the worker round otherwise.
        difference = np.array(Image.open(BytesIO(content))).astype(int) - expected.rgba()
        assert np.abs(difference).mean() < 0.5
        before = resident(server)
        found: dict[int, int] = {}
        for index in range(1000):
            body = bytearray(seeds[index % 3])
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(body))
                if chance.random() < 0.7:
                    body[at] = chance.randrange(256)
                else:
                    body[at : at + chance.randint(0, 200)] = chance.randbytes(chance.randint(0, 99))
            status, content = server.ask("POST", "/predict?output=json", bytes(body))
            found[status] = found.get(status, 0) + 1
            if status != 200:
                assert len(json.loads(content)["detail"]) > 10
        assert found.keys() <= {200, 400, 415, 422} and found[422] > 100, found
        assert resident(server) < before + 300e6
        health = json.loads(server.ask("GET", "/health")[1])
        assert health["workers"] == min(2, len(os.sched_getaffinity(0)))
        assert b"worker_restarts_total 0" in server.ask("GET", "/metrics")[1]


def resident(server: Server) -> float:
    """Bytes of the server and its workers in memory."""
    total = 0
    for pid in (server.process.pid, *server.workers()):
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        total += int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


@pytest.mark.slow
def test_photo_after_photo_takes_no_more_memory() -> None:
    photo = small_photo()
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[60:180, 90:270] = 255
    body = form(file=png(photo), mask=png(mask[::4, ::4]))
    held = []
    with running("--model", "edges", "--workers", 1) as server:
        for _ in range(5):
            for _ in range(60):
                assert server.ask("POST", "/predict", body)[0] == 200
            status = Path(f"/proc/{server.workers()[0]}/status").read_text()
            held.append(int(status.partition("RssAnon:")[2].split()[0]) / 1e3)
    assert held[-1] < held[0] + 10, held


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_no_request() -> None:
    body = form(file=png(small_photo()))
    statuses: list[int] = []
    with running("--workers", 2) as server:

        def client() -> None:
            for _ in range(5):
                statuses.append(server.ask("POST", "/predict?output=alpha", body)[0])

        clients = [threading.Thread(target=client) for _ in range(4)]
        for one in clients:
            one.start()
        while not statuses:
            time.sleep(0.05)
        os.kill(server.workers()[0], signal.SIGKILL)
        for one in clients:
            one.join()
        assert statuses == [200] * 20
        assert b"worker_restarts_total 1" in server.ask("GET", "/metrics")[1]


@pytest.mark.slow
def test_masks_and_labels_are_served(tmp_path: Path) -> None:
    photo = small_photo()
    mask = (sr.cutout(photo).alpha[::4, ::4] > 0.5).astype(np.uint8) * 255
    with running("--model", "edges", "--workers", 1) as server:
        status, content = server.ask("POST", "/predict", form(file=png(photo), mask=png(mask)))
        expected = sr.refine(photo, mask).alpha
        assert status == 200 and expected is not None
        assert np.abs(np.array(Image.open(BytesIO(content))) / 255 - expected).mean() < 0.01
        logits = BytesIO()
        np.save(logits, np.where(mask > 0, 4.0, -4.0).astype(np.float32))
        body = form(file=png(photo), mask=logits.getvalue(), output="json")
        assert server.ask("POST", "/predict", body)[0] == 200
    with running("--model", "demo", "--workers", 1, "--batch", 4, "--max-density", 0.1) as server:
        status, content = server.ask("POST", "/predict?output=json", form(file=png(photo)))
        facts = json.loads(content)
        assert status == 200 and facts["density"] <= 0.1 and len(facts["segments"]) > 1
        assert sum(one["area"] for one in facts["segments"]) == 360 * 240
    # A refiner without its dense model: the mask is the prediction, labels without the last class.
    refiner = sr.SparseRefiner(None, num_classes=3, refiner="edges")
    refiner.save_pretrained(tmp_path / "three")
    with running("--model", tmp_path / "three", "--workers", 1) as server:
        labels = png(mask // 255)
        body = form(file=png(photo), mask=labels, kind="labels")
        status, content = server.ask("POST", "/predict", body)
        assert status == 200 and set(np.unique(np.array(Image.open(BytesIO(content))))) <= {0, 1, 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "nonsense"), "nonsense"),
        (("--model", "isnet"), "no model 'isnet', expected u2netp, or a file"),
        (("--model", "edges", "--threshold", 0.1), "--threshold is a setting of a trained refiner"),
        (("--model", "demo", "--device", "cuda:77"), "cannot be used"),
        (("--queue", 0), "queue is 0, expected 1 or more"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    options: tuple[object, ...], message: str
) -> None:
    done = run_process("serve", "--port", 0, *options)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_help_is_instant() -> None:
    run_process("serve", "--help")  # compiles
    times = []
    for _ in range(3):
        start = sum(os.times()[2:4])  # of children, whatever else the machine does
        assert "POST /predict" in run_process("serve", "--help").stdout
        times.append(sum(os.times()[2:4]) - start)
    assert min(times) < 0.4


def test_what_is_missing_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    done = run("serve", "--model", "no-such-model")
    assert done.returncode == 1
    assert "a server needs uvicorn: pip install 'sparserefine[serve]'" in done.stderr
