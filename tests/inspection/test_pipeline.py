"""The whole journey of one part, with a real engine, real files and a real database."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import (
    CaptureConflict,
    EngineError,
    InspectionError,
    RecordError,
    SerialCheckError,
    SerialFormatError,
    UnreadableImage,
)
from inspection.frame import DecodeLimits
from inspection.pipeline import Line, inspect_part
from inspection.record import InspectionRequest
from inspection.serials import SerialField, SerialFormat
from inspection.store import Filter
from inspection.stores.files import FileImageStore
from inspection.stores.sql import open_records
from tests.spot_model import SERIALS, part_image, part_png, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inspection.record import InspectionRecord

SERIAL = SERIALS.complete("KN4200001").text


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    package = write_spot_package(tmp_path / "weights")
    records = open_records(f"sqlite:///{tmp_path}/records.db")
    yield Line(
        package=package,
        engine=OpenVinoEngine.for_package(package),
        images=FileImageStore(tmp_path / "images"),
        records=records,
        limits=DecodeLimits(),
    )
    records.close()


def request(number: int = 1, **fields: Any) -> InspectionRequest:
    values = {
        "station": "xray-1",
        "product": "KN-42",
        "capture_id": f"c{number}",
        "idempotency_key": f"k{number}",
        "serial": SERIAL,
        **fields,
    }
    return InspectionRequest(**values)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "images").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("kind", "disposition"),
    [("good", "pass"), ("bad", "fail"), ("unsure", "review"), ("novel", "review")],
)
def test_bytes_become_a_verdict_with_evidence_and_a_durable_record(
    line: Line, kind: str, disposition: str
) -> None:
    data = part_png(kind)
    record = inspect_part(data, request(lot="L7"), line, declared="image/png", principal="cell-1")
    assert record.disposition == disposition
    assert (record.serial, record.part, record.lot, record.attempt) == (SERIAL, SERIAL, "L7", 1)
    assert (record.model.name, record.model.digest) == ("spot", line.package.digest)
    assert record.principal == "cell-1"
    assert set(record.timings_ms) == {"decode", "prepare", "infer", "store"}
    assert line.images.get(record.image_sha256) == data
    assert record.evidence is not None
    evidence = np.load(io.BytesIO(line.images.get(record.evidence.sha256)), allow_pickle=False)
    assert (evidence.shape, evidence.dtype) == ((1, 8, 8), np.float16)
    assert line.records.get(record.id) == record
    assert line.records.by_trace_id(record.trace_id) == record


def test_an_unread_mark_is_judged_under_a_provisional_identity_and_never_passes(
    line: Line,
) -> None:
    good = inspect_part(part_png("good"), request(serial=None), line)
    assert good.disposition == "review"
    assert [reason.code for reason in good.reasons] == ["mark-unread"]
    assert (good.serial, good.part) == (None, f"unread:{good.trace_id}")
    bad = inspect_part(part_png("bad"), request(2, serial=None), line)
    assert bad.disposition == "fail"


@pytest.mark.parametrize("wrong", ["16 bits", "colour"])
def test_what_cannot_be_judged_is_recorded_as_review(line: Line, wrong: str) -> None:
    grey = part_image("good")
    pixels = grey.astype(np.uint16) * 257 if wrong == "16 bits" else cv2.merge([grey] * 3)
    data = bytes(cv2.imencode(".png", pixels)[1])
    record = inspect_part(data, request(), line)
    assert record.disposition == "review"
    assert record.reasons[0].code == "unjudgeable"
    assert wrong in record.reasons[0].detail
    assert record.evidence is None
    assert line.images.get(record.image_sha256) == data


@pytest.mark.parametrize(
    ("data", "fields", "error"),
    [
        (b"not an image", {}, UnreadableImage),
        (part_png("good")[:-20], {}, UnreadableImage),
        (part_png("good"), {"serial": SERIAL[:-1] + "0"}, SerialCheckError),
    ],
)
def test_a_refusal_leaves_no_record_and_no_file(
    line: Line,
    tmp_path: Path,
    data: bytes,
    fields: dict[str, Any],
    error: type[InspectionError],
) -> None:
    with pytest.raises(error):
        inspect_part(data, request(**fields), line)
    assert files(tmp_path) == []
    assert line.records.find(Filter()).records == ()


def test_an_engine_that_fails_gives_no_verdict_and_leaves_nothing(
    line: Line, tmp_path: Path
) -> None:
    line.engine.close()
    with pytest.raises(EngineError):
        inspect_part(part_png("good"), request(), line)
    assert files(tmp_path) == []
    assert line.records.find(Filter()).records == ()


def test_without_a_durable_record_there_is_no_verdict(line: Line) -> None:
    line.records.close()
    with pytest.raises(RecordError):
        inspect_part(part_png("good"), request(), line)


def test_attempts_count_and_a_capture_stands_for_one_image(line: Line) -> None:
    attempts = [inspect_part(part_png("good", seed=n), request(n), line).attempt for n in range(3)]
    assert attempts == [1, 2, 3]
    audit = inspect_part(part_png("good", seed=9), request(9, reason="audit"), line)
    assert (audit.attempt, audit.reason) == (None, "audit")
    with pytest.raises(CaptureConflict):
        inspect_part(part_png("bad"), request(0, idempotency_key="other"), line)


def test_many_parts_at_once(line: Line) -> None:
    kinds = ["good", "bad", "unsure", "novel"]
    wanted = {"good": "pass", "bad": "fail", "unsure": "review", "novel": "review"}
    done: dict[int, InspectionRecord] = {}

    def judge(start: int) -> None:
        for number in range(start, start + 10):
            serial = SERIALS.complete(f"KN42{number:05d}").text
            data = part_png(kinds[number % 4], seed=number)
            done[number] = inspect_part(data, request(number, serial=serial), line)

    threads = [threading.Thread(target=judge, args=(start,)) for start in range(0, 80, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 80
    assert all(record.disposition == wanted[kinds[n % 4]] for n, record in done.items())
    assert len({record.trace_id for record in done.values()}) == 80
    stored = line.records.find(Filter(limit=100)).records
    assert [record.trace_id for record in stored] == sorted(
        (record.trace_id for record in done.values()), reverse=True
    )


# --- what the serial says, and views --------------------------------------------------------------


def of_recipe(line: Line, **changes: Any) -> Line:
    return replace(
        line, package=replace(line.package, recipe=replace(line.package.recipe, **changes))
    )


MARKS = SerialFormat(
    length=8,
    check="none",
    fields=(
        SerialField(name="mould", start=0, length=2),
        SerialField(name="lot", start=2, length=3),
    ),
)


def test_the_serial_says_where_a_part_comes_from(line: Line) -> None:
    told = of_recipe(line, serial=MARKS)
    record = inspect_part(part_png("good"), request(serial="M4A07123"), told)
    assert (record.mould, record.lot, record.disposition) == ("M4", "A07", "pass")
    assert record.engine == line.engine.description


def test_a_station_that_says_otherwise_is_not_believed_and_the_part_is_looked_at(
    line: Line,
) -> None:
    told = of_recipe(line, serial=MARKS)
    record = inspect_part(part_png("good"), request(serial="M4A07123", mould="M5"), told)
    assert (record.mould, record.disposition) == ("M5", "review")
    assert [reason.code for reason in record.reasons] == ["serial-disagrees"]
    bad = inspect_part(part_png("bad"), request(2, serial="M4A07123", mould="M5"), told)
    assert bad.disposition == "fail"


def test_one_image_of_a_part_that_needs_several_is_never_a_pass(line: Line) -> None:
    several = of_recipe(line, views=("front", "side"))
    record = inspect_part(part_png("good"), request(), several)
    assert record.disposition == "review"
    assert [reason.code for reason in record.reasons] == ["view-missing"]


def test_an_envelope_needs_a_recipe_that_knows_it(line: Line) -> None:
    envelope = "[)>\x1e06\x1d25SUN1M4A07123\x1e\x04"
    with pytest.raises(SerialFormatError, match="no format for it"):
        inspect_part(part_png("good"), request(serial=envelope), of_recipe(line, serial=None))
    marks = replace(MARKS, forms=("mh10.8.2",), issuer="UN1")
    record = inspect_part(part_png("good"), request(serial=envelope), of_recipe(line, serial=marks))
    assert record.serial == "M4A07123"
