"""What every route says of itself: which problems it answers with, and how to call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from serving.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS: Final[Mapping[int, str]] = {
    400: "A request that can be read in two ways, or no Idempotency-Key",
    401: "No access key, or one that is not valid",
    403: "The access key's scope does not reach this far, or the call comes from elsewhere",
    404: "Not found",
    408: "The body did not come in its time",
    409: "What is on record does not allow it, or the same request is still running",
    410: "The file was deleted under a rule of retention; `detail` has its words",
    412: "It is no longer what the caller has seen",
    413: "Past the byte or pixel limit; not decoded, and not read to its end",
    415: "A kind of content that is not accepted",
    422: "Something in the request cannot be used; `detail` says what",
    428: "No If-Match",
    429: "Too many wait, the answer would come after the caller's deadline, or the access key "
    "has sent more than it may; nothing was begun",
    500: "A fault of the server, or damaged records",
    503: "The product cannot be judged or recorded now; try again after Retry-After",
    504: "The caller's deadline passed before work began; nothing was recorded",
}
_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may be refused with these, and with what all calls may."""
    slow = {408} if 413 in statuses else set()  # whatever has a body may be too slow with it
    return {
        status: {
            "description": _WORDS[status],
            "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
        }
        for status in sorted({400, 401, 403, 422, 429, 500, 503, *statuses} | slow)
    }


def sample(curl: str) -> dict[str, Any]:
    """An `openapi_extra` with one worked call for a shell."""
    return {"x-codeSamples": [{"lang": "Shell", "label": "curl", "source": curl.strip()}]}
