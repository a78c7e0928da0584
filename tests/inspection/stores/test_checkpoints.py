from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inspection.errors import ConfigurationError, InputError, RecordsDamaged
from inspection.proofs.key_files import make_key, read_key, read_or_make_key
from inspection.proofs.notes import Checkpoint, Note, SigningKey, verify
from inspection.proofs.witness import FileWitness, read_witness_file
from inspection.proofs.witnesses import AnyWitness, HttpWitness
from inspection.stores.checkpoints import CheckpointMaker, key_path, latest_checkpoint
from inspection.stores.database import open_engine
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_path, records_url
from inspection.stores.sql import open_records
from inspection.stores.verify import Outside, verify_store
from tests.contracts.drafts import make_draft
from tests.flips import HALL, LOG
from tests.inspection.stores.every_kind import fill

if TYPE_CHECKING:
    from tests.postgres_server import PostgresServer


def add(url: str, count: int) -> None:
    with closing(open_records(url)) as store:
        for _ in range(count):
            store.append(make_draft())


@pytest.fixture
def url(tmp_path: Path) -> str:
    add(records_url(tmp_path), 3)
    return records_url(tmp_path)


def latest(url: str) -> Note | None:
    engine = open_engine(url, read_only=True)
    try:
        with engine.begin() as connection:
            return latest_checkpoint(connection)
    finally:
        engine.dispose()


def test_head_is_signed_kept_and_handed_on(url: str, tmp_path: Path) -> None:
    file = FileWitness(tmp_path / "usb.txt")
    with closing(CheckpointMaker(url, LOG, [file])) as maker:
        first = maker.make()
        assert maker.make() == first
        add(url, 300)
        second = maker.make()
    assert (first.checkpoint.size, second.checkpoint.size) == (3, 303)
    assert verify(second.note, (LOG.verifier,)) == (LOG.verifier,)
    assert latest(url) == second.note
    assert read_witness_file(file.path).notes == (first.note, second.note)
    assert second.witnessed


def test_witness_that_fails_does_not_keep_the_others_from_having_it(
    url: str, tmp_path: Path
) -> None:
    witnesses: list[AnyWitness] = [
        HttpWitness(url="http://127.0.0.1:9", key=HALL.verifier),
        FileWitness(tmp_path / "not mounted" / "usb.txt"),
        FileWitness(tmp_path / "usb.txt"),
    ]
    with closing(CheckpointMaker(url, LOG, witnesses)) as maker:
        made = maker.make()
    assert [each.error is None for each in made.handed] == [False, False, True]
    assert not made.witnessed
    assert latest(url) == made.note


def test_empty_store_has_nothing_to_sign(tmp_path: Path) -> None:
    open_records(records_url(tmp_path)).close()
    with (
        closing(CheckpointMaker(records_url(tmp_path), LOG)) as maker,
        pytest.raises(InputError, match="no records"),
    ):
        maker.make()


def test_other_origin_is_refused(url: str) -> None:
    with closing(CheckpointMaker(url, LOG)) as maker:
        maker.make()
    other = SigningKey.generate("another/line")
    with (
        closing(CheckpointMaker(url, other)) as maker,
        pytest.raises(ConfigurationError, match="another/line"),
    ):
        maker.make()


def test_tree_that_does_not_go_on_from_its_last_checkpoint_is_not_signed(
    url: str, tmp_path: Path
) -> None:
    with closing(CheckpointMaker(url, LOG)) as maker:
        made = maker.make()
        head = Checkpoint(origin=LOG.name, size=3, root=bytes(32))
        forged = str(made.note).replace(made.checkpoint.text, head.text)
        with closing(sqlite3.connect(records_path(tmp_path), isolation_level=None)) as database:
            database.execute("UPDATE checkpoints SET note = ?", (forged,))
        with pytest.raises(RecordsDamaged, match="not the beginning"):
            maker.make()


# --- what verify makes of them -----------------------------------------------------------------


def check(url: str, folder: Path, **outside: tuple[object, ...]) -> list[str]:
    images = FileImageStore(images_dir(folder), read_only=True)
    report = verify_store(url, images, outside=Outside(**outside))  # type: ignore[arg-type]
    return [each for each in report.problems if "file of its" not in each]


def test_verify_knows_whose_checkpoints_they_are(url: str, tmp_path: Path) -> None:
    with closing(CheckpointMaker(url, LOG)) as maker:
        maker.make()
    assert check(url, tmp_path) == []
    assert check(url, tmp_path, keys=(LOG.verifier,)) == []
    stranger = SigningKey.generate(LOG.name).verifier
    assert "not signed by" in check(url, tmp_path, keys=(stranger,))[0]


def test_verify_finds_witnessed_checkpoints_again(url: str, tmp_path: Path) -> None:
    file = FileWitness(tmp_path / "usb.txt")
    with closing(CheckpointMaker(url, LOG, [file])) as maker:
        maker.make()
        add(url, 2)
        maker.make()
    add(url, 1)
    assert check(url, tmp_path, files=(file.path,), keys=(LOG.verifier,)) == []
    forged = file.path.read_text().replace("\n3\n", "\n4\n")
    file.path.write_text(forged)
    found = " ".join(check(url, tmp_path, files=(file.path,), keys=(LOG.verifier,)))
    assert "does not hold" in found


def test_verify_says_when_a_witness_has_seen_more(url: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = records_url(tmp_path / "other")
    add(other, 9)
    file = FileWitness(tmp_path / "usb.txt")
    with closing(CheckpointMaker(other, LOG, [file])) as maker:
        maker.make()
    (problem,) = check(url, tmp_path, files=(file.path,))
    assert "over 9 records, the store has 3" in problem


def test_postgresql_is_signed_and_verified_alike(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.fresh()
    fill(url, FileImageStore(images_dir(tmp_path)))
    file = FileWitness(tmp_path / "usb.txt")
    with closing(CheckpointMaker(url, LOG, [file])) as maker:
        made = maker.make()
    images = FileImageStore(images_dir(tmp_path), read_only=True)
    outside = Outside(files=(file.path,), keys=(LOG.verifier,))
    report = verify_store(url, images, outside=outside)
    assert report.problems == ()
    assert (report.records, report.covered) == (made.checkpoint.size,) * 2
    engine = open_engine(url, writing=True)
    try:
        for statement in (
            "UPDATE mentions SET part = 'S7' WHERE part = 'S9'",
            "UPDATE counts SET first = first + 1",
            "DELETE FROM findings",
            "UPDATE holds SET released = NULL",
        ):
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
                connection.commit()
            assert not verify_store(url, images).ok, statement
    finally:
        engine.dispose()


# --- keys --------------------------------------------------------------------------------------


def test_key_is_one_users_own_and_never_replaced(tmp_path: Path) -> None:
    path = key_path(tmp_path)
    made = make_key(path, "plant.example/line-1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == made == read_or_make_key(path)
    with pytest.raises(InputError, match="already"):
        make_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("PRIVATE+KEY+nonsense")
    with pytest.raises(ConfigurationError):
        read_key(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_key_that_is_not_there_is_made_on_first_need(tmp_path: Path) -> None:
    one, two = (read_or_make_key(tmp_path / name) for name in ("a", "b"))
    assert one.name != two.name
    with pytest.raises(InputError, match="no key"):
        read_key(tmp_path / "c")
    with pytest.raises(ConfigurationError, match="written"):
        make_key(tmp_path / "nowhere" / "key")
