"""Everything fails closed: what is not surely good is not a pass."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.engine import Prediction
from inspection.errors import EngineError, RecipeError
from inspection.recipe import Recipe
from inspection.verdict import (
    Calibration,
    Certificate,
    OperatingPoint,
    Reason,
    ScoreTable,
    Verdict,
    decide,
    needs_person,
    unjudged,
)

CERTIFICATE = Certificate(
    wanted_escape_rate=0.01,
    escape_bound=0.009,
    naive_escape_bound=0.008,
    confidence=0.95,
    bad_parts=400,
    groups=40,
    certified=True,
    more_bad_parts_needed=0,
)
POINT = OperatingPoint(
    pass_below=(0.2, 0.3),
    fail_from=(0.8, 0.7),
    novelty_limit=2.0,
    split_digest="0" * 64,
    certificate=CERTIFICATE,
)
CALIBRATION = Calibration(slope=(1.0, 2.0), intercept=(0.0, -0.5))
RECIPE = Recipe(
    product="KN-42",
    modality="x-ray",
    bits=8,
    channels=1,
    input_size_px=(64, 64),
    window=(0, 255),
    classes=("pore", "crack"),
)


def prediction(scores: tuple[float, float], novelty: float = 0.5) -> Prediction:
    evidence = np.full((2, 8, 8), -6.0, np.float32)
    evidence[0, 2, 5] = scores[0]
    evidence[1, 6, 1] = scores[1]
    return Prediction(scores=np.array(scores, np.float32), evidence=evidence, novelty=novelty)


def judge(scores: tuple[float, float], novelty: float = 0.5) -> Verdict:
    return decide(prediction(scores, novelty), CALIBRATION, POINT, RECIPE, (64, 64))


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def test_below_every_pass_limit_is_a_pass() -> None:
    verdict = judge((-5, -5))
    assert verdict.disposition == "pass"
    assert (verdict.findings, verdict.reasons) == ((), ())
    assert set(verdict.probability) == {"pore", "crack"}


def test_one_class_at_its_fail_limit_fails_the_part_and_shows_where() -> None:
    verdict = judge((4, -5))
    assert verdict.disposition == "fail"
    assert codes(verdict) == ["defect"]
    (finding,) = verdict.findings
    assert finding.defect_class == "pore"
    region = finding.region
    assert (region.top, region.left, region.height, region.width) == (16, 40, 8, 8)


def test_between_the_limits_is_review() -> None:
    verdict = judge((0, -5))
    assert verdict.disposition == "review"
    assert codes(verdict) == ["uncertain"]


def test_the_stronger_class_decides_and_comes_first() -> None:
    verdict = judge((0, 3))
    assert verdict.disposition == "fail"
    assert [finding.defect_class for finding in verdict.findings] == ["crack", "pore"]


@pytest.mark.parametrize("scores", [(-5.0, -5.0), (4.0, 4.0)])
def test_novel_is_review_whatever_the_scores_say(scores: tuple[float, float]) -> None:
    verdict = judge(scores, novelty=2.01)
    assert verdict.disposition == "review"
    assert codes(verdict)[0] == "novel"


@given(
    st.tuples(st.floats(-20, 20, width=32), st.floats(-20, 20, width=32)),
    st.floats(0, 4),
)
def test_a_pass_means_that_nothing_stood_in_its_way(
    scores: tuple[float, float], novelty: float
) -> None:
    verdict = judge(scores, novelty)
    probabilities = CALIBRATION.probabilities(np.array(scores, np.float32))
    clear = bool((probabilities < np.array(POINT.pass_below)).all()) and novelty <= 2.0
    assert (verdict.disposition == "pass") == clear
    failed = bool((probabilities >= np.array(POINT.fail_from)).any())
    assert (verdict.disposition == "fail") == (failed and novelty <= 2.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_no_prediction_at_all(bad: float) -> None:
    with pytest.raises(EngineError):
        prediction((bad, 0))
    with pytest.raises(EngineError):
        prediction((0, 0), novelty=bad)
    evidence = np.zeros((2, 4, 4), np.float32)
    evidence[0, 0, 0] = bad
    with pytest.raises(EngineError):
        Prediction(scores=np.zeros(2, np.float32), evidence=evidence, novelty=0.0)


def test_classes_must_agree_everywhere() -> None:
    one = Calibration(slope=(1.0,), intercept=(0.0,))
    with pytest.raises(EngineError, match="classes"):
        decide(prediction((0, 0)), one, POINT, RECIPE, (64, 64))


def test_a_reason_for_a_person_takes_a_pass_away_and_leaves_a_fail() -> None:
    reason = Reason(code="mark-unread", detail="the part's mark was not read")
    assert needs_person(judge((-5, -5)), reason).disposition == "review"
    failed = needs_person(judge((4, -5)), reason)
    assert failed.disposition == "fail"
    assert codes(failed) == ["defect", "mark-unread"]


def test_an_image_that_could_not_be_judged_is_review() -> None:
    verdict = unjudged(Reason(code="unjudgeable", detail="8 bits"))
    assert (verdict.disposition, verdict.novelty, dict(verdict.probability)) == ("review", None, {})


def test_verdicts_that_contradict_themselves_cannot_be_built() -> None:
    with pytest.raises(EngineError):
        Verdict(disposition="pass", probability={}, novelty=0.0)
    with pytest.raises(EngineError):
        Verdict(disposition="fail", probability={"pore": 0.9}, novelty=0.0)
    with pytest.raises(EngineError):
        Verdict(disposition="ok", probability={"pore": 0.9}, novelty=0.0)  # type: ignore[arg-type]
    with pytest.raises(EngineError):
        Verdict(disposition="pass", probability={"pore": math.nan}, novelty=0.0)
    for novelty in (None, math.nan, math.inf):
        with pytest.raises(EngineError, match="novelty"):
            Verdict(disposition="pass", probability={"pore": 0.1}, novelty=novelty)


@pytest.mark.parametrize(
    "change",
    [
        {"pass_below": (0.9, 0.3)},
        {"pass_below": (math.nan, 0.3)},
        {"fail_from": (0.8,)},
        {"novelty_limit": math.nan},
        {"novelty_limit": math.inf},
        {"pass_below": (2.0, 0.3), "fail_from": (3.0, 0.7)},
    ],
)
def test_limits_that_make_no_sense_cannot_be_built(change: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        dataclasses.replace(POINT, **change)  # type: ignore[arg-type]


def test_calibrations_and_certificates_that_make_no_sense_cannot_be_built() -> None:
    with pytest.raises(RecipeError, match="slope"):
        Calibration(slope=(-1.0,), intercept=(0.0,))
    with pytest.raises(RecipeError, match="finite"):
        Calibration(slope=(math.nan,), intercept=(0.0,))
    with pytest.raises(RecipeError, match="claim"):
        dataclasses.replace(CERTIFICATE, escape_bound=0.02)
    with pytest.raises(RecipeError, match="claim"):
        dataclasses.replace(CERTIFICATE, bad_parts=0)
    with pytest.raises(RecipeError, match="counts from 0"):
        dataclasses.replace(CERTIFICATE, bad_parts=-3)


TABLE = ScoreTable(scores=(-2.0, 0.0, 3.0), probabilities=(0.05, 0.05, 0.9))


def test_a_table_is_read_between_its_knots_and_keeps_the_order_beyond_them() -> None:
    tabled = Calibration(slope=(1.0, 2.0), intercept=(0.0, -0.5), tables=(TABLE, ScoreTable()))
    scores = np.array([[-1.0, 0.3], [1.5, 0.3], [3.0, 0.3]], np.float32)
    read = tabled.probabilities(scores)
    assert read[:, 0] == pytest.approx([0.05, 0.475, 0.9], abs=0.01)
    assert (read[:, 1] == CALIBRATION.probabilities(scores)[:, 1]).all()
    line = np.stack([np.linspace(-12, 12, 999), np.zeros(999)], axis=1).astype(np.float32)
    assert (np.diff(tabled.probabilities(line)[:, 0]) > 0).all()


def test_the_evidence_map_follows_the_curve_that_records_keep() -> None:
    tabled = Calibration(slope=(1.0, 2.0), intercept=(0.0, -0.5), tables=(TABLE, ScoreTable()))
    evidence = prediction((2.0, 1.0)).evidence
    assert (tabled.local(evidence) == CALIBRATION.local(evidence)).all()


@pytest.mark.parametrize(
    "knots",
    [
        {"scores": (0.0,), "probabilities": (0.5,)},
        {"scores": (0.0, 1.0), "probabilities": (0.5,)},
        {"scores": (1.0, 1.0), "probabilities": (0.5, 0.6)},
        {"scores": (0.0, 1.0), "probabilities": (0.6, 0.5)},
        {"scores": (0.0, math.nan), "probabilities": (0.5, 0.6)},
        {"scores": (0.0, 1.0), "probabilities": (0.5, math.nan)},
        {"scores": (0.0, math.inf), "probabilities": (0.5, 0.6)},
        {"scores": (0.0, 1.0), "probabilities": (-0.1, 0.6)},
    ],
)
def test_tables_that_make_no_sense_cannot_be_built(knots: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(RecipeError, match="table"):
        ScoreTable(**knots)
    with pytest.raises(RecipeError, match="for every class"):
        Calibration(slope=(1.0, 2.0), intercept=(0.0, 0.0), tables=(TABLE,))


def test_a_score_that_is_no_number_never_passes() -> None:
    tabled = Calibration(slope=(1.0, 2.0), intercept=(0.0, -0.5), tables=(TABLE, ScoreTable()))
    for calibration in (CALIBRATION, tabled):
        read = calibration.probabilities(np.array([math.nan, -9.0], np.float32))
        assert math.isnan(read[0])
        assert not any(read[0] < limit for limit in (0.0, 0.5, 1.0))
    with pytest.raises(EngineError):
        Prediction(
            scores=np.array([math.nan, -9], np.float32),
            evidence=np.zeros((2, 2, 2), np.float32),
            novelty=0.1,
        )


@given(
    st.floats(-8, 8, width=32),
    st.floats(0, 4, width=32),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_higher_score_or_a_lower_limit_never_helps_a_part_to_pass(
    score: float, more: float, limits: tuple[float, float]
) -> None:
    tabled = Calibration(slope=(1.0, 2.0), intercept=(0.0, -0.5), tables=(TABLE, ScoreTable()))
    lower, higher = sorted(limits)
    order = ("pass", "review", "fail")

    def said(value: float, limit: float) -> int:
        point = dataclasses.replace(POINT, pass_below=(limit, 1.0), fail_from=(1.0, 1.0))
        verdict = decide(prediction((value, -20.0)), tabled, point, RECIPE, (64, 64))
        return order.index(verdict.disposition)

    assert said(score + more, lower) >= said(score, lower)
    assert said(score, lower) >= said(score, higher)


def test_a_certificate_counts_and_does_not_overclaim() -> None:
    for wrong in (
        {"escapes": 401},
        {"overkills": 1},
        {"overkill_bound": math.nan},
        {"scant_classes": ("void",)},
    ):
        with pytest.raises(RecipeError):
            dataclasses.replace(CERTIFICATE, **wrong)
    assert CERTIFICATE.in_words().startswith("escape rate at most 0.9 % at 95 % confidence, from")
    assert CERTIFICATE.fails_in_words() == ""
