"""An image that was deleted under a rule: the record stays, and says which rule it was."""

from __future__ import annotations

from inspection.events import Erasure
from inspection.names import new_inspection_id
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir
from tests.live_server import Live, serial
from tests.spot_model import part_png

RULE = "images of KN-42 are kept for 30 days"


def test_an_erased_image_is_gone_with_its_rule_and_the_record_stays(live: Live) -> None:
    posted = live.post(part_png("bad", seed=7), capture_id="er-1", serial=serial(600)).json()
    store = FileImageStore(images_dir(live.server.settings.data_dir))
    missing = "0" * 64
    live.server.records.add(
        Erasure(
            id=new_inspection_id(),
            files=(posted["image_sha256"], missing),
            rule=RULE,
            by="retention",
            recorded_at="2026-11-22T00:00:00.000Z",
        )
    )
    assert live.http.get(posted["links"]["image"]).status_code == 200, "it is still there"
    store.path(posted["image_sha256"]).unlink()
    for path in (posted["links"]["image"], posted["links"]["heatmap"]):
        answer = live.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (410, "file-erased"), answer.text
        assert RULE in answer.json()["detail"]
        assert "retention" in answer.json()["detail"]
    raw = live.http.get(posted["links"]["heatmap"], params={"raw": "1"})
    assert raw.status_code == 200, "the evidence map was not erased"
    assert live.http.get(posted["links"]["self"]).json()["disposition"] == "fail"
    entry = live.http.get("/v1/changes", params={"limit": "1000"}).json()["items"][-1]
    assert (entry["kind"], entry["entry"]["rule"]) == ("erasure", RULE)


def test_a_file_that_is_missing_without_a_rule_is_not_called_erased(live: Live) -> None:
    posted = live.post(part_png("bad", seed=8), capture_id="er-2", serial=serial(601)).json()
    store = FileImageStore(images_dir(live.server.settings.data_dir))
    store.path(posted["image_sha256"]).unlink()
    for path in (posted["links"]["image"], posted["links"]["heatmap"]):
        answer = live.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (500, "records-damaged"), answer.text
