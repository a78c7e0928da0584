"""A client that a program makes of the OpenAPI document works against the server."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from tests.live_server import Live, promoted_spot, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "generated_inspection_client"
# What the generator has no words for is to it a stream of bytes.
CONFIG = """\
post_hooks: []
literal_enums: true
content_type_overrides:
  image/png: application/octet-stream
  image/tiff: application/octet-stream
  image/jpeg: application/octet-stream
  application/dicom: application/octet-stream
"""
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, str]]:
    """A server with an access key, and the key."""
    site = tmp_path_factory.mktemp("generated")
    promoted_spot(site / "weights")
    (site / "var").mkdir()
    keys = AccessKeys(records_url(site / "var"))
    text, _ = keys.create("robot", "admin")
    with running(settings_in(site)) as live:
        live.http.headers["Authorization"] = f"Bearer {text}"
        yield live, text
    keys.close()


@pytest.fixture(scope="module")
def package(
    served: tuple[Live, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Any]]:
    """The generated package: gives its modules by name."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(served[0].http.get("/openapi.json").text)
    (folder / "config.yml").write_text(CONFIG)
    command = [
        *(str(Path(sys.executable).with_name("openapi-python-client")), "generate"),
        *("--path", "openapi.json", "--output-path", NAME, "--meta", "none"),
        *("--config", "config.yml"),
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    try:
        yield lambda name: importlib.import_module(f"{NAME}.{name}")
    finally:
        sys.path.remove(str(folder))
        for loaded in [each for each in sys.modules if each.partition(".")[0] == NAME]:
            del sys.modules[loaded]


@pytest.fixture(scope="module")
def client(served: tuple[Live, str], package: Callable[[str], Any]) -> Iterator[Any]:
    """A client with the key; an answer that the document does not know is an error."""
    live, key = served
    made = package("client").AuthenticatedClient(
        base_url=live.address,
        token=key,
        raise_on_unexpected_status=True,
        httpx_args={"trust_env": False},
    )
    with made as entered:
        yield entered


def test_every_call_has_a_function_of_its_name(
    served: tuple[Live, str], package: Callable[[str], Any]
) -> None:
    document = served[0].http.get("/openapi.json").json()
    for entry in document["paths"].values():
        for operation in entry.values():
            tag = operation["tags"][0].lower().replace(" ", "_")
            module = package(f"api.{tag}.{operation['operationId']}")
            assert callable(module.sync_detailed)


def test_a_part_is_judged_decided_held_and_found(
    package: Callable[[str], Any], client: Any
) -> None:
    models, inspections = package("models"), "api.inspections"
    mark = serial(1)
    image = package("types").File(
        payload=io.BytesIO(part_png("bad")), file_name="part.png", mime_type="image/png"
    )
    body = models.PostInspectionFilesBody(
        image=image, station="xray-1", product="KN-42", capture_id="g-1", serial=mark
    )
    posting = package(f"{inspections}.post_inspection")
    posted = posting.sync_detailed(client=client, body=body, idempotency_key="g-1")
    assert (posted.status_code, posted.parsed.disposition) == (201, "fail")
    assert isinstance(posted.parsed, models.Inspection)

    held = package("api.holds.post_hold").sync(
        client=client,
        idempotency_key="g-2",
        body=models.HoldFields(product="KN-42", scope="part", value=mark, reason="look"),
    )
    read = package(f"{inspections}.get_inspection").sync_detailed(posted.parsed.id, client=client)
    assert [each.id for each in read.parsed.holds] == [held.id]

    decision = models.ReviewFields(disposition="pass", reason="surface mark")
    review = package(f"{inspections}.post_review").sync(
        posted.parsed.id, client=client, body=decision, if_match=read.headers["ETag"]
    )
    assert (review.disposition, review.reviewer) == ("pass", "robot")
    late = package(f"{inspections}.post_review").sync_detailed(
        posted.parsed.id, client=client, body=decision, if_match=read.headers["ETag"]
    )
    assert (late.status_code, late.parsed.code) == (412, "changed-meanwhile")

    event = models.EventFields(event="shipped", at=AT)
    package("api.parts.post_event").sync(
        "KN-42", mark, client=client, body=event, idempotency_key="g-3"
    )
    part = package("api.parts.get_part").sync("KN-42", mark, client=client)
    assert part.in_force.disposition == "pass"
    assert [each.event for each in part.events] == ["shipped"]
    assert part.to_dict()["names"] == [mark]

    listed = package(f"{inspections}.list_inspections").sync(client=client, class_="spot", limit=5)
    assert [each.id for each in listed.items] == [posted.parsed.id]
    counted = package(f"{inspections}.get_counts").sync(client=client, by="product")
    assert counted.items[0].group.to_dict() == {"product": "KN-42"}
    changes = package("api.changes.list_changes").sync(client=client)
    assert [each.kind for each in changes.items] == ["inspection", "hold", "review", "event"]
    picture = package(f"{inspections}.get_image").sync(posted.parsed.id, client=client)
    assert picture.payload.read() == part_png("bad")
    exported = package(f"{inspections}.export_inspections").sync_detailed(client=client)
    assert json.loads(exported.content.splitlines()[-1]) == {"complete": True, "count": 1}


def test_bulk_calls_answer_each_item(package: Callable[[str], Any], client: Any) -> None:
    models = package("models")
    values = [
        models.ProcessValueFields(name="melt", value=1.5, unit=unit, at=AT, machine="LP-3")
        for unit in ("bar", "furlong")
    ]
    report = package("api.process_values.post_process_values").sync(
        client=client, body=models.ProcessValuesFields(values=values), idempotency_key="g-9"
    )
    assert [each.status for each in report.items] == ["accepted", "refused"]
    assert report.items[1].problem.code == "invalid-request"
    items = [models.LookupItem(product="KN-42", serial=serial(9))]
    found = package("api.parts.lookup_parts").sync(
        client=client, body=models.LookupFields(items=items)
    )
    assert found.items[0].problem.code == "not-found"
