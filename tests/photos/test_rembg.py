"""Sessions for rembg: masks at full size, and rembg's command line with them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from imitated_rembg import LogitSession, ProbabilitySession
from sparserefine.photos.shipped import shipped_photo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rembg.md"
WIDTH, HEIGHT = 320, 240


def disk() -> tuple[Image.Image, np.ndarray]:
    """A red disk on blue noise, and where it is."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = np.hypot(y - HEIGHT / 2, x - WIDTH / 2) < 80
    back = np.array([40, 90, 200]) + rng.integers(-15, 15, (HEIGHT, WIDTH, 3))
    pixels = np.where(inside[..., None], (230, 120, 20), back).astype(np.uint8)
    return Image.fromarray(pixels), inside


def steepness(mask: np.ndarray) -> float:
    """Largest step between neighbours, 0..1."""
    values = mask.astype(float) / 255
    return float(max(np.abs(np.diff(values, axis=axis)).max() for axis in (0, 1)))


@pytest.mark.parametrize("make", [ProbabilitySession, LogitSession])
def test_masks_are_of_full_size_and_sharper(make: Any) -> None:
    image, truth = disk()
    theirs = np.asarray(make().predict(image)[0]) / 255
    (mask,) = sr.rembg.session(make()).predict(image, only_mask=True)
    assert (mask.mode, mask.size) == ("L", image.size)
    ours = np.asarray(mask) / 255
    assert np.abs(ours - truth).mean() < 0.3 * np.abs(theirs - truth).mean()


def test_the_method_is_that_of_a_cutout() -> None:
    image, _ = disk()
    model = sr.dense.from_rembg(ProbabilitySession())
    for method in ("closed-form", "guided", "bilinear"):
        alpha = sr.cutout(image, model=model, method=method).alpha
        (mask,) = sr.rembg.session(model, method).predict(image)
        assert np.array_equal(np.asarray(mask), np.round(255 * alpha).astype(np.uint8))


def test_photos_of_any_mode() -> None:
    session = sr.rembg.session(ProbabilitySession())
    for mode in ("L", "RGBA", "P", "CMYK", "I;16"):
        (mask,) = session.predict(Image.new(mode, (50, 30)))
        assert (mask.mode, mask.size) == ("L", (50, 30))


def test_the_shipped_model_needs_no_rembg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    model = sr.rembg.session().model
    assert model.identity() == sr.dense.create("u2netp").identity()
    with pytest.raises(ImportError, match=r"rembg is needed.*pip install 'sparserefine\[rembg\]'"):
        sr.rembg.session("isnet-general-use")
    with pytest.raises(ImportError, match=r"rembg is needed.*pip install 'sparserefine\[rembg\]'"):
        sr.rembg.register()


def test_a_missing_rembg_ends_the_command_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sparserefine.rembg import __main__ as command

    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(SystemExit, match=r"^sparserefine: rembg is needed.*\[rembg\]'$"):
        command.main()


# From here on with the real rembg: importing it takes seconds, and its command line needs a process
# of its own.


@pytest.fixture(scope="module")
def rembg() -> Any:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    return pytest.importorskip("rembg", reason="needs the extra rembg")


