"""Who promoted what: an append-only log, and the package that it names and no other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import (
    NoPromotedModel,
    NotFound,
    PackageDamaged,
    QualityGateError,
    RegistryError,
)
from inspection.registry import LOG_NAME, Registry
from tests.spot_model import AGREEING, write_spot_package

if TYPE_CHECKING:
    from pathlib import Path


def registry_with(tmp_path: Path, versions: int = 2) -> Registry:
    for _ in range(versions):
        write_spot_package(tmp_path)
    return Registry(tmp_path)


def test_nothing_is_promoted_at_first(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    assert registry.packages() == [("spot", 1), ("spot", 2)]
    assert registry.history() == []
    with pytest.raises(NoPromotedModel):
        registry.promoted("KN-42")


def test_promote_and_roll_back(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 3)
    for version in (1, 2, 3):
        registry.promote(f"spot@{version}")
    assert registry.promoted("KN-42").reference == "spot@3"
    registry.rollback("KN-42")
    assert registry.load("spot@promoted").reference == "spot@2"
    registry.rollback("KN-42")
    assert registry.promoted("KN-42").reference == "spot@1"
    with pytest.raises(RegistryError, match="nothing was promoted before"):
        registry.rollback("KN-42")
    assert [line.action for line in registry.history()] == ["promote"] * 3 + ["rollback"] * 2


def test_promoting_twice_does_not_make_a_rollback_go_nowhere(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    write_spot_package(tmp_path, certified=False)
    write_spot_package(tmp_path)
    registry.promote("spot@1", accept_risk="trial run")
    registry.promote("spot@2")
    registry.promote("spot@2")
    line = registry.rollback("KN-42")
    assert (line.reference, line.accepted_risk) == ("spot@1", "trial run")


def test_products_do_not_disturb_each_other(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 1)
    write_spot_package(tmp_path, product="AX-7", model="axle")
    registry.promote("spot@1")
    registry.promote("axle@1")
    assert registry.promoted("KN-42").reference == "spot@1"
    assert registry.promoted("AX-7").reference == "axle@1"


def test_without_a_certificate_the_risk_must_be_accepted_in_words(tmp_path: Path) -> None:
    write_spot_package(tmp_path, certified=False)
    registry = Registry(tmp_path)
    with pytest.raises(QualityGateError, match="not certified"):
        registry.promote("spot@1")
    with pytest.raises(QualityGateError):
        registry.promote("spot@1", accept_risk="  ")
    assert registry.history() == []
    line = registry.promote("spot@1", accept_risk="trial run, every part is checked by hand")
    assert line.accepted_risk == "trial run, every part is checked by hand"
    assert not line.certified


def test_an_edited_log_is_refused_by_line(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    registry.promote("spot@1")
    registry.promote("spot@2")
    log = tmp_path / LOG_NAME
    lines = log.read_text().splitlines()
    first = json.loads(lines[0])
    first["by"] = "somebody else"
    log.write_text("\n".join([json.dumps(first, sort_keys=True), *lines[1:]]) + "\n")
    with pytest.raises(RegistryError, match="line 2"):
        registry.current()
    with pytest.raises(RegistryError):
        registry.promote("spot@1")


def test_an_append_that_was_cut_off_never_happened(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    registry.promote("spot@1")
    with (tmp_path / LOG_NAME).open("a") as log:
        log.write('{"at": "2026-')
    assert registry.promoted("KN-42").reference == "spot@1"
    registry.promote("spot@2")
    assert [line.reference for line in registry.history()] == ["spot@1", "spot@2"]


def test_another_package_in_the_place_of_the_promoted_one_is_refused(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 1)
    registry.promote("spot@1")
    shutil.rmtree(tmp_path / "spot" / "1")
    write_spot_package(tmp_path, gain=1.0)
    with pytest.raises(PackageDamaged, match="not the package that was promoted"):
        registry.promoted("KN-42")


def test_a_package_in_the_place_of_another_version_is_not_decided_on(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    shutil.move(tmp_path / "spot" / "1", tmp_path / "spot" / "3")
    for act in (registry.promote, lambda which: registry.retire(which, reason="old")):
        with pytest.raises(PackageDamaged, match="holds spot@1, not spot@3"):
            act("spot@3")
    assert registry.history() == []


def test_folders_that_are_not_models_are_passed_over(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 1)
    (tmp_path / "my notes" / "1").mkdir(parents=True)
    (tmp_path / ".building-x" / "1").mkdir(parents=True)
    assert registry.packages() == [("spot", 1)]


def test_an_unknown_version_names_those_there_are(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    with pytest.raises(NotFound) as caught:
        registry.load("spot@7")
    assert "1, 2" in caught.value.remedy


# --- the gate --------------------------------------------------------------------------------


def test_a_bad_part_that_turns_to_pass_elsewhere_keeps_a_package_out(tmp_path: Path) -> None:
    flips = {"fail -> pass": 1, "pass -> review": 2}
    pair = AGREEING.pairs[0]
    changes = replace(pair.changes, flips=flips, bad_to_pass=1)
    apart = replace(AGREEING, pairs=(replace(pair, changes=changes),))
    write_spot_package(tmp_path, agreement=apart)
    registry = Registry(tmp_path)
    with pytest.raises(QualityGateError, match="1 bad part passes under one engine only"):
        registry.promote("spot@1")
    line = registry.promote("spot@1", accept_risk="every part is looked at by hand")
    assert line.evidence is not None
    assert "does not say the same" in line.evidence.objections[0]
    assert line.certified


def test_other_flips_are_no_obstacle_and_stand_in_the_log(tmp_path: Path) -> None:
    pair = AGREEING.pairs[0]
    changes = replace(pair.changes, flips={"pass -> review": 2})
    write_spot_package(
        tmp_path, agreement=replace(AGREEING, pairs=(replace(pair, changes=changes),))
    )
    line = Registry(tmp_path).promote("spot@1")
    assert line.evidence is not None
    assert "no bad part turns to pass, 2 other verdicts differ" in line.evidence.agreement
    assert line.evidence.objections == ()


def test_everything_that_stands_against_it_is_said_at_once(tmp_path: Path) -> None:
    write_spot_package(tmp_path, certified=False, agreement=None)
    registry = Registry(tmp_path)
    registry.retire("spot@1", reason="blurred since the lens was changed")
    with pytest.raises(QualityGateError) as caught:
        registry.promote("spot@1")
    said = str(caught.value)
    assert "is not certified" in said
    assert "has not been compared between engines" in said
    assert "blurred since the lens was changed" in said
    line = registry.promote("spot@1", accept_risk="line 2 only")
    assert line.evidence is not None
    assert len(line.evidence.objections) == 3
    assert registry.promoted("KN-42").reference == "spot@1"


# --- retiring --------------------------------------------------------------------------------


def test_what_is_retired_serves_no_more_and_says_why(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    registry.promote("spot@1")
    registry.promote("spot@2")
    registry.retire("spot@2", reason="misses hairline cracks", by="J. Kim")
    assert registry.current() == {}
    with pytest.raises(NoPromotedModel, match=r"retired by J\. Kim on .*: misses hairline"):
        registry.promoted("KN-42")
    with pytest.raises(RegistryError, match="nothing was changed"):
        registry.retire("spot@2", reason="again")
    states = [registry.state(registry.load(f"spot@{version}")) for version in (1, 2)]
    assert states == ["candidate", "retired"]
    assert registry.rollback("KN-42").reference == "spot@1"
    with pytest.raises(RegistryError, match="nothing was promoted before"):
        registry.rollback("KN-42")


def test_a_rollback_passes_over_what_is_retired(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 3)
    for version in (1, 2, 3):
        registry.promote(f"spot@{version}")
    registry.retire("spot@2", reason="never again")
    assert registry.promoted("KN-42").reference == "spot@3"
    assert registry.rollback("KN-42").reference == "spot@1"


def test_retiring_needs_a_reason(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 1)
    for reason in ("", "  ", "x" * 2000, "bell \a"):
        with pytest.raises(RegistryError):
            registry.retire("spot@1", reason=reason)
    assert registry.history() == []


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registry_with(tmp_path_factory.mktemp("three"), 3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["promote", "retire", "rollback", "risk"]), st.integers(1, 3)),
        max_size=8,
    )
)
def test_whatever_is_done_a_retired_model_never_serves(
    three: Registry, acts: list[tuple[str, int]]
) -> None:
    (three.root / LOG_NAME).unlink(missing_ok=True)
    retired: set[int] = set()
    for act, version in acts:
        reference = f"spot@{version}"
        try:
            if act == "retire":
                three.retire(reference, reason="made up")
                retired.add(version)
            elif act == "rollback":
                assert three.rollback("KN-42").version not in retired
            elif act == "risk":
                three.promote(reference, accept_risk="made up")
                retired.discard(version)
            else:
                three.promote(reference)
                assert version not in retired
        except (RegistryError, NoPromotedModel, QualityGateError):
            pass
        serving = three.current().get("KN-42")
        assert serving is None or serving.version not in retired
        for number in (1, 2, 3):
            state = three.state(three.load(f"spot@{number}"))
            assert (state == "retired") == (number in retired)
            assert (state == "promoted") == (serving is not None and serving.version == number)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("spt@1", "spot@1"), ("spot@7", "1, 2"), ("spot", "NAME@VERSION"), ("axle@1", "spot")],
)
def test_a_name_that_is_not_there_is_answered_with_what_is(
    tmp_path: Path, asked: str, meant: str
) -> None:
    with pytest.raises(NotFound) as caught:
        registry_with(tmp_path).promote(asked)
    assert meant in caught.value.remedy
