"""Errors as RFC 9457 problems: the one table from the error tree to HTTP.

    InspectionError ─┐
    HTTPException   ─┼─> Problem -> application/problem+json (+ Retry-After, WWW-Authenticate)
    anything else   ─┘   (a 500 says nothing of the inside; the log does)

A test walks the tree and fails when a class has no entry of its own.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from inspection import errors as e
from serving.auth import refusal_of
from serving.errors import (
    BodyTooSlow,
    DeadlinePassed,
    DiskFull,
    FileErased,
    ForeignPlace,
    KeyOverLimit,
    KeyRequired,
    MatchMissing,
    Overloaded,
    RecordsAway,
    ScopeMissing,
    ServerUnreachable,
)
from serving.refusals import AUDITED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

    from serving.settings import Settings

MEDIA_TYPE: Final = "application/problem+json"
URN: Final = "urn:inspection:problem:"
FINAL: Final = frozenset(
    {e.CaptureConflict.code, e.StateConflict.code, e.QualityGateError.code, e.DataLeak.code}
)
"""Refusals with 409 that waiting does not change."""

RETRY_AFTER_S: Final = {409: 1, 429: 1, 503: 5, 504: 1}
"""How long a caller does well to wait, where waiting helps: by status."""

log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What all problems of one error class have in common."""

    status: int
    title: str


KINDS: Final[Mapping[type[e.InspectionError], Kind]] = {
    e.InspectionError: Kind(status=500, title="The server failed"),
    e.InputError: Kind(status=422, title="The input cannot be used"),
    e.ImageError: Kind(status=422, title="The image cannot be accepted"),
    e.UnreadableImage: Kind(status=422, title="Not a readable image"),
    e.UnsupportedImage: Kind(status=415, title="A kind of image that is not accepted"),
    e.ImageTooLarge: Kind(status=413, title="The image is too large"),
    e.SerialError: Kind(status=422, title="The serial does not fit the product"),
    e.SerialFormatError: Kind(status=422, title="The serial's length or alphabet is wrong"),
    e.SerialCheckError: Kind(status=422, title="The serial's check character does not hold"),
    e.RequestError: Kind(status=422, title="The request cannot be used"),
    e.KeyMissing: Kind(status=400, title="No Idempotency-Key"),
    e.KeyReused: Kind(status=422, title="The Idempotency-Key stands for another request"),
    e.InFlight: Kind(status=409, title="The same request is still running"),
    e.CaptureConflict: Kind(status=409, title="The capture_id stands for another capture"),
    e.StateConflict: Kind(status=409, title="What is on record does not allow it"),
    e.ChangedMeanwhile: Kind(status=412, title="It is no longer what you have seen"),
    e.UnknownProduct: Kind(status=404, title="No such product here"),
    e.NotFound: Kind(status=404, title="Not found"),
    e.NotAllowed: Kind(status=403, title="Not allowed"),
    KeyRequired: Kind(status=401, title="An access key is needed"),
    ForeignPlace: Kind(status=403, title="The access key is bound to another place"),
    ScopeMissing: Kind(status=403, title="The access key does not reach this far"),
    e.DataError: Kind(status=422, title="The data cannot be used"),
    e.Unjudgeable: Kind(status=422, title="The image cannot be judged"),
    e.ConfigurationError: Kind(status=503, title="The server is not set up rightly"),
    e.MissingExtra: Kind(status=503, title="A part of the server is not installed"),
    e.RecipeError: Kind(status=503, title="The recipe does not hold"),
    e.PackageDamaged: Kind(status=503, title="The model package is damaged"),
    e.NoPromotedModel: Kind(status=503, title="No model is promoted for the product"),
    e.RegistryError: Kind(status=503, title="The log of promotions does not hold"),
    e.QualityGateError: Kind(status=409, title="A figure missed its limit"),
    e.DataLeak: Kind(status=409, title="The split of the data leaks"),
    e.EngineError: Kind(status=503, title="The engine failed"),
    e.EngineAway: Kind(status=503, title="The engine is away"),
    e.RecordError: Kind(status=503, title="The record could not be made durable"),
    DiskFull: Kind(status=503, title="The disk is nearly full"),
    RecordsAway: Kind(status=503, title="The record store takes nothing now"),
    e.RecordsDamaged: Kind(status=500, title="The records do not agree with themselves"),
    MatchMissing: Kind(status=428, title="Nobody knows what was seen"),
    FileErased: Kind(status=410, title="The file was deleted on purpose"),
    BodyTooSlow: Kind(status=408, title="The body came too slowly"),
    Overloaded: Kind(status=429, title="Too much work waits"),
    KeyOverLimit: Kind(status=429, title="The access key has sent too much"),
    DeadlinePassed: Kind(status=504, title="The deadline passed"),
    ServerUnreachable: Kind(status=503, title="The server cannot be reached"),
}

