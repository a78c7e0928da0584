"""Figures by class and by slice count the right parts, and say how sure they are."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.verdict import Disposition
from training.evaluate import join_images
from training.measuring.evaluation import FORMULA, Evaluation, PartResult, measure, part_csv_bytes
from training.measuring.intervals import clopper_pearson
from training.measuring.metrics import FEWEST, Measured
from training.measuring.metrics_curves import (
    LONGEST,
    precision_curve,
    reliability,
    risk_curve,
    roc_curve,
)

CLASSES = ("crack", "void")


def part(
    number: int,
    label: str = "good",
    disposition: Disposition = "pass",
    probabilities: tuple[float, ...] = (0.1, 0.1),
    **given: str | tuple[str, ...] | float,
) -> PartResult:
    base = PartResult(
        path=f"images/{number}.png",
        part=str(number),
        group=str(number),
        label=label,
        bad=label != "good",
        probabilities=probabilities,
        novelty=1.0,
        disposition=disposition,
    )
    return replace(base, **given)  # type: ignore[arg-type]


def line() -> list[PartResult]:
    """60 good parts, of which 3 fail; 20 cracks, 2 of which pass; 12 voids; 8 parts with both."""
    made = [part(i, lot=f"L{i % 2}", mould="M1") for i in range(60)]
    for i in range(3):
        made[i] = replace(
            made[i],
            disposition="fail",
            probabilities=(0.9 + i / 100, 0.1),
            failed_by=("crack",),
            fail_margin=0.1 + i / 100,
        )
    made += [part(100 + i, "crack", "fail", (0.95, 0.1), lot=f"L{i % 2}") for i in range(20)]
    for i in range(2):
        made[60 + i] = replace(
            made[60 + i], disposition="pass", probabilities=(0.02 * i, 0.1), pass_margin=-0.2 + i
        )
    made += [part(200 + i, "void", "review", (0.1, 0.6), lot="L1") for i in range(12)]
    made += [part(300 + i, "crack;void", "fail", (0.9, 0.9), lot="L0") for i in range(8)]
    return made


@pytest.fixture(scope="module")
def measured() -> Evaluation:
    return measure(line(), CLASSES, seed=0)


def test_rates_of_a_class_are_of_the_parts_that_show_it(measured: Evaluation) -> None:
    crack, void = measured.class_figures["crack"], measured.class_figures["void"]
    assert (crack["escape_rate"].hits, crack["escape_rate"].parts) == (2, 28)
    assert (void["escape_rate"].hits, void["escape_rate"].parts) == (0, 20)
    assert (crack["overkill_rate"].hits, crack["overkill_rate"].parts) == (3, 60)
    assert (void["overkill_rate"].hits, void["overkill_rate"].parts) == (0, 60)
    assert (void["review_rate"].hits, void["review_rate"].parts) == (12, 20)
    for figures in (*measured.class_figures.values(), measured.figures):
        for figure in figures.values():
            assert figure.low <= figure.value <= figure.high
            assert figure.naive_low <= figure.value <= figure.naive_high


def test_f1_agrees_with_scikit_learn(measured: Evaluation) -> None:
    from sklearn.metrics import f1_score

    parts = line()
    bad = [each.bad for each in parts]
    called = [max(each.probabilities) > 0.5 for each in parts]
    assert measured.figures["f1"].value == pytest.approx(f1_score(bad, called))
    void = [name == "void" for each in parts for name in [each.label.split(";")[-1]]]
    assert measured.class_figures["void"]["f1"].value == pytest.approx(
        f1_score(void, [each.probabilities[1] > 0.5 for each in parts])
    )


def test_slices_count_all_and_say_rates_only_of_enough(measured: Evaluation) -> None:
    assert set(measured.slices) == {"lot"}  # one mould, no station, no view: nothing to compare
    first, second = measured.slices["lot"]["L0"], measured.slices["lot"]["L1"]
    assert first.parts + second.parts == len(measured.parts)
    assert (first.escapes, second.escapes) == (1, 1)
    assert first.overkills + second.overkills == 3
    assert second.reviews == 12
    assert first.figures["escape_rate"].parts == first.bad_parts == 18
    few = line()
    few[:4] = [replace(each, lot="L9") for each in few[:4]]
    small = measure(few, CLASSES, seed=0).slices["lot"]["L9"]
    assert small.parts == 4 < FEWEST
    assert small.figures == {}


def test_views_are_counted_by_image() -> None:
    """A part seen twice passes from the side and fails from above: each view has its own rate."""
    images = []
    for i in range(24):
        label = "crack" if i % 2 else "good"
        images.append(part(i, label, "fail" if i % 2 else "pass", (0.9 * (i % 2), 0.0), view="top"))
        images.append(part(i, label, "pass", (0.0, 0.0), view="side"))
    found = measure(join_images(images), CLASSES, seed=0, images=images)
    assert found.figures["escape_rate"].hits == 0
    assert found.slices["view"]["top"].escapes == 0
    assert found.slices["view"]["side"].escapes == 12
    assert found.parts[0].view == "top;side"


def test_the_worst_come_first(measured: Evaluation) -> None:
    assert [each.part for each in measured.worst_overkills] == ["2", "1", "0"]
    assert [each.part for each in measured.worst_escapes] == ["100", "101"]
    assert measured.worst_escapes[0].margin == pytest.approx(0.2)


def test_the_summary_is_plain_json(measured: Evaluation) -> None:
    summary = json.loads(json.dumps(measured.summary(), allow_nan=False))
    assert summary["confusion"]["void"] == {"pass": 0, "review": 12, "fail": 8}
    assert summary["worst"]["escapes"][0]["part"] == "100"
    assert len(summary["curves"]["roc"]) <= LONGEST
    assert summary["reliability"]["crack"]["parts"] == 100


def test_without_an_escape_the_groups_still_count() -> None:
    """No escape among 120 bad parts of four lots that score alike is no bound of 3 %."""
    parts = [
        part(i, "crack", "fail", (0.5 + 0.1 * (i // 30) + i / 1e4, 0.0), group=f"lot-{i // 30}")
        for i in range(120)
    ] + [part(500 + i) for i in range(20)]
    figure = measure(parts, CLASSES, seed=0).figures["escape_rate"]
    assert figure.hits == 0
    assert (figure.naive_low, figure.naive_high) == clopper_pearson(0, 120)
    assert figure.high > 0.3


def test_good_parts_alone_are_measured_only_when_asked() -> None:
    parts = [part(i, disposition="review" if i < 3 else "pass") for i in range(20)]
    found = measure(parts, CLASSES, seed=0, good_only=True)
    assert found.figures["review_rate"].hits == 3
    assert not {"escape_rate", "auc", "f1"} & set(found.figures)
    assert found.curves.roc == ()
    json.dumps(found.summary(), allow_nan=False)


def test_a_table_cannot_run_anything_in_a_spreadsheet() -> None:
    parts = [
        part(0, "crack", "fail", part="=cmd|' /C calc'!A0", lot="@sum", station="-1+1"),
        part(1, lot="+3", view="\tx"),
    ]
    text = part_csv_bytes(measure(parts, CLASSES, seed=0)).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["part"] == "'=cmd|' /C calc'!A0"
    for row in rows:
        assert not any(cell.startswith(FORMULA) for cell in row.values())
    assert [row["bad"] for row in rows] == ["1", "0"]
    assert [float(row["probability_crack"]) for row in rows] == [0.1, 0.1]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=6))
@settings(max_examples=50)
def test_any_text_comes_back_out_of_the_table(names: list[str]) -> None:
    parts = tuple(part(i, lot=name) for i, name in enumerate(names))
    found = Evaluation(classes=CLASSES, parts=parts, figures={})
    rows = list(csv.DictReader(io.StringIO(found.as_csv(), newline="")))
    for row, name in zip(rows, names, strict=True):
        assert row["lot"].removeprefix("'" if name.startswith(FORMULA) else "") == name


def test_reliability_counts_every_part_once() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(500)
    target = (generator.random(500) < probability).astype(np.float64)
    found = reliability(probability, target)
    assert sum(each.parts for each in found.bins) == found.parts == 500
    assert found.expected_calibration_error < 0.08
    assert found.brier == pytest.approx(((probability - target) ** 2).mean())
    overconfident = reliability(np.where(probability > 0.5, 0.99, 0.01), target)
    assert overconfident.expected_calibration_error > 0.2
    assert reliability(np.array([1.0, 0.0]), np.array([0.0, 1.0])).log_loss < 30


def test_curves_agree_with_scikit_learn() -> None:
    from sklearn.metrics import auc, precision_recall_curve

    generator = np.random.default_rng(1)
    score = generator.integers(0, 40, 300) / 40
    bad = generator.random(300) < score
    points = roc_curve(score, bad)
    x = [0.0, *(each.false_positive_rate for each in points)]
    y = [0.0, *(each.true_positive_rate for each in points)]
    every = Measured([part(i, "crack" if b else "good") for i, b in enumerate(bad)], seed=0)
    assert auc(x, y) == pytest.approx(every.auc(score, bad).value)
    precision, recall, threshold = precision_recall_curve(bad, score)
    expected = {t: (r, p) for t, r, p in zip(threshold, recall, precision, strict=False)}
    for each in precision_curve(score, bad):
        assert (each.recall, each.precision) == pytest.approx(expected[each.threshold])


def test_deciding_everything_risks_the_error_rate() -> None:
    score, bad = np.array([0.9, 0.8, 0.4, 0.1]), np.array([True, False, True, False])
    last = risk_curve(score, bad)[-1]
    assert (last.coverage, last.risk) == (1.0, 0.5)
    assert (last.escapes, last.overkills) == (1, 1)
    assert risk_curve(score, bad)[0].risk == 0
