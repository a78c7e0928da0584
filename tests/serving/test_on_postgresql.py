"""The whole interface on PostgreSQL: the same words, the same order, nothing taken for SQL."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.serving.test_documented_calls import (
    test_every_documented_call_answers_as_documented as every_documented_call,
)
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_server import PostgresServer

GOOD, BAD = part_png("good"), part_png("bad")
AT = "2026-11-21T10:00:00Z"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Live]:
    """A server whose records are in PostgreSQL."""
    site = tmp_path_factory.mktemp("postgresql")
    promoted_spot(site / "weights")
    settings = settings_in(site).model_copy(update={"database_url": postgres.fresh()})
    with running(settings) as live:
        yield live


def test_every_documented_call_answers_there_too(stored: Live) -> None:
    every_documented_call(stored)


def test_a_part_has_one_life_under_all_its_names(stored: Live) -> None:
    old, new = serial(700), serial(701)
    place = f"/v1/parts/KN-42/{old}"
    posted = stored.post(BAD, capture_id="pg-1", serial=old, mould="M-700").json()
    assert stored.review(posted["id"]).status_code == 201
    assert stored.review(posted["id"], headers={"If-Match": '"old"'}).status_code == 412
    named = stored.add(f"{place}/names", "pg-1", serial=new, reason="marked again")
    assert named.status_code == 201
    hold = {"product": "KN-42", "scope": "part", "value": old, "reason": "r"}
    held = stored.add("/v1/holds", "pg-2", **hold).json()
    later = stored.post(GOOD, capture_id="pg-2", serial=new).json()
    assert (later["attempt"], later["holds"]) == (2, [held])
    assert stored.http.get(place).content == stored.http.get(f"/v1/parts/KN-42/{new}").content
    exported = stored.http.get("/v1/inspections:export", params={"mould": "M-700"}).text
    assert json.loads(exported.splitlines()[-1]) == {"complete": True, "count": 1}
    counted = stored.http.get("/v1/counts", params={"by": "mould", "mould": "M-700"}).json()
    assert counted["items"][0]["failed"] == 1


def test_changes_from_several_writers_come_once_and_in_order(stored: Live) -> None:
    start = stored.http.get("/v1/changes", params={"after": "now"}).json()["next"]

    def write(number: int) -> str:
        place = f"/v1/parts/KN-42/{serial(800 + number)}/events"
        made: dict[str, Any] = stored.add(place, f"w-{number}", event="shipped", at=AT).json()
        name: str = made["id"]
        return name

    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write, number) for number in range(40)]
        seen: list[dict[str, Any]] = []
        after = start
        while len(seen) < 40:
            query = {"after": after, "limit": "7", "wait": "5"}
            page = stored.http.get("/v1/changes", params=query).json()
            assert page["items"], "what was answered is there"
            seen += page["items"]
            after = page["next"]
        written = {each.result() for each in writing}
    assert {each["entry"]["id"] for each in seen} == written
    first = seen[0]["sequence"]
    assert [each["sequence"] for each in seen] == list(range(first, first + 40))


@pytest.mark.parametrize("value", ["a\x00b", "' OR 1=1 --", "%", "\ud55c\uae00", "\u202e"])
@pytest.mark.parametrize("path", ["/v1/inspections", "/v1/counts", "/v1/holds"])
def test_no_text_breaks_a_question(stored: Live, path: str, value: str) -> None:
    answer = stored.http.get(path, params={"product": value})
    assert answer.status_code in (200, 422), answer.text
    if answer.is_success and path != "/v1/counts":
        assert answer.json()["items"] == []
