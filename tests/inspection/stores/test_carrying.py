"""Files that the records carry until they are durable: what a loss of power takes is put back."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import RecordsDamaged
from inspection.events import Erasure
from inspection.record import Carried
from inspection.stores import carrying
from inspection.stores.carrying import Carrier
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.sql import SqlRecordStore, open_records
from inspection.stores.verify import verify_store
from tests.contracts.drafts import make_draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path) -> FileImageStore:
    return FileImageStore(images_dir(tmp_path))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecordStore]:
    with closing(open_records(records_url(tmp_path))) as store:
        yield store


def added(records: SqlRecordStore, images: FileImageStore, serial: str, **changes: Any) -> str:
    """Add an inspection whose image is laid and carried; the image's digest."""
    image = f"image of {serial}".encode() * 2000
    digest = hashlib.sha256(image).hexdigest()
    images.lay(image, digest)
    draft = make_draft(
        serial=serial, image_sha256=digest, evidence=None, carried=Carried(image=image), **changes
    )
    records.append(draft)
    return digest


def erase(records: SqlRecordStore, digest: str) -> None:
    """Say that a rule of retention has deleted this file."""
    records.erase(
        Erasure(
            id="er-1",
            rule="after a day",
            by="clerk",
            files=(digest,),
            recorded_at="2026-11-22T00:00:00.000Z",
        ),
        holds_seen=0,
    )


def test_what_a_loss_of_power_takes_is_put_back_at_the_next_start(
    tmp_path: Path, images: FileImageStore, records: SqlRecordStore
) -> None:
    digests = [added(records, images, serial) for serial in ("a", "b", "c")]
    lost, cut, _ = (images.path(digest) for digest in digests)
    lost.unlink()
    cut.chmod(0o644)
    cut.write_bytes(b"")
    with pytest.raises(RecordsDamaged):
        images.get(digests[1])
    # Nothing is lost, and who verifies before the start is told so.
    assert verify_store(records_url(tmp_path), images).problems == ()

    Carrier(records, images)

    assert [hashlib.sha256(images.get(digest)).hexdigest() for digest in digests] == digests
    assert records.carried_range() is None
    assert verify_store(records_url(tmp_path), images).problems == ()


def test_bytes_go_from_the_records_only_when_the_disk_has_them(
    images: FileImageStore, records: SqlRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[object] = []
    monkeypatch.setattr(carrying, "TOGETHER", 2)
    monkeypatch.setattr("inspection.stores.files.sync_disk", synced.append)
    carrier = Carrier(records, images)
    carrier.settle()
    assert synced == []  # nothing was carried: no disk is troubled

    for serial in "abcde":
        added(records, images, serial)
    assert records.carried_range() == (1, 5)

    def refuse(_folder: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("inspection.stores.files.sync_disk", refuse)
    carrier.close()  # tries once more, says so, and lets nothing go
    assert records.carried_range() == (1, 5)
    before = {digest: images.path(digest).stat().st_ino for digest in images.digests()}
    monkeypatch.setattr("inspection.stores.files.sync_disk", synced.append)
    carrier.settle()
    assert len(synced) == 1
    assert records.carried_range() is None
    # The disk may not have what could not be synced, though it is read as if it had.
    assert len(before) == 5
    assert all(images.path(digest).stat().st_ino != inode for digest, inode in before.items())


def test_what_was_erased_meanwhile_does_not_come_back(
    images: FileImageStore, records: SqlRecordStore
) -> None:
    digest = added(records, images, "a")
    erase(records, digest)
    images.path(digest).unlink()
    Carrier(records, images)
    assert digest not in set(images.digests())
    assert records.carried_range() is None


def test_what_was_erased_before_and_came_again_is_put_back(
    images: FileImageStore, records: SqlRecordStore
) -> None:
    digest = added(records, images, "a")
    erase(records, digest)
    assert added(records, images, "a", capture_id="again", idempotency_key="again") == digest
    images.path(digest).unlink()
    Carrier(records, images)
    assert digest in set(images.digests())


def test_the_same_request_again_carries_nothing_twice(
    images: FileImageStore, records: SqlRecordStore
) -> None:
    first = make_draft(serial="a", carried=Carried(image=b"x", evidence=b"y"))
    assert records.append(first) == records.append(first)
    assert records.carried_range() == (1, 1)
    assert list(records.carried(0, 10)) == [(1, Carried(image=b"x", evidence=b"y"))]
