"""An inspection's files on their way to the disk: carried or synced, and gone when refused."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from inspection.errors import EngineError, RecordError
from inspection.record import Carried
from inspection.spool import Spool
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.sql import CARRIED_BYTES, open_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from inspection.stores.sql import SqlRecordStore

SMALL = b"s" * CARRIED_BYTES
LARGE = b"l" * (CARRIED_BYTES + 1)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def images(tmp_path: Path) -> FileImageStore:
    return FileImageStore(images_dir(tmp_path))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlRecordStore]:
    with closing(open_records(records_url(tmp_path_factory.mktemp("records")))) as store:
        yield store


def test_small_files_are_carried_by_the_record_and_large_ones_are_not(
    images: FileImageStore, records: SqlRecordStore
) -> None:
    with Spool(images, records, SMALL, digest_of(SMALL)) as spool:
        assert spool.add_evidence(b"map") == digest_of(b"map")
        assert spool.carried() == Carried(image=SMALL, evidence=b"map")
    with Spool(images, records, LARGE, digest_of(LARGE)) as spool:
        assert spool.carried() is None
        spool.add_evidence(LARGE)
        assert spool.carried() is None
        spool.add_evidence(b"map")
        assert spool.carried() == Carried(evidence=b"map")
    for data in (SMALL, LARGE, b"map"):
        assert images.get(digest_of(data)) == data


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["small", "large"])
def test_a_refused_image_leaves_no_file_unless_another_part_has_it(
    images: FileImageStore, records: SqlRecordStore, image: bytes
) -> None:
    digest = digest_of(image)

    def refuse(spool: Spool, meanwhile: Callable[[], object]) -> None:
        spool.carried()  # by now it is in its place
        meanwhile()
        raise EngineError("no answer")

    def refused(meanwhile: Callable[[], object] = list) -> None:
        with pytest.raises(EngineError), Spool(images, records, image, digest) as spool:
            refuse(spool, meanwhile)

    refused()
    assert list(images.digests()) == []
    assert list(images.leftovers()) == []

    refused(meanwhile=lambda: images.put(image))  # by another request
    assert list(images.digests()) == [digest]
    refused()
    assert list(images.digests()) == [digest]


def test_an_image_stays_when_nobody_knows_whether_its_record_was_made(
    images: FileImageStore, records: SqlRecordStore
) -> None:
    with pytest.raises(RecordError), Spool(images, records, SMALL, digest_of(SMALL)):
        raise RecordError("the connection broke during COMMIT")
    assert list(images.digests()) == [digest_of(SMALL)]


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["small", "large"])
def test_a_disk_that_refuses_is_an_error_before_any_record(
    images: FileImageStore, records: SqlRecordStore, image: bytes
) -> None:
    for shard in range(256):
        (images.root / f"{shard:02x}").write_bytes(b"")  # no folder can be made there
    with (
        pytest.raises(RecordError, match="could not be written"),
        Spool(images, records, image, digest_of(image)) as spool,
    ):
        spool.carried()
    assert list(images.leftovers()) != []  # only what stands in the way
    assert not list((images.root / "incoming").iterdir())
