"""Who promoted what: an append-only log, and the package that it names and no other."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from inspection.errors import (
    NoPromotedModel,
    NotFound,
    PackageDamaged,
    QualityGateError,
    RegistryError,
)
from inspection.registry import LOG_NAME, Registry
from tests.spot_model import write_spot_package

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


def test_a_user_without_a_name_is_logged_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert registry_with(tmp_path, 1).promote("spot@1").by == "uid:54321"


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
