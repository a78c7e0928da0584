"""Which unfinished training `--resume` goes on with, and the settings that it had.

weights/<model>/.runs/<id>/{checkpoint.pt, training.toml}  ->  the newest that suits the flags

One that was stopped before its first checkpoint has nothing to go on from, and begins anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspection.errors import ConfigurationError
from training.config import CONFIG_NAME, Wish, config_text, read_config
from training.fitting.checkpoint import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.manifest import Manifest
    from training.plan import Plan

RUNS_NAME = ".runs"


def keep_settings(plan: Plan, run_folder: Path) -> None:
    """Write a training's settings into its run folder, for `settings_to_resume`.

    Raises:
        OSError: the disk refused.
    """
    write_whole(run_folder / CONFIG_NAME, config_text(plan).encode())


def settings_to_resume(
    weights: Path, manifest: Manifest, wishes: Mapping[str, Wish]
) -> dict[str, Wish]:
    """The wishes of the newest unfinished training of the model, with those of this command line.

    Args:
        weights: the folder of packages.
        manifest: the set; the model is called so when no name is wished.
        wishes: of this command; what a flag says must be what the training had.

    Raises:
        ConfigurationError: there is no unfinished training, or none with these flags.
    """
    model = wishes["model"].value if "model" in wishes else manifest.name
    runs = weights / model / RUNS_NAME
    found = sorted(
        (max(file.stat().st_mtime for file in path.parent.iterdir()), path.parent)
        for path in runs.glob(f"*/{CONFIG_NAME}")
    )
    if not found:
        raise ConfigurationError(
            f"no training of {model} is unfinished", remedy="Train without --resume."
        )
    flags = {key: wish for key, wish in wishes.items() if wish.origin.startswith("--")}
    unlike = []
    for _, folder in reversed(found):
        had = read_config(folder / CONFIG_NAME, f"the training {folder.name}")
        other = [
            f"{wish.origin} {wish.value} (it had {had[key].value if key in had else 'none'})"
            for key, wish in flags.items()
            if key not in had or _plain(had[key].value) != _plain(wish.value)
        ]
        if not other:
            return {**had, **flags}
        unlike.append(f"{folder.name}: {', '.join(other)}")
    raise ConfigurationError(
        f"no unfinished training of {model} had these settings: {'; '.join(unlike)}",
        remedy="Leave these flags out to go on with the newest, or train without --resume.",
    )


def _plain(value: Any) -> Any:
    """A file by its whole path, as a run folder's settings write it; other values as they are."""
    return value.absolute() if isinstance(value, Path) else value
