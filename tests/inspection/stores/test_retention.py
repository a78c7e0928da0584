"""Images go when a rule says so, and only then; what they were stays on record."""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from inspection.commands.retention import retention
from inspection.errors import ChangedMeanwhile, ConfigurationError, NotFound, RecordError
from inspection.events import Erasure, Hold, Naming, Release
from inspection.stores import retention as module
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.retention import RetentionRule, apply, choose, read_rules
from inspection.stores.sql import open_records
from inspection.stores.verify import verify_store
from tests.contracts.drafts import make_draft, make_statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inspection.record import InspectionRecord
    from inspection.stores.sql import SqlRecordStore

LATER = datetime(2036, 1, 1, tzinfo=UTC)  # whatever is put today is old by then
RULE = RetentionRule(name="customer A", products=("knuckle", "carrier"), images_days=100)


@pytest.fixture
def images(tmp_path: Path) -> FileImageStore:
    return FileImageStore(images_dir(tmp_path))


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRecordStore]:
    with closing(open_records(any_url)) as opened:
        yield opened


def inspect(
    store: SqlRecordStore, images: FileImageStore, name: str, days_ago: int, **fields: Any
) -> InspectionRecord:
    """An inspection with an image and a map of its own."""
    moment = (LATER - timedelta(days=days_ago)).isoformat(timespec="milliseconds")
    draft = make_draft(
        serial=fields.pop("serial", name),
        image_sha256=fields.pop("image_sha256", None) or images.put(name.encode()),
        received_at=moment.replace("+00:00", "Z"),
        **fields,
    )
    assert draft.evidence is not None
    evidence = replace(draft.evidence, sha256=images.put(f"map of {name}".encode()))
    return store.append(replace(draft, evidence=evidence))


def there(images: FileImageStore, record: InspectionRecord) -> tuple[bool, bool]:
    assert record.evidence is not None
    digests = (record.image_sha256, record.evidence.sha256)
    return tuple(images.path(digest).exists() for digest in digests)  # type: ignore[return-value]


def run(store: SqlRecordStore, images: FileImageStore, *rules: RetentionRule) -> Any:
    return apply(store, images, rules or (RULE,), by="kim", now=LATER)


def test_images_that_are_due_go_and_their_records_stay(
    store: SqlRecordStore, images: FileImageStore, any_url: str
) -> None:
    old = inspect(store, images, "old", 101)
    just = inspect(store, images, "just", 100)  # received exactly then: not longer ago
    young = inspect(store, images, "young", 99)
    other = inspect(store, images, "other", 5000, product="bush")
    done = run(store, images)
    assert done.files == {"customer A": 2}
    assert done.size_bytes == len(b"old") + len(b"map of old")
    assert there(images, old) == (False, False)
    for kept in (just, young, other):
        assert there(images, kept) == (True, True)
    assert store.get(old.id) == old
    erasure = store.erased(old.image_sha256)
    assert erasure is not None
    assert (erasure.rule, erasure.by) == (RULE.in_words, "kim")
    assert store.erased(young.image_sha256) is None
    report = verify_store(any_url, images)
    assert (report.ok, report.erased) == (True, 2), report.problems
    count = store.newest()
    assert run(store, images).files == {"customer A": 0}
    assert store.newest() == count


@pytest.mark.parametrize(
    ("scope", "value"), [("part", "old"), ("part", "later"), ("lot", "L1"), ("mould", "M1")]
)
def test_legal_hold_keeps_images_until_it_is_released(
    store: SqlRecordStore, images: FileImageStore, scope: str, value: str
) -> None:
    old = inspect(store, images, "old", 200, lot="L1", mould="M1")
    free = inspect(store, images, "free", 200, lot="L2", mould="M2")
    store.add(make_statement(Naming, part="old", serial="later"))
    store.add(make_statement(Hold, scope=scope, value="free"))  # not a legal one
    hold = store.add(make_statement(Hold, scope=scope, value=value, legal=True))
    store.add(make_statement(Hold, scope=scope, value=value, legal=True, product="bush"))
    done = run(store, images)
    assert (done.files, done.held) == ({"customer A": 2}, 2)
    assert (there(images, old), there(images, free)) == ((True, True), (False, False))
    store.add(make_statement(Release, hold_id=hold.id))
    assert run(store, images).files == {"customer A": 2}
    assert there(images, old) == (False, False)


def test_image_that_another_inspection_needs_stays(
    store: SqlRecordStore, images: FileImageStore
) -> None:
    same = images.put(b"the same picture")
    old = inspect(store, images, "old", 200, image_sha256=same)
    inspect(store, images, "young", 5, image_sha256=same)
    done = run(store, images)
    assert (done.files, done.needed) == ({"customer A": 1}, 1)
    assert there(images, old) == (True, False)


def test_image_that_comes_again_may_be_erased_again(
    store: SqlRecordStore, images: FileImageStore, any_url: str
) -> None:
    first = inspect(store, images, "a", 300)
    run(store, images)
    again = inspect(store, images, "a", 200, serial="b")
    assert again.image_sha256 == first.image_sha256
    assert there(images, again) == (True, True)
    assert run(store, images).files == {"customer A": 2}
    kinds = [change.kind for change in store.changes(0)]
    assert kinds == ["inspection", "erasure", "inspection", "erasure"]
    assert verify_store(any_url, images).ok


def test_files_that_a_crash_left_go_the_next_time(
    store: SqlRecordStore, images: FileImageStore
) -> None:
    old = inspect(store, images, "old", 200)
    store.add(make_statement(Erasure, files=(old.image_sha256,)))
    done = run(store, images)
    assert done.files == {"customer A": 2}
    last = store.changes(0)[-1].entry
    assert isinstance(last, Erasure)
    assert old.image_sha256 not in last.files


