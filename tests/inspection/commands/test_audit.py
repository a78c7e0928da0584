"""What the operator relies on: keys with their limits, and `inspection audit`."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from inspection.commands.audit import audit
from inspection.commands.records import keys
from inspection.errors import RequestError
from inspection.promotions import whoever
from inspection.record import ReviewRecord
from inspection.registry import Registry
from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

    import click


def run(command: click.Command, *words: str, folder: Path) -> Any:
    given = [*words, "--data-dir", str(folder), "--format", "json"]
    if command is audit:
        given += ["--weights-dir", str(folder / "weights")]
    done = CliRunner().invoke(command, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_key_is_made_with_its_bounds_and_rotated_without_losing_them(tmp_path: Path) -> None:
    made = run(
        keys,
        *("create", "line-1", "--scope", "station", "--station", "xray-1", "--product", "KN-42"),
        *("--expires", "365d", "--rate", "20", "--burst", "40", "--at-once", "4"),
        folder=tmp_path,
    )
    assert (made["stations"], made["products"]) == (["xray-1"], ["KN-42"])
    assert (made["rate_per_s"], made["burst"], made["at_once"]) == (20.0, 40, 4)
    assert made["expires_at"][:4] > made["created_at"][:4]
    turned = run(keys, "rotate", "line-1", "--overlap", "2h", folder=tmp_path)
    assert turned["key"] != made["key"]
    assert {**turned, "key": None, "old_until": None} == {**made, "key": None, "old_until": None}
    with closing(AccessKeys(records_url(tmp_path))) as store:
        opened = [store.authenticate(each["key"]) for each in (made, turned)]
    assert [each and each.name for each in opened] == ["line-1", "line-1"]
    shown = CliRunner().invoke(keys, ["list", "--data-dir", str(tmp_path)]).stdout
    assert "xray-1, KN-42" in shown
    assert "20/s, burst 40, 4 at once" in shown


@pytest.mark.parametrize(
    "words",
    [
        ["--scope", "mes", "--station", "xray-1"],
        ["--scope", "station", "--station", "a\nb"],
        ["--scope", "mes", "--burst", "5"],
        ["--scope", "mes", "--rate", "nan"],
        ["--scope", "mes", "--at-once", "0"],
        ["--scope", "mes", "--expires", "9999999d"],
    ],
)
def test_a_key_whose_bounds_have_no_meaning_is_not_made(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(RequestError):
        run(keys, "create", "odd", *words, folder=tmp_path)
    assert run(keys, "list", folder=tmp_path) == []


def test_everybody_who_did_something_is_named(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path / "weights")
    Registry(tmp_path / "weights").promote(package.reference, by="Kim")
    made = run(keys, "create", "line-1", "--scope", "station", folder=tmp_path)
    run(keys, "rotate", "line-1", folder=tmp_path)
    run(keys, "revoke", "line-1", folder=tmp_path)
    with closing(open_records(records_url(tmp_path))) as records:
        record = records.append(make_draft())
        decision: dict[str, Any] = {"disposition": "pass", "reason": "seen\nthrice"}
        records.append_review(
            ReviewRecord(
                id="r1",
                inspection_id=record.id,
                reviewer="qa-1",
                reviewed_at="2099-01-01T00:00:00.000Z",
                **decision,
            )
        )
    acts = run(audit, folder=tmp_path)
    told = [(each["act"], each["by"]) for each in acts]
    account = whoever()
    assert told == [
        ("model-promote", "Kim"),
        ("key-created", account),
        ("key-rotated", account),
        ("key-revoked", account),
        ("review", "qa-1"),
    ]
    assert all(made["id"] in each["detail"] for each in acts[1:4])
    assert acts[-1]["detail"].endswith("seen thrice")
    assert run(audit, "--since", "2098-01-01", folder=tmp_path) == acts[-1:]
    assert run(audit, "--refused", folder=tmp_path) == []
    with pytest.raises(RequestError, match="zone"):
        run(audit, "--since", "2026-01-01T00:00:00", folder=tmp_path)
