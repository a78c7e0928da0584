"""Conditional requests (RFC 9110, section 13): the same answer is not sent twice, and a decision is
on what its maker has seen.

    answer -> JSON -> ETag, its digest      If-None-Match has it -> 304, without the body
    POST of a decision: If-Match  ->  none: 428   another: 412   this one, or `*`: go on
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from fastapi import Response

from inspection.errors import ChangedMeanwhile, RequestError
from serving.errors import MatchMissing

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.requests import Request

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

IF_NONE_MATCH: Final[dict[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETags of copies that you have; 304 when one of them is still right",
    "schema": {"type": "string", "maxLength": 1000},
}
IF_MATCH: Final[dict[str, Any]] = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "the ETag of what you decide on, as you saw it; `*` for whatever it is by now",
    "schema": {"type": "string", "minLength": 1, "maxLength": 1000},
}
UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "The copy behind If-None-Match is still right"}
}


def tag_of(body: bytes) -> str:
    """The strong ETag of an answer: equal for equal bytes, and only for these."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def body_of(answer: BaseModel) -> bytes:
    """The JSON text of an answer."""
    return answer.model_dump_json(by_alias=True).encode()


def plain(answer: BaseModel) -> Response:
    """The answer as it is. FastAPI would look through a long list once more."""
    return Response(body_of(answer), 200, media_type="application/json")


def answered(request: Request, answer: BaseModel) -> Response:
    """The answer under its ETag; 304 when the caller has it."""
    body = body_of(answer)
    tag = tag_of(body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if has_copy(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


def has_copy(request: Request, tag: str) -> bool:
    """Whether If-None-Match names this tag; weak comparison (RFC 9110, section 13.1.2)."""
    asked = ", ".join(request.headers.getlist("if-none-match"))
    return asked.strip() == "*" or tag in {each.removeprefix("W/") for each in _TAG.findall(asked)}


def check_match(
    request: Request, tag: str, what: str = "the inspection, its reviews or its holds"
) -> bool:
    """Whether the caller wants it as it is seen (False for `*`); strong comparison (13.1.1).

    Raises:
        MatchMissing: there is no If-Match. RequestError: it holds no ETag.
        ChangedMeanwhile: none of its ETags is this one.
    """
    asked = ", ".join(request.headers.getlist("if-match")).strip()
    if not asked:
        raise MatchMissing("there is no If-Match header, so nobody knows what was seen")
    if asked == "*":
        return False
    tags = _TAG.findall(asked)
    if not tags:
        raise RequestError(
            f"If-Match {asked[:60]!r} holds no ETag",
            remedy='Send the ETag header as it came, with its quotes, or "*".',
        )
    if tag not in tags:
        raise ChangedMeanwhile(f"{what} changed since it was read")
    return True
