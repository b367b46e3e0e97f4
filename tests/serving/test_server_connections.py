"""Clients as they are: slow, silent, gone, many; over a socket, to workers without a model."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")

import contextlib

import stub_worker
from asking import FORM, form

from sparserefine.serving import connection, server
from sparserefine.serving import pool as pool_module
from sparserefine.serving.limits import Limits
from sparserefine.serving.server import _bound, _run, serve, share_cores
from sparserefine.serving.spec import Spec


@pytest.fixture(autouse=True)
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_START", stub_worker.START)
    monkeypatch.setattr(connection, "_TICK", 0.05)


Client = Callable[[int], object]


def with_server(client: Client, limits: Limits | None = None) -> None:
    """Serve while a client works in a thread, then end by SIGTERM."""

    async def main() -> None:
        with _bound("127.0.0.1", 0) as listener:
            told = asyncio.get_running_loop().create_future()
            spec = Spec(model="stub")
            serving = asyncio.ensure_future(
                _run(listener, spec, 2, limits or Limits(), lambda *said: told.set_result(said))
            )
            await asyncio.wait({told, serving}, return_when=asyncio.FIRST_COMPLETED)
            port = listener.getsockname()[1]
            assert told.result()[0] == f"http://127.0.0.1:{port}"
            try:
                await asyncio.to_thread(client, port)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(serving, 20)

    asyncio.run(main())


def request(port: int, words: str) -> tuple[int, bytes]:
    one = HTTPConnection("127.0.0.1", port, timeout=20)
    one.request("POST", "/predict", form(file=words.encode()), {"Content-Type": FORM})
    answer = one.getresponse()
    content = answer.read()
    one.close()
    return answer.status, content


def opened(port: int, data: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=20)
    one.sendall(data)
    return one


def head(length: int, more: str = "") -> bytes:
    return (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


@pytest.mark.slow
def test_slow_silent_and_vanished_clients_cost_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD", 0.3)
    body = form(file=b"sleep 0.2")

    def client(port: int) -> None:
        silent = [opened(port) for _ in range(20)]
        dripping = [opened(port, b"POST /pre") for _ in range(20)]
        truncated = [opened(port, head(len(body)) + body[:9]) for _ in range(10)]
        gone = [opened(port, head(len(body)) + body) for _ in range(4)]
        for one in (*truncated[:5], *gone):
            one.close()
        assert request(port, "a")[0] == 200
        for one in (*silent, *dripping):
            assert one.recv(99) == b""  # cut off
            one.close()
        assert b" 408 " in truncated[5].recv(9999)
        assert request(port, "b")[0] == 200
        for one in truncated:
            one.close()

    with_server(client, Limits(timeout=0.6))


@pytest.mark.slow
def test_a_client_that_reads_no_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAIL", 0.3)

    def client(port: int) -> None:
        size = 20_000_000
        body = form(file=b"large " + str(size).encode())
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        one.settimeout(20)
        one.sendall(head(len(body)) + body)
        start = one.recv(1024)
        assert start.startswith(b"HTTP/1.1 200")
        time.sleep(1.5)
        total = len(start)
        try:
            while data := one.recv(1 << 16):
                total += len(data)
        except ConnectionResetError:
            pass
        assert total < size
        one.close()
        status = HTTPConnection("127.0.0.1", port, timeout=20)
        status.request("GET", "/metrics")
        assert b"sparserefine_held_bytes 0\n" in status.getresponse().read()
        status.close()

    with_server(client, Limits(timeout=0.5))


def test_who_asks_before_sending_is_told_at_once() -> None:
    def client(port: int) -> None:
        one = opened(port, head(99_000_000, "Expect: 100-continue\r\n"))
        assert one.recv(999).startswith(b"HTTP/1.1 413")
        one.close()
        body = form(file=b"a")
        one = opened(port, head(len(body), "Expect: 100-continue\r\n"))
        assert one.recv(999).startswith(b"HTTP/1.1 100")
        one.sendall(body)
        assert one.recv(999).startswith(b"HTTP/1.1 200")
        one.close()

    with_server(client)


def test_a_full_queue_says_when_to_come_again() -> None:
    answers: list[tuple[int, str | None]] = []

    def client(port: int) -> None:
        def ask() -> None:
            one = HTTPConnection("127.0.0.1", port, timeout=20)
            body = form(file=b"sleep 0.3")
            one.request("POST", "/predict", body, {"Content-Type": FORM})
            answer = one.getresponse()
            answer.read()
            one.close()
            answers.append((answer.status, answer.getheader("Retry-After")))

        clients = [threading.Thread(target=ask) for _ in range(9)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        assert request(port, "a")[0] == 200

    with_server(client, Limits(queue=1))
    refused = [retry for status, retry in answers if status == 503]
    assert len(refused) >= 4 and all(retry and int(retry) >= 1 for retry in refused)
    assert sum(status == 200 for status, _ in answers) == 9 - len(refused) >= 2


def test_what_was_accepted_is_finished_when_it_ends() -> None:
    answers: list[tuple[int, bytes]] = []

    async def main() -> None:
        with _bound("127.0.0.1", 0) as listener:
            told = asyncio.get_running_loop().create_future()
            serving = asyncio.ensure_future(
                _run(listener, Spec(model="stub"), 1, Limits(), lambda *x: told.set_result(x))
            )
            await told
            port = listener.getsockname()[1]
            asked = [
                asyncio.ensure_future(asyncio.to_thread(request, port, "sleep 0.15"))
                for _ in range(3)
            ]
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            answers.extend(await asyncio.gather(*asked))
            await asyncio.wait_for(serving, 20)
            with pytest.raises(OSError):
                opened(port)

    asyncio.run(main())
    assert [status for status, _ in answers] == [200] * 3


def test_garbage_is_refused_and_the_server_goes_on() -> None:
    chance = random.Random(0)
    body = form(file=b"a")

    def client(port: int) -> None:
        for index in range(100):
            data = bytearray(head(len(body)) + body)
            if index % 3:
                for _ in range(chance.randint(1, 9)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
            else:
                data = bytearray(chance.randbytes(chance.randint(1, 300)))
            one = opened(port, bytes(data))
            one.shutdown(socket.SHUT_WR)
            one.settimeout(2)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                one.recv(999)
            one.close()
        assert request(port, "a")[0] == 200

    with_server(client, Limits(timeout=0.5))


def test_the_port_is_loopback_and_known_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("work has started")

    monkeypatch.setattr(server, "_run", never)
    with _bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}: Address already in use. Give another"):
            serve(port=port)
    with pytest.raises(OSError, match="cannot listen at nowhere"):
        serve(host="nowhere.invalid")
    with pytest.raises(ValueError, match="port is 70000, expected 0 to 65535"):
        serve(port=70000)
    for wrong in ({"queue": 0}, {"workers": 0}, {"threads": 0}, {"timeout": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            serve(**wrong)  # type: ignore[arg-type]
    with pytest.raises(
        ImportError, match=r"a server needs uvicorn: pip install 'sparserefine\[serve"
    ):
        monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
        serve()


def test_cores_are_shared_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert share_cores(None, None, "auto") == (2, 4)
    assert share_cores(3, None, "cpu") == (3, 2)
    assert share_cores(None, None, "cuda") == (1, 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert share_cores(None, None, "auto") == (1, 1)
