"""One exposure more than once: under different labels, across groups, or just twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.checking.findings import Case, Finding
from training.data.rows import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.dividing.duplicates import Pair
    from training.manifest import Manifest


def find_copies(manifest: Manifest, pairs: Sequence[Pair]) -> list[Finding]:
    """Each pair under the worst that can be said of it."""
    labels: list[Case] = []
    across: list[Case] = []
    exact: list[Case] = []
    near: list[Case] = []
    for pair in sorted(pairs, key=lambda each: (each.kind, each.distance)):
        one, other = manifest.rows[pair.first], manifest.rows[pair.second]
        how = (
            "byte for byte the same"
            if pair.kind == "exact"
            else f"one exposure, processed (hashes differ in {pair.distance} of 256 bits)"
        )
        rows = (pair.first, pair.second)
        if one.defects != other.defects:
            labels.append(Case(rows=rows, said=f"{one.label} and {other.label}; {how}"))
        elif one.group != other.group:
            said = f"group {one.group} and group {other.group}; {how}"
            across.append(Case(rows=rows, said=said))
        elif pair.kind == "exact":
            exact.append(Case(rows=rows, said=how))
        else:
            near.append(Case(rows=rows, said=how))
    made = (
        Finding(
            severity="error",
            code="contradiction",
            text=f"{counted(len(labels), 'pair')} of one image under different labels.",
            remedy="Find out which label is right; give it to both in review.csv, or exclude one.",
            cases=tuple(labels),
        ),
        Finding(
            severity="warning",
            code="straddling",
            text=f"{counted(len(across), 'pair')} of one image in two groups. A split made "
            "elsewhere would have it on two sides, and every figure would flatter; a split made "
            "here keeps both groups together.",
            remedy="Correct the serial or the lot of one of them, or exclude one.",
            cases=tuple(across),
        ),
        Finding(
            severity="warning",
            code="duplicate",
            text=f"{counted(len(exact), 'pair')} of files that are byte for byte the same.",
            remedy="Exclude one of each: it counts twice.",
            cases=tuple(exact),
        ),
        Finding(
            severity="warning",
            code="near-duplicate",
            text=f"{counted(len(near), 'pair')} of images that are one exposure twice, re-encoded "
            "or processed.",
            remedy="Exclude one of each: it counts twice.",
            cases=tuple(near),
        ),
    )
    return [finding for finding in made if finding.cases]
