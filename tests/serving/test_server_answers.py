"""What the server answers, without a network."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from asking import GONE, LEFT, PoolHere, app_of, ask, form, send
from PIL import Image, ImageCms
from serving_files import bomb, decoded, png, saved
from torch import Tensor

import sparserefine as sr
from small_models import make_model
from sparserefine.images import open_photo
from sparserefine.photos.foreground import Foreground
from sparserefine.serving.answer import Found
from sparserefine.serving.app import App
from sparserefine.serving.limits import Limits
from sparserefine.serving.pipeline import CutoutPipeline, MaskPipeline, Opened, RefinerPipeline
from sparserefine.serving.wanted import Served, Wanted

LIMITS = Limits(max_megabytes=0.2, max_megapixels=0.02, timeout=0.3, queue=2)
SIZE = (96, 128)


class RoundThing(sr.dense.DenseModel):
    """Sees a disc in the middle of every photo."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.size_divisor = 2, 1
        self.preset = sr.dense.Preset(dense_size=(24, 32), license="of nobody")

    def forward(self, images: Tensor) -> Tensor:
        y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
        logit = (8 - torch.hypot(y - 11.5, x - 15.5)).expand(len(images), 1, -1, -1)
        return torch.cat([-logit, logit], 1)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = np.hypot(y - 48, x - 64) < 30
    noise = np.random.default_rng(0).integers(0, 20, (*SIZE, 3))
    return (np.where(inside[..., None], (200, 60, 40), (40, 90, 160)) + noise).astype(np.uint8)


class Disc:
    """Finds that disc at once; where colors are cleaned, they are half as bright."""

    served = Served(
        name="round", outputs=("cutout", "alpha", "labels", "json"), needs_mask=False,
        license="of nobody",
    )  # fmt: skip

    def find(self, requests: Sequence[Opened]) -> list[Found]:
        return [self._find(one) for one in requests]

    def _find(self, request: Opened) -> Found:
        y, x = np.mgrid[: request.size[0], : request.size[1]]
        alpha = np.clip(30.3 - np.hypot(y - 48, x - 64), 0, 1).astype(np.float32)
        image = request.photo.image
        colors = image // 2 if request.wanted.own_colors else image
        return Found(
            labels=(alpha > 0.5).astype(np.uint8),
            foreground=Foreground(alpha=alpha, colors=colors),
            density=0.1,
            stages_ms={"dense": 1.5},
        )


@pytest.fixture
def cutouts() -> App:
    return app_of(PoolHere(Disc(), LIMITS), Disc())


@pytest.fixture
def masks() -> App:
    pipeline = MaskPipeline()
    return app_of(PoolHere(pipeline, replace(LIMITS, timeout=60.0)), pipeline)


def test_a_cutout_is_that_of_the_library(photo: np.ndarray) -> None:
    pipeline = CutoutPipeline("round", RoundThing())
    app = app_of(PoolHere(pipeline, replace(LIMITS, timeout=60.0)), pipeline)
    expected = sr.cutout(photo, model=RoundThing())
    answered = ask(app, "POST", "/predict", [form(file=png(photo))])
    assert answered.status == 200 and answered.headers["content-type"] == "image/png"
    assert (answered.pixels == expected.rgba()).all()


def test_what_is_found_is_answered_in_four_forms(cutouts: App, photo: np.ndarray) -> None:
    (expected,) = Disc().find([Opened(open_photo(photo), None, Wanted(output="cutout"))])
    assert expected.foreground is not None
    rgba, inside = expected.foreground.rgba(), expected.labels == 1
    answered = ask(cutouts, "POST", "/predict", [form(file=png(photo))])
    assert (answered.pixels == rgba).all()
    assert re.search(r"read;dur=[\d.]+, dense;dur=1\.5, ", answered.headers["server-timing"])
    alpha = ask(cutouts, "POST", "/predict?output=alpha", [form(image=png(photo))])
    assert (alpha.pixels == rgba[..., 3]).all()
    labels = ask(cutouts, "POST", "/predict", [form(file=png(photo), output="labels")])
    assert labels.picture.mode == "P" and (labels.pixels == inside).all()
    facts = json.loads(ask(cutouts, "POST", "/predict?output=json", [form(file=png(photo))]).body)
    assert (facts["width"], facts["height"]) == (128, 96) and facts["stages_ms"]["dense"] > 0
    (segment,) = facts["segments"]
    assert segment["name"] == "foreground" and segment["area"] == inside.sum()
    mask = decoded(segment["rle"]["counts"], (96, 128))
    assert (mask == inside).all() and segment["rle"]["size"] == [96, 128]


