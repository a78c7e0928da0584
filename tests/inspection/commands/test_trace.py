"""`inspection trace` puts a part's whole life on one page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from inspection.cli import main
from inspection.events import Hold, Naming, PartEvent, ProcessValue, ProcessValues
from inspection.stores.places import records_url
from inspection.stores.sql import SqlRecordStore, open_records
from tests.contracts.drafts import make_draft, make_review

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = "2026-03-01T00:00:00.000Z"
CAST = "2026-02-28T22:30:00Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlRecordStore]:
    opened = open_records(records_url(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def life(store: SqlRecordStore) -> SqlRecordStore:
    """A part that was cast, failed, passed by a person, marked anew and held with its lot."""
    store.add(
        PartEvent(
            id="e-1",
            product="knuckle",
            part="S1",
            event="cast",
            at=CAST,
            by="mes",
            recorded_at=NOW,
            machine="LPC-2",
        )
    )
    record = store.append(make_draft(serial="S1", lot="L7", machine="LPC-2", mould="M4"))
    store.append(make_draft(serial="S2", lot="L7", mould="M4", disposition="pass"))
    store.append_review(make_review(record.id, reviewer="kim"))
    values = (
        ProcessValue(name="melt-temperature", value=704.5, unit="degC", at=CAST, machine="LPC-2"),
        ProcessValue(
            name="pressure",
            value=1.0,
            unit="bar",
            at="2026-02-28T20:00:00Z",
            machine="LPC-2",
        ),
    )
    store.add(ProcessValues(id="v-1", values=values, by="mes", recorded_at=NOW))
    store.add(
        Naming(
            id="n-1",
            product="knuckle",
            part="S1",
            serial="S9",
            why="re-marked",
            reason="blasted off",
            by="kim",
            recorded_at=NOW,
        )
    )
    store.add(
        Hold(
            id="h-1",
            product="knuckle",
            scope="lot",
            value="L7",
            reason="sponge",
            by="kim",
            recorded_at=NOW,
        )
    )
    return store


@pytest.mark.parametrize("name", ["S1", " S9 "])
def test_either_name_shows_the_whole_life(
    life: SqlRecordStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    command = ["trace", name, "--product", "knuckle", "--data-dir", str(tmp_path)]
    assert main(command) == 0
    page = capsys.readouterr().out
    for said in (
        "S1 (knuckle)",
        "also      S9",
        "pass: decided by kim",
        "lot L7 by kim: sponge",
        f"{CAST} (cast)",
        "mould M4",
        "2, 50.0 % failed",
        "704.5 degC",
        "blasted off",
    ):
        assert said in page
    assert "1 bar" not in page  # hours before
    assert main([*command, "--window-min", "300"]) == 0
    assert "1 bar" in capsys.readouterr().out


def test_programs_get_the_same_as_json(
    life: SqlRecordStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "S1", "--data-dir", str(tmp_path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["names"]["names"] == ["S1", "S9"]
    assert [each["kind"] for each in found["entries"]] == [
        "event",
        "inspection",
        "review",
        "naming",
    ]
    assert found["siblings"]["defect_rate"] == 0.5


def test_a_serial_on_two_products_asks_which(
    store: SqlRecordStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for product in ("knuckle", "carrier"):
        store.append(make_draft(serial="S1", product=product))
    assert main(["trace", "S1", "--data-dir", str(tmp_path)]) == 3
    assert "carrier, knuckle" in capsys.readouterr().err
    assert main(["trace", "S1", "--product", "carrier", "--data-dir", str(tmp_path)]) == 0


def test_what_is_not_there_says_what_to_do(
    store: SqlRecordStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "S1", "--data-dir", str(tmp_path)]) == 3
    assert "as it stands on the part" in capsys.readouterr().err
    assert main(["trace", "S1", "--product", "x", "--data-dir", str(tmp_path)]) == 3
    assert "nothing is recorded" in capsys.readouterr().err
    assert main(["trace", "S1", "--data-dir", str(tmp_path / "none")]) == 3


def test_an_unread_mark_is_found_as_it_is_read_aloud(
    store: SqlRecordStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = store.append(make_draft(serial=None))
    for name in (record.part, record.part.lower().replace("-", " ")):
        assert main(["trace", name, "--data-dir", str(tmp_path)]) == 0
        assert record.trace_id in capsys.readouterr().out
