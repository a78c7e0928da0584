"""The hyperparameters of a training in one TOML: read, merged, and written with their origins.

    defaults < preset < datasets/<name>/training.toml < --config FILE < flags < --set key=value

        preset = "fast"
        [data]      how the set is divided
        [fit]       every field of FitSettings that a person may wish
        [limits]    the wanted escape rate, review budget, costs
        [engine]    what will serve

What is printed is itself a valid file for --config. In a package (training.toml) files are named
by what they are called there, so that no path of the machine that trained travels with it.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from inspection.engines.backbones import DEFAULT_BACKBONE
from inspection.errors import ConfigurationError
from inspection.recipe import first_complaint
from training.dividing.grouping import choose_grouping
from training.dividing.saved_split import SPLIT_NAME, saved_split
from training.fit import FitSettings
from training.plan import (
    DEFAULT_SIZE_PX,
    EPOCHS,
    NO_WISH,
    PRESET_VALUES,
    Plan,
    Resolved,
    TrainSettings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.manifest import Manifest

CONFIG_NAME = "training.toml"
RECIPE_NAME = "recipe.toml"

# Key in the TOML -> field of TrainSettings. "epochs" means one of the two of [fit].
OF_SETTINGS: Mapping[str, str] = {
    "preset": "preset",
    "model": "model",
    "data.split": "split",
    "data.fold": "fold",
    "data.group_by": "group_by",
    "data.seed": "seed",
    "data.fractions": "fractions",
    "data.flips": "flips",
    "data.serial_length": "serial_length",
    "data.recipe": "recipe_file",
    "data.compare_random": "compare_random",
    "fit.backbone": "backbone",
    "fit.weights": "weights",
    "fit.input_size_px": "input_size_px",
    "limits.escape_rate": "wanted_escape_rate",
    "limits.overkill_rate": "wanted_overkill_rate",
    "limits.review_budget": "review_budget",
    "limits.costs": "costs",
    "engine.precision": "precision",
    "engine.whole_precision": "whole_precision",
    "engine.whole_agreement": "whole_agreement",
}
FILES = ("data.split", "data.recipe", "fit.weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A value that somebody gave, and where."""

    value: Any
    origin: str


@cache
def known() -> Mapping[str, Any]:
    """Every key that a TOML may hold, in the order in which they are printed, with its type."""
    settings = _hints(TrainSettings)
    fit = _hints(FitSettings)
    kinds = {key: settings[name] for key, name in OF_SETTINGS.items() if name in settings}
    kinds |= {f"fit.{f.name}": fit[f.name] for f in fields(FitSettings) if f.name not in NO_WISH}
    order = ("preset", "model", "data", "fit", "limits", "engine")
    return {key: kinds[key] for key in sorted(kinds, key=lambda k: order.index(k.split(".")[0]))}


def gather(
    manifest: Manifest,
    *,
    config: Path | None = None,
    flags: Mapping[str, Wish] | None = None,
    assignments: Iterable[str] = (),
) -> dict[str, Wish]:
    """What files, flags and --set say, by key; the later wins.

    Args:
        manifest: its folder may hold a training.toml.
        config: of --config.
        flags: by key; "epochs" is whichever the preset has.
        assignments: of --set, such as "fit.hidden=64".

    Raises:
        ConfigurationError: a key is unknown, with the nearest names; or a value makes no sense.
    """
    wishes: dict[str, Wish] = {}
    beside = manifest.folder / CONFIG_NAME
    if beside.exists():
        wishes |= read_config(beside, f"{manifest.name}/{CONFIG_NAME}")
    if config is not None:
        wishes |= read_config(config, f"--config {config.name}")
    wishes |= flags or {}
    for text in assignments:
        key, value = _assignment(text)
        wishes[key] = Wish(value=value, origin="--set")
    epochs = wishes.pop("epochs", None)
    if epochs is not None:
        preset = wishes["preset"].value if "preset" in wishes else TrainSettings().preset
        if preset not in EPOCHS:
            raise ConfigurationError(f"preset `{preset}` has no epochs")
        wishes.setdefault(f"fit.{EPOCHS[preset]}", epochs)
    return wishes


