"""Forms as browsers and curl send them: multipart/form-data, from memory."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesHeaderParser

from sparserefine.serving.refusal import RefusalError

MOST_PARTS, MOST_HEAD, MOST_TEXT = 32, 8192, 4096
_HOW = "Send it as curl -F file=@photo.jpg does"


def parse_form(body: bytes | bytearray, content_type: str) -> dict[str, bytes]:
    """The contents of a form's fields, in time that grows with its length alone.

    Args:
        body: All bytes of a request.
        content_type: Its header of that name.

    Raises:
        RefusalError: It is no form, or a broken one.
    """
    delimiter = b"--" + _boundary(content_type)
    between = b"\r\n" + delimiter
    at = 0 if body.startswith(delimiter) else body.find(between) + 2
    if at == 1:
        raise _broken("its boundary does not occur")
    fields: dict[str, bytes] = {}
    for _ in range(MOST_PARTS):
        at += len(delimiter)
        if body[at : at + 2] == b"--":
            return fields
        # The line of the boundary may end in spaces; the part has at least one header.
        line = body.find(b"\r\n", at, at + MOST_HEAD)
        head = body.find(b"\r\n\r\n", line, line + MOST_HEAD) if line >= 0 else -1
        end = body.find(between, head + 4) if head >= 0 else -1
        if end < 0:
            raise _broken("a part has no end")
        name = _name(bytes(body[line + 2 : head + 2]))
        if name in fields:
            raise _broken(f"it has two fields {name!r}")
        fields[name] = bytes(body[head + 4 : end])
        at = end + 2
    raise _broken(f"it has more than {MOST_PARTS} parts")


def text_of(fields: Mapping[str, bytes], name: str) -> str | None:
    """A field that is no file; None where it is missing or empty.

    Raises:
        RefusalError: It is too long for a setting, or no text.
    """
    value = fields.get(name, b"")
    try:
        text = value[: MOST_TEXT + 1].decode().strip()
    except UnicodeDecodeError:
        raise RefusalError(422, f"the field {name} is no UTF-8 text.") from None
    if len(value) > MOST_TEXT:
        raise RefusalError(
            422, f"the field {name} has {len(value)} bytes, expected {MOST_TEXT} or less."
        )
    return text or None


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    kind = header.get_content_type() if content_type else "nothing"
    if kind != "multipart/form-data":
        raise RefusalError(415, f"the body is {kind[:100]}, expected multipart/form-data. {_HOW}.")
    boundary = header.get_boundary()
    if not boundary or len(boundary) > 200:
        raise _broken("its header names no boundary")
    return boundary.encode("utf-8", "surrogateescape")


def _name(head: bytes) -> str:
    disposition = BytesHeaderParser().parsebytes(head)
    name = disposition.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name:
        raise _broken("a part has no name")
    return name


def _broken(why: str) -> RefusalError:
    return RefusalError(400, f"the form is broken: {why}. {_HOW}.")
