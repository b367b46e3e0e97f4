"""`bulk` from a bucket into a bucket, on a server that speaks S3; and what a bucket refuses."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
import sparserefine.cli.bulk
from command_line import run, run_process
from local_ray import local_ray
from small_models import make_patch_model
from sparserefine.cluster.storage import Storage

pytest.importorskip("pyarrow.fs", reason="needs the extra bulk")
KEYS = {"AWS_ACCESS_KEY_ID": "it", "AWS_SECRET_ACCESS_KEY": "secret"}


class Refusing(BaseHTTPRequestHandler):
    """Answers as S3 does whom it does not know."""

    def refuse(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = refuse

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_without_credentials_a_bucket_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    try:
        start = time.monotonic()
        place = Storage.at("s3://photos/in")
        with pytest.raises(OSError, match=r"^s3://photos/in cannot be listed \(.*DENIED.*\)\. Che"):
            place.find()
        with pytest.raises(OSError, match=r"^s3://photos/in cannot be written \(.*DENIED.*\)\. C"):
            place.make()
        assert time.monotonic() - start < 20
    finally:
        server.shutdown()
        server.server_close()


def test_keys_and_options_in_an_address_are_not_shown() -> None:
    text = "s3://key:secret@photos/in/?region=eu-west-1&scheme=http&endpoint_override=127.0.0.1:1"
    place = Storage.at(text)
    assert (place.address, place.root) == ("s3://photos/in", "photos/in")
    assert place.name("a.jpg") == "s3://photos/in/a.jpg"


# With a server.


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """boto3's client of a server that this process and those it starts know."""
    moto = pytest.importorskip("moto.server", reason="needs moto[s3], flask and flask-cors")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        yield boto3.client("s3", region_name="us-east-1", endpoint_url=url)
    server.stop()


@pytest.fixture
def cluster(s3: Any) -> Iterator[None]:
    with local_ray():
        yield


@pytest.fixture
def bucket(s3: Any, tmp_path: Path) -> Bucket:
    name = re.sub("[^a-z0-9]", "-", tmp_path.name)
    s3.create_bucket(Bucket=name)
    return Bucket(s3, name)


class Bucket:
    """A bucket as a test sees it."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name
        self.address = f"s3://{name}"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self, prefix: str) -> set[str]:
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return {one["Key"].removeprefix(prefix) for one in listed["Contents"]}

    def time(self, key: str) -> Any:
        """When it was written, to the microsecond, as only the server itself knows."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        return backend.buckets[self.name].keys[key].last_modified


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(256, size=(32, 48, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize((96, 64)).save(file, "png")
    return file.getvalue()


def with_photos(bucket: Bucket, folder: Path) -> Path:
    """The same photos here and there, one of which is none."""
    for index in range(8):
        name, content = f"{'ab'[index % 2]}/{index} é.png", png(index)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        bucket.put(f"in/{name}", content)
    (folder / "broken.jpg").write_text("no photo")
    bucket.put("in/broken.jpg", b"no photo")
    bucket.put("in/notes.txt", b"left out")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore")
def test_a_bucket_is_as_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    photos = with_photos(bucket, tmp_path / "in")
    sr.predict(make_patch_model(), photos, out=tmp_path / "out", write=["labels", "mask"])
    expected = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*.png")
    }
    source, out = f"{bucket.address}/in", f"{bucket.address}/out"
    result = sr.bulk(make_patch_model(), source, out=out, write=["labels", "mask"], batch=3)
    ((name, reason),) = result.failed
    assert result.done == 8 and name == f"{source}/broken.jpg" and reason.startswith(name)
    keys = bucket.keys("out/")
    assert {key: bucket.get(f"out/{key}") for key in keys if key.endswith(".png")} == expected
    # Nothing else: no folder that is an object, no part.
    records = {key for key in keys if key.endswith("result.json")}
    assert keys - expected.keys() - records == {"", "manifest.jsonl"} and len(records) == 8
    for record in records:
        folder = record.removesuffix("result.json")
        pictures = [key for key in keys if key.startswith(folder) and key != record]
        assert len(pictures) == 2
        assert all(bucket.time(f"out/{key}") < bucket.time(f"out/{record}") for key in pictures)
    assert result.manifest == f"{out}/manifest.jsonl"
    rows = [json.loads(line) for line in bucket.get("out/manifest.jsonl").splitlines()]
    assert len(rows) == 9 and {row["source"] for row in rows} >= {name, f"{source}/a/0 é.png"}

    # What is there is left out; a photo that is another, and a result without its record, are not.
    bucket.put("in/a/0 é.png", png(99))
    bucket.delete("out/b/1 é/result.json")
    again = sr.bulk(make_patch_model(), source, out=out, write=["labels"], batch=3, resume=True)
    assert (again.done, again.resumed) == (8, 6)
    # No mask of another photo. Where it deletes something, pyarrow makes an object of the folder.
    assert bucket.keys("out/a/0 é/") - {""} == {"labels.png", "result.json"}
    assert "mask.png" in bucket.keys("out/a/2 é/")
    assert bucket.get("out/a/0 é/labels.png") != expected["a/0 é/labels.png"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_of_the_page(bucket: Bucket, tmp_path: Path) -> None:
    """In a process and a cluster of its own, with the shipped model."""
    with_photos(bucket, tmp_path / "in")
    pytest.importorskip("ray", reason="needs the extra bulk")
    variables = {"RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    words = ("bulk", f"{bucket.address}/in", "--out", f"{bucket.address}/out", "--write", "labels")
    done = run_process(*words, "--resume", **variables)
    assert done.returncode == 1, done.stderr  # of the photo that is none
    assert "8 done, 0 of them before" in done.stdout, done.stderr
    assert f"{bucket.address}/out/manifest.jsonl" in done.stdout
    assert "1 of 9 photos could not be segmented" in done.stderr
    for key in bucket.keys("out/"):
        if key.endswith("labels.png"):
            assert Image.open(BytesIO(bucket.get(f"out/{key}"))).size == (96, 64)
    again = run_process(*words, "--resume", "--manifest", tmp_path / "it.parquet", **variables)
    assert "8 done, 8 of them before" in again.stdout, again.stderr
    assert (tmp_path / "it.parquet").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://nowhere/in", "s3://nowhere/in cannot be listed ("),
        ("{}/none", "{}/none cannot be listed ("),
        ("{}/in --out s3://nowhere/out", "s3://nowhere/out cannot be written ("),
    ],
    ids=["bucket", "folder", "target"],
)
def test_what_is_not_there_is_one_line(
    source: str, message: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the extra bulk")
    module = sys.modules["sparserefine.cli.bulk"]  # its name is that of the function
    monkeypatch.setattr(module, "load_refiner", lambda _: make_patch_model())
    bucket.put("in/a.png", png(0))
    source, message = source.format(bucket.address), message.format(bucket.address)
    if "--out" not in source:
        source += f" --out {bucket.address}/out"
    start = time.monotonic()
    done = run("bulk", *source.split())
    assert done.returncode == 1 and time.monotonic() - start < 60
    lines = done.stderr.split("\n")
    said = [line for line in lines if line.strip()]  # the bars leave an empty one
    assert len(said) == 1 and said[0].startswith(f"sparserefine: {message}"), done.stderr
    assert "credentials" in said[0]
