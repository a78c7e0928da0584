from __future__ import annotations

import hashlib
import io
import json
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import rfc8785

from inspection.errors import InputError, NotFound, RecordsDamaged
from inspection.proofs.archive import CHECKPOINT, INDEX, README, Index, pack, read_entry, unpack
from inspection.proofs.check import ProofReport, check_archive
from inspection.proofs.notes import Note, SigningKey, cosign, sign
from inspection.stores.checkpoints import CheckpointMaker
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.proofs import export_part, find_part
from inspection.stores.sql import open_records
from tests.flips import HALL, LOG
from tests.inspection.stores.every_kind import PRODUCT, Builder, build


def export(folder: Path, serial: str, product: str | None = None) -> bytes:
    url = records_url(folder)
    images = FileImageStore(images_dir(folder), read_only=True)
    return export_part(url, images, find_part(url, serial, product))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build(tmp_path_factory.mktemp("records"))
    with closing(CheckpointMaker(records_url(made), LOG)) as maker:
        maker.make()
    return made


@pytest.fixture(scope="module")
def whole(folder: Path) -> bytes:
    return export(folder, "S1")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One inspection with image, evidence and picture."""
    made = tmp_path_factory.mktemp("small")
    with closing(open_records(records_url(made))) as store:
        store.append(Builder(store, FileImageStore(images_dir(made))).draft("S1"))
    with closing(CheckpointMaker(records_url(made), LOG)) as maker:
        maker.make()
    return export(made, "S1")


def check(data: bytes, *keys: SigningKey, witnesses: tuple[SigningKey, ...] = ()) -> ProofReport:
    return check_archive(
        data,
        keys=[key.verifier for key in keys],
        witness_keys=[key.verifier for key in witnesses],
    )


def test_file_holds_all_that_is_known_of_the_part(folder: Path, whole: bytes) -> None:
    index, contents = unpack(whole)
    assert {each.kind for each in index.entries} == {
        *("inspection", "review", "event", "naming", "assembly", "hold", "release"),
        *("process-values", "erasure"),
    }
    assert index.part == "S1"
    assert set(index.names) > {"S1", "S9"}
    kinds = {name.partition("/")[0] for name in contents}
    assert kinds == {"entries", "images", "evidence", "heatmaps", CHECKPOINT}
    for each in index.entries:
        assert json.loads(contents[each.file])["id"]
    assert check(whole, LOG).ok
    assert export(folder, "S9") == whole == export(folder, "S1", PRODUCT)


def test_readme_is_for_people_in_two_languages(whole: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        text = archive.read(README).decode()
    assert "knuckle S1" in text
    assert "verify-proof" in text
    assert "증명되지 않는 것" in text


def test_what_is_proven_is_said_and_what_is_not(whole: bytes) -> None:
    report = check(whole, LOG)
    assert report.ok
    assert any("signed with the key" in line for line in report.proven)
    assert any("2 pictures" in line for line in report.proven)
    assert any("left out" in line for line in report.unproven)
    assert any("erased" in line for line in report.unproven)
    assert any("witness" in line for line in report.unproven)


def test_without_a_key_the_origin_is_unproven(whole: bytes) -> None:
    report = check(whole)
    assert report.ok
    assert any("no key was given" in line for line in report.unproven)
    assert not any("signed with" in line for line in report.proven)


def test_key_of_somebody_else_is_a_problem(whole: bytes) -> None:
    assert not check(whole, SigningKey.generate(LOG.name)).ok
    assert not check(whole, SigningKey.generate("another")).ok
    assert not check(whole, LOG, witnesses=(HALL,)).ok


def again(data: bytes, change: dict[str, bytes | None], **fields: object) -> bytes:
    """The archive as a forger would make it: every digest agrees."""
    index, contents = unpack(data)
    for name, value in change.items():
        if value is None:
            del contents[name]
        else:
            contents[name] = value
    files = {name: hashlib.sha256(held).hexdigest() for name, held in contents.items()}
    values = {name: getattr(index, name) for name in Index.__slots__}
    return pack(Index(**{**values, "files": files, **fields}), contents)


def test_witness_is_believed_only_with_its_key(whole: bytes) -> None:
    _, contents = unpack(whole)
    note = Note.parse(contents[CHECKPOINT].decode())
    both = note.with_signatures((cosign(note.text, HALL, seconds=1_700_000_000),))
    data = again(whole, {CHECKPOINT: str(both).encode()})
    report = check(data, LOG, witnesses=(HALL,))
    assert report.ok, report.problems
    assert any("2023-11-14T22:13:20Z" in line for line in report.proven)
    assert not check(data, LOG, witnesses=(SigningKey.generate(HALL.name, 4),)).ok


@pytest.mark.parametrize("keys", [(), (LOG,)])
def test_every_byte_flipped_is_noticed(small: bytes, keys: tuple[SigningKey, ...]) -> None:
    assert check(small, *keys).ok
    step = 1 if keys else 11
    for at in range(0, len(small), step):
        flipped = small[:at] + bytes([small[at] ^ 1 << at % 8]) + small[at + 1 :]
        assert not check(flipped, *keys).ok, at


def test_what_is_cut_off_or_added_is_noticed(small: bytes) -> None:
    for end in range(0, len(small), 97):
        assert not check(small[:end]).ok
    for other in (small + b"\0", b"\0" + small, small + small):
        assert not check(other).ok


def test_forger_who_makes_every_digest_agree_is_found_by_the_tree(whole: bytes) -> None:
    index, contents = unpack(whole)
    first = index.entries[0]
    body = contents[first.file].replace(b'"S1"', b'"S2"')
    assert any(
        "not in the tree" in line for line in check(again(whole, {first.file: body})).problems
    )
    image = next(name for name in contents if name.startswith("images/"))
    assert not check(again(whole, {image: b"another"})).ok
    assert not check(again(whole, {image: None})).ok
    picture = next(name for name in contents if name.startswith("heatmaps/"))
    other = contents[max(name for name in contents if name.startswith("heatmaps/"))]
    report = check(again(whole, {picture: other}))
    assert any("does not show" in line for line in report.problems)
    assert not check(again(whole, {picture: b"no picture"})).ok
    assert not check(again(whole, {"images/more.png": b"x"})).ok
    assert not check(again(whole, {}, names=["S1", "S2"])).ok
    assert not check(again(whole, {}, product="other")).ok
    assert not check(again(whole, {}, size=index.size + 1)).ok


def test_entries_of_another_part_do_not_belong(folder: Path, whole: bytes) -> None:
    index, _ = unpack(whole)
    other, contents = unpack(export(folder, "S2"))
    stranger = other.entries[0]
    added = sorted([*index.entries, stranger], key=lambda each: each.sequence)
    report = check(again(whole, {stranger.file: contents[stranger.file]}, entries=added))
    assert report.problems == [f"entry {stranger.sequence} is not about this part"]


def test_forger_with_a_key_of_his_own_is_found_by_the_owners(whole: bytes) -> None:
    _, contents = unpack(whole)
    text = Note.parse(contents[CHECKPOINT].decode()).text
    his = SigningKey.generate(LOG.name)
    data = again(whole, {CHECKPOINT: str(sign(text, his)).encode()})
    assert check(data).ok
    assert not check(data, LOG).ok


def test_older_form_of_a_record_is_read(small: bytes) -> None:
    """Fields that a later release added are not in what an earlier one hashed."""
    index, contents = unpack(small)
    body = contents[index.entries[0].file]
    earlier = {k: v for k, v in json.loads(body).items() if k not in ("views", "view_set", "view")}
    assert read_entry("inspection", rfc8785.dumps(earlier)).id == earlier["id"]
    for wrong in (body.replace(b":", b": ", 1), b"{}", b"[" * 9999, b"\xff"):
        with pytest.raises((ValueError, InputError)):
            read_entry("inspection", wrong)


def test_later_format_is_refused_with_what_to_do(small: bytes) -> None:
    index, contents = unpack(small)
    values = {name: getattr(index, name) for name in Index.__slots__}
    data = Index(**{**values, "format": 2}).dump()
    with pytest.raises(InputError, match="format 2"):
        Index.parse(data)
    assert contents
    assert INDEX == "index.json"


# --- gathering ---------------------------------------------------------------------------------


def test_part_that_is_not_on_record_is_told(folder: Path) -> None:
    with pytest.raises(NotFound):
        find_part(records_url(folder), "S7")
    with pytest.raises(NotFound):
        find_part(records_url(folder), "S1", "other")
    assert find_part(records_url(folder), "B1").product == "bush"


def test_serial_of_two_products_wants_the_product(tmp_path: Path) -> None:
    with closing(open_records(records_url(tmp_path))) as store:
        make = Builder(store, FileImageStore(images_dir(tmp_path)))
        for product in (PRODUCT, "bush"):
            store.append(make.draft("S1", product=product))
    with pytest.raises(InputError, match="2 products") as caught:
        find_part(records_url(tmp_path), "S1")
    assert "--product" in caught.value.remedy
    with pytest.raises(InputError, match="no checkpoint reaches"):
        export(tmp_path, "S1", "bush")


def test_image_that_is_missing_without_a_reason_is_damage(tmp_path: Path) -> None:
    build(tmp_path)
    with closing(CheckpointMaker(records_url(tmp_path), LOG)) as maker:
        maker.make()
    images = FileImageStore(images_dir(tmp_path), read_only=True)
    for digest in list(images.digests()):
        images.path(digest).unlink()
    with pytest.raises(RecordsDamaged, match="no entry says"):
        export(tmp_path, "S1")
