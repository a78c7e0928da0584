"""What a person asked for, and what it resolves to before any work begins.

    settings + data set -> recipe, fitting (Resolved) -> duplicates -> split -> leaks? -> Plan

Whatever is wrong with the data or the wish is said here, not after ten minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from inspection.engines.backbones import DEFAULT_BACKBONE
from inspection.engines.detail import MULTIPLE
from inspection.errors import ConfigurationError, DataError
from inspection.recipe import Flip
from inspection.references import reference_bytes
from training.data.allowed import held_near
from training.data.good_only import as_anomaly
from training.data.rows import counted, listed
from training.data.taught import grouped_as
from training.dividing.duplicates import Pair, near_duplicates
from training.dividing.grouping import group_names
from training.dividing.leaks import refuse_leaks
from training.dividing.saved_split import saved_split
from training.dividing.split_file import split_from_file
from training.fit import FitSettings
from training.measuring.costs import Costs
from training.recipe_for import recipe_for
from training.split import FRACTIONS, Split, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.recipe import Recipe
    from training.manifest import Manifest

    Progress = Callable[[str, int, int], None]

Preset = Literal["fast", "full", "anomaly"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
DEFAULT_SIZE_PX = (300, 300)
DETAIL_WIDTH = 16  # of the detail branch, where images are flat-fielded and nobody says otherwise
AUTO = "auto"  # of `split`: draw one, even where one was saved
EPOCHS = {"fast": "epochs", "full": "full_epochs"}  # what "epochs" means

# What a preset sets otherwise than FitSettings' own defaults; "input_size_px" and "backbone" too.
PRESET_VALUES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"fast": {}, "full": {}, "anomaly": {}}
)

# Of FitSettings: what comes from the settings, the recipe or the machine, and is no wish.
NO_WISH = frozenset(
    {"preset", "seed", "backbone", "input_size_px", "window", "channels", "flips"}
    | {"weights", "threads"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What a person may choose; everything else is the preset's or the recipe's.

    Attributes:
        model: the package's name; the data set's when absent.
        wanted_escape_rate: the share of bad parts that may pass.
        wanted_overkill_rate: the share of good parts that may fail; whatever the review budget
            leaves when absent.
        review_budget: the largest share of parts that may go to a person.
        costs: of an escape, an overkill and a review; limits follow from them when given.
        backbone: timm's name; the preset's when absent. weights: its file.
        input_size_px: (height, width) of the network's input; the preset's when absent.
        epochs: of the head with `fast`, of fine-tuning with `full`; the preset's when absent.
        fit: other fields of FitSettings, by name.
        flips, serial_length, recipe_file: see `training.recipe_for`.
        split: a file; or "auto" to draw one, even where one is saved with the revision.
        fold: which of a file's numbered folds is the test side.
        group_by: what keeps parts together; what the source declares when absent.
        fractions: of the parts, to fit, calibrate and test.
        compare_random: measure the same under a random split, for comparison.
        precision: "f32" serves float32; "auto" what OpenVINO picks, where that costs no verdict.
        whole_precision: compare precisions on all test parts, however long that takes.
        whole_agreement: let other engines judge all test parts; otherwise all bad ones and the
            good ones nearest to a limit.
        resume: go on with an unfinished training of the same data and settings.
    """

    preset: Preset = "fast"
    model: str | None = None
    wanted_escape_rate: float = 0.01
    wanted_overkill_rate: float | None = None
    review_budget: float = 0.15
    costs: Costs | None = None
    seed: int = 0
    backbone: str | None = None
    weights: Path | None = None
    input_size_px: tuple[int, int] | None = None
    epochs: int | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    flips: tuple[Flip, ...] | None = None
    serial_length: int | None = None
    recipe_file: Path | None = None
    split: Path | Literal["auto"] | None = None
    fold: int | None = None
    group_by: tuple[str, ...] | None = None
    fractions: tuple[float, float, float] = FRACTIONS
    compare_random: bool = False
    precision: Literal["f32", "auto"] = "f32"
    whole_precision: bool = False
    whole_agreement: bool = True
    resume: bool = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigurationError(f"there is no preset {self.preset!r}")
        if not 0 < self.wanted_escape_rate < 1 or not 0 <= self.review_budget <= 1:
            raise ConfigurationError("the escape rate lies between 0 and 1, the budget in 0..1")
        overkill = self.wanted_overkill_rate
        if overkill is not None and not 0 < overkill < 1:
            raise ConfigurationError("the overkill rate lies between 0 and 1")
        if overkill is not None and self.costs is not None:
            raise ConfigurationError(
                "costs choose both limits, so no overkill rate can be asked for beside them"
            )
        if self.compare_random and self.preset != "fast":
            raise ConfigurationError("the random comparison needs the preset `fast`")
        if self.epochs is not None and self.preset not in EPOCHS:
            raise ConfigurationError(f"preset `{self.preset}` has no epochs")
        if self.serial_length is not None and self.serial_length < 2:
            raise ConfigurationError("a serial has 2 characters or more")
        unknown = set(self.fit) - ({each.name for each in fields(FitSettings)} - NO_WISH)
        if unknown:
            raise ConfigurationError(f"no settings of the fit: {listed(sorted(unknown))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Every value of a training, before the data are divided."""

    manifest: Manifest
    settings: TrainSettings
    model: str
    recipe: Recipe
    fitting: FitSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training resolves to before it begins: all that its result depends on.

    Attributes:
        manifest: the set as it was imported.
        pairs: images of it that are one exposure twice.
        origins: where a value came from, by its key in the TOML; see `training.config`.
    """

    manifest: Manifest
    settings: TrainSettings
    model: str
    recipe: Recipe
    fitting: FitSettings
    split: Split
    pairs: tuple[Pair, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """(N,) what each row shares its history with, as the split keeps it together."""
        return group_names(self.manifest, self.split.grouped_by)

    @property
    def reference_files(self) -> dict[str, bytes]:
        """The reference views of the recipe, by name: they travel in the package.

        Raises:
            RecipeError: one is gone, or is another file than the recipe names.
        """
        path = self.settings.recipe_file
        folder = self.manifest.folder if path is None else path.parent
        return {each.file: reference_bytes(each, folder) for each in self.recipe.references}

    @property
    def taught(self) -> Manifest:
        """The set as the training takes it: in the groups that the split kept together, and for
        `anomaly` with every defect as one class.
        """
        return taught(grouped_as(self.manifest, self.groups), self.settings.preset)


def taught(manifest: Manifest, preset: Preset) -> Manifest:
    """The set as a preset sees it; rows keep their numbers."""
    return as_anomaly(manifest) if preset == "anomaly" else manifest


def resolve(
    manifest: Manifest,
    settings: TrainSettings,
    *,
    origins: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Recipe, fitting and split, before anything takes time.

    Raises:
        DataError: the set cannot be divided, or does not suit the preset.
        DataLeak: the split that was brought along leaks.
        RecipeError, ConfigurationError: see there.
    """
    resolved = resolve_values(manifest, settings)
    pairs = near_duplicates(manifest, progress=progress)
    divided = _divide(manifest, settings, pairs)
    refuse_leaks(manifest, divided, pairs)
    if settings.preset != "anomaly":
        _check_labels(manifest, divided)
        if settings.compare_random:
            _check_labels(manifest, split(manifest, seed=settings.seed, by="part-random"))
    return Plan(
        manifest=manifest,
        settings=settings,
        model=resolved.model,
        recipe=resolved.recipe,
        fitting=resolved.fitting,
        split=divided,
        pairs=pairs,
        origins=origins or {},
    )


def resolve_values(manifest: Manifest, settings: TrainSettings) -> Resolved:
    """Recipe and fitting; no image is read.

    Raises:
        DataError, RecipeError, ConfigurationError: as `resolve`, but for the split.
    """
    _check_set(manifest, settings)
    values = {**PRESET_VALUES[settings.preset], **settings.fit}
    size = values.pop("input_size_px", own_size(manifest) or DEFAULT_SIZE_PX)
    backbone = values.pop("backbone", DEFAULT_BACKBONE)
    if settings.epochs is not None:
        values[EPOCHS[settings.preset]] = settings.epochs
    recipe = recipe_for(
        taught(manifest, settings.preset),
        input_size_px=settings.input_size_px or size,
        flips=settings.flips,
        serial_length=settings.serial_length,
        recipe_file=settings.recipe_file,
    )
    for what, asked, said in (
        ("input size", settings.input_size_px, recipe.input_size_px),
        ("flips", settings.flips, recipe.flips),
    ):
        if asked is not None and asked != said:
            raise ConfigurationError(
                f"the {what} {asked} was asked for, but the recipe says {said}",
                remedy="Change the recipe file, or leave it to the recipe.",
            )
    if recipe.flat_field and settings.preset == "fast" and fits_detail(recipe.input_size_px):
        values.setdefault("detail", DETAIL_WIDTH)
    if settings.compare_random and values.get("detail"):
        raise ConfigurationError(
            "the random comparison works on cached features, and here every pixel is read",
            remedy="Leave out --compare-random, or train with --set fit.detail=0.",
        )
    fitting = FitSettings(
        preset=settings.preset,
        seed=settings.seed,
        backbone=settings.backbone or backbone,
        weights=settings.weights,
        input_size_px=recipe.input_size_px,
        window=recipe.window,
        channels=recipe.channels,
        flips=recipe.flips,
        **values,
    )
    if fitting.detail:
        recipe = held_near(recipe)
    model = settings.model or manifest.name
    return Resolved(
        manifest=manifest, settings=settings, model=model, recipe=recipe, fitting=fitting
    )


def own_size(manifest: Manifest) -> tuple[int, int] | None:
    """The frames' own size, for radiographs that are flat-fielded: no pixel is given away.

    None where they differ, or no detail branch could read them.
    """
    size = manifest.images.frame_size_px if manifest.calibration is not None else None
    return size if size is not None and fits_detail(size) else None


def fits_detail(size_px: tuple[int, int]) -> bool:
    """Whether a detail branch can read an input of this size."""
    return not any(side % MULTIPLE for side in size_px)


def _check_set(manifest: Manifest, settings: TrainSettings) -> None:
    """Refuse a set that does not suit the preset, or contradicts itself.

    Raises:
        DataError: it has good parts only, or two parts under one serial.
    """
    bad = manifest.bad
    if settings.preset != "anomaly" and (bad.all() or not bad.any()):
        good = "good" if not bad.any() else "bad"
        raise DataError(
            f"all parts of {manifest.name} are {good}: preset `{settings.preset}` learns the "
            "difference between good and bad ones",
            remedy="`--preset anomaly` needs only good parts."
            if good == "good"
            else "Add images of good parts.",
        )
    for what in ("lot", "mould"):
        said: dict[str, set[str]] = {}
        for row in manifest.rows:
            value = getattr(row, what)
            if value is not None:
                said.setdefault(row.part, set()).add(value)
        torn = [f"{part} ({', '.join(sorted(v))})" for part, v in said.items() if len(v) > 1]
        if torn:
            raise DataError(
                f"{counted(len(torn), 'serial')} on parts of more than one {what}, so two parts "
                f"share a serial: {listed(torn)}",
                remedy="Give each of these parts a name of its own (column `part`), and import "
                "the set again.",
            )


def _divide(manifest: Manifest, settings: TrainSettings, pairs: tuple[Pair, ...]) -> Split:
    """The split that was asked for, or is saved with the revision, or is drawn.

    Raises:
        DataError, DataLeak: see `split` and `split_from_file`.
    """
    saved = saved_split(manifest) if settings.split is None else None
    path = saved[0] if saved else settings.split
    if isinstance(path, Path):
        group_by = settings.group_by or (saved[1].group_by if saved else None)
        return split_from_file(
            path,
            manifest,
            fold=settings.fold,
            seed=settings.seed,
            group_by=group_by,
            pairs=pairs,
            fractions=settings.fractions,
            needs_bad=settings.preset != "anomaly",
        )
    if settings.fold is not None:
        raise DataError(
            "a fold was named, but there is no split with numbered folds",
            remedy=f"Run `inspection data split {manifest.name} --folds 5` first, or name a file "
            "with --split.",
        )
    return split(
        manifest,
        seed=settings.seed,
        fractions=settings.fractions,
        group_by=settings.group_by,
        pairs=pairs,
        needs_bad=settings.preset != "anomaly",
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