HTTP_WORDS: Final = {
    404: ("not-found", "Not found", "There is no such path."),
    405: (
        "method-not-allowed",
        "Method not allowed",
        "The path is there, but not with this method.",
    ),
    413: ("body-too-large", "The body is too large", "This call takes a small JSON body."),
    415: (
        "content-type-unsupported",
        "A kind of content that is not accepted",
        "This call takes application/json.",
    ),
}
"""Status -> (code, title, detail), for what belongs to HTTP and to no error of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refusal, as it leaves."""

    status: int
    code: str
    title: str
    detail: str
    remedy: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self, request: Request | None = None) -> Response:
        """The answer; logged under the `instance` that it carries, and counted by its code."""
        if request is not None and (server := getattr(request.app.state, "server", None)):
            server.metrics.rejected(self.code)
            if self.code in AUDITED:
                server.refusals.note(refusal_of(request, self.code))
        instance = new_instance()
        self.tell(instance)
        return self.named(instance)

    def named(self, instance: str) -> Response:
        """The answer that carries this `instance`."""
        headers = dict(self.headers)
        if self.status in RETRY_AFTER_S and self.code not in FINAL:
            headers.setdefault("Retry-After", str(RETRY_AFTER_S[self.status]))
        body = {
            "type": URN + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "remedy": self.remedy,
        }
        # Half of a surrogate pair, which JSON can say and UTF-8 cannot, stays the escape it was.
        text = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        return Response(text, self.status, headers, media_type=MEDIA_TYPE)

    def tell(self, instance: str, **more: int) -> None:
        """Write its line into the log."""
        log.log(
            logging.ERROR if self.status >= 500 else logging.INFO,
            "refused",
            extra={
                "status": self.status,
                "code": self.code,
                "instance": instance,
                "detail": self.detail,
                **more,
            },
        )


def new_instance() -> str:
    """What stands for one occurrence of a problem (RFC 9457, section 3.1.5)."""
    return f"urn:uuid:{uuid4()}"


def kind_of(error: e.InspectionError) -> Kind:
    """The entry of the error's class, or of the nearest class above it."""
    return next(KINDS[each] for each in type(error).__mro__ if each in KINDS)


def problem_of(error: e.InspectionError) -> Problem:
    """The problem that an error of ours leaves as."""
    kind = kind_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, KeyRequired):
        headers["WWW-Authenticate"] = error.challenge
    if isinstance(error, Overloaded) and error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, (e.ImageTooLarge, BodyTooSlow)):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Problem(
        status=kind.status,
        code=error.code,
        title=kind.title,
        detail=str(error),
        remedy=error.remedy,
        headers=headers,
    )


def problem_of_http(error: HTTPException) -> Problem:
    """The problem for what is refused as HTTP, before it means anything to the product."""
    code, title, detail = HTTP_WORDS.get(
        error.status_code,
        (f"http-{error.status_code}", "The request was refused", str(error.detail)),
    )
    return Problem(
        status=error.status_code,
        code=code,
        title=title,
        detail=detail,
        remedy="See /docs for every call.",
        headers=dict(error.headers or {}),
    )


def problem_of_validation(error: RequestValidationError) -> Problem:
    """The problem for fields that have another form than the document says."""
    first: Mapping[str, Any] = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"] if step not in ("query", "body", "path"))
    said = str(first["msg"]).removeprefix("Value error, ")
    what = f"`{place}`: {said}" if place else said
    return problem_of(e.RequestError(what, remedy="Correct the field; /docs shows its form."))


def unexpected() -> Problem:
    """The problem for a fault of ours. Says nothing of the inside; the log has it."""
    return problem_of(
        e.InspectionError(
            "the server met a fault of its own",
            remedy="Send it again; if it goes on, report it with the `instance` above.",
        )
    )


def malformed(status: int, detail: str) -> Problem:
    """The problem for what is no request that could be answered in one way."""
    return Problem(
        status=status,
        code="request-malformed",
        title="Not a request that can be understood",
        detail=detail,
        remedy="Send HTTP/1.1 as RFC 9112 has it; see whether a proxy in between altered it.",
        headers={"Connection": "close"},
    )


def without_places(text: str, settings: Settings) -> str:
    """A message for people elsewhere: files by their place below the folders, not on this disk."""
    for folder in (settings.weights_dir, settings.data_dir):
        for form in (str(folder.absolute()), str(folder)):
            text = text.replace(f"{form}/", "")
    return text


def install(app: FastAPI, settings: Settings) -> None:
    """Let every refusal of `app` leave as a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, e.InspectionError)  # noqa: S101  registered for it below
        if isinstance(error, e.RecordError):
            request.app.state.server.keeping.doubt()
        problem = problem_of(error)
        detail, remedy = (without_places(x, settings) for x in (problem.detail, problem.remedy))
        return replace(problem, detail=detail, remedy=remedy).response(request)

    async def https(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return problem_of_http(error).response(request)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return problem_of_validation(error).response(request)

    app.add_exception_handler(e.InspectionError, ours)
    app.add_exception_handler(HTTPException, https)
    app.add_exception_handler(RequestValidationError, validation)
