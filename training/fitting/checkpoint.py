"""A training's run folder: how far it has come, so that a stopped one goes on to the same result.

    weights/<model>/.runs/<id>/
        run.json        the data and settings that the run belongs to; the id is their digest
        checkpoint.pt   tensors and counters, replaced whole: an old one or a new one, never half
        metrics.csv     one line an epoch

Every random draw of a training follows from its seed, its epoch and its step, so that a checkpoint
holds no generator's state.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Seconds between two checkpoints within one long epoch; each epoch ends with one in any case.
INTERVAL_S = 60.0

COLUMNS = ("stage", "epoch", "loss", "validation_auc", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The folder of one training; made by `open`.

    Attributes:
        folder: `.runs/<id>`, which no package version can be called.
        identity: what the result depends on: name -> text.
    """

    folder: Path
    identity: Mapping[str, str]

    @classmethod
    def open(cls, runs: Path, identity: Mapping[str, object], *, resume: bool) -> Self:
        """The run folder of this training.

        Args:
            runs: the folder of all runs of a model, `weights/<model>/.runs`.
            identity: all that the result depends on: digest of the data, settings, versions.
            resume: go on from the checkpoint there, or from the start where it was stopped before
                the first; otherwise begin anew, whatever is there.

        Raises:
            ConfigurationError: there is nothing to go on from, with what differs from the
                unfinished runs that are there; or the folder cannot be written to.
        """
        named = {name: str(value) for name, value in sorted(identity.items())}
        digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
        run = cls(folder=runs / digest[:16], identity=named)
        if resume:
            if not (run.folder / "run.json").is_file():
                raise ConfigurationError(
                    f"no unfinished training has these data and settings{differences(runs, named)}",
                    remedy="Give the same data and settings as before, or train without --resume.",
                )
            return run
        try:
            if run.folder.exists():
                shutil.rmtree(run.folder)
            run.folder.mkdir(parents=True)
            write_whole(run.folder / "run.json", (json.dumps(named, indent=1) + "\n").encode())
        except OSError as error:
            raise unwritable(run.folder, error) from error
        return run

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by this state of tensors, numbers, texts, lists and dicts.

        Raises:
            ConfigurationError: the disk is full, or refuses; the former checkpoint still stands.
        """
        held = io.BytesIO()
        torch.save(dict(state), held)
        try:
            write_whole(self.folder / "checkpoint.pt", held.getbuffer())
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def load(self) -> dict[str, Any] | None:
        """The state last saved, on the CPU; None when there is none yet.

        Raises:
            ConfigurationError: the checkpoint is damaged.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ConfigurationError(
                f"the checkpoint {path} is damaged: {str(error).splitlines()[0]}",
                remedy="Train without --resume: it begins anew.",
            ) from error
        return dict(state)

    def write_history(self, history: Sequence[Mapping[str, float | int | str]]) -> None:
        """Write `metrics.csv`: one line an epoch, whole each time.

        Raises:
            ConfigurationError: the disk is full, or refuses.
        """
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        try:
            write_whole(self.folder / "metrics.csv", text.getvalue().encode())
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def finish(self) -> None:
        """Remove the run folder: its package stands."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write beside it, make it durable, and rename it into place.

    Raises:
        OSError: what the system says; the former file is as it was.
    """
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    place = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def unwritable(folder: Path, error: OSError) -> ConfigurationError:
    """What to tell somebody whose disk refuses a checkpoint."""
    return ConfigurationError(
        f"the training's state cannot be written to {folder}: {error.strerror or error}",
        remedy="Make room on that disk, or correct the folder's rights, then go on with --resume.",
    )


def differences(runs: Path, identity: Mapping[str, str]) -> str:
    """How the unfinished runs that are there differ from this one, as the end of a sentence."""
    told = []
    for path in sorted(runs.glob("*/run.json")):
        try:
            other = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(other, dict) or not (path.parent / "checkpoint.pt").is_file():
            continue
        names = sorted(identity.keys() | other.keys())
        unlike = [
            f"{name} was {other.get(name, 'absent')}, is {identity.get(name, 'absent')}"
            for name in names
            if other.get(name) != identity.get(name)
        ]
        told.append(f"{path.parent.name} ({'; '.join(unlike)})")
    return f"; there are: {', '.join(told)}" if told else ""
