"""A package is there whole or not at all, and a damaged one names the file."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from inspection import package as packages
from inspection.agreement import Agreement, Changes, Pair
from inspection.errors import ConfigurationError, NotFound, PackageDamaged, RecipeError
from inspection.package import (
    CONTENT,
    check_model_name,
    load_package,
    next_version,
    write_package,
)
from tests.spot_model import AGREEING, write_spot_package

if TYPE_CHECKING:
    from pathlib import Path

FILES = (
    "model.onnx",
    "model.safetensors",
    "recipe.toml",
    "report.json",
    "package.toml",
    "package.sha256",
)


def test_what_was_written_is_what_is_loaded(tmp_path: Path) -> None:
    written = write_spot_package(tmp_path)
    loaded = load_package(tmp_path / "spot" / "1")
    assert loaded == written
    assert loaded.reference == "spot@1"
    assert sorted(p.name for p in loaded.folder.iterdir()) == sorted(FILES)
    assert loaded.report() == {"format": 1}
    weights = (loaded.folder / "model.safetensors").read_bytes()
    assert loaded.weights_digest == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["altered", "truncated", "removed"])
def test_a_damaged_package_refuses_to_load_and_names_the_file(
    tmp_path: Path, name: str, harm: str
) -> None:
    folder = write_spot_package(tmp_path).folder
    data = (folder / name).read_bytes()
    if harm == "altered":
        (folder / name).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    elif harm == "truncated":
        (folder / name).write_bytes(data[: len(data) // 2])
    else:
        (folder / name).unlink()
    with pytest.raises(PackageDamaged) as caught:
        load_package(folder)
    named = "package.toml" if name == "package.sha256" and harm != "removed" else name
    assert named in str(caught.value)


def test_a_file_that_does_not_belong_is_refused(tmp_path: Path) -> None:
    folder = write_spot_package(tmp_path).folder
    (folder / "notes.txt").write_text("x")
    with pytest.raises(PackageDamaged, match=r"notes\.txt"):
        load_package(folder)


def test_a_format_of_another_release_is_refused_in_words(tmp_path: Path) -> None:
    folder = write_spot_package(tmp_path).folder
    text = (folder / "package.toml").read_text().replace("format = 1", "format = 99")
    (folder / "package.toml").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "package.sha256").write_text(f"{digest}  package.toml\n")
    with pytest.raises(PackageDamaged, match="format 99; this release reads 1"):
        load_package(folder)


def test_a_version_is_never_changed(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path)
    files = {
        name: package.folder / name for name in ("model.onnx", "model.safetensors", "report.json")
    }
    with pytest.raises(ConfigurationError, match="never changed"):
        write_package(tmp_path, package.document, package.recipe, files)
    assert next_version(tmp_path, "spot") == 2
    assert next_version(tmp_path, "other") == 1


def test_a_package_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """The file-size limit of a child process stands in for a full disk."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from inspection.errors import ConfigurationError\n"
        "from tests.spot_model import write_spot_package\n"
        "try:\n    write_spot_package(Path(sys.argv[1]))\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *sys.path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )
    assert "could not be written" in done.stdout, done.stderr
    assert list((tmp_path / "spot").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "-x", "모델", "a b"])
def test_names_that_would_not_do_as_folders_are_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        check_model_name(name)


def test_no_file_of_a_package_is_pickled(tmp_path: Path) -> None:
    folder = write_spot_package(tmp_path).folder
    assert json.loads((folder / "report.json").read_text())
    assert not [p for p in folder.iterdir() if p.suffix in {".pt", ".pth", ".pkl", ".joblib"}]


# --- format 2 --------------------------------------------------------------------------------

MORE = {
    "report.html": b"<!doctype html>",
    "split.csv": b"sha256,part,group,side,perceptual_hash\n",
    "test.csv": b"path,part\n",
    "training.toml": b"seed = 0\n",
}


def test_a_package_of_today_carries_its_report_split_test_and_settings(tmp_path: Path) -> None:
    folder = write_spot_package(tmp_path, more=MORE).folder
    package = load_package(folder)
    assert "format = 2" in (folder / "package.toml").read_text()
    assert set(package.files) == set(CONTENT[2])
    for name, data in MORE.items():
        assert package.has(name)
        assert package.read(name) == data
    assert package.document.agreement == AGREEING