def test_nothing_goes_before_its_entry_is_durable(
    store: SqlRecordStore, images: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = inspect(store, images, "old", 200)

    def refuse(*_: Any, **__: Any) -> Erasure:
        raise RecordError("the disk is full")

    monkeypatch.setattr(store, "erase", refuse)
    with pytest.raises(RecordError):
        run(store, images)
    assert there(images, old) == (True, True)


def test_legal_hold_that_comes_while_files_are_chosen_stops_it(
    store: SqlRecordStore, images: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = inspect(store, images, "old", 200)
    chosen = choose(store, images, (RULE,), now=LATER)
    assert set(chosen.files) == {old.image_sha256, old.evidence.sha256 if old.evidence else ""}
    store.add(make_statement(Hold, scope="part", value="old", legal=True))
    monkeypatch.setattr(module, "choose", lambda *_, **__: chosen)
    with pytest.raises(ChangedMeanwhile):
        run(store, images)
    assert there(images, old) == (True, True)


def test_many_files_go_in_several_passes(
    store: SqlRecordStore, images: FileImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    monkeypatch.setattr(module, "FILES_AN_ENTRY", 2)
    monkeypatch.setattr(module, "CHUNK", 2)
    same = images.put(b"the same picture")
    kept = [inspect(store, images, f"k{n}", 300 - n, lot="L1") for n in range(3)]
    inspect(store, images, "due", 290, image_sha256=same)
    inspect(store, images, "not due", 1, image_sha256=same)
    due = [inspect(store, images, f"s{n}", 200 - n) for n in range(5)]
    store.add(make_statement(Hold, scope="lot", value="L1", legal=True))
    done = run(store, images)
    assert (done.files, done.held, done.needed) == ({"customer A": 11}, 6, 1)
    assert all(there(images, record) == (False, False) for record in due)
    assert all(there(images, record) == (True, True) for record in kept)


def test_file_that_is_put_while_it_is_looked_at_is_there_afterwards(tmp_path: Path) -> None:
    images = FileImageStore(tmp_path / "images")
    digest = images.put(b"picture")
    stop = threading.Event()

    def put() -> None:
        for _ in range(300):
            assert images.put(b"picture") == digest
        stop.set()

    putting = threading.Thread(target=put)
    putting.start()
    while not stop.is_set():
        assert images.remove(digest, older_than=0.0) == 0  # it is younger than that
    putting.join()
    assert images.get(digest) == b"picture"
    assert images.remove(digest, older_than=LATER.timestamp()) == len(b"picture")
    with pytest.raises(NotFound):
        images.get(digest)
    assert images.remove(digest, older_than=LATER.timestamp()) == 0
    assert list(images.leftovers()) == []


def test_file_that_was_put_lately_is_not_chosen(
    store: SqlRecordStore, images: FileImageStore
) -> None:
    old = inspect(store, images, "old", 5000)
    done = apply(store, images, (RULE,), by="kim", now=datetime.now(UTC) + timedelta(days=3000))
    assert done.files == {"customer A": 2}
    assert there(images, old) == (False, False)
    put = inspect(store, images, "again", 5000)
    soon = datetime.now(UTC) + timedelta(minutes=30)
    assert choose(store, images, (RULE,), now=soon).files == {}
    assert there(images, put) == (True, True)


# --- rules and commands --------------------------------------------------------------------------

RULES = """
[[retention]]
name = "customer A"
products = ["knuckle"]
images_days = 30
"""


def test_rules_are_read(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (rule,) = read_rules(tmp_path / "rules.toml")
    assert rule == RetentionRule(name="customer A", products=("knuckle",), images_days=30)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "retention = []",
        "not toml [",
        RULES + "other = 1\n",
        RULES + "\n[serving]\nport = 1\n",
        RULES.replace("30", "0"),
        RULES.replace("30", "30.5"),
        RULES.replace("30", "true"),
        RULES.replace('["knuckle"]', "[]"),
        RULES.replace('["knuckle"]', '"knuckle"'),
        RULES.replace('"customer A"', '" "'),
        RULES + RULES,
    ],
)
def test_rules_that_do_not_hold_are_refused_with_what_to_write(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read_rules(tmp_path / "rules.toml")
    assert refused.value.remedy
    with pytest.raises(ConfigurationError):
        read_rules(tmp_path / "missing.toml")


def test_commands_say_what_would_go_and_then_it_goes(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    images = FileImageStore(images_dir(tmp_path))
    with closing(open_records(records_url(tmp_path))) as store:
        old = inspect(store, images, "old", 9000)  # years before today
        store.add(make_statement(Hold, scope="lot", value="L9", legal=True))
    for digest in images.digests():
        os.utime(images.path(digest), (0, 0))

    def call(*words: str) -> Any:
        options = ["--data-dir", str(tmp_path), "--rules", str(rules)]
        done = CliRunner().invoke(retention, [*words, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    shown = json.loads(call("show", "--format", "json"))
    assert shown["rules"][0]["images_days"] == 30
    assert [hold["value"] for hold in shown["legal_holds"]] == ["L9"]
    assert "customer A" in call("show")
    assert "2 files" in call("apply", "--dry-run")
    assert json.loads(call("apply", "--dry-run", "--format", "json"))["files"] == {"customer A": 2}
    assert there(images, old) == (True, True)
    assert "2 files" in call("apply", "--by", "kim")
    assert there(images, old) == (False, False)
    assert json.loads(call("apply", "--format", "json"))["files"] == {"customer A": 0}
