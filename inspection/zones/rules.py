"""Which zone an indication lies in, and whether the zone's rule allows it.

    indications of one class -> zone of each -> its rule -> size, count, spacing
        -> allowed, with the rule's words | broken, with what it should have been

Decision rule: what is allowed must be shown (guarded acceptance, as ISO 14253-1 has it): an
indication is within `largest_mm` when its size together with its guard band is.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.zones.gaps import gap, leaves_all
from inspection.zones.shapes import rule_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.zones.shapes import Rule, Zone
    from inspection.zones.sizing import Indication

ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An indication on the part.

    Attributes:
        indication: as it was measured.
        outline_mm: (n, 2) its hull in part coordinates.
        zone: the first in the recipe that it touches; None outside every zone.
        sticks_out: whether some of it lies outside every zone.
    """

    indication: Indication
    outline_mm: NDArray[np.float64]
    zone: Zone | None
    sticks_out: bool

    @property
    def zone_name(self) -> str:
        """For findings and reasons."""
        return ELSEWHERE if self.zone is None else self.zone.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the rules say of one indication: the rule that allows it, or the one it breaks."""

    located: Located
    allowed: bool
    rule: str


def locate(
    indication: Indication, outline_mm: NDArray[np.float64], zones: Sequence[Zone]
) -> Located:
    """The indication with the first of these zones that it touches, its guard band included."""
    polygons = [np.array(zone.polygon, dtype=np.float64) for zone in zones]
    first = next(
        (n for n, each in enumerate(polygons) if gap(outline_mm, each) <= indication.guard_mm), None
    )
    return Located(
        indication=indication,
        outline_mm=outline_mm,
        zone=None if first is None else zones[first],
        sticks_out=leaves_all(outline_mm, polygons),
    )


def rulings(
    defect: str,
    found: Sequence[Located],
    *,
    elsewhere: tuple[Rule, ...],
    severity_from_mm: Sequence[float],
) -> list[Ruling]:
    """What the rules say of each indication of one class, in order.

    What sticks out of every zone must be allowed elsewhere, too.
    """
    counts = Counter(each.zone_name for each in found)
    out = sum(each.zone is None or each.sticks_out for each in found)
    made = []
    for each in found:
        asked = [] if each.zone is None else [(each.zone.rules, counts[each.zone_name], "")]
        if each.zone is None or each.sticks_out:
            where = "" if each.zone is None else "it reaches out of every zone, and there: "
            asked.append((elsewhere, out, where))
        others = [other for other in found if other is not each]
        broken, words = None, []
        for rules, count, where in asked:
            rule = rule_for(defect, rules)
            said = _broken(each, rule, severity_from_mm, count, others)
            if said is not None:
                broken = f"{where}{said}"
                break
            words += [rule_in_words(rule)] if rule is not None else []
        made.append(
            Ruling(
                located=each,
                allowed=broken is None,
                rule=broken or "; elsewhere: ".join(words),
            )
        )
    return made


def rule_in_words(rule: Rule) -> str:
    """What a rule allows, such as "at most 0.8 mm, at most 3, at least 2 mm apart"."""
    said = []
    if rule.largest_mm is not None:
        said.append(f"at most {rule.largest_mm:g} mm" if rule.largest_mm else "none allowed")
    if rule.severity is not None:
        said.append(f"at most severity {rule.severity}")
    if rule.most is not None:
        said.append(f"at most {rule.most}")
    if rule.spacing_mm is not None:
        said.append(f"at least {rule.spacing_mm:g} mm apart")
    return ", ".join(said)


def size_in_words(indication: Indication) -> str:
    """Such as "1.4 mm"; or that it is only known to be at least so long."""
    return f"{'at least ' if indication.open else ''}{indication.size_mm:.2g} mm"


def _broken(
    each: Located,
    rule: Rule | None,
    severity_from_mm: Sequence[float],
    count: int,
    others: Sequence[Located],
) -> str | None:
    """What the rule wants instead; None when it holds."""
    if rule is None:
        return "not allowed there"
    size = each.indication.size_mm + each.indication.guard_mm
    if rule.largest_mm is not None and not (size <= rule.largest_mm):
        if rule.largest_mm == 0:
            return "none allowed"
        close = each.indication.size_mm <= rule.largest_mm
        known = f", and it is known to {each.indication.guard_mm:.2g} mm" if close else ""
        return f"at most {rule.largest_mm:g} mm{known}"
    if rule.severity is not None:
        beyond = dict(enumerate(severity_from_mm)).get(rule.severity, math.inf)
        if not (size < beyond):
            return f"at most severity {rule.severity}, which ends at {beyond:g} mm"
    if each.indication.open:
        return "its end cannot be seen, so its size is not known"
    if rule.most is not None and count > rule.most:
        return f"at most {rule.most} of them, and there are {count}"
    if rule.spacing_mm is not None:
        nearest = min((gap(each.outline_mm, o.outline_mm) for o in others), default=math.inf)
        if nearest < rule.spacing_mm:
            return f"at least {rule.spacing_mm:g} mm apart, and there are {nearest:.2g} mm"
    return None
