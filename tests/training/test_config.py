"""Hyperparameters in one TOML: who wins, who is named as the origin, what a mistake is answered."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import ConfigurationError, DataError
from tests.labelled_sets import bare_manifest, bare_rows
from training.config import (
    Wish,
    _toml,
    config_text,
    gather,
    known,
    read_config,
    resolved_toml,
    settings_of,
)
from training.fit import FitSettings
from training.manifest import Manifest
from training.measuring.costs import Costs
from training.plan import NO_WISH, Plan, TrainSettings, resolve_values
from training.split import split


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return replace(bare_manifest(bare_rows([(6, 4)] * 6)), folder=tmp_path / "plates")


def flags(**given: Any) -> dict[str, Wish]:
    return {name.replace("__", "."): Wish(value=v, origin="--flag") for name, v in given.items()}


def test_the_later_wins_and_is_named(manifest: Manifest, tmp_path: Path) -> None:
    manifest.folder.mkdir()
    (manifest.folder / "training.toml").write_text(
        "[fit]\nhidden = 32\nheads = 1\nbatch = 8\n[limits]\nescape_rate = 0.1\n"
    )
    own = tmp_path / "own.toml"
    own.write_text("[fit]\nheads = 4\nbatch = 4\n[limits]\nescape_rate = 0.2\n")
    wishes = gather(
        manifest,
        config=own,
        flags=flags(limits__escape_rate=0.3, fit__batch=2),
        assignments=["fit.batch=64"],
    )
    chosen = settings_of(wishes)
    assert chosen.wanted_escape_rate == 0.3
    assert chosen.fit == {"hidden": 32, "heads": 4, "batch": 64}
    assert {key: wish.origin for key, wish in wishes.items()} == {
        "fit.hidden": "plates/training.toml",
        "fit.heads": "--config own.toml",
        "fit.batch": "--set",
        "limits.escape_rate": "--flag",
    }
    resolved = resolve_values(manifest, chosen)
    text = config_text(resolved, {key: wish.origin for key, wish in wishes.items()})
    lines = {line.split(" = ")[0]: line for line in text.splitlines()}
    assert lines["batch"].endswith("# --set")
    assert lines["hidden"].endswith("# plates/training.toml")
    assert lines["dropout"].endswith("# default")
    assert lines["model"].endswith("# the data set's name")


def test_every_field_of_a_fit_that_is_a_wish_has_a_key(manifest: Manifest) -> None:
    text = config_text(resolve_values(manifest, TrainSettings()))
    written = tomllib.loads(text)
    wished = {field.name for field in fields(FitSettings)} - NO_WISH
    assert wished | {"backbone", "input_size_px"} == set(written["fit"])
    assert set(written) == {"preset", "model", "data", "fit", "limits", "engine"}


def test_what_is_printed_is_itself_a_config(manifest: Manifest, tmp_path: Path) -> None:
    wishes = gather(
        manifest,
        flags=flags(
            limits__costs=Costs(escape=500, overkill=20, review=3),
            data__fractions=(0.5, 0.2, 0.3),
            data__serial_length=8,
            epochs=7,
        ),
        assignments=["learning_rate=1e-5", "input_size_px=[64, 96]", "backbone=resnet18"],
    )
    resolved = resolve_values(manifest, settings_of(wishes))
    text = config_text(resolved)
    file = tmp_path / "printed.toml"
    file.write_text(text)
    again = resolve_values(manifest, settings_of(gather(manifest, config=file)))
    assert again.fitting == resolved.fitting
    assert again.recipe == resolved.recipe
    assert again.settings.costs == resolved.settings.costs
    assert again.settings.fractions == (0.5, 0.2, 0.3)
    assert again.fitting.epochs == 7
    assert tomllib.loads(config_text(again)) == tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("[fit]\nhiden = 3", "there is no key fit.hiden", "fit.hidden"),
        ("[fit]\nescape_rate = 0.1", "there is no key fit.escape_rate", "limits.escape_rate"),
        ("presett = 'fast'", "there is no key presett", "preset"),
        ("[zzz]\nqqq = 1", "there is no key zzz.qqq", "--print-config"),
        ("[fit]\nhidden = 'many'", "fit.hidden = 'many': Input should be", "--print-config"),
        ("[limits]\ncosts = {escape=1, overkil=2, review=3}", "limits.costs.overkil", "overkill"),
        ("preset = 'slow'", "'fast', 'full' or 'anomaly'", "--print-config"),
        ("[fit", "at end of document", "Correct the file"),
    ],
)
def test_a_mistake_is_answered_with_what_may_be_meant(
    manifest: Manifest, tmp_path: Path, text: str, said: str, remedy: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        gather(manifest, config=file)
    assert said in str(caught.value)
    assert "own.toml" in str(caught.value)
    assert remedy in caught.value.remedy


def test_a_short_name_will_do_for_set_and_only_when_it_is_clear(manifest: Manifest) -> None:
    assert gather(manifest, assignments=["hidden=64"]) == {
        "fit.hidden": Wish(value=64, origin="--set")
    }
    for text, said in (("hidden", "not key=value"), ("hiden=3", "no key hiden")):
        with pytest.raises(ConfigurationError, match=said):
            gather(manifest, assignments=[text])


def test_files_are_relative_to_the_config_that_names_them(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "own.toml"
    file.parent.mkdir()
    file.write_text('[data]\nsplit = "split.csv"\nrecipe = "recipe.toml"\n')
    wishes = read_config(file, "own")
    assert wishes["data.split"].value == file.parent / "split.csv"
    assert wishes["data.recipe"].value == file.parent / "recipe.toml"
    file.write_text('[data]\nsplit = "auto"\n')
    assert read_config(file, "own")["data.split"].value == "auto"


def test_no_path_of_the_machine_is_in_the_package(manifest: Manifest, tmp_path: Path) -> None:
    chosen = TrainSettings(weights=tmp_path / "w.pth", split=tmp_path / "s.csv", fold=1)
    resolved = resolve_values(manifest, chosen)
    assert str(tmp_path) in config_text(resolved)
    plan = Plan(
        manifest=manifest,
        settings=chosen,
        model="plates",
        recipe=resolved.recipe,
        fitting=resolved.fitting,
        split=replace(split(manifest, seed=0), by="file"),
        origins={"fit.weights": "--backbone"},
    )
    text = resolved_toml(plan)
    assert str(tmp_path) not in text
    assert tomllib.loads(text)["data"]["split"] == "split.csv"
    assert "fold" not in tomllib.loads(text)["data"]
    drawn = replace(plan, split=split(manifest, seed=0))
    assert tomllib.loads(resolved_toml(drawn))["data"]["split"] == "auto"


def test_what_the_recipe_says_is_not_silently_overruled(manifest: Manifest, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'product = "{manifest.product}"\nmodality = "vision"\nbits = 8\nchannels = 1\n'
        'input_size_px = [64, 64]\nwindow = [0, 255]\nclasses = ["scratch"]\n'
    )
    chosen = TrainSettings(recipe_file=recipe, input_size_px=(96, 96))
    with pytest.raises(ConfigurationError, match="the recipe says"):
        resolve_values(manifest, chosen)
    resolved = resolve_values(manifest, replace(chosen, input_size_px=None))
    assert "input_size_px = [64, 64]" in config_text(resolved)


def test_an_overkill_rate_has_sense_and_no_costs_beside_it(manifest: Manifest) -> None:
    wishes = gather(manifest, assignments=["limits.overkill_rate=0.05"])
    assert settings_of(wishes).wanted_overkill_rate == 0.05
    assert "overkill_rate = 0.05" in config_text(resolve_values(manifest, settings_of(wishes)))
    for wrong in ("0", "1", "-0.1"):
        with pytest.raises(ConfigurationError):
            settings_of(gather(manifest, assignments=[f"limits.overkill_rate={wrong}"]))
    with pytest.raises(ConfigurationError, match="costs choose both limits"):
        TrainSettings(wanted_overkill_rate=0.05, costs=Costs(escape=500, overkill=20, review=3))


def test_a_set_that_does_not_suit_the_preset_is_refused(manifest: Manifest) -> None:
    good = bare_manifest(bare_rows([(1, 0)] * 20), ())
    for preset in ("fast", "full"):
        with pytest.raises(DataError, match="all parts of plates are good") as caught:
            resolve_values(good, TrainSettings(preset=preset))
        assert "`--preset anomaly` needs only good parts" in caught.value.remedy
    resolved = resolve_values(good, TrainSettings(preset="anomaly"))
    assert resolved.recipe.classes == ("anomaly",)


def test_two_parts_under_one_serial_are_refused() -> None:
    rows = bare_rows([(6, 4)] * 6)
    twin = replace(rows[0], path="second.png", sha256="f" * 64, lot="L2")
    rows[0] = replace(rows[0], lot="L1")
    with pytest.raises(DataError, match=r"two parts share a serial: g000-000 \(L1, L2\)"):
        resolve_values(bare_manifest([*rows, twin]), TrainSettings())


@given(
    st.recursive(
        st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_value_survives_a_line_of_toml(value: Any) -> None:
    line = f"v = {_toml(value)}"
    assert "\n" not in line
    assert tomllib.loads(line)["v"] == value


def test_every_key_is_known_once() -> None:
    assert len(known()) == len(set(known()))
    assert {"limits.costs", "data.split", "fit.backbone"} <= set(known())
