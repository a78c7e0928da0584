"""Zone rules remove what they allow; the operating point judges the rest; reasons name the rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inspection.acceptance import accept, misplaced, place
from inspection.engine import Prediction
from inspection.errors import Unjudgeable
from inspection.recipe import Recipe
from inspection.verdict import Calibration, Certificate, OperatingPoint, Verdict, decide
from inspection.zones.pooling import pooled, sharpness_of
from inspection.zones.registration import ReferenceView
from inspection.zones.shapes import Rule
from tests.simulated_parts import (
    PITCH_MM,
    SIZE_PX,
    casting_recipe,
    pore,
    radiograph,
    reference_view,
)
from training.simulation.casting import Pose, knuckle
from training.simulation.defects import CLASSES, Defect

CELLS = 32
SHARPNESS = 3.0
POSE = Pose(turn_deg=0.8, shift_mm=(0.5, -0.7))
BODY, SEALING = (19.5, 8.5, 0.0), (-14.0, 3.0, -4.0)
POINT = OperatingPoint(
    pass_below=(0.1,) * len(CLASSES),
    fail_from=(0.9,) * len(CLASSES),
    novelty_limit=5.0,
    split_digest="0" * 64,
    certificate=Certificate(
        wanted_escape_rate=0.02,
        escape_bound=1.0,
        naive_escape_bound=1.0,
        confidence=0.95,
        bad_parts=0,
        groups=0,
        certified=False,
        more_bad_parts_needed=0,
    ),
)
CALIBRATION = Calibration(slope=(1.0,) * len(CLASSES), intercept=(2.0,) * len(CLASSES))


@pytest.fixture(scope="module")
def view() -> ReferenceView:
    return reference_view()


def evidence_at(
    places: dict[tuple[float, float, float], float],
    *,
    name: str = "gas-porosity",
    novelty: float = 1,
) -> Prediction:
    """What a network that sees a defect at these places would answer: strong cells, pooled."""
    evidence = np.full((len(CLASSES), CELLS, CELLS), -9.0, dtype=np.float32)
    evidence += np.random.default_rng(0).normal(0, 0.2, evidence.shape).astype(np.float32)
    for at, strength in places.items():
        x, y = POSE.project(*at)
        cell = SIZE_PX * PITCH_MM / CELLS
        column, row = int(x / cell + CELLS / 2), int(y / cell + CELLS / 2)
        evidence[CLASSES.index(name), row, column] = strength
    scores = np.array([pooled(each, SHARPNESS) for each in evidence], dtype=np.float32)
    return Prediction(scores=scores, evidence=evidence, novelty=novelty)


def judged(
    view: ReferenceView,
    defects: list[Defect],
    prediction: Prediction,
    recipe: Recipe | None = None,
) -> Verdict:
    recipe = recipe or casting_recipe()
    pixels = radiograph(POSE, defects=defects).astype(np.float32)
    verdict = decide(prediction, CALIBRATION, POINT, recipe, (SIZE_PX, SIZE_PX))
    placed = place(recipe, (view,), pixels)
    return accept(verdict, prediction, CALIBRATION, POINT, placed)


def with_rules(*rules: Rule) -> Recipe:
    recipe = casting_recipe()
    body = replace(recipe.zones[-1], rules=rules)
    return replace(recipe, zones=(*recipe.zones[:-1], body), severity_from_mm=(0.0, 0.6, 1.0, 2.0))


def test_a_pore_that_its_zone_allows_no_longer_stands_in_the_way(view: ReferenceView) -> None:
    prediction = evidence_at({BODY: 4.0})
    verdict = judged(view, [pore(BODY, 1.2)], prediction)
    assert verdict.disposition == "pass"
    assert verdict.findings == ()
    assert verdict.reasons == ()
    (allowed,) = verdict.allowed
    assert (allowed.defect_class, allowed.zone) == ("gas-porosity", "body")
    assert allowed.size_mm == pytest.approx(1.2, abs=0.25)
    assert allowed.rule == "at most 1.8 mm"
    x, y = POSE.project(*BODY)
    middle = (SIZE_PX - 1) / 2
    region = allowed.region
    assert region.left <= middle + x / PITCH_MM <= region.left + region.width
    assert region.top <= middle + y / PITCH_MM <= region.top + region.height


def test_the_same_pore_breaks_the_rule_of_a_stricter_zone(view: ReferenceView) -> None:
    verdict = judged(view, [pore(SEALING, 1.4)], evidence_at({SEALING: 4.0}))
    assert verdict.disposition == "fail"
    assert verdict.allowed == ()
    (finding,) = verdict.findings
    assert (finding.zone, finding.rule) == ("sealing", "at most 0.8 mm")
    assert [reason.code for reason in verdict.reasons] == ["defect", "zone-rule"]
    assert verdict.reasons[1].detail.startswith("gas-porosity 1.")
    assert verdict.reasons[1].detail.endswith("mm in sealing: at most 0.8 mm")


def test_a_broken_rule_does_not_fail_what_the_operating_point_leaves_to_a_person(
    view: ReferenceView,
) -> None:
    prediction = evidence_at({SEALING: 1.5})
    whole = decide(prediction, CALIBRATION, POINT, casting_recipe(), (SIZE_PX, SIZE_PX))
    assert whole.disposition == "review"
    verdict = judged(view, [pore(SEALING, 1.4)], prediction)
    assert verdict.disposition == "review"
    assert [reason.code for reason in verdict.reasons] == ["uncertain", "zone-rule"]


def test_evidence_where_nothing_can_be_measured_is_not_removed(view: ReferenceView) -> None:
    verdict = judged(view, [], evidence_at({BODY: 4.0}))
    assert verdict.disposition == "fail"
    assert verdict.reasons[-1].code == "unmeasured"
    assert verdict.findings[0].size_mm is None


def test_a_measured_pore_explains_the_evidence_around_it_and_no_more(view: ReferenceView) -> None:
    cell = SIZE_PX * PITCH_MM / CELLS
    x, y, z = BODY
    near = [(x + i * cell, y + j * cell, z) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    blurred = evidence_at(dict.fromkeys(near, 3.0) | {BODY: 4.0})
    assert judged(view, [pore(BODY, 1.2)], blurred).disposition == "pass"
    tail = [(x - i * cell, y, z) for i in range(1, 6)]  # 16 mm, of which the pore is at one end
    trailing = evidence_at(dict.fromkeys(tail, 3.9) | {BODY: 4.0})
    verdict = judged(view, [pore(BODY, 1.2)], trailing)
    assert verdict.disposition == "fail"
    assert [reason.code for reason in verdict.reasons] == ["defect", "unmeasured"]
    beside = evidence_at(dict.fromkeys(tail[1:3], 4.0) | {BODY: 3.9, tail[0]: 3.8})
    assert judged(view, [pore(BODY, 1.2)], beside).disposition == "fail"


def test_what_is_left_beside_an_allowed_pore_is_judged_by_the_operating_point(
    view: ReferenceView,
) -> None:
    elsewhere = (-19.0, 8.0, 0.0)
    prediction = evidence_at({BODY: 6.0, elsewhere: 4.0})
    verdict = judged(view, [pore(BODY, 1.2)], prediction)
    assert verdict.disposition == "fail"
    assert len(verdict.allowed) == 1
    assert "without what the zones allow" in verdict.reasons[0].detail
    weak = judged(view, [pore(BODY, 1.2)], evidence_at({BODY: 6.0, elsewhere: 1.5}))
    assert weak.disposition == "review"


def test_a_class_that_no_rule_allows_is_never_removed(view: ReferenceView) -> None:
    verdict = judged(view, [pore(BODY, 1.2)], evidence_at({BODY: 4.0}, name="crack"))
    assert verdict.disposition == "fail"
    assert verdict.findings[0].rule == "none allowed"
    unnamed = judged(
        view,
        [pore(BODY, 1.2)],
        evidence_at({BODY: 4.0}),
        with_rules(Rule(defects=("crack",), largest_mm=9.0)),
    )
    assert unnamed.findings[0].rule == "not allowed there"


def test_count_spacing_and_severity(view: ReferenceView) -> None:
    places = [(19.5, 8.5, 0.0), (-19.5, 7.0, 0.0)]
    pores = [pore(at, 1.2, seed=n) for n, at in enumerate(places)]
    prediction = evidence_at(dict.fromkeys(places, 4.0))
    found = judged(view, pores, prediction).allowed
    largest = max(each.size_mm or 0 for each in found)  # within its guard band, not beyond it
    for rule, said in (
        (Rule(largest_mm=1.8), None),
        (Rule(largest_mm=1.8, most=2, spacing_mm=30.0), None),
        (Rule(largest_mm=1.8, most=1), "at most 1 of them, and there are 2"),
        (Rule(largest_mm=1.8, spacing_mm=50.0), "at least 50 mm apart, and there are 3"),
        (Rule(severity=3), None),
        (Rule(severity=2), "at most severity 2, which ends at 1 mm"),
        (Rule(largest_mm=largest + 0.05), "mm, and it is known to"),
    ):
        verdict = judged(view, pores, prediction, with_rules(rule))
        if said is None:
            assert verdict.disposition == "pass", (rule, verdict.reasons)
            assert len(verdict.allowed) == 2
        else:
            assert verdict.disposition == "fail", rule
            assert any(f.rule is not None and said in f.rule for f in verdict.findings), rule


def test_outside_every_zone_nothing_is_allowed_but_by_elsewhere(view: ReferenceView) -> None:
    bare = replace(casting_recipe(), zones=casting_recipe().zones[:1])
    prediction = evidence_at({BODY: 4.0})
    strict = judged(view, [pore(BODY, 1.2)], prediction, bare)
    assert (strict.disposition, strict.findings[0].zone) == ("fail", "elsewhere")
    loose = judged(
        view, [pore(BODY, 1.2)], prediction, replace(bare, elsewhere=(Rule(largest_mm=1.8),))
    )
    assert loose.disposition == "pass"


def test_a_novel_image_stays_with_a_person_whatever_the_zones_allow(view: ReferenceView) -> None:
    verdict = judged(view, [pore(BODY, 1.2)], evidence_at({BODY: 4.0}, novelty=9.0))
    assert (verdict.disposition, verdict.reasons[0].code) == ("review", "novel")
    assert len(verdict.allowed) == 1


def test_a_misaligned_part_is_a_review_even_where_the_network_would_pass_it(
    view: ReferenceView,
) -> None:
    recipe = casting_recipe()
    plain = decide(evidence_at({}), CALIBRATION, POINT, recipe, (SIZE_PX, SIZE_PX))
    assert plain.disposition == "pass"
    pixels = radiograph(Pose(shift_mm=(7.0, 0.0))).astype(np.float32)
    with pytest.raises(Unjudgeable) as refused:
        place(recipe, (view,), pixels)
    verdict = misplaced(plain, refused.value)
    assert verdict.disposition == "review"
    assert verdict.reasons[0].code == "misaligned"
    assert "shifted by" in verdict.reasons[0].detail


def test_a_part_that_lacks_a_rib_does_not_pass_and_a_bad_one_still_fails(
    view: ReferenceView,
) -> None:
    ribless = [f for f in knuckle() if f.kind != "rib" or f.start[0] >= 0]
    pixels = radiograph(POSE, features=ribless).astype(np.float32)
    recipe = casting_recipe()
    placed = place(recipe, (view,), pixels)
    for prediction, said in ((evidence_at({}), "review"), (evidence_at({BODY: 4.0}), "fail")):
        plain = decide(prediction, CALIBRATION, POINT, recipe, (SIZE_PX, SIZE_PX))
        verdict = accept(plain, prediction, CALIBRATION, POINT, placed)
        assert verdict.disposition == said
        assert verdict.reasons[-1].code == "wrong-part"


def test_a_recipe_with_views_needs_to_know_which_one(view: ReferenceView) -> None:
    named = replace(view.reference, view="front")
    recipe = replace(
        casting_recipe(),
        views=("front",),
        references=(named,),
        zones=tuple(replace(zone, view="front") for zone in casting_recipe().zones),
    )
    front = replace(view, reference=named)
    pixels = radiograph(POSE).astype(np.float32)
    assert place(recipe, (front,), pixels, name="front").view is front
    for name in (None, "rear"):
        with pytest.raises(Unjudgeable, match="reference view"):
            place(recipe, (front,), pixels, name=name)


@pytest.mark.parametrize("sharpness", [0.05, 0.7, 2.0, 30.0])
def test_the_pooling_is_found_from_the_map_and_its_score(sharpness: float) -> None:
    evidence = np.random.default_rng(1).normal(-5, 2, (20, 20)).astype(np.float32)
    found = sharpness_of(evidence, pooled(evidence, sharpness))
    assert found == pytest.approx(sharpness, rel=0.01)
    assert sharpness_of(evidence, float(evidence.max())) is not None
    assert sharpness_of(evidence, float(evidence.max()) + 1) is None
    assert sharpness_of(evidence, float(evidence.min())) is None
