"""A POST that adds a statement: one key, one statement, however often it is sent.

    Idempotency-Key, fields -> Submission -> RecordStore.add -> 201
                                          -> added before    -> 200, Idempotent-Replayed: true

Two sendings are the same when call, path and fields agree, whatever the spelling of the JSON. Keys
belong to the access key that sends them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import rfc8785
from fastapi import Response

from inspection.errors import RequestError
from inspection.store import Submission
from serving.admission import idempotency_key
from serving.conditional import body_of

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.requests import Request

    from serving.auth import Principal

LONGEST_KEY: Final = 200
KEY_HEADER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "one fresh value for each thing to add, kept for its retries",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
}


def adding(body: str, *media_types: str) -> dict[str, Any]:
    """The part of the document that FastAPI cannot know: the key, and a body read by hand.

    Args:
        body: the name of the schema of the JSON body.
        media_types: what else is taken, as text.
    """
    return {"parameters": [KEY_HEADER], **taking(body, *media_types)}


def taking(body: str, *media_types: str) -> dict[str, Any]:
    """As `adding`, for a call that adds nothing and so needs no key."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}
    }
    for each in media_types:
        content[each] = {"schema": {"type": "string"}}
    return {"requestBody": {"required": True, "content": content}}


def replayed_too(answer: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The `responses` entry for a request that was sent before."""
    return {
        200: {
            "model": answer,
            "description": "This very request was answered before: what it added then, "
            "with `Idempotent-Replayed: true`",
        }
    }


def submission_of(
    request: Request, by: Principal, call: str, place: dict[str, str], fields: object
) -> Submission:
    """What names this request.

    Args:
        request: with its Idempotency-Key.
        by: who sends it.
        call: the name of the call.
        place: what the path says, as it stands in the records.
        fields: the body as JSON values in normal form.

    Raises:
        KeyMissing, RequestError: there is no key, more than one, or one that is too long.
    """
    key = idempotency_key(request)
    if len(key) > LONGEST_KEY or not key.isprintable():
        raise RequestError(f"the Idempotency-Key holds 1 to {LONGEST_KEY} printable characters")
    text = rfc8785.dumps({"call": call, "place": place, "fields": fields})  # type: ignore[dict-item]
    return Submission(principal=by.name, key=key, request_sha256=hashlib.sha256(text).hexdigest())


def added(answer: BaseModel, *, replayed: bool, location: str | None = None) -> Response:
    """The answer to something that was added, now or before."""
    headers = {} if location is None else {"Location": location}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(body_of(answer), 200 if replayed else 201, headers, "application/json")