@pytest.mark.slow
def test_all_bits_and_the_profile_stay(photo: np.ndarray) -> None:
    pipeline = CutoutPipeline("round", RoundThing())
    cutouts = app_of(PoolHere(pipeline, replace(LIMITS, timeout=60.0)), pipeline)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(Image.fromarray(photo), "PNG", icc_profile=profile)
    answered = ask(cutouts, "POST", "/predict", [form(file=data)])
    assert answered.picture.info["icc_profile"] == profile
    deep = saved(Image.fromarray(photo[..., 0].astype(np.uint16) * 257), "PNG")
    answered = ask(cutouts, "POST", "/predict", [form(file=deep)])
    assert answered.status == 200 and answered.body[24] == 16  # bits a channel


def test_a_client_of_rembg_gets_what_it_asks_for(cutouts: App, photo: np.ndarray) -> None:
    """The fields and queries that rembg's own server documents."""
    (expected,) = Disc().find([Opened(open_photo(photo), None, Wanted(output="cutout"))])
    assert expected.foreground is not None
    rgba = expected.foreground.rgba()
    plain = ask(cutouts, "POST", "/api/remove", [form(file=png(photo), model="u2net", a="true")])
    assert plain.status == 200 and plain.picture.mode == "RGBA"
    assert (plain.pixels[..., :3] == photo).all()  # cleaned only where dc is said
    assert (plain.pixels[..., 3] == rgba[..., 3]).all()
    clean = ask(cutouts, "POST", "/api/remove", [form(file=png(photo), dc="1")])
    assert (clean.pixels == rgba).all()
    only = ask(cutouts, "POST", "/api/remove", [form(file=png(photo), om="True")])
    assert only.picture.mode == "L" and (only.pixels == rgba[..., 3]).all()
    hard = ask(cutouts, "POST", "/api/remove", [form(file=png(photo), om="on", ppm="yes")])
    assert set(np.unique(hard.pixels)) == {0, 255}
    white = ask(cutouts, "POST", "/api/remove?bgc=255,0,0,255", [form(file=png(photo))])
    assert (white.pixels[..., 3] == 255).all() and (white.pixels[0, 0] == (255, 0, 0, 255)).all()
    assert abs(int(white.pixels[48, 64, 0]) - int(photo[48, 64, 0])) < 2
    clear = ask(cutouts, "POST", "/api/remove?bgc=0,0,255,0", [form(file=png(photo))])
    assert (clear.pixels[..., 3] == plain.pixels[..., 3]).all()


def test_a_mask_is_refined_as_by_the_library(masks: App, photo: np.ndarray) -> None:
    mask = 255 * (photo[::4, ::4, 0] > 120).astype(np.uint8)
    expected = sr.refine(photo, mask)
    assert expected.foreground is not None
    answered = ask(masks, "POST", "/predict", [form(file=png(photo), mask=png(mask))])
    assert (answered.pixels == expected.foreground.rgba()[..., 3]).all()
    cut = ask(masks, "POST", "/api/remove", [form(file=png(photo), mask=png(mask), dc="1")])
    assert (cut.pixels == expected.foreground.rgba()).all()
    for fields, message in (
        ({"mask": png(mask[:, :5])}, "other proportions"),
        ({"mask": png(0 * mask)}, "all background"),
        ({"mask": b"x"}, "the mask is none of"),
        ({}, "no field mask"),
    ):
        refused = ask(masks, "POST", "/predict", [form(file=png(photo), **fields)])
        assert refused.status == 422 and message in json.loads(refused.body)["detail"]


