"""From a POST to what `inspect_part` takes, without decoding a pixel.

    headers -> fields -> body, counted while it streams -> Arrival

Two encodings mean the same: a raw image with its fields in the query, and multipart/form-data with
the same fields and one file called `image`.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from inspection.errors import ImageTooLarge, KeyMissing, RequestError, UnsupportedImage
from inspection.frame import MEDIA_TYPES
from inspection.record import InspectionRequest
from serving.connections import peer_of
from serving.errors import BodyTooSlow
from serving.forms import read_form
from serving.schemas import InspectionFields
from serving.state import server_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from starlette.requests import Request

    from serving.state import Server

IMAGE_FIELD: Final = "image"
FIELD_NAMES: Final = tuple(InspectionFields.model_fields)
MULTIPART: Final = "multipart/form-data"
MULTIPART_ROOM_BYTES: Final = 64 * 1024
"""What a multipart body may be longer than its image: fields, boundaries, headers."""


JSON_LIMIT_BYTES: Final = 64 * 1024

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One posted image, whole, with everything that came with it."""

    data: bytes
    declared: str | None
    request: InspectionRequest
    received_at: datetime


async def admit(request: Request, server: Server) -> Arrival:
    """Read a POST of an image.

    What can be refused without the body is refused without reading it.

    Raises:
        KeyMissing: no Idempotency-Key.
        UnsupportedImage: a Content-Type that is not accepted.
        ImageTooLarge: the body is longer than the limit; the rest of it was not read.
        RequestError: a field is missing, unknown, given twice or has no meaning.
        SerialError: the serial does not fit the product's format.
    """
    key = idempotency_key(request)
    content_type = content_type_of(request)
    if "content-encoding" in request.headers:
        raise UnsupportedImage(
            "the body has a Content-Encoding", remedy="Send the file as it is, not compressed."
        )
    limit = server.settings.limits.max_bytes
    if content_type == MULTIPART:
        _check_length(request, limit + MULTIPART_ROOM_BYTES, limit)
        if request.query_params:
            raise RequestError(
                "a multipart request has its fields in the body, not in the query",
                remedy="Send all fields as parts of the form.",
            )
        data, declared, pairs = await _read_form(request, limit)
        understood = _understood(server, pairs, key)
    elif content_type in MEDIA_TYPES:
        understood = _understood(server, fields_in_query(request), key)
        length = _check_length(request, limit, limit)
        if length is not None:
            data = await peer_of(request.scope).whole_body(length)
        else:
            data = b"".join([chunk async for chunk in _counted(request, limit, limit)])
        declared = content_type
    else:
        raise UnsupportedImage(
            f"Content-Type {content_type!r} is not accepted"
            if content_type
            else "there is no Content-Type",
            remedy=f"Send {', '.join(MEDIA_TYPES)} or {MULTIPART}.",
        )
    return Arrival(
        data=data,
        declared=declared,
        request=understood,
        received_at=datetime.now(UTC),
    )