@pytest.mark.parametrize("name", sorted(MORE))
@pytest.mark.parametrize("harm", ["altered", "removed"])
def test_damage_to_the_newer_files_is_found_too(tmp_path: Path, name: str, harm: str) -> None:
    folder = write_spot_package(tmp_path, more=MORE).folder
    if harm == "altered":
        (folder / name).write_bytes(b"x")
    else:
        (folder / name).unlink()
    with pytest.raises(PackageDamaged, match=name.replace(".", r"\.")):
        load_package(folder)


def test_a_package_of_the_first_release_loads_and_says_what_it_lacks(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path, agreement=None)
    text = (package.folder / "package.toml").read_text()
    assert "format = 1" in text
    assert "agreement" not in text
    assert package.document.agreement is None
    assert not package.has("split.csv")
    with pytest.raises(NotFound, match=r"spot@1 has no split\.csv"):
        package.read("split.csv")


def test_half_of_the_newer_files_is_no_package(tmp_path: Path) -> None:
    package = write_spot_package(tmp_path)
    files = {name: package.read(name) for name in ("model.onnx", "model.safetensors")}
    for more in ({}, {"report.json": b"{}", "split.csv": b""}, {"report.json": b"{}", "x": b""}):
        with pytest.raises(ConfigurationError, match="a package holds"):
            write_package(tmp_path / "new", package.document, package.recipe, {**files, **more})
    assert not (tmp_path / "new").exists()


def test_what_is_too_large_or_no_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_spot_package(tmp_path).folder
    monkeypatch.setitem(packages.LARGEST, "model.onnx", 10)
    with pytest.raises(PackageDamaged, match=r"model\.onnx is larger than"):
        load_package(folder)
    with pytest.raises(ConfigurationError, match=r"model\.onnx is larger than"):
        write_spot_package(tmp_path)
    assert next_version(tmp_path, "spot") == 2
    monkeypatch.undo()
    (folder / "report.json").unlink()
    os.mkfifo(folder / "report.json")  # nobody will ever write into it
    with pytest.raises(PackageDamaged, match=r"report\.json is not a plain file"):
        load_package(folder)


@pytest.mark.parametrize("value", ['"2"', "true", "[2]", "2.0", "0"])
def test_a_format_that_is_no_number_of_ours_is_refused(tmp_path: Path, value: str) -> None:
    folder = write_spot_package(tmp_path).folder
    text = (folder / "package.toml").read_text().replace("format = 1", f"format = {value}")
    (folder / "package.toml").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "package.sha256").write_text(f"{digest}  package.toml\n")
    with pytest.raises(PackageDamaged, match="this release reads 1, 2 and 3"):
        load_package(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bad_parts": 11},
        {"bad_to_pass": 3, "bad_parts": 2},
        {"bad_to_pass": 1, "flips": {}},
        {"flips": {"pass -> fail": 11}},
        {"flips": {"pass -> fail": 0}},
        {"largest_difference": 1.5},
        {"largest_difference": float("nan")},
    ],
)
def test_an_agreement_that_cannot_be_is_not_made(wrong: dict[str, object]) -> None:
    right = {
        "parts": 10,
        "bad_parts": 4,
        "flips": {"fail -> pass": 2},
        "bad_to_pass": 1,
        "largest_difference": 0.1,
    }
    changes = Changes(**right)  # type: ignore[arg-type]
    pair = Pair(first="a", second="b", changes=changes)
    assert Agreement(serves="a", test_parts=10, pairs=(pair,)).bad_to_pass == 1
    with pytest.raises(RecipeError):
        Changes(**(right | wrong))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="more parts than there are"):
        Agreement(serves="a", test_parts=9, pairs=(pair,))
    with pytest.raises(RecipeError, match="the engine that serves"):
        Agreement(serves="c", test_parts=10, pairs=(pair,))


def test_a_recipe_that_is_not_text_is_refused_though_every_digest_holds(tmp_path: Path) -> None:
    folder = write_spot_package(tmp_path).folder
    before = hashlib.sha256((folder / "recipe.toml").read_bytes()).hexdigest()
    (folder / "recipe.toml").write_bytes(b"product = '\xff'")
    after = hashlib.sha256((folder / "recipe.toml").read_bytes()).hexdigest()
    text = (folder / "package.toml").read_text().replace(before, after)
    (folder / "package.toml").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "package.sha256").write_text(f"{digest}  package.toml\n")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_package(folder)
