"""Classes with too few parts to learn from or to measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.checking.findings import Case, Finding
from training.data.rows import counted
from training.measuring.intervals import parts_needed, upper_bound
from training.split import FRACTIONS

if TYPE_CHECKING:
    from training.manifest import Manifest

RATE = 0.10  # an escape rate that even a poor report should be able to bound
SIDES = len(FRACTIONS)


def find_rare_classes(manifest: Manifest) -> list[Finding]:
    """What the parts of each class could bound at best, should none of them escape."""
    findings = []
    needed = parts_needed(RATE)
    test = FRACTIONS[-1]
    for name in manifest.classes:
        rows = tuple(i for i, row in enumerate(manifest.rows) if name in row.defects)
        parts = len({manifest.rows[i].part for i in rows})
        groups = len({manifest.rows[i].group for i in rows})
        if min(parts, groups) >= SIDES and parts >= needed:
            continue
        few = min(parts, groups) < SIDES
        best = upper_bound(0, parts)
        in_test = max(1, round(test * parts))
        text = f"Class {name} has {counted(parts, 'bad part')} in {counted(groups, 'group')}: " + (
            f"too few for {SIDES} sides of a split."
            if few
            else f"if none escaped, all of them would bound its escape rate at {best:.0%}, and "
            f"the {in_test} that a test side gets at {upper_bound(0, in_test):.0%} "
            "(95 % confidence)."
        )
        findings.append(
            Finding(
                severity="error" if few else "warning",
                code="rare-class",
                text=text,
                remedy=f"{needed} bad parts in the test side bound {RATE:.0%}, so collect about "
                f"{round(needed / test)} in all; or join the class with one that is handled alike.",
                cases=tuple(
                    Case(rows=(i,), said=f"one of {parts} parts with {name}") for i in rows[:12]
                ),
            )
        )
    return findings


def measurable(manifest: Manifest) -> str:
    """What the set could show at best, in a sentence."""
    bad = manifest.counts()["bad_parts"]
    if not bad:
        return "no bad parts: good for the preset anomaly; escape rates cannot be measured"
    in_test = max(1, round(FRACTIONS[-1] * bad))
    return (
        f"{counted(bad, 'bad part')}; about {in_test} in a test side, which bound the escape rate "
        f"at {100 * upper_bound(0, in_test):.1f} % (95 % confidence) if none of them escapes"
    )