async def read_json(request: Request, model: type[Body], *, limit: int = JSON_LIMIT_BYTES) -> Body:
    """The small JSON body of a request.

    Raises:
        HTTPException: 415 when it is not declared as JSON, which a form on a web page elsewhere
            cannot do unasked; 413 when it is longer than `limit` bytes.
        RequestError: it does not have the form of `model`, or says a field twice.
    """
    if content_type_of(request) != "application/json":
        raise HTTPException(415)
    body = await read_body(request, limit)
    with contextlib.suppress(ValueError, RecursionError):  # the model says better what is wrong
        json_of(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise refused(error) from error


def json_of(body: bytes) -> Any:
    """What a JSON text says.

    Raises:
        RequestError: an object says a field twice; parsers differ in which one they take.
        ValueError, RecursionError: it is no JSON.
    """
    return json.loads(body, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise RequestError(f"`{name[:80]}` comes {count} times", remedy="Send it once.")
    return dict(pairs)


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request. FastAPI would read any length before it asked anybody.

    Raises:
        HTTPException: 413 when it is longer than `limit` bytes; the rest is not read.
        BodyTooSlow: it did not come whole within its time.
    """
    body = bytearray()
    limit_s = server_of(request).settings.server.body_s
    try:
        async with asyncio.timeout(limit_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, headers={"Connection": "close"})
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not come within {limit_s:g} s") from error
    return bytes(body)


async def refuse_body(request: Request) -> None:
    """For a call that takes no body: what nobody reads is not passed over.

    Raises:
        RequestError: one came; the rest of it is not read.
    """
    async for chunk in request.stream():
        if chunk:
            raise RequestError("this call takes no body", remedy="Send it without one.")


def content_type_of(request: Request) -> str:
    """The media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def fields_in_query(request: Request) -> list[tuple[str, str]]:
    """The fields of a query, in order, as often as they come."""
    return parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def fields_of(pairs: Iterable[tuple[str, str]]) -> InspectionFields:
    """The fields of a request, each at most once, none unknown.

    Raises:
        RequestError: names the field and, for an unknown one, the nearest that is known.
    """
    pairs = list(pairs)
    refuse_unknown((name for name, _ in pairs), FIELD_NAMES)
    try:
        return InspectionFields.model_validate(dict(pairs))
    except ValidationError as error:
        raise refused(error) from error


def refused(error: ValidationError) -> RequestError:
    """What a body or field is refused with: the first thing that is wrong with it."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(step) for step in first["loc"])
    if first["type"] == "missing":
        return RequestError(f"`{name}` is missing", remedy=f"Send `{name}`.")
    if first["type"] == "extra_forbidden":
        return RequestError(f"there is no field `{name}`", remedy="/docs shows those of this call.")
    said = str(first["msg"]).removeprefix("Value error, ")
    return RequestError(f"`{name}`: {said}" if name else f"the body: {said}")


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that nobody reads, and one that comes twice.

    Raises:
        RequestError: names it, and the nearest known one.
    """
    known = sorted(known)
    for name, count in Counter(names).items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            remedy = f"Did you mean `{near[0]}`?" if near else "This call takes none."
            raise RequestError(f"there is no field `{name[:80]}`", remedy=remedy)
        if count > 1:
            raise RequestError(f"`{name}` comes {count} times", remedy="Send it once.")


def _understood(server: Server, pairs: Iterable[tuple[str, str]], key: str) -> InspectionRequest:
    """The request in normal form, so that equal requests have equal digests."""
    fields = fields_of(pairs)
    values = fields.model_dump()
    if fields.serial is not None:
        values["serial"] = server.written_serial(fields.serial, fields.product)
    return InspectionRequest(**values, idempotency_key=key)


def idempotency_key(request: Request) -> str:
    """The one Idempotency-Key of a request.

    Raises:
        KeyMissing: there is none. RequestError: there is more than one.
    """
    keys = [key.strip() for key in request.headers.getlist("idempotency-key")]
    if not any(keys):
        raise KeyMissing("there is no Idempotency-Key header")
    if len(keys) > 1:
        raise RequestError("there is more than one Idempotency-Key", remedy="Send one.")
    return keys[0]


def _check_length(request: Request, length_limit: int, limit: int) -> int | None:
    """How long the body will be; None where nothing says it."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return None
    if int(length) > length_limit:
        raise ImageTooLarge(f"the body has {length} bytes; the limit is {limit}")
    return int(length)


async def _counted(request: Request, length_limit: int, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes, and no further than the limit."""
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > length_limit:
            raise ImageTooLarge(f"the body is longer than the limit of {limit} bytes")
        yield chunk


async def _read_form(
    request: Request, limit: int
) -> tuple[bytes, str | None, list[tuple[str, str]]]:
    """(image, its declared type, fields) of a multipart body."""
    body = _counted(request, limit + MULTIPART_ROOM_BYTES, limit)
    parts = await read_form(request.headers["content-type"], body)
    files = [part for part in parts if part.is_file]
    if len(files) != 1:
        raise RequestError(
            f"there are {len(files)} files in the form" if files else "the form holds no file",
            remedy=f"Send one image, as file `{IMAGE_FIELD}`.",
        )
    (image,) = files
    if image.name != IMAGE_FIELD:
        raise RequestError(
            f"the file is called `{image.name[:80]}`", remedy=f"Call it `{IMAGE_FIELD}`."
        )
    # Some clients send every file as this; the bytes say what it is.
    declared = image.media_type if image.media_type != "application/octet-stream" else ""
    if declared and declared not in MEDIA_TYPES:
        raise UnsupportedImage(
            f"the file's Content-Type {declared!r} is not accepted",
            remedy=f"Send {', '.join(MEDIA_TYPES)}.",
        )
    if len(image.data) > limit:
        raise ImageTooLarge(f"the image has {len(image.data)} bytes; the limit is {limit}")
    fields = [(part.name, part.text()) for part in parts if not part.is_file]
    return bytes(image.data), declared or None, fields
