"""A package is there whole or not at all, and a damaged one names the file."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from inspection.errors import ConfigurationError, PackageDamaged, RecipeError
from inspection.package import check_model_name, load_package, next_version, write_package
from tests.spot_model import write_spot_package

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
