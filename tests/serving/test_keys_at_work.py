"""What a key is good for while the server runs: its place, its time, its share; and who is told."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from inspection.stores.audit import AuditEvent, AuditLog
from inspection.stores.database import open_engine
from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from serving.refusals import BURST, Refusal, Refusals
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.serving.test_access import bearer
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = part_png("good")


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, AccessKeys]]:
    site = tmp_path_factory.mktemp("keys")
    promoted_spot(site / "weights")
    promoted_spot(site / "weights", "KN-43")
    (site / "var").mkdir()
    with closing(AccessKeys(records_url(site / "var"))) as keys:
        keys.create("somebody", "admin")
        with running(settings_in(site)) as live:
            yield live, keys


def audited(live: Live) -> list[AuditEvent]:
    """What is on record of refusals once what was gathered is written."""
    live.server.refusals.write()
    with closing(AuditLog(records_url(live.folder / "var"))) as log:
        return [event for event in log.read() if event.act == "refused"]


def test_a_bound_key_posts_for_its_own_station_and_product_only(
    at_work: tuple[Live, AccessKeys],
) -> None:
    live, keys = at_work
    text, _ = keys.create("bound", "station", stations=("xray-1",), products=("KN-42",))
    own = bearer(text)
    assert live.post(GOOD, capture_id="b-1", headers=own).status_code == 201
    for fields in ({"station": "xray-2"}, {"product": "KN-43"}):
        answer = live.post(GOOD, capture_id="b-2", headers=own, **fields)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign-place"), answer.text
    views = {"station": "xray-2", "product": "KN-42", "views": ["a"]}
    assert live.add("/v1/view-sets", "b-3", headers=own, **views).status_code == 403
    shipped = {"event": "shipped", "at": "2026-11-21T10:00:00Z"}
    foreign = f"/v1/parts/KN-43/{serial(1)}/events"
    assert live.add(foreign, "b-4", headers=own, **shipped).status_code == 403
    assert live.add(f"/v1/parts/KN-42/{serial(1)}/events", "b-5", headers=own, **shipped).is_success
    told = {(event.by, event.detail) for event in audited(live) if event.address == "127.0.0.1"}
    calls = ("/v1/inspections", "/v1/view-sets", "/v1/parts/{product}/{serial}/events")
    assert {("bound", f"foreign-place: POST {call}") for call in calls} <= told


def test_a_key_that_is_over_says_so_to_whoever_has_it_and_to_nobody_else(
    at_work: tuple[Live, AccessKeys],
) -> None:
    live, keys = at_work
    text, key = keys.create("short", "mes", lifetime=timedelta(0))
    answer = live.http.get("/v1/models", headers=bearer(text))
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]
    guess = live.http.get("/v1/models", headers=bearer(f"ik_{key.id}_{'x' * 32}"))
    assert guess.status_code == 401
    assert "nobody has it" in guess.json()["detail"]
    assert any(event.by == "short" for event in audited(live)), "guessing at a key is on record"


def test_the_last_key_that_expires_leaves_the_door_shut(tmp_path: Path) -> None:
    promoted_spot(tmp_path / "weights")
    (tmp_path / "var").mkdir()
    with closing(AccessKeys(records_url(tmp_path / "var"))) as keys:
        keys.create("only", "admin", lifetime=timedelta(0))
        with running(settings_in(tmp_path)) as live:
            assert live.http.get("/v1/models").status_code == 401


def test_both_texts_of_a_rotated_key_open_until_the_old_one_is_over(
    at_work: tuple[Live, AccessKeys],
) -> None:
    live, keys = at_work
    first, key = keys.create("turned", "station")
    assert live.post(GOOD, capture_id="t-1", headers=bearer(first)).status_code == 201
    second, rotated = keys.rotate("turned", overlap=timedelta(days=7))
    assert rotated.id == key.id
    for number, text in enumerate((first, second), start=2):
        posted = live.post(GOOD, capture_id=f"t-{number}", headers=bearer(text)).json()
        assert live.server.records.get(posted["id"]).principal == "turned"
    third, _ = keys.rotate(key.id, overlap=timedelta(0))
    assert live.http.get("/docs", headers=bearer(third)).status_code == 200
    refused = live.http.get("/docs", headers=bearer(second))
    assert refused.status_code == 401
    assert "rotated" in refused.json()["detail"]
    assert live.http.get("/docs", headers=bearer(first)).status_code == 401


def test_one_mad_station_is_told_to_wait_and_no_other(at_work: tuple[Live, AccessKeys]) -> None:
    live, keys = at_work
    mad, _ = keys.create("mad", "mes", rate_per_s=0.5, burst=3)
    calm, _ = keys.create("calm", "mes")
    statuses = [live.http.get("/v1/holds", headers=bearer(mad)).status_code for _ in range(6)]
    assert statuses == [200] * 3 + [429] * 3
    answer = live.http.get("/v1/holds", headers=bearer(mad))
    assert answer.json()["code"] == "key-over-limit"
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    assert live.http.get("/v1/holds", headers=bearer(calm)).status_code == 200


def test_a_key_has_no_more_requests_at_a_time_than_it_may(
    at_work: tuple[Live, AccessKeys],
) -> None:
    live, keys = at_work
    text, _ = keys.create("greedy", "mes", at_once=1)
    headers = bearer(text)

    def wait() -> None:
        while live.http.get("/v1/changes?after=now&wait=1", headers=headers).status_code == 429:
            pass  # the other one was there first

    waits = threading.Thread(target=wait)
    waits.start()
    until_held = [live.http.get("/v1/holds", headers=headers).status_code]
    while until_held[-1] != 429 and waits.is_alive():
        until_held.append(live.http.get("/v1/holds", headers=headers).status_code)
    assert until_held[-1] == 429
    waits.join()
    for _ in range(3):
        assert live.http.get("/v1/holds", headers=headers).status_code == 200


def test_use_is_noted_without_a_write_at_each_request(at_work: tuple[Live, AccessKeys]) -> None:
    live, keys = at_work
    text, key = keys.create("seen", "mes")
    for _ in range(3):
        assert live.http.get("/v1/holds", headers=bearer(text)).status_code == 200
    (before,) = (each for each in keys.list() if each.id == key.id)
    assert before.last_used_at is None
    live.server.keys._note()
    (after,) = (each for each in keys.list() if each.id == key.id)
    assert after.last_used_at is not None
    assert after.last_used_at >= key.created_at


def test_a_flood_of_refusals_does_not_fill_the_disk(tmp_path: Path) -> None:
    url = records_url(tmp_path)
    AccessKeys(url).close()
    with closing(AuditLog(url)) as log:
        refusals = Refusals(log)
        for number in range(3000):
            for code in ("key-required", "scope-missing"):
                call, address = f"GET /{number % 700}", f"10.0.{number % 250}.1"
                refusals.note(Refusal(code=code, call=call, key=None, address=address))
            if number % 30 == 0:
                refusals.write()
        refusals.close()
        events = log.read()
        assert len(events) <= BURST + 2
        assert sum(event.count for event in events) == 6000, "none is forgotten"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit SET body = replace(CAST(body AS TEXT), 'two', 'tvo') WHERE number = 2",
        "DELETE FROM audit WHERE number = 2",
    ],
)
def test_an_audit_log_that_was_altered_is_found_out(tmp_path: Path, damage: str) -> None:
    from inspection.errors import RecordsDamaged
    from inspection.stores.files import FileImageStore
    from inspection.stores.places import images_dir
    from inspection.stores.verify import verify_store

    url = records_url(tmp_path)
    with closing(AccessKeys(url)) as keys:
        for name in ("one", "two", "three"):
            keys.create(name, "mes")
    images = FileImageStore(images_dir(tmp_path))
    assert verify_store(url, images).ok
    engine = open_engine(url, writing=True)
    with engine.begin() as connection:
        connection.exec_driver_sql(damage)
    engine.dispose()
    with closing(AuditLog(url)) as log, pytest.raises(RecordsDamaged, match="audit log"):
        log.read()
    assert not verify_store(url, images).ok
