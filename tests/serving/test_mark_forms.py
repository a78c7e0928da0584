"""What a scanner hands over is taken wherever a serial is: links, envelopes, provisional names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from inspection.serials import SerialFormat
from tests import spot_model
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GTIN, ISSUER = "09506000134352", "UN123456789"
AT = "2026-11-21T10:00:00Z"
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "lower case": str.lower,
    "digital link": lambda mark: f"https://example.com/a/01/{GTIN}/10/L%2F1/21/{mark}?17=261231",
    "identifier": lambda mark: f"25S{ISSUER}{mark}",
    "envelope": lambda mark: f"[)>\x1e06\x1d25S{ISSUER}{mark}\x1d1TL-1\x1e\x04",
}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose product carries its marks in every form."""
    folder = tmp_path_factory.mktemp("scanned")
    form = SerialFormat(
        length=10, forms=("plain", "gs1-digital-link", "mh10.8.2"), gtin=GTIN, issuer=ISSUER
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spot_model, "SERIALS", form)
        promoted_spot(folder / "weights")
    with running(settings_in(folder)) as live:
        yield live


@pytest.mark.parametrize("form", FORMS)
def test_a_mark_of_any_form_is_the_same_part_everywhere(scanned: Live, form: str) -> None:
    number = 700 + list(FORMS).index(form)
    mark, sent = serial(number), FORMS[form](serial(number))
    posted = scanned.post(part_png("good"), capture_id=f"m-{number}", serial=sent)
    assert (posted.status_code, posted.json().get("part")) == (201, mark), posted.text
    place = f"/v1/parts/KN-42/{quote(sent, safe='')}"
    event = scanned.add(f"{place}/events", f"m-{number}-e", event="cast", at=AT)
    assert (event.status_code, event.json().get("part")) == (201, mark), event.text
    for path in (place, f"{place}/trace", f"{place}/genealogy"):
        assert scanned.http.get(path).status_code == 200, path
    asked = {"items": [{"product": "KN-42", "serial": sent}]}
    (found,) = scanned.http.post("/v1/parts:lookup", json=asked).json()["items"]
    assert found["part"]["part"] == mark
    query = {"serial": sent, "product": "KN-42"}
    assert len(scanned.http.get("/v1/inspections", params=query).json()["items"]) == 1
    hold = {"product": "KN-42", "scope": "part", "value": sent, "reason": "seen"}
    assert scanned.add("/v1/holds", f"m-{number}-h", **hold).json()["value"] == mark
    value = {"name": "cycle", "value": 1, "unit": "s", "at": AT, "product": "KN-42", "serial": sent}
    assert scanned.add("/v1/process-values", f"m-{number}-v", values=[value]).status_code == 201
    views = {"station": "x", "product": "KN-42", "serial": sent, "views": ["a"]}
    assert scanned.add("/v1/view-sets", f"m-{number}-s", **views).json()["part"] == mark


def test_separators_are_taken_in_an_envelope_only(live: Live) -> None:
    """The product of this server knows no envelopes."""
    before = live.server.records.newest()
    sent = FORMS["envelope"](serial(710))
    refused = live.post(part_png("good"), capture_id="m-710", serial=sent)
    assert (refused.status_code, refused.json()["code"]) == (422, "serial-format"), refused.text
    fields = {"product": "BRG-7", "serial": "a\x1db", "at": AT}  # a product without a recipe
    place = f"/v1/parts/KN-42/{serial(711)}/components"
    answer = live.add(place, "m-711", **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request"), answer.text
    assert live.server.records.newest() == before
