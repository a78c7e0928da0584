"""The first page, a part's page and the files they need.

/                 the latest verdicts, refreshed by the browser itself
/parts/{serial}   everything that was ever seen and decided about a part
/find?q=          a serial or a trace ID, as typed or read from a scanner
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from inspection.errors import NotFound
from inspection.events import PartEvent
from inspection.lives import Life, lives_of
from inspection.names import normalise_trace_id
from inspection.record import InspectionRecord, ReviewRecord
from inspection.standing import InForce, disposition_in_force
from inspection.store import Filter
from serving.state import Server, server_of
from serving.web.words import WORDS, Language, choose_language

if TYPE_CHECKING:
    from collections.abc import Sequence

STATIC_TYPES = {"page.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
LATEST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """One product's part of this name."""

    asked: str
    life: Life

    @property
    def inspections(self) -> list[tuple[InspectionRecord, list[ReviewRecord]]]:
        """Newest first, each with its reviews."""
        reviews = [entry for entry in self.life.entries if isinstance(entry, ReviewRecord)]
        return [
            (record, [review for review in reviews if review.inspection_id == record.id])
            for record in reversed(self.life.inspections)
        ]

    @property
    def other_names(self) -> list[str]:
        """What else it is or was called."""
        return [name for name in self.life.names.names if name != self.asked]

    @property
    def events(self) -> list[PartEvent]:
        """What happened to it besides, newest first."""
        found = [entry for entry in self.life.entries if isinstance(entry, PartEvent)]
        return found[::-1]


def router() -> APIRouter:
    """The routes of the pages, to be included in the app."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/", response_class=HTMLResponse)
    def latest(request: Request, product: str | None = None) -> HTMLResponse:
        """The latest verdicts."""
        server = server_of(request)
        page = server.records.find(Filter(product=product or None, limit=LATEST))
        return _render(
            request,
            "latest.html",
            records=page.records,
            standing=_standing(server, page.records),
            products=sorted(server.lines),
            product=product,
        )

    @routes.get("/parts/{serial}", response_class=HTMLResponse)
    def part(request: Request, serial: str) -> HTMLResponse:
        """A part's history, for every product that has this serial."""
        server = server_of(request)
        views = _views(server, serial)
        return _render(
            request, "part.html", status=200 if views else 404, serial=serial, views=views
        )

    @routes.get("/find")
    def find(request: Request, q: str = "") -> RedirectResponse:
        """To the part's page; a trace ID leads to the part that it names."""
        target = q.strip()
        try:
            found = server_of(request).records.by_trace_id(normalise_trace_id(target))
        except NotFound:
            pass
        else:
            target = found.part
        suffix = f"?lang={_language(request)}"
        place = f"/parts/{quote(target, safe='')}" if target else "/"
        return RedirectResponse(place + suffix, status_code=303)

    @routes.get("/favicon.ico")
    def icon() -> Response:
        """The icon, where browsers look for it."""
        return Response(_static_bytes("icon.svg"), media_type=STATIC_TYPES["icon.svg"])

    @routes.get("/static/{digest}/{name}")
    def static(digest: str, name: str) -> Response:
        """A style sheet under its digest, so that it can be kept for ever."""
        if name not in STATIC_TYPES or digest != _static_digest(name):
            raise NotFound(f"there is no file {name}")
        return Response(
            _static_bytes(name),
            media_type=STATIC_TYPES[name],
            headers={"Cache-Control": "public, max-age=31536000, immutable"},
        )

    return routes


def _views(server: Server, serial: str) -> list[PartView]:
    marks = {serial, serial.strip().upper()}
    products = sorted(
        {
            *server.lines,
            *(
                record.product
                for mark in marks
                for record in server.records.find(Filter(serial=mark, limit=100)).records
            ),
        }
    )
    views = []
    for product in products:
        for mark in sorted(marks):
            life = lives_of(server.records, product, [mark]).get(mark)
            if life is not None:
                views.append(PartView(asked=mark, life=life))
    return views


def _standing(server: Server, records: Sequence[InspectionRecord]) -> dict[str, InForce | None]:
    """What stands for the part of each record, by the record's id: a person may have decided."""
    return {
        record.id: disposition_in_force(server.records.part_history(record.product, record.part))
        for record in records
    }


def _render(
    request: Request, template: str, *, status: int = 200, **values: object
) -> HTMLResponse:
    language = _language(request)
    words = WORDS[language]
    html = (
        _environment()
        .get_template(template)
        .render(
            lang=language,
            other="en" if language == "ko" else "ko",
            w=words,
            css=f"/static/{_static_digest('page.css')}/page.css",
            path=request.url.path,
            **values,
        )
    )
    return HTMLResponse(
        html, status_code=status, headers={"Cache-Control": "no-store", "Vary": "Accept-Language"}
    )


def _language(request: Request) -> Language:
    return choose_language(request.query_params.get("lang"), request.headers.get("accept-language"))


def _local_time(text: str) -> str:
    """A stored UTC time on the plant's own clock, to the second."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("serving.web"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["local_time"] = _local_time
    environment.filters["path_part"] = lambda text: quote(str(text), safe="")
    return environment


@cache
def _static_bytes(name: str) -> bytes:
    return resources.files("serving.web").joinpath("static", name).read_bytes()


@cache
def _static_digest(name: str) -> str:
    return hashlib.sha256(_static_bytes(name)).hexdigest()[:16]