@pytest.fixture
def home(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder of rembg with U²-Net-p in it."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(shared / "dense" / "u2netp" / "u2netp.onnx", folder)
    monkeypatch.setenv("U2NET_HOME", str(folder))
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
    return folder


def marked_real(test: Any) -> Any:
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore::DeprecationWarning")(test))


@pytest.fixture
def photo(shared: Path) -> Image.Image:
    return Image.open(shared / "data" / "photos" / "images" / "dreambooth_bear_plushie_03.jpg")


@marked_real
def test_each_session_of_rembg_is_understood_or_refused(rembg: Any) -> None:
    """Without the files of their networks: a session is made around a stand-in for it."""
    refused = set()
    for name, kind in list(rembg.sessions.sessions.items()):
        session = object.__new__(kind)
        session.model_name = name
        if kind.is_local() and name != "sam":
            session.inner_session = ProbabilitySession(4 if "cloth" in name else 1).inner_session
        try:
            model = sr.dense.from_rembg(session)
        except ValueError:
            refused.add(name)
        else:
            side = 320 if name.startswith(("u2net", "silueta")) else 1024
            assert model.preset.dense_size == (side, side), name
            assert (model.output == "logits") == name.startswith("birefnet"), name
        assert f"`{name}`" in PAGE.read_text(), f"docs/rembg.md does not say what {name} is"
    # Later versions have the last one too.
    assert refused - {"atlascloud"} == {"sam", "u2net_cloth_seg", "withoutbg"}


@marked_real
def test_the_network_says_what_it_says_in_rembg(rembg: Any, home: Path, photo: Image.Image) -> None:
    session = rembg.new_session("u2netp")
    size, mean, std = (320, 320), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = session.inner_session.run(None, session.normalize(photo, mean, std, size))[0][0, 0]
    small = np.array(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    model = sr.dense.from_rembg(session)
    images = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    found = model(images).softmax(1)[0, 1].numpy()
    assert np.abs(found - expected).max() < 1e-3
    with pytest.warns(UserWarning, match="takes 320×320 only"):
        wrapped = sr.dense.from_onnx(home / "u2netp.onnx", "logits", 2)
    assert model.identity() == wrapped.identity()


@marked_real
def test_remove_takes_our_session(rembg: Any, home: Path, photo: Image.Image) -> None:
    plain = np.asarray(rembg.remove(photo, session=rembg.new_session("u2netp"), only_mask=True))
    theirs = sr.rembg.session(rembg.new_session("u2netp"))
    for session in (theirs, sr.rembg.session()):
        mask = rembg.remove(photo, session=session, only_mask=True)
        assert (mask.mode, mask.size) == ("L", photo.size)
        assert steepness(np.asarray(mask)) > 2 * steepness(plain)
        assert np.abs(np.asarray(mask) / 255 - plain / 255).mean() < 0.05
    mask = np.asarray(rembg.remove(photo, session=theirs, only_mask=True))
    cut = np.asarray(rembg.remove(photo, session=theirs))
    assert cut.shape == (*photo.size[::-1], 4) and np.array_equal(cut[..., 3], mask)
    cleaned = np.asarray(rembg.remove(photo, session=theirs, decontaminate=True))
    assert np.abs(cleaned[..., 3].astype(int) - mask).max() <= 1
    edge = (mask > 20) & (mask < 235)
    assert edge.any() and (cleaned[edge][:, :3] != cut[edge][:, :3]).any()
    hard = np.asarray(rembg.remove(photo, session=theirs, only_mask=True, post_process_mask=True))
    assert set(np.unique(hard)) == {0, 255} and hard.shape == mask.shape
    white = np.asarray(rembg.remove(photo, session=theirs, bgcolor=(255, 255, 255, 255)))
    assert (white[..., 3] == 255).all() and (white[mask == 0][:, :3] == 255).all()


@marked_real
def test_names_are_found_once_registered(rembg: Any, home: Path, photo: Image.Image) -> None:
    names = sr.rembg.register()
    assert sr.rembg.register() == names
    assert "sparserefine" in names and "sparserefine-isnet-general-use" in names
    assert not {"sparserefine-sam", "sparserefine-u2net_cloth_seg", "sparserefine-withoutbg"} & set(
        names
    )
    assert len(set(rembg.sessions.sessions_names)) == len(rembg.sessions.sessions_names)
    for name in names:
        kind = rembg.sessions.sessions[name]
        assert kind.name() == name and kind.is_local() and not kind.has_usage_cost()
    model_file = home / "mine.onnx"
    shutil.copy(home / "u2netp.onnx", model_file)
    custom = rembg.new_session("sparserefine-u2net_custom", model_path=str(model_file))
    ours = sr.rembg.session(rembg.new_session("u2netp"))
    assert np.array_equal(*(np.asarray(session.predict(photo)[0]) for session in (custom, ours)))


def command(*words: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sparserefine.rembg", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def run(*words: object) -> str:
    process = command(*words, stdin=subprocess.DEVNULL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def needs_command_line() -> None:
    for library in ("click", "fastapi", "filetype", "uvicorn", "watchdog"):
        pytest.importorskip(library, reason="needs rembg's command line: pip install 'rembg[cli]'")


@marked_real
def test_the_command_line_on_a_file_and_on_a_folder(rembg: Any, tmp_path: Path) -> None:
    needs_command_line()
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(shipped_photo("lund"), photos / "a.jpg")
    out = tmp_path / "a.png"
    run("i", "-m", "sparserefine", "-om", photos / "a.jpg", out)
    with Image.open(out) as mask, Image.open(photos / "a.jpg") as photo:
        assert (mask.mode, mask.size) == ("L", photo.size)
        expected = sr.rembg.session().predict(photo.copy())[0]
        assert np.array_equal(np.asarray(mask), np.asarray(expected))
    run("p", "-m", "sparserefine", photos, tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.png") as cut:
        assert cut.mode == "RGBA"
        assert np.array_equal(np.asarray(cut)[..., 3], np.asarray(expected))


@marked_real
def test_the_command_line_as_a_server(rembg: Any, tmp_path: Path) -> None:
    needs_command_line()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "BROWSER": "true"}  # the server opens a page of itself
    server = command("s", "--no-ui", "-h", "127.0.0.1", "-p", port, env=environment)
    try:
        answer = post(f"http://127.0.0.1:{port}/api/remove", shipped_photo("lund"), server)
    finally:
        server.terminate()
        server.communicate(timeout=60)
    with Image.open(BytesIO(answer)) as mask, Image.open(shipped_photo("lund")) as photo:
        assert (mask.mode, mask.size) == ("L", photo.size)


def post(address: str, photo: Path, server: subprocess.Popen[str]) -> bytes:
    """Send a photo to a server that may still be starting; only the mask is asked for."""
    boundary = "part-of-a-form"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        for name, more, value in (
            ("model", "", b"sparserefine"),
            ("om", "", b"true"),
            ("file", '; filename="a.jpg"', photo.read_bytes()),
        )
    ]
    body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(address, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 240
    while True:
        try:
            with opener.open(request, timeout=120) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not answer"
            time.sleep(1)