@pytest.mark.slow
def test_labels_of_a_refiner_in_one_batch_are_those_of_one_by_one() -> None:
    pipeline = RefinerPipeline("mine", make_model())
    assert pipeline.served.outputs == ("labels", "json")
    app = app_of(PoolHere(pipeline, replace(LIMITS, timeout=60.0)), pipeline)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    wanted = Wanted(output="labels")
    together = pipeline.find([Opened(open_photo(one), None, wanted) for one in images])
    for image, found in zip(images, together, strict=True):
        expected = make_model().predict(image).labels
        assert (found.labels == expected).mean() > 0.999
        answered = ask(app, "POST", "/predict", [form(file=png(image))])
        assert (answered.pixels == expected).all()
    refused = ask(app, "POST", "/api/remove", [form(file=png(images[0]))])
    assert refused.status == 422 and b"no foreground" in refused.body


@pytest.mark.slow
def test_of_two_classes_the_second_is_a_foreground(photo: np.ndarray) -> None:
    pipeline = RefinerPipeline("two", sr.SparseRefiner(RoundThing(), refiner="edges"))
    app = app_of(PoolHere(pipeline, replace(LIMITS, timeout=60.0)), pipeline)
    alpha = ask(app, "POST", "/predict?output=alpha", [form(file=png(photo))])
    labels = ask(app, "POST", "/predict", [form(file=png(photo))])
    assert ((alpha.pixels > 127) == labels.pixels).mean() > 0.999
    assert 0.1 < (labels.pixels == 1).mean() < 0.5


FILE = form(file=png(np.zeros((8, 8, 3), np.uint8)))
BIG = form(file=bytes(np.random.default_rng(0).bytes(300_000)))


@pytest.mark.parametrize(
    ("target", "body", "kind", "status", "message"),
    [
        ("/predict", b"{}", "application/json", 415, "expected multipart/form-data"),
        ("/predict", FILE[:-30], None, 400, "a part has no end"),
        ("/predict", form(other=b"x"), None, 422, "0 photos, expected one, in the field file"),
        ("/predict", form(file=b"x", image=b"y"), None, 422, "has 2 photos"),
        ("/predict", form(file=b"x", mask=b"y"), None, 422, "round needs none"),
        ("/predict", form(file=b"hello"), None, 422, "none of JPEG"),
        ("/predict", form(file=bomb(60_000)), None, 422, "too large"),
        ("/predict", form(file=bomb(200)), None, 422, "0.0 megapixels, expected 0.02 or less"),
        ("/predict", BIG, None, 413, "more than 0.2 MB"),
        ("/predict?output=gold", FILE, None, 422, "output=gold: expected one of labels, alpha"),
        ("/predict?kind=x", FILE, None, 422, "kind=x: expected one of mask"),
        ("/predict?fit=x", FILE, None, 422, "fit=x: expected one of stretch, pad"),
        ("/predict?" + "a=1&" * 60, FILE, None, 422, "more than 50 settings"),
        ("/api/remove?bgc=red", FILE, None, 422, "bgc=red: expected red, green"),
        ("/api/remove?om=maybe", FILE, None, 422, "om=maybe: expected one of 1, true"),
        ("/nowhere", FILE, None, 404, "there is no /nowhere"),
        ("/health", FILE, None, 405, "/health takes GET, not POST"),
    ],
)
def test_each_refusal_has_a_status_and_a_sentence(
    cutouts: App, target: str, body: bytes, kind: str | None, status: int, message: str
) -> None:
    answered = ask(cutouts, "POST", target, [body], *([kind] if kind else []))
    assert answered.status == status
    assert message in json.loads(answered.body)["detail"]
    assert cutouts.memory.bytes == 0


def test_it_fetches_no_url(cutouts: App) -> None:
    answered = ask(cutouts, "GET", "/api/remove?url=http://localhost/photo.jpg")
    assert answered.status == 405 and answered.headers["allow"] == "POST"
    assert "fetches no URL. POST the photo itself" in json.loads(answered.body)["detail"]