def read_config(path: Path, origin: str) -> dict[str, Wish]:
    """What a TOML says, by key. Files in it are relative to its folder.

    Raises:
        ConfigurationError: it cannot be read, or a key or value makes no sense.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", remedy="Correct the file.") from error
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict) and name not in known():
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    wishes = {}
    for key, value in flat.items():
        checked = check_value(_full_key(key, str(path)), value, str(path))
        if key in FILES and isinstance(checked, Path):
            checked = path.parent / checked
        wishes[key] = Wish(value=checked, origin=origin)
    return wishes


def settings_of(wishes: Mapping[str, Wish]) -> TrainSettings:
    """The settings that the wishes stand for.

    Raises:
        ConfigurationError: they contradict each other.
    """
    values: dict[str, Any] = {"fit": {}}
    for key, wish in wishes.items():
        if key in OF_SETTINGS:
            values[OF_SETTINGS[key]] = wish.value
        else:
            values["fit"][key.removeprefix("fit.")] = wish.value
    return TrainSettings(**values)


def check_value(key: str, value: Any, where: str) -> Any:
    """The value as the key's type.

    Raises:
        ConfigurationError: it is not of that type.
    """
    kind = known()[key]
    plain = [each for each in typing.get_args(kind) or (kind,) if is_dataclass(each)]
    if plain and isinstance(value, dict):
        names = [field.name for field in fields(plain[0])]
        for name in value:
            if name not in names:
                raise _unknown(f"{key}.{name}", [f"{key}.{each}" for each in names], where)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigurationError(
            f"{where}: {key} = {value!r}: {first_complaint(error).removeprefix('file: ')}",
            remedy="`inspection train DATASET --print-config` shows every key with its value.",
        ) from error


def config_text(
    plan: Plan | Resolved, origins: Mapping[str, str] | None = None, *, travels: bool = False
) -> str:
    """Every resolved value as TOML, each with where it came from as a comment.

    Args:
        plan: what was resolved.
        origins: by key; those of the plan when absent.
        travels: for a package: files are called as they are called there.
    """
    told = dict(origins or (plan.origins if isinstance(plan, Plan) else {}))
    values = _values(plan, travels=travels)
    lines: list[tuple[str, str]] = []
    section = ""
    for key, value in values.items():
        head, _, name = key.rpartition(".")
        if head != section:
            lines += [("", ""), (f"[{head}]", "")]
            section = head
        origin = told.get(key) or _origin(plan, key, value)
        if value is None:
            lines.append((f"# {name} is not set", ""))
        else:
            lines.append((f"{name} = {_toml(value)}", f"# {origin}"))
    width = min(44, max(len(left) for left, right in lines if right))
    return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in lines) + "\n"


def resolved_toml(plan: Plan) -> str:
    """training.toml of the package: every value of the training, no path of the machine."""
    return config_text(plan, travels=True)


def _values(plan: Plan | Resolved, *, travels: bool) -> dict[str, Any]:
    """Every key with its value; None where nothing is set."""
    settings = plan.settings
    values = {
        key: getattr(settings, OF_SETTINGS[key])
        if key in OF_SETTINGS
        else getattr(plan.fitting, key.removeprefix("fit."))
        for key in known()
    }
    saved = saved_split(plan.manifest) if settings.split is None else None
    group_by = settings.group_by or (saved[1].group_by if saved else None)
    values |= {
        "model": plan.model,
        "data.split": settings.split or (None if saved else "auto"),
        "data.group_by": choose_grouping(plan.manifest, group_by).fields,
        "data.flips": plan.recipe.flips,
        "fit.backbone": plan.fitting.backbone,
        "fit.input_size_px": plan.recipe.input_size_px,
    }
    for key in FILES:
        if isinstance(values[key], Path):
            values[key] = str(values[key].absolute())
    if travels:
        drawn = not isinstance(plan, Plan) or plan.split.by == "group"
        values["data.split"] = "auto" if drawn else SPLIT_NAME
        values["data.fold"] = None  # the package's own split.csv names its sides
        values["fit.weights"] = None  # package.toml has their digest
        if settings.recipe_file is not None:
            values["data.recipe"] = RECIPE_NAME
    return values


def _origin(plan: Plan | Resolved, key: str, value: Any) -> str:
    """Where a value came from that nobody gave by its key."""
    settings = plan.settings
    own = {
        "model": "the data set's name",
        "data.split": f"saved with revision {plan.manifest.revision}",
        "data.group_by": "the data set",
        "data.flips": "the data set",
        "fit.input_size_px": "default",
    }
    if settings.recipe_file is not None or (plan.manifest.folder / RECIPE_NAME).exists():
        own |= {"data.flips": RECIPE_NAME, "fit.input_size_px": RECIPE_NAME}
    name = key.removeprefix("fit.")
    preset = PRESET_VALUES[settings.preset]
    default = _defaults().get(key)
    if key in own and value != default:
        given = settings.model if key == "model" else getattr(settings, OF_SETTINGS[key])
        return own[key] if given is None else "given"
    if key.startswith("fit.") and name in preset and value == preset[name]:
        return f"preset {settings.preset}"
    return "default" if value == default else "given"


@cache
def _defaults() -> dict[str, Any]:
    settings = TrainSettings()
    of_fit = {f"fit.{f.name}": f.default for f in fields(FitSettings) if f.name not in NO_WISH}
    return {
        **{key: getattr(settings, name) for key, name in OF_SETTINGS.items() if key in known()},
        **of_fit,
        "data.split": "auto",
        "fit.backbone": DEFAULT_BACKBONE,
        "fit.input_size_px": DEFAULT_SIZE_PX,
    }


def _assignment(text: str) -> tuple[str, Any]:
    """(key, value) of --set key=value; a value that is no TOML is a text."""
    name, equals, written = text.partition("=")
    if not equals:
        raise ConfigurationError(
            f"--set {text}: not key=value", remedy="Write it as --set fit.hidden=64."
        )
    try:
        value: Any = tomllib.loads(f"v = {written.strip()}")["v"]
    except tomllib.TOMLDecodeError:
        value = written.strip()
    key = _full_key(name.strip(), "--set")
    return key, check_value(key, value, "--set")


def _full_key(name: str, where: str) -> str:
    """The key that a name means: itself, or the only one that ends with it."""
    if name in known():
        return name
    ending = [key for key in known() if key.rpartition(".")[2] == name]
    if len(ending) == 1 and where == "--set":
        return ending[0]
    raise _unknown(name, list(known()), where)


def _unknown(name: str, names: list[str], where: str) -> ConfigurationError:
    last = {key.rpartition(".")[2]: key for key in names}
    near = difflib.get_close_matches(name, names, n=3)
    near += [last[each] for each in difflib.get_close_matches(name.rpartition(".")[2], last, n=3)]
    hint = " or ".join(dict.fromkeys(near))
    return ConfigurationError(
        f"{where}: there is no key {name}",
        remedy=f"Did you mean {hint}?"
        if hint
        else "`inspection train DATASET --print-config` shows every key.",
    )


def _hints(kind: type) -> dict[str, Any]:
    """Types of a dataclass's fields."""
    return typing.get_type_hints(kind, localns={"Path": Path, "Mapping": Mapping})


def _toml(value: Any) -> str:
    """The value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k} = {_toml(v)}' for k, v in value.items() if v is not None)}}}"
    return repr(value)
