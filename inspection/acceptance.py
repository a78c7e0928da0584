"""From a verdict on the whole image to one under the zones of the recipe.

    image -> register -> Placement | misaligned, wrong-part: review, whatever the network says
                         unlike the reference view in one place: no pass
    each class at or above its pass limit:
      evidence -> strongest spot -> what lies there, at full resolution -> Indications, in zones
        -> the evidence around them laid aside, the rest pooled again
        -> below the pass limit? else next spot
      all allowed, the rest below the pass limit -> the class is in nobody's way: Verdict.allowed
      one breaks a rule, or something was not measured -> the operating point's word holds,
        and the reasons name the rule

Fails closed: rules only ever remove what was found, measured and allowed. The rest is judged by the
limits that the package's certificate is about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from inspection.errors import Unjudgeable
from inspection.recipe import Region
from inspection.verdict import Disposition, Finding, Reason
from inspection.zones.gaps import distances
from inspection.zones.pooling import pooled, sharpness_of
from inspection.zones.registration import register
from inspection.zones.rules import locate, rulings, size_in_words
from inspection.zones.sizing import Window, difference, feret_px, indications

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.engine import Prediction
    from inspection.recipe import Recipe
    from inspection.verdict import Calibration, OperatingPoint, Verdict
    from inspection.zones.placement import Placement
    from inspection.zones.registration import ReferenceView
    from inspection.zones.rules import Located, Ruling

    Mask = NDArray[np.bool_]

MOST_SPOTS: Final = 32
MOST_FOUND: Final = 64
"""Of one class: spots that are looked into, and indications; a class with more of them stands."""

MARGIN_MM: Final = 6.0
"""Around a spot, so that what begins in it can be followed to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What zones need beside the prediction: where the part lies, and by what it is judged.

    Attributes:
        recipe: with zones.
        view: the reference view of this image.
        placement: of the part against it.
        pixels: (H, W) or (H, W, 3) float32, the judged region as `judged_pixels` gives it.
        corner_px: (x, y) of that region in the frame.
    """

    recipe: Recipe
    view: ReferenceView
    placement: Placement
    pixels: NDArray[np.float32]
    corner_px: tuple[int, int]


@dataclass(slots=True, kw_only=True)
class _Search:
    """What was found of one class, and what its evidence comes to without that."""

    left: float
    found: list[Located] = field(default_factory=list)
    unmeasured: list[Region] = field(default_factory=list)


def view_for(recipe: Recipe, views: Sequence[ReferenceView], name: str | None) -> ReferenceView:
    """The reference view of an image.

    Args:
        recipe: with references.
        views: of the package.
        name: of the view, as the station says it; it counts only where the recipe has views.

    Raises:
        Unjudgeable: the recipe has views, and the image is of none of them.
    """
    wanted = name if recipe.views is not None else None
    for view in views:
        if view.reference.view == wanted:
            return view
    raise Unjudgeable(
        f"the recipe has a reference view for each of {', '.join(recipe.views or ())}, and the "
        f"image is {'of no named view' if name is None else f'of {name}'}",
        reason="misaligned",
    )


def place(
    recipe: Recipe,
    views: Sequence[ReferenceView],
    pixels: NDArray[np.float32],
    *,
    name: str | None = None,
) -> Acceptance:
    """Align an image to its reference view.

    Args:
        recipe: with references.
        views: of the package.
        pixels: (H, W) or (H, W, 3) float32, the judged region as `judged_pixels` gives it.
        name: of the view, as the station says it.

    Raises:
        Unjudgeable: see `view_for` and `inspection.zones.registration.register`.
    """
    view = view_for(recipe, views, name)
    return Acceptance(
        recipe=recipe,
        view=view,
        placement=register(pixels, view),
        pixels=pixels,
        corner_px=view.corner_px,
    )


def misplaced(verdict: Verdict, error: Unjudgeable) -> Verdict:
    """The verdict on an image that is not aligned: review, with what the network found."""
    reasons = (Reason(code=error.reason, detail=str(error)), *verdict.reasons)
    probability = dict(verdict.probability)
    return replace(verdict, disposition="review", probability=probability, reasons=reasons)


def accept(
    verdict: Verdict,
    prediction: Prediction,
    calibration: Calibration,
    operating_point: OperatingPoint,
    placed: Acceptance,
) -> Verdict:
    """The verdict under the rules of the zones.

    Args:
        verdict: of `decide` on the same prediction.
        prediction: the network's answer.
        calibration: the package's.
        operating_point: the package's.
        placed: the image, aligned.
    """
    recipe = placed.recipe
    findings: list[Finding] = []
    allowed: list[Finding] = []
    reasons = [reason for reason in verdict.reasons if reason.code not in ("defect", "uncertain")]
    failed = False
    for whole in verdict.findings:
        k = recipe.classes.index(whole.defect_class)
        search = _search(k, whole, prediction, calibration, operating_point, placed)
        made = rulings(
            whole.defect_class,
            search.found,
            elsewhere=recipe.elsewhere,
            severity_from_mm=recipe.severity_from_mm,
        )
        broken = [ruling for ruling in made if not ruling.allowed]
        allowed += [_finding(whole, ruling, placed) for ruling in made if ruling.allowed]
        if not broken and search.left < operating_point.pass_below[k]:
            continue
        # With a rule broken the network's word on the whole image holds; otherwise its word on
        # what the rules do not remove.
        probability = whole.probability if broken else search.left
        fails = probability >= operating_point.fail_from[k]
        failed = failed or fails
        findings += [_finding(whole, ruling, placed) for ruling in broken]
        regions = search.unmeasured or ([] if broken else [whole.region])
        findings += [replace(whole, region=region) for region in regions]
        reasons.append(_judged(whole, probability, fails=fails, less=bool(made) and not broken))
        reasons += [_rule_reason(whole.defect_class, ruling) for ruling in broken]
        if search.unmeasured:
            where = ", ".join(_in_words(region) for region in search.unmeasured[:3])
            detail = f"{whole.defect_class}: nothing could be measured at {where}, so no rule holds"
            reasons.append(Reason(code="unmeasured", detail=detail))
    reference, worst = placed.view.reference, placed.placement.worst_agreement
    if worst < reference.least_tile_agreement:
        detail = (
            f"in one place it does not look like the reference view {reference.file}: agreement "
            f"{worst:.2f} (at least {reference.least_tile_agreement:g})"
        )
        reasons.append(Reason(code="wrong-part", detail=detail))
    disposition: Disposition = "fail" if failed else "review" if findings else "pass"
    if reasons and disposition == "pass":
        disposition = "review"
    if any(reason.code == "novel" for reason in reasons):
        disposition = "review"
    return replace(
        verdict,
        disposition=disposition,
        probability=dict(verdict.probability),
        findings=tuple(findings),
        reasons=tuple(reasons),
        allowed=tuple(allowed),
    )


def _search(
    k: int,
    whole: Finding,
    prediction: Prediction,
    calibration: Calibration,
    operating_point: OperatingPoint,
    placed: Acceptance,
) -> _Search:
    """Look into the spots of a class, strongest first, until the rest may pass."""
    evidence = prediction.evidence[k]
    limit = operating_point.pass_below[k]
    search = _Search(left=whole.probability)
    sharpness = sharpness_of(evidence, float(prediction.scores[k]))
    if sharpness is None:  # a map that is not what the score was pooled from explains nothing
        search.unmeasured.append(whole.region)
        return search
    local = calibration.local(prediction.evidence)[k]
    aside = np.zeros(evidence.shape, dtype=np.bool_)
    for _ in range(MOST_SPOTS):
        if search.left < limit or len(search.found) >= MOST_FOUND:
            return search
        rest = np.where(aside, -1.0, local)
        spot = _spot(rest, limit)
        found = _measure(spot, aside, placed)
        search.found += found
        explained = spot & _around(found, spot.shape, placed)
        if not explained[np.unravel_index(int(np.argmax(rest)), rest.shape)]:
            search.unmeasured.append(_region_of(spot & ~aside, placed))
            return search
        aside |= explained
        search.left = _left(k, evidence, aside, sharpness, prediction, calibration)
    return search


def _spot(local: NDArray[np.float64], limit: float) -> Mask:
    """The cells around the strongest one that are at least half as strong, and their neighbours."""
    at = np.unravel_index(int(np.argmax(local)), local.shape)
    peak = float(local[at])
    mask = (local >= min(max(limit, 0.5 * peak), peak)).astype(np.uint8)
    _, labels = cv2.connectedComponents(mask, connectivity=8)
    cells = (labels == labels[at]).astype(np.uint8)
    return np.asarray(cv2.dilate(cells, np.ones((3, 3), np.uint8)) > 0)


def _measure(spot: Mask, aside: Mask, placed: Acceptance) -> list[Located]:
    """What stands out where these cells are and no earlier ones were, in part coordinates."""
    size_px = (placed.pixels.shape[0], placed.pixels.shape[1])
    pitch_mm = placed.view.pitch_mm
    tall, wide = size_px[0] / spot.shape[0], size_px[1] / spot.shape[1]
    window = Window.around(_box(spot, size_px), round(MARGIN_MM / pitch_mm), size_px)
    fresh = (spot & ~aside).astype(np.uint8)
    y = np.minimum(
        (np.arange(window.rows.start, window.rows.stop) / tall).astype(int), len(spot) - 1
    )
    x = np.minimum(
        (np.arange(window.columns.start, window.columns.stop) / wide).astype(int),
        spot.shape[1] - 1,
    )
    within = fresh[y[:, np.newaxis], x] > 0
    contrast, edges = difference(placed.pixels, placed.view, placed.placement, window)
    zones = [zone for zone in placed.recipe.zones if zone.view == placed.view.reference.view]
    return [
        locate(
            each,
            placed.placement.to_part(each.outline_px + np.array(placed.corner_px)),
            zones,
        )
        for each in indications(contrast, edges, within, window, pitch_mm)
    ]


def _around(found: Sequence[Located], shape: tuple[int, ...], placed: Acceptance) -> Mask:
    """The cells that indications explain: each as far around it as it is long, and one more.

    What lies farther off is evidence of something else, though it be connected to theirs.
    """
    size = np.array(placed.pixels.shape[1::-1]) / shape[::-1]
    y, x = np.indices(shape)
    middles = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1) * size - 0.5
    near = np.zeros(x.size, dtype=np.bool_)
    for each in found:
        outline = each.indication.outline_px
        reach = feret_px(outline) + 0.5 * float(np.hypot(*size))
        box = (middles >= outline.min(axis=0) - reach) & (middles <= outline.max(axis=0) + reach)
        at = np.flatnonzero(box.all(axis=1))
        near[at] |= distances(middles[at], outline) <= reach
    cells = near.reshape(shape).astype(np.uint8)
    return np.asarray(cv2.dilate(cells, np.ones((3, 3), np.uint8)) > 0)


def _left(
    k: int,
    evidence: NDArray[np.float32],
    aside: Mask,
    sharpness: float,
    prediction: Prediction,
    calibration: Calibration,
) -> float:
    """The class's probability if the cells laid aside were like the others' middle one."""
    if aside.all():
        return 1.0  # nothing is left to say what a plain cell looks like
    plain = np.where(aside, np.median(evidence[~aside]), evidence).astype(np.float32)
    scores = prediction.scores.copy()
    scores[k] = min(pooled(plain, sharpness), float(scores[k]))
    return float(calibration.probabilities(scores)[k])


def _region_of(spot: Mask, placed: Acceptance) -> Region:
    top, left, bottom, right = _box(spot, (placed.pixels.shape[0], placed.pixels.shape[1]))
    return Region(
        top=placed.corner_px[1] + top,
        left=placed.corner_px[0] + left,
        height=bottom - top,
        width=right - left,
    )


def _box(spot: Mask, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of cells, in pixels of the judged region; at least a pixel."""
    rows, columns = np.nonzero(spot)
    tall, wide = size_px[0] / spot.shape[0], size_px[1] / spot.shape[1]
    top, left = math.floor(rows.min() * tall), math.floor(columns.min() * wide)
    bottom = min(math.ceil((rows.max() + 1) * tall), size_px[0])
    return top, left, bottom, min(math.ceil((columns.max() + 1) * wide), size_px[1])


