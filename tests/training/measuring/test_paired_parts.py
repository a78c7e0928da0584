"""Parts are paired across packages that group and name them differently."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.spot_sets import spot_set
from tests.training.measuring.test_compare import KINDS, package_of
from training.measuring.paired_parts import held_out_by_both, unseen_by_both

if TYPE_CHECKING:
    from pathlib import Path

    from training.manifest import Manifest


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return spot_set(tmp_path_factory.mktemp("sets") / "spots", KINDS, per_group=2)


def test_parts_that_either_package_keeps_together_go_together(
    spots: Manifest, tmp_path: Path
) -> None:
    lots = package_of(tmp_path, spots, test=range(40))
    alone = replace(spots, rows=tuple(replace(row, group=row.part) for row in spots.rows))
    parts = package_of(tmp_path, alone, test=range(40), says="pass")
    for pair in ((lots, parts), (parts, lots)):
        assert len(set(held_out_by_both(*pair).groups)) == 20


def test_models_of_good_parts_are_compared_with_any_other(spots: Manifest, tmp_path: Path) -> None:
    first = package_of(tmp_path, spots, test=range(40))
    called = {i: "anomaly" for i, row in enumerate(spots.rows) if row.bad}
    second = package_of(tmp_path, spots, test=range(40), labels=called, says="pass")
    assert not held_out_by_both(first, second).bad.any()
    second = replace(second, recipe=replace(second.recipe, classes=("anomaly",)))
    parts = held_out_by_both(first, second)
    assert (len(parts.bad), parts.notes) == (40, ())
    assert parts.bad.sum() == len(called)


def test_on_a_data_set_the_groups_of_the_packages_count_and_anomalies_are_any_defect(
    spots: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = replace(spots, rows=tuple(replace(row, group=row.part) for row in spots.rows))
    made = [
        package_of(tmp_path, spots, test=range(20, 40), fit=range(20), says=says)
        for says in ("fail", "pass")
    ]
    first, second = (
        replace(
            package,
            document=replace(package.document, data_digest=bare.digest),
            recipe=replace(package.recipe, classes=(name,)),
        )
        for package, name in zip(made, ("spot", "anomaly"), strict=True)
    )
    monkeypatch.setattr("training.measuring.paired_parts.read_report", lambda _package: None)
    parts = unseen_by_both(first, second, bare, lambda _stage, _done, _total: None)
    assert len(parts.bad) == 20
    assert len(set(parts.groups)) == 10, "two parts a lot, as split.csv of the packages says"
    assert parts.first_dispositions == parts.second_dispositions
