"""What the limits hold on parts that neither the fit nor the limits have seen: the certificate.

    final dispositions of test parts -> escapes and overkills -> bounds honest about groups

The limits are fixed before these parts are read, and the parts are read once. So nothing was chosen
on them, and the exact bound of a rate holds as it stands (Clopper, Pearson 1934; for parts in
groups see `training.measuring.intervals.escape_bound`). It covers the verdict as the server gives
it: what a novelty limit, a misaligned part or a lowered limit of a rare class keeps from passing is
no escape, and a bad part that the rules of its zones let pass is one.

One bound over all bad parts says nothing of a class that few of them show, so a class with fewer
than `FEWEST_BAD` bad test parts refuses the certificate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inspection.verdict import Certificate
from training.measuring.intervals import GroupBootstrap, escape_bound, number_groups, parts_needed
from training.operating_point import CONFIDENCE, FEWEST_BAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.measuring.evaluation import PartResult
    from training.measuring.intervals import EscapeBound


def certify(
    parts: Sequence[PartResult],
    *,
    wanted_escape_rate: float,
    classes: Sequence[str],
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Certificate:
    """The certificate of test parts, with their final dispositions.

    Args:
        parts: judged under limits that were chosen without them.
        wanted_escape_rate: what is to be certified, above 0.
        classes: of the recipe; each needs `FEWEST_BAD` bad parts.
        confidence: one-sided, of both bounds.
        seed: of the bootstrap.
    """
    bad = [part for part in parts if part.bad]
    good = [part for part in parts if not part.bad]
    counts = {name: sum(name in part.defects for part in bad) for name in classes}
    scant = {name: count for name, count in counts.items() if count < FEWEST_BAD}
    escape = _bound(bad, [part.disposition == "pass" for part in bad], 1, confidence, seed)
    overkill = _bound(good, [part.disposition == "fail" for part in good], -1, confidence, seed)
    bound = 1.0 if escape is None else escape.bound
    more = sum(FEWEST_BAD - count for count in scant.values())
    if bound > wanted_escape_rate:
        escapes = 0 if escape is None else escape.escapes
        worth = 1.0 if escape is None else escape.effective_size / escape.parts
        needed = parts_needed(wanted_escape_rate, escapes=escapes, confidence=confidence)
        more = max(1, more, math.ceil(needed / worth) - len(bad))
    return Certificate(
        wanted_escape_rate=wanted_escape_rate,
        escape_bound=bound,
        naive_escape_bound=1.0 if escape is None else escape.naive,
        confidence=confidence,
        bad_parts=len(bad),
        groups=len({part.group for part in bad}),
        certified=bound <= wanted_escape_rate and not scant,
        more_bad_parts_needed=more,
        escapes=0 if escape is None else escape.escapes,
        good_parts=len(good),
        overkills=0 if overkill is None else overkill.escapes,
        overkill_bound=1.0 if overkill is None else overkill.bound,
        naive_overkill_bound=1.0 if overkill is None else overkill.naive,
        measured_on="test",
        scant_classes=tuple(scant),
    )


def _bound(
    parts: Sequence[PartResult], wrong: Sequence[bool], sign: int, confidence: float, seed: int
) -> EscapeBound | None:
    """The bound of a wrong verdict; low `sign` * probability is what comes nearest to it."""
    if not parts:
        return None
    groups = number_groups([part.group for part in parts])
    return escape_bound(
        np.array(wrong, dtype=np.bool_),
        sign * np.array([max(part.probabilities) for part in parts]),
        groups,
        GroupBootstrap(groups, seed=seed),
        confidence=confidence,
    )
