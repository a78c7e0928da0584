"""The steps of `inspection demo --castings` that are its own; the verbs have tests of theirs."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from inspection.cli import main
from serving import demo_castings
from training.simulation.physics import Detector
from training.simulation.writing import Order, write_set

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_sent_is_half_bad_and_stands_beside_its_truth(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    detector = Detector(size_px=(64, 64), pitch_mm=1.6)
    write_set(Order(parts=60, seed=2, detector=detector, one_class=True), folder, processes=1)
    table = tmp_path / "test-parts.csv"
    with (folder / "labels.csv").open(newline="") as file, table.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["path", "part", "label", "disposition"])
        writer.writeheader()
        for row in csv.DictReader(file):
            told = {name: row[name] for name in ("path", "part", "label")}
            writer.writerow(told | {"disposition": "review"})
    chosen = demo_castings._choose(table, folder)
    assert len(chosen) == demo_castings.SHOWN == len({each.serial for each in chosen})
    bad = [each for each in chosen if each.label == "defect"]
    assert 3 <= len(bad) <= demo_castings.SHOWN // 2
    assert all(" mm, " in each.defects for each in bad)
    assert not any(each.defects for each in chosen if each.label == "good")


def test_parts_without_castings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--parts", "400"]) == 2
    assert "--castings" in capsys.readouterr().err
