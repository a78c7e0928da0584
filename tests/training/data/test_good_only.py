from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inspection.errors import DataError
from tests.labelled_sets import bare_manifest, bare_rows
from training.data.good_only import FEWEST_GOOD, as_anomaly, good_rows
from training.data.regions import DefectRegion
from training.data.rows import Row, Vote


def test_every_defect_becomes_the_one_class_and_rows_keep_their_numbers() -> None:
    rows = bare_rows([(6, 4), (5, 3)])
    square = DefectRegion(defect="void", polygon=((1, 1), (5, 1), (5, 5)))
    rows[7] = replace(rows[7], label="scratch;void", regions=(square,))
    manifest = bare_manifest(rows, ("scratch", "void"))
    seen = as_anomaly(manifest)
    assert seen.classes == ("anomaly",)
    assert [row.path for row in seen.rows] == [row.path for row in manifest.rows]
    assert (seen.bad == manifest.bad).all()
    assert (seen.targets()[:, 0] == manifest.bad).all()
    assert seen.digest == manifest.digest
    assert {region.defect for row in seen.rows for region in row.regions} == {"anomaly"}
    assert as_anomaly(seen) is seen


def test_a_set_without_defects_will_do() -> None:
    manifest = bare_manifest(bare_rows([(10, 0), (10, 0)]), ())
    seen = as_anomaly(manifest)
    assert seen.classes == ("anomaly",)
    assert seen.targets().shape == (20, 1)
    assert not seen.bad.any()
    assert seen.label_counts() == {"good": 20, "anomaly": 0}


def test_how_sure_the_annotators_were_is_kept() -> None:
    rows: list[Row] = bare_rows([(11, 1)])
    votes = (Vote(annotator="a", label="good"), Vote(annotator="b", label="scratch"))
    rows[0] = replace(rows[0], votes=votes[:1], probability=0.0)
    rows[11] = replace(
        rows[11], votes=(*votes, Vote(annotator="c", label="scratch")), probability=2 / 3
    )
    seen = as_anomaly(bare_manifest(rows))
    assert max(seen.targets()[:, 0]) == pytest.approx(2 / 3)
    assert not any(row.votes for row in seen.rows)


def test_only_good_parts_are_fitted_on() -> None:
    manifest = bare_manifest(bare_rows([(12, 8), (9, 3)]))
    rows = np.arange(len(manifest.rows))
    chosen = good_rows(manifest, rows)
    assert len(chosen) == 21
    assert not manifest.bad[chosen].any()
    with pytest.raises(DataError, match=f"needs {FEWEST_GOOD}"):
        good_rows(manifest, chosen[: FEWEST_GOOD - 1])


def test_a_good_image_of_a_bad_part_is_not_fitted_on() -> None:
    rows = bare_rows([(12, 1)])
    rows.append(replace(rows[12], path="images/other.png", sha256="f" * 64, label="good"))
    manifest = bare_manifest(rows)
    assert len(good_rows(manifest, np.arange(14))) == 12
