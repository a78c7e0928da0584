"""What is imported becomes a revision, whole or not at all; former ones stay as they were."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.errors import ConfigurationError, DataError
from tests.labelled_sets import (
    PRODUCT,
    import_folders,
    planned,
    plate,
    silent,
    stored,
    told,
    write_folders,
    write_png,
)
from training.data.revisions import STAGE, remove_revision, write_revision, writing
from training.importing import plan, survey, write_set
from training.manifest import read_manifest, revision_numbers, write_manifest
from training.sources.folders import read_folders
from training.sources.table import read_table


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "line", lots=3, per_lot=5, classes=("crack", "void"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "datasets" / "plates"


def test_images_are_copied_and_the_set_can_be_read(line: Path, place: Path) -> None:
    assert stored(read_folders(line), place)
    manifest = read_manifest(place, verify=True)
    assert manifest.images.frame_size_px == (48, 48)
    assert manifest.reference == "plates@1"
    assert all(row.path.startswith("images/") for row in manifest.rows)
    assert sorted(path.name for path in place.iterdir()) == ["images", "revisions"]
    assert sorted(path.name for path in manifest.revision_folder.iterdir()) == [
        "dataset.toml",
        "manifest.csv",
    ]
    assert contents(place / "images") == contents(line)


def test_images_may_stay_where_they_are(line: Path, place: Path) -> None:
    before = contents(line)
    assert stored(read_folders(line), place, reference=True)
    assert not (place / "images").exists()
    manifest = read_manifest(place, verify=True)
    assert manifest.rows[0].path.startswith("../../line/")
    remove_revision(place, 1)
    assert contents(line) == before


def test_the_same_again_changes_nothing(line: Path, place: Path) -> None:
    assert stored(read_folders(line), place)
    before = contents(place)
    assert not stored(read_folders(line), place)
    assert contents(place) == before
    assert told(read_folders(line), place)["revision"] == "1, as it is there already"


def test_other_content_becomes_the_next_revision_and_the_former_stays(
    line: Path, place: Path
) -> None:
    stored(read_folders(line), place)
    (place / "README.md").write_text("by hand")
    before = contents(place)
    first = read_manifest(place)
    gone, moved, *_ = sorted((line / "good").iterdir())
    gone.unlink()
    moved.rename(line / "void" / moved.name)
    write_png(line / "good" / "new.png", plate(np.random.default_rng(0), scratched=False))
    said = told(read_folders(line), place)["revision"]
    assert said.startswith("2; against 1: 1 image added, 1 image removed, 1 image relabelled")
    assert f"images/void/{moved.name} good -> void" in said
    assert stored(read_folders(line), place)
    second = read_manifest(place, verify=True)
    assert (second.revision, second.parent, len(second.rows)) == (2, None, 15)
    assert second.reason == "1 image added, 1 image removed, 1 image relabelled"
    assert second.digest != first.digest
    assert read_manifest(place, revision=1, verify=True) == first
    assert before.items() <= contents(place).items()
    with pytest.raises(DataError, match="has no revision 3; there are 1, 2"):
        read_manifest(place, revision=3)


def test_another_image_under_the_same_name_leaves_the_former_one(line: Path, place: Path) -> None:
    stored(read_folders(line), place)
    first = read_manifest(place)
    again = min((line / "good").iterdir())
    write_png(again, plate(np.random.default_rng(77), scratched=False))
    assert stored(read_folders(line), place)
    assert read_manifest(place, revision=1, verify=True) == first
    new = {row.path for row in read_manifest(place, verify=True).rows} - {
        row.path for row in first.rows
    }
    assert len(new) == 1
    assert new.pop().startswith(f"images/good/{again.stem}-")


def test_damaged_and_missing_images_are_brought_back_by_the_same_import(
    line: Path, place: Path
) -> None:
    stored(read_folders(line), place)
    manifest = read_manifest(place)
    manifest.file(manifest.rows[0]).unlink()
    manifest.file(manifest.rows[1]).write_bytes(b"rot")
    with pytest.raises(DataError, match="1 images are missing"):
        read_manifest(place)
    assert not stored(read_folders(line), place)
    assert read_manifest(place, verify=True) == manifest
    assert revision_numbers(place) == (1,)


def test_reviewed_labels_make_a_revision_that_names_its_parent(line: Path, place: Path) -> None:
    stored(read_folders(line), place)
    first = read_manifest(place)
    assert first.rows[0].label == "good"
    reviewed = replace(first, rows=(replace(first.rows[0], label="void"), *first.rows[1:]))
    second = write_revision(reviewed, reason="1 label reviewed", parent=1, after=1)
    there = read_manifest(place, verify=True)
    assert there == second
    assert (there.revision, there.parent, there.reason) == (2, 1, "1 label reviewed")
    assert there.created_at is not None
    assert there.rows[0].label == "void"
    assert contents(place / "images") == contents(line)


def test_a_set_of_the_first_release_opens_and_goes_on_as_revision_one(
    line: Path, place: Path
) -> None:
    manifest = import_folders(line, place.parent)
    write_manifest(manifest, place)
    shutil.rmtree(place / "revisions")
    for name, cells in (("manifest.csv", 9), ("dataset.toml", None)):  # as that release wrote them
        lines = (place / name).read_text().splitlines()
        if cells:
            lines = [",".join(text.split(",")[:cells]) for text in lines]
        else:
            kinds = ("revision =", "reason =", "created_at =")
            lines = [text for text in lines if not text.startswith(kinds)]
        (place / name).write_text("\n".join(lines) + "\n")
    there = read_manifest(place, verify=True)
    assert (there, there.digest, there.revision) == (manifest, manifest.digest, 1)
    assert there.revision_folder == place
    next((line / "good").iterdir()).unlink()
    second = import_folders(line, place.parent)
    assert second.revision == 2
    assert read_manifest(place) == second
    assert read_manifest(place, revision=1, verify=True) == manifest
    remove_revision(place, 1)
    assert read_manifest(place, verify=True) == second
    assert revision_numbers(place) == (2,)


def test_a_committed_description_is_held_to(line: Path, place: Path, tmp_path: Path) -> None:
    stored(read_folders(line), place)
    described = (read_manifest(place).revision_folder / "dataset.toml").read_bytes()
    fresh = tmp_path / "clone" / "plates"
    fresh.mkdir(parents=True)
    (fresh / "dataset.toml").write_bytes(described)
    assert stored(read_folders(line), fresh)
    assert (fresh / "dataset.toml").read_bytes() == described
    other = tmp_path / "other" / "plates"
    other.mkdir(parents=True)
    (other / "dataset.toml").write_bytes(described)
    next((line / "good").iterdir()).unlink()
    with pytest.raises(DataError, match="describes another content"):
        stored(read_folders(line), other)


def test_a_removed_revision_takes_its_own_images_and_leaves_its_number(
    line: Path, place: Path
) -> None:
    stored(read_folders(line), place)
    first = read_manifest(place)
    write_png(line / "good" / "new.png", plate(np.random.default_rng(0), scratched=False))
    stored(read_folders(line), place)
    assert remove_revision(place, 2) == 1
    assert read_manifest(place, verify=True) == first
    assert not (place / "images" / "good" / "new.png").exists()
    stored(read_folders(line), place)
    assert revision_numbers(place) == (1, 3)
    assert remove_revision(place, 1) == 0
    assert len(read_manifest(place, verify=True).rows) == 16
    (place / "README.md").write_text("by hand")
    assert remove_revision(place, 3) == 16
    assert [path.name for path in place.iterdir()] == ["README.md"]


# Disks that fill up, and commands that are killed


def test_a_full_disk_leaves_the_former_revision(line: Path, place: Path) -> None:
    stored(read_folders(line), place)
    before = contents(place)
    write_png(line / "good" / "new.png", plate(np.random.default_rng(0), scratched=False))
    asked = planned(read_folders(line), place)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))  # the image has more bytes
        with pytest.raises(ConfigurationError, match="could not be written") as caught:
            write_set(asked, silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "Free some disk space" in caught.value.remedy
    assert contents(place) == before
    assert stored(read_folders(line), place)


def _import_slowly(line: Path, place: Path) -> None:
    def slow(stage: str, done: int, _total: int) -> None:
        if stage == "copy images" and done == 5:
            time.sleep(60)

    write_set(planned(read_folders(line), place), slow)


def test_a_killed_import_leaves_nothing_that_the_next_does_not_clean_up(
    line: Path, place: Path
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_import_slowly, args=(line, place), daemon=True
    )
    process.start()
    deadline = time.monotonic() + 60
    while len(list(place.glob(f"{STAGE}*/images/**/*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(ConfigurationError, match="another command is writing"), writing(place):
        pass
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert list(place.glob(f"{STAGE}*"))
    assert revision_numbers(place) == ()
    with pytest.raises(DataError, match="there is no data set"):
        read_manifest(place)
    assert stored(read_folders(line), place.parent / "others")  # any import cleans up
    assert not place.exists()
    assert stored(read_folders(line), place)
    assert sorted(path.name for path in place.iterdir()) == ["images", "revisions"]


def test_an_import_that_another_one_overtook_is_refused(line: Path, place: Path) -> None:
    asked = planned(read_folders(line), place)
    next((line / "good").iterdir()).unlink()
    stored(read_folders(line), place)
    with pytest.raises(DataError, match="came between"):
        write_set(asked, silent)
    assert revision_numbers(place) == (1,)


def test_an_image_that_changes_while_it_is_copied_is_refused(line: Path, place: Path) -> None:
    asked = planned(read_folders(line), place)
    next((line / "good").iterdir()).write_bytes(b"other")
    with pytest.raises(DataError, match="changed while it was being copied"):
        write_set(asked, silent)
    assert not place.exists()


# What the images are


def test_unreadable_images_are_listed_together_and_nothing_is_written(
    line: Path, place: Path
) -> None:
    broken = sorted((line / "good").iterdir())[:2]
    broken[0].write_bytes(broken[0].read_bytes()[:100])
    broken[1].write_bytes(b"not an image")
    with pytest.raises(DataError, match="2 of 15 images cannot be read") as caught:
        survey(read_folders(line), silent)
    assert all(path.name in str(caught.value) for path in broken)
    assert not place.parent.exists()


def test_images_of_two_depths_are_refused_and_the_rare_ones_named(line: Path) -> None:
    write_png(line / "good" / "deep.png", np.full((48, 48), 4000, np.uint16))
    with pytest.raises(DataError, match="15 of 8 bits, grey, 1 of 16 bits, grey") as caught:
        survey(read_folders(line), silent)
    assert "good/deep.png" in str(caught.value)


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label, name in (("good", "a"), ("good", "b"), ("crack", "c")):
        pixels = generator.integers(300, 60_000, (40, 56), dtype=np.uint16)
        write_png(tmp_path / "line" / label / f"{name}.png", pixels)
    labelled = read_folders(tmp_path / "line")
    manifest = planned(labelled, tmp_path / "datasets" / "deep").manifest
    assert manifest.images.bits == 16
    assert manifest.images.frame_size_px == (40, 56)
    assert manifest.images.grey_range[1] > 50_000
    lines = told(labelled, tmp_path / "datasets" / "deep")
    assert lines["pixels"] == "16 bits, grey"
    assert lines["sizes"] == "56 x 40 (3)"
    assert lines["grey levels"].endswith("of 0 to 65535")


def test_several_sizes_are_allowed_and_said(line: Path, place: Path) -> None:
    write_png(line / "good" / "wide.png", np.full((40, 60), 90, np.uint8))
    lines = told(read_folders(line), place)
    assert lines["sizes"] == "48 x 48 (15), 60 x 40 (1)"
    assert planned(read_folders(line), place).manifest.images.frame_size_px is None


def test_exact_duplicates_are_told(line: Path, place: Path) -> None:
    first = min((line / "good").iterdir())
    (line / "good" / "twin.png").write_bytes(first.read_bytes())
    assert told(read_folders(line), place)["duplicates"] == f"good/{first.name} = good/twin.png"


def test_nothing_that_was_left_out_goes_unsaid(line: Path, place: Path) -> None:
    (line / "good" / "Thumbs.db").write_bytes(b"x")
    write_png(line / "loose.png", np.zeros((4, 4), np.uint8))
    lines = told(read_folders(line), place)
    assert lines["no images"] == "1: good/Thumbs.db"
    assert lines["stray"].startswith("1: loose.png; they lie in no class's folder")


# Names


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b"])
def test_names_that_would_not_do_as_folders_are_refused(line: Path, name: str) -> None:
    labelled = read_folders(line)
    with pytest.raises(DataError, match="data set's name"):
        plan(
            labelled,
            survey(labelled, silent),
            name=name,
            product=PRODUCT,
            modality="vision",
            flips=(),
            licence="",
            origin="",
            place=Path("nowhere"),
            reference=False,
        )


def test_paths_that_lead_outside_are_copied_inside(line: Path, place: Path) -> None:
    good, bad = min((line / "good").iterdir()), min((line / "crack").iterdir())
    table = line / "deep" / "labels.csv"
    table.parent.mkdir()
    table.write_text(f"path,label\n../good/{good.name},good\n{bad.absolute()},crack\n")
    assert stored(read_table(table), place)
    manifest = read_manifest(place, verify=True)
    for row in manifest.rows:
        assert manifest.file(row).resolve().is_relative_to(place.resolve())
    assert [path.name for path in place.parent.iterdir()] == ["plates"]


def test_what_was_imported_names_its_groups(line: Path, place: Path) -> None:
    manifest = import_folders(line, place.parent)
    assert set(manifest.groups) == {"lot00", "lot01", "lot02"}
