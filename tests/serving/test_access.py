"""Who may come in: this machine alone while there are no keys; with keys, whom the scope lets."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from inspection.errors import ConfigurationError
from inspection.stores.keys import AccessKeys, Scope
from inspection.stores.places import records_url
from serving.auth import is_loopback
from tests.live_server import Live, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCOPES: tuple[Scope, ...] = ("station", "mes", "qa", "admin")
BAD = part_png("bad")


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Live, dict[str, str], AccessKeys]]:
    """A server with one key of each scope, and one more station; the keys' texts by name."""
    from tests.live_server import promoted_spot

    site = tmp_path_factory.mktemp("guarded")
    promoted_spot(site / "weights")
    (site / "var").mkdir()
    keys = AccessKeys(records_url(site / "var"))
    texts: dict[str, str] = {scope: keys.create(scope, scope)[0] for scope in SCOPES}
    texts["station-2"] = keys.create("station-2", "station")[0]
    with running(settings_in(site)) as live:
        yield live, texts, keys
    keys.close()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def answers(
    live: Live, status: int, place: str, *, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer once it has this status, which it has within two seconds."""
    until = time.monotonic() + 2
    answer: httpx.Response = live.http.get(place, headers=headers)
    while answer.status_code != status and time.monotonic() < until:
        time.sleep(0.05)
        answer = live.http.get(place, headers=headers)
    assert answer.status_code == status, answer.text
    return answer


# call -> the scopes that may, and what is sent; ID is an inspection of "station".
PART = f"/v1/parts/KN-42/{serial(1)}"
AT = "2026-11-21T10:00:00Z"
MELT = {"name": "melt", "value": 700, "unit": "degC", "at": AT, "machine": "LP-3"}
READING = {"mes", "qa", "admin"}
MATRIX: list[tuple[str, str, set[str], dict[str, Any] | None]] = [
    ("POST", "/v1/inspections", {"station", "admin"}, None),
    ("GET", "/v1/inspections", READING, None),
    ("GET", "/v1/inspections:export", READING, None),
    ("GET", "/v1/counts", READING, None),
    ("GET", "/v1/inspections/ID", {"station", *READING}, None),
    ("GET", "/v1/inspections/ID/image", {"station", *READING}, None),
    ("GET", "/v1/inspections/ID/heatmap", {"station", *READING}, None),
    (
        *("POST", "/v1/inspections/ID/reviews", {"qa", "admin"}),
        {"disposition": "pass", "reason": "seen"},
    ),
    (
        *("POST", "/v1/view-sets", {"station", "admin"}),
        {"station": "x", "product": "KN-42", "views": ["a"]},
    ),
    ("GET", "/v1/view-sets/SET", {"station", *READING}, None),
    ("POST", "/v1/view-sets/SET/close", {"station", "admin"}, None),
    ("GET", PART, READING, None),
    ("GET", f"{PART}/trace", READING, None),
    ("GET", f"{PART}/genealogy", READING, None),
    ("POST", f"{PART}/events", {"station", "mes", "admin"}, {"event": "shipped", "at": AT}),
    ("POST", f"{PART}/names", {"qa", "admin"}, {"serial": "NEXT", "reason": "r"}),
    (
        *("POST", f"{PART}/components", {"mes", "admin"}),
        {"product": "B", "serial": "b1", "at": AT},
    ),
    ("POST", "/v1/parts:lookup", READING, {"items": [{"product": "KN-42", "serial": "s"}]}),
    (
        *("POST", "/v1/holds", {"qa", "admin"}),
        {"product": "KN-42", "scope": "lot", "value": "L", "reason": "r"},
    ),
    ("GET", "/v1/holds", READING, None),
    ("POST", "/v1/holds/HOLD/release", {"qa", "admin"}, {"reason": "r"}),
    ("POST", "/v1/process-values", {"mes", "admin"}, {"values": [MELT]}),
    ("GET", "/v1/changes", READING, None),
    ("GET", "/v1/events", READING, None),
    ("GET", "/v1/trace/TRACE", READING, None),
    ("GET", "/v1/models", READING, None),
    ("GET", "/v1/models/KN-42/promotions", READING, None),
    (
        *("POST", "/v1/models/KN-42/promotions", {"qa", "admin"}),
        {"model": "spot-kn-42", "version": 1, "reason": "as before"},
    ),
    ("GET", "/v1/detectors", READING, None),
    ("GET", "/", READING, None),
    ("GET", "/docs", {"station", *READING}, None),
    ("GET", "/openapi.json", {"station", *READING}, None),
]


def test_the_matrix_has_every_call_of_the_document(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    document = live.http.get("/openapi.json", headers=bearer(texts["mes"])).json()
    names = {
        *(("{inspection_id}", "ID"), ("{trace_id}", "TRACE"), ("{view_set_id}", "SET")),
        *(("{hold_id}", "HOLD"), ("{product}", "KN-42"), ("{serial}", serial(1))),
    }
    documented = set()
    for path, entry in document["paths"].items():
        for name, value in names:
            path = path.replace(name, value)  # noqa: PLW2901
        documented |= {(method.upper(), path) for method in entry}
    open_to_all = {"/livez", "/healthz", "/readyz", "/metrics"}
    assert {each for each in documented if each[1] not in open_to_all} <= {
        (method, path) for method, path, _, _ in MATRIX
    }


@pytest.mark.parametrize(("method", "path", "allowed", "body"), MATRIX)
def test_every_call_lets_in_whom_its_scope_says(
    guarded: tuple[Live, dict[str, str], AccessKeys],
    method: str,
    path: str,
    allowed: set[str],
    body: dict[str, Any] | None,
) -> None:
    live, texts, _ = guarded
    own = bearer(texts["station"])
    posted = live.post(BAD, capture_id="own", serial=serial(1), headers=own).json()
    views = {"station": "xray-1", "product": "KN-42", "views": ["a"]}
    opened = live.add("/v1/view-sets", "own-set", headers=own, **views).json()["id"]
    live.post(BAD, capture_id="own-view", view_set=opened, view="a", headers=own)
    hold = {"product": "KN-42", "scope": "lot", "value": "L-1", "reason": "r"}
    place = path.replace("ID", posted["id"]).replace("TRACE", posted["trace_id"])
    place = place.replace("SET", opened)

    def call(headers: dict[str, str], who: str) -> httpx.Response:
        answer: httpx.Response
        if path == "/v1/inspections" and method == "POST":
            return live.post(BAD, capture_id=f"by-{who}", headers=headers)
        where, sent = place, body
        if "HOLD" in path:  # each releases one of its own
            made = live.add("/v1/holds", f"for-{who}", headers=bearer(texts["qa"]), **hold)
            where = path.replace("HOLD", made.json()["id"])
        if path.endswith("/names"):  # a new name each
            number = 900 + (SCOPES.index(who) if who in SCOPES else 9)
            sent = {"serial": serial(number), "reason": "r"}
        wanted = {"If-Match": "*", "Idempotency-Key": f"{path}-{who}", **headers}
        with live.http.stream(method, where, json=sent, headers=wanted) as answer:
            if path != "/v1/events" or not answer.is_success:  # which has no end
                answer.read()
        return answer

    for scope in SCOPES:
        answer = call(bearer(texts[scope]), scope)
        if scope in allowed:
            assert answer.is_success, (scope, answer.text)
        else:
            assert answer.status_code == 403, (scope, answer.text)
            assert answer.json()["code"] == "scope-missing"
    for headers in ({}, bearer("ik_aaaaaaaa_" + "b" * 32), {"Authorization": "Bearer"}):
        answer = call(headers, "nobody")
        assert answer.status_code == 401
        assert answer.json()["code"] == "key-required"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_station_reads_and_closes_only_its_own_views(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    views = {"station": "xray-1", "product": "KN-42", "views": ["a"]}
    place = "/v1/view-sets"
    opened = live.add(place, "private-set", headers=bearer(texts["station"]), **views).json()
    other = bearer(texts["station-2"])
    assert live.http.get(f"{place}/{opened['id']}", headers=other).status_code == 403
    view = {"capture_id": "intruder", "view_set": opened["id"], "view": "a"}
    intruded = live.post(BAD, headers=other, **view)
    assert (intruded.status_code, intruded.json()["code"]) == (403, "scope-missing")
    read = live.http.get(f"{place}/{opened['id']}", headers=bearer(texts["mes"])).json()
    assert read["missing"] == ["a"], "another station's image is no view of this part"
    assert live.http.post(f"{place}/{opened['id']}/close", headers=other).status_code == 403


def test_keys_of_two_callers_do_not_meet(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    fields = {"event": "shipped", "at": AT}
    mine = live.add(f"{PART}/events", "same-key", headers=bearer(texts["mes"]), **fields)
    other = live.add(f"{PART}/events", "same-key", headers=bearer(texts["station"]), **fields)
    assert (mine.status_code, other.status_code) == (201, 201)
    assert (mine.json()["by"], other.json()["by"]) == ("mes", "station")


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/readyz?product=KN-42"])
def test_probes_need_no_key(guarded: tuple[Live, dict[str, str], AccessKeys], path: str) -> None:
    assert guarded[0].http.get(path).status_code == 200


def test_a_station_reads_only_what_it_posted(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    mine = live.post(BAD, capture_id="private", headers=bearer(texts["station"])).json()
    for path in ("", "/image", "/heatmap"):
        answer = live.http.get(mine["links"]["self"] + path, headers=bearer(texts["station-2"]))
        assert answer.status_code == 403


def test_a_review_carries_the_name_of_the_key(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    posted = live.post(BAD, capture_id="named", headers=bearer(texts["station"])).json()
    review = live.review(posted["id"], disposition="fail", headers=bearer(texts["qa"])).json()
    assert review["reviewer"] == "qa"
    assert live.server.records.get(posted["id"]).principal == "station"


def test_a_refused_call_leaves_nothing(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    assert live.post(BAD, capture_id="refused", headers=bearer(texts["mes"])).status_code == 403
    assert live.post(BAD, capture_id="refused").status_code == 401
    assert live.post(BAD, capture_id="refused", headers=bearer(texts["admin"])).status_code == 201


def test_a_browser_sends_the_key_as_a_password_and_only_to_read(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, texts, _ = guarded
    asked = live.http.get("/", headers={"Accept": "text/html,*/*"})
    assert asked.status_code == 401
    assert asked.headers["WWW-Authenticate"].startswith("Basic")
    assert live.http.get("/", auth=("anyone", texts["qa"])).status_code == 200
    assert live.http.get("/", auth=("anyone", "wrong")).status_code == 401
    broken = {"Authorization": "Basic %%%"}
    assert live.http.get("/", headers=broken).status_code == 401
    secret = base64.b64encode(f":{texts['admin']}".encode()).decode()
    posted = live.post(BAD, capture_id="basic", headers={"Authorization": f"Basic {secret}"})
    assert posted.status_code == 401


def test_a_revoked_key_opens_nothing_from_then_on(
    guarded: tuple[Live, dict[str, str], AccessKeys],
) -> None:
    live, _, keys = guarded
    text, key = keys.create("leaver", "mes")
    assert live.http.get("/v1/models", headers=bearer(text)).status_code == 200
    keys.revoke(key.id)
    answers(live, 401, "/v1/models", headers=bearer(text))


def test_the_first_key_closes_the_door(site: Path) -> None:
    with running(settings_in(site)) as live:
        assert live.http.get("/v1/models").status_code == 200
        keys = AccessKeys(records_url(site / "var"))
        text, key = keys.create("first", "mes")
        answers(live, 401, "/v1/models")
        assert live.http.get("/v1/models", headers=bearer(text)).status_code == 200
        keys.revoke(key.id)
        answers(live, 200, "/v1/models")  # none is active: local again
        keys.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.9"},
        {"Forwarded": "for=10.0.0.9"},
        {"Via": "1.1 proxy"},
        {"Host": "inspection.example"},
        {"Host": "127.0.0.1.evil.example:8400"},
    ],
)
def test_without_keys_nobody_comes_through_a_proxy_or_a_foreign_name(
    live: Live, headers: dict[str, str]
) -> None:
    answer = live.http.get("/v1/models", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "not-allowed"
    assert "keys create" in answer.json()["remedy"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8400", "127.0.0.1:1", "[::1]:8400"])
def test_without_keys_this_machines_own_names_are_fine(live: Live, host: str) -> None:
    assert live.http.get("/v1/models", headers={"Host": host}).status_code == 200


def test_without_keys_the_server_does_not_start_where_others_reach_it(site: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="loopback only"),
        running(settings_in(site, host="0.0.0.0")),
    ):
        pass


def test_when_the_last_key_goes_an_open_server_closes(site: Path) -> None:
    (site / "var").mkdir()
    keys = AccessKeys(records_url(site / "var"))
    text, key = keys.create("only", "admin")
    with running(settings_in(site, host="0.0.0.0")) as live:  # the test still binds to loopback
        assert live.http.get("/v1/models", headers=bearer(text)).status_code == 200
        keys.revoke(key.id)
        answer = answers(live, 503, "/v1/models")
        assert answer.json()["code"] == "configuration"
    keys.close()


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
