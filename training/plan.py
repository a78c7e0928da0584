"""What a person asked for, and what it resolves to before any work begins."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inspection.engines.backbones import DEFAULT_BACKBONE
from inspection.errors import ConfigurationError, DataError
from training.fit import FitSettings
from training.recipe_for import recipe_for
from training.split import Split, split

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.recipe import Flip, Recipe
    from training.manifest import Manifest

DEFAULT_SIZE_PX = (300, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What a person may choose; everything else is the preset's or the recipe's.

    Attributes:
        model: the package's name; the data set's when absent.
        wanted_escape_rate: the share of bad parts that may pass.
        review_budget: the largest share of parts that may go to a person.
        input_size_px: (height, width) of the network's input; 300 x 300 when absent.
        epochs: of the head with `fast`, of fine-tuning with `full`; the preset's when absent.
        flips, serial_length, recipe_file: see `training.recipe_for`.
        compare_random: measure the same under a random split, for comparison.
        precision: "f32" serves float32; "auto" what OpenVINO picks, where that costs no verdict.
        whole_precision: compare precisions on all test parts, however long that takes.
    """

    preset: Literal["fast", "full"] = "fast"
    model: str | None = None
    wanted_escape_rate: float = 0.01
    review_budget: float = 0.15
    seed: int = 0
    backbone: str = DEFAULT_BACKBONE
    weights: Path | None = None
    input_size_px: tuple[int, int] | None = None
    epochs: int | None = None
    flips: tuple[Flip, ...] | None = None
    serial_length: int | None = None
    recipe_file: Path | None = None
    compare_random: bool = False
    precision: Literal["f32", "auto"] = "f32"
    whole_precision: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.wanted_escape_rate < 1 or not 0 <= self.review_budget <= 1:
            raise ConfigurationError("the escape rate lies between 0 and 1, the budget in 0..1")
        if self.compare_random and self.preset != "fast":
            raise ConfigurationError("the random comparison needs the preset `fast`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training resolves to before it begins: all that its result depends on."""

    manifest: Manifest
    settings: TrainSettings
    model: str
    recipe: Recipe
    fitting: FitSettings
    split: Split


def resolve(manifest: Manifest, settings: TrainSettings) -> Plan:
    """Recipe, split and fitting, before anything takes time.

    Raises:
        DataError: the set cannot be divided. RecipeError, ConfigurationError: see there.
    """
    recipe = recipe_for(
        manifest,
        input_size_px=settings.input_size_px or DEFAULT_SIZE_PX,
        flips=settings.flips,
        serial_length=settings.serial_length,
        recipe_file=settings.recipe_file,
    )
    fitting = FitSettings(
        preset=settings.preset,
        seed=settings.seed,
        backbone=settings.backbone,
        weights=settings.weights,
        input_size_px=recipe.input_size_px,
        window=recipe.window,
        channels=recipe.channels,
        flips=recipe.flips,
    )
    if settings.epochs is not None and settings.preset == "fast":
        fitting = replace(fitting, epochs=settings.epochs)
    elif settings.epochs is not None:
        fitting = replace(fitting, full_epochs=settings.epochs)
    divided = split(manifest, seed=settings.seed)
    _check_labels(manifest, divided)
    if settings.compare_random:
        _check_labels(manifest, split(manifest, seed=settings.seed, by="part-random"))
    return Plan(
        manifest=manifest,
        settings=settings,
        model=settings.model or manifest.name,
        recipe=recipe,
        fitting=fitting,
        split=divided,
    )


def _check_labels(manifest: Manifest, divided: Split) -> None:
    """Refuse a split that leaves nothing to learn of a class.

    Raises:
        DataError: all images to fit on have the same label for a class; names it.
    """
    targets = manifest.targets()[divided.fit]
    for name, column in zip(manifest.classes, targets.T, strict=True):
        if np.ptp(column) == 0:
            which = "every one" if column[0] > 0 else "none"
            raise DataError(
                f"class {name!r}: {which} of the {len(column)} images to fit on shows it",
                remedy="Add parts of it in more groups, or leave the class out; another --seed may "
                "divide the groups better.",
            )


def plan_settings(plan: Plan) -> dict[str, Any]:
    """Every resolved value, without the paths of this machine."""
    fitting = asdict(plan.fitting)
    return {
        "model": plan.model,
        "wanted_escape_rate": plan.settings.wanted_escape_rate,
        "review_budget": plan.settings.review_budget,
        **{
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fitting.items()
            if name not in ("weights", "threads")
        },
    }