def _finding(whole: Finding, ruling: Ruling, placed: Acceptance) -> Finding:
    indication = ruling.located.indication
    left, top = (int(value) for value in indication.outline_px.min(axis=0))
    right, bottom = (int(value) + 1 for value in indication.outline_px.max(axis=0))
    return replace(
        whole,
        region=Region(
            top=placed.corner_px[1] + top,
            left=placed.corner_px[0] + left,
            height=bottom - top,
            width=right - left,
        ),
        zone=ruling.located.zone_name,
        size_mm=indication.size_mm,
        rule=ruling.rule,
    )


def _judged(whole: Finding, probability: float, *, fails: bool, less: bool) -> Reason:
    what = "at or above its fail limit" if fails else "between its limits"
    of = " without what the zones allow" if less else ""
    return Reason(
        code="defect" if fails else "uncertain",
        detail=f"{whole.defect_class}: probability {probability:.3f}{of} is {what}",
    )


def _rule_reason(defect: str, ruling: Ruling) -> Reason:
    located = ruling.located
    size = size_in_words(located.indication)
    return Reason(code="zone-rule", detail=f"{defect} {size} in {located.zone_name}: {ruling.rule}")


def _in_words(region: Region) -> str:
    return f"({region.left + region.width // 2}, {region.top + region.height // 2})"
