"""`--resume` finds the training that was stopped, with the settings that it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspection.errors import ConfigurationError
from tests.labelled_sets import import_folders, write_folders
from training.config import Wish, gather, settings_of
from training.dividing.split_file import split_text
from training.fitting.checkpoint import RunFolder
from training.fitting.resume import RUNS_NAME, keep_settings, settings_to_resume
from training.manifest import Manifest
from training.plan import resolve
from training.split import split


@pytest.fixture
def plates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.chdir(tmp_path)
    return import_folders(write_folders(tmp_path / "line", lots=6, per_lot=5), Path("datasets"))


def flags(**values: object) -> dict[str, Wish]:
    keys = {"split": "data.split", "seed": "data.seed", "preset": "preset"}
    return {keys[name]: Wish(value=each, origin=f"--{name}") for name, each in values.items()}


def begin(manifest: Manifest, given: dict[str, Wish]) -> RunFolder:
    """What a training leaves that was killed before its first checkpoint."""
    plan = resolve(manifest, settings_of(gather(manifest, flags=given)))
    run = RunFolder.open(Path("weights") / manifest.name / RUNS_NAME, {"a": "b"}, resume=False)
    keep_settings(plan, run.folder)
    return run


def test_a_file_may_be_named_as_it_was(plates: Manifest) -> None:
    Path("own.csv").write_text(split_text(plates, split(plates, seed=1).names()))
    given = flags(split=Path("own.csv"), preset="full")
    begin(plates, given)
    wishes = settings_to_resume(Path("weights"), plates, given)
    assert settings_of(wishes).preset == "full"
    assert wishes["data.split"].value.absolute() == Path("own.csv").absolute()
    other = flags(split=Path("other.csv"))
    with pytest.raises(ConfigurationError, match=r"other\.csv \(it had .*own\.csv\)"):
        settings_to_resume(Path("weights"), plates, other)


def test_a_training_stopped_before_its_first_checkpoint_begins_anew(plates: Manifest) -> None:
    with pytest.raises(ConfigurationError, match="no training of plates is unfinished"):
        settings_to_resume(Path("weights"), plates, {})
    run = begin(plates, flags(preset="full", seed=3))
    wishes = settings_to_resume(Path("weights"), plates, {})
    assert settings_of(wishes).seed == 3
    again = RunFolder.open(run.folder.parent, {"a": "b"}, resume=True)
    assert (again.folder, again.load()) == (run.folder, None)
    with pytest.raises(ConfigurationError, match=r"--seed 4 \(it had 3\)"):
        settings_to_resume(Path("weights"), plates, flags(seed=4))
