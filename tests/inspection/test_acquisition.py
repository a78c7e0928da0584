"""What a detector's file says goes into the record, and its serial is believed within limits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from inspection.engines.openvino import OpenVinoEngine
from inspection.entries import canonical_json, parse_entry
from inspection.errors import UnreadableImage
from inspection.frame import Acquisition, DecodeLimits
from inspection.pipeline import Line, inspect_part
from inspection.recipe import Region
from inspection.record import DetectorReference, InspectionRequest, complete
from inspection.stores.files import FileImageStore
from inspection.stores.sql import open_records
from inspection.verdict import Finding
from tests.contracts.drafts import make_draft, make_view_set
from tests.dicom_files import dicom
from tests.spot_model import SERIALS, part_image, part_png, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inspection.record import InspectionRecord

SERIAL = SERIALS.complete("KN4200001").text
OTHER = SERIALS.complete("KN4200002").text


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    place: Path = tmp_path_factory.mktemp("line")
    package = write_spot_package(place / "weights")
    records = open_records(f"sqlite:///{place}/records.db")
    yield Line(
        package=package,
        engine=OpenVinoEngine.for_package(package),
        images=FileImageStore(place / "images"),
        records=records,
        limits=DecodeLimits(),
    )
    records.close()


def inspected(line: Line, capture: str, serial: str | None, **elements: Any) -> InspectionRecord:
    request = InspectionRequest(
        station="xray-1",
        product="KN-42",
        capture_id=capture,
        idempotency_key=capture,
        serial=serial,
    )
    data = dicom(part_image("good"), **elements)
    return inspect_part(data, request, line, declared="application/dicom")


def codes(record: InspectionRecord) -> list[str]:
    return [reason.code for reason in record.reasons]


def test_the_exposure_goes_into_the_record(line: Line) -> None:
    record = inspected(line, "a", SERIAL, KVP="120", DetectorID="D-7", PatientID=SERIAL)
    assert (record.disposition, record.image_media_type) == ("pass", "application/dicom")
    assert record.acquisition == Acquisition(kv=120.0, detector="D-7", serial=SERIAL)
    assert line.records.get(record.id) == record


def test_a_serial_in_the_file_is_the_parts(line: Line) -> None:
    record = inspected(line, "b", None, PatientID=SERIAL)
    assert (record.serial, record.part, record.disposition) == (SERIAL, SERIAL, "pass")


def test_a_file_that_names_another_part_is_looked_at(line: Line) -> None:
    record = inspected(line, "c", SERIAL, PatientID=OTHER)
    assert (record.serial, record.disposition) == (SERIAL, "review")
    assert codes(record) == ["serial-disagrees"]
    assert OTHER in record.reasons[0].detail


def test_a_serial_in_the_file_that_fits_no_format_is_unread_with_the_reason(line: Line) -> None:
    record = inspected(line, "d", None, PatientID="KN-42 left")
    assert (record.serial, record.disposition) == (None, "review")
    assert codes(record) == ["mark-unread"]
    assert "'KN-42 left' does not fit" in record.reasons[0].detail
    both = inspected(line, "e", SERIAL, PatientID="KN-42 left")
    assert (both.disposition, codes(both)) == ("review", ["serial-disagrees"])


def test_what_only_begins_like_an_unread_part_is_no_serial(line: Line) -> None:
    package = replace(line.package, recipe=replace(line.package.recipe, serial=None))
    record = inspected(replace(line, package=package), "f", None, PatientID="unread:06AG-TYS6")
    assert (record.serial, codes(record)) == (None, ["mark-unread"])


def test_a_set_of_views_goes_by_its_own_mark(line: Line) -> None:
    opened = line.records.open_views(make_view_set(product="KN-42", serial=None))
    data = dicom(part_image("good"), PatientID=SERIAL)
    request = InspectionRequest(
        station=opened.station,
        product="KN-42",
        capture_id="v",
        idempotency_key="v",
        view_set=opened.id,
        view=opened.views[0],
    )
    record = inspect_part(data, request, line)
    assert (record.serial, record.part, codes(record)) == (None, opened.part, ["mark-unread"])


def test_a_plain_image_says_nothing(line: Line) -> None:
    request = InspectionRequest(
        station="x", product="KN-42", capture_id="g", idempotency_key="g", serial=SERIAL
    )
    assert inspect_part(part_png("good"), request, line).acquisition is None


@pytest.mark.parametrize(
    "fields", [{"kv": float("nan")}, {"ma": -1.0}, {"serial": ""}, {"tags": (("a", "x" * 201),)}]
)
def test_an_acquisition_cannot_be_built_wrong(fields: dict[str, Any]) -> None:
    with pytest.raises(UnreadableImage):
        Acquisition(**fields)


def test_sizes_zones_and_rules_are_kept_rounded_and_read_back() -> None:
    found = Finding(
        defect_class="pore",
        probability=0.12345678,
        region=Region(top=1, left=2, height=3, width=4),
        zone="seat",
        size_mm=0.61239,
        rule="pore in seat: at most 0.5 mm",
    )
    draft = make_draft(disposition="fail")
    draft = replace(
        draft,
        verdict=replace(
            draft.verdict,
            probability=dict(draft.verdict.probability),
            findings=(found,),
            allowed=(replace(found, size_mm=0.3, rule=None),),
        ),
        acquisition=Acquisition(kv=90.5, tags=(("Modality", "DX"),)),
        detector=DetectorReference(digest="ab" * 32, made_at="2026-11-22T05:00:00.000Z"),
    )
    record = complete(draft, trace_id="06AG-TYS6-JB8EQ", attempt=1)
    assert (record.findings[0].probability, record.findings[0].size_mm) == (0.123457, 0.612)
    assert record.allowed[0].size_mm == 0.3
    body = canonical_json(record)
    assert parse_entry("inspection", body) == record
    without = json.loads(body)
    for name in ("acquisition", "detector", "allowed"):
        del without[name]
    for name in ("zone", "size_mm", "rule"):
        del without["findings"][0][name]
    earlier = parse_entry("inspection", json.dumps(without).encode())
    assert (earlier.acquisition, earlier.detector, earlier.allowed) == (None, None, ())  # type: ignore[union-attr]