def test_an_upload_that_announces_too_much_is_not_read(cutouts: App) -> None:
    parts: list[bytes | float | None] = [b"x"]
    answered = ask(
        cutouts, "POST", "/predict", parts, content_length="9999999", expect="100-continue"
    )
    assert answered.status == 413 and parts == [b"x"]


def test_a_slow_upload_ends_in_408(cutouts: App) -> None:
    answered = ask(cutouts, "POST", "/predict", [FILE[:20], 0.5, FILE[20:]])
    assert answered.status == 408 and cutouts.memory.bytes == 0


def test_a_client_that_hangs_up_costs_nothing(cutouts: App, photo: np.ndarray) -> None:
    assert ask(cutouts, "POST", "/predict", [FILE[:20], GONE]).status == 0
    pool = cutouts.pool
    assert isinstance(pool, PoolHere)
    pool.seconds = 0.2
    assert ask(cutouts, "POST", "/predict", [form(file=png(photo)), LEFT]).status == 0
    assert pool.jobs[-1].answer.cancelled() and cutouts.memory.bytes == 0
    metrics = ask(cutouts, "GET", "/metrics").body.decode()
    assert 'requests_total{path="/predict",status="499"} 2' in metrics


def test_what_takes_too_long_ends_in_504(cutouts: App, photo: np.ndarray) -> None:
    pool = cutouts.pool
    assert isinstance(pool, PoolHere)
    pool.seconds = 1.0
    answered = ask(cutouts, "POST", "/predict", [form(file=png(photo))])
    assert answered.status == 504 and b"not done in 0.3 s" in answered.body


def test_a_full_memory_ends_in_503(cutouts: App) -> None:
    cutouts.memory.limit = 40

    async def three() -> list[int]:
        slow = [FILE[:30], 0.1, FILE[30:]]
        return [one.status for one in await asyncio.gather(
            *(send(cutouts, "POST", "/predict", list(slow)) for _ in range(3))
        )]  # fmt: skip

    assert asyncio.run(three()) == [503, 503, 503]
    assert cutouts.memory.bytes == 0


def test_health_and_metrics(cutouts: App, photo: np.ndarray) -> None:
    ask(cutouts, "POST", "/predict", [form(file=png(photo))])
    health = ask(cutouts, "GET", "/health")
    facts = json.loads(health.body)
    assert health.status == 200 and facts["status"] == "ok" and facts["license"] == "of nobody"
    text = ask(cutouts, "GET", "/metrics").body.decode()
    for line in (
        'sparserefine_requests_total{path="/predict",status="200"} 1',
        "sparserefine_queue_length 0",
        "sparserefine_in_flight 0",
        "sparserefine_request_duration_seconds_count 1",
    ):
        assert line in text.splitlines()
    cutouts.pool.ready.clear()
    assert ask(cutouts, "GET", "/health").status == 503
    assert ask(cutouts, "HEAD", "/health").body == b""


def test_the_page_and_the_document_need_nothing_from_outside(cutouts: App, masks: App) -> None:
    for app in (cutouts, masks):
        page = ask(app, "GET", "/docs").body.decode()
        assert not re.search(r"(src|href)=\"?(https?:)?//|<script|@import|url\(", page)
        document = json.loads(ask(app, "GET", "/openapi.json").body)
        assert document["openapi"].startswith("3.")
        for path, methods in document["paths"].items():
            for method in methods:
                assert ask(app, method.upper(), path, [b""]).status not in (404, 405)
            assert path in page
        fields = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        required = fields["multipart/form-data"]["schema"]["required"]
        assert required == (["file", "mask"] if app is masks else ["file"])


def test_no_answer_lets_other_sites_in(cutouts: App) -> None:
    for method, target in (("GET", "/health"), ("OPTIONS", "/predict"), ("POST", "/predict")):
        answered = ask(cutouts, method, target, [FILE], origin="http://elsewhere")
        assert not [name for name in answered.headers if name.startswith("access-control")]
