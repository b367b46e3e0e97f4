"""Forms: as clients send them, and as nobody should."""

from __future__ import annotations

import random
from email.message import Message

import pytest

from sparserefine.serving.form import parse_form, text_of
from sparserefine.serving.refusal import RefusalError

TYPE = "multipart/form-data; boundary=xyz"


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(
        b"--xyz\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + value + b"\r\n"
        for head, value in parts
    )
    return body + b"--xyz--\r\n"


def test_a_form_has_the_bytes_that_were_sent() -> None:
    image = bytes(range(256)) + b"\r\n--xy\r\n--\r\n\r\n"
    file = ('name="file"; filename="a b.jpg"', image)
    body = form(file, ("name=output", b"alpha"), ('name="m"', b""))
    assert parse_form(body, TYPE) == {"file": image, "output": b"alpha", "m": b""}
    assert parse_form(b"preamble\r\n" + body, TYPE)["file"] == image
    assert parse_form(body, 'multipart/form-data; boundary="xyz"')["output"] == b"alpha"


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"{}", "application/json", 415, "application/json, expected multipart"),
        (b"", "", 415, "nothing, expected multipart"),
        (b"--xyz--", "multipart/form-data", 400, "names no boundary"),
        (b"abc", TYPE, 400, "boundary does not occur"),
        (form(("name=file", b"x"))[:-12], TYPE, 400, "no end"),
        (form(("filename=a", b"x")), TYPE, 400, "no name"),
        (form(("name=a", b"x"), ("name=a", b"y")), TYPE, 400, "two fields 'a'"),
        (form(*((f"name=a{i}", b"x") for i in range(40))), TYPE, 400, "more than 32 parts"),
        (b"--xyz\r\n" + b"A: b\r\n" * 5000 + b"\r\nx\r\n--xyz--", TYPE, 400, "no end"),
    ],
)  # fmt: skip
def test_a_broken_form_is_told(body: bytes, kind: str, status: int, message: str) -> None:
    with pytest.raises(RefusalError, match=message) as caught:
        parse_form(body, kind)
    assert caught.value.status == status


def test_settings_are_short_text() -> None:
    assert text_of({"a": b" x "}, "a") == "x" and text_of({}, "a") is None
    for value in (b"\xff", b"x" * 5000):
        with pytest.raises(RefusalError, match="the field a"):
            text_of({"a": value}, "a")


def test_a_thousand_mutated_forms_are_parsed_or_refused() -> None:
    chance = random.Random(0)
    whole = form(
        ('name="file"; filename="x"', bytes(chance.randbytes(300))), ("name=output", b"json")
    )
    parsed = 0
    for _ in range(1000):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(body))
            if chance.random() < 0.5:
                body[at] = chance.randrange(256)
            else:
                body[at : at + chance.randint(0, 40)] = chance.randbytes(chance.randint(0, 9))
        try:
            parsed += isinstance(parse_form(body, TYPE), dict)
        except RefusalError as error:
            assert error.status in (400, 415)
    assert 100 < parsed < 1000


def test_headers_are_read_as_the_library_for_mail_reads_them() -> None:
    header = Message()
    header["Content-Disposition"] = 'form-data; name="fi le"; filename="ü.jpg"'
    assert header.get_param("name", header="content-disposition") == "fi le"
    body = form(('name="fi le"; filename="ü.jpg"', b"x"))
    assert parse_form(body, TYPE) == {"fi le": b"x"}
