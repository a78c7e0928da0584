"""Annotators who disagree: by how much beyond chance, and on which images."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from training.checking.findings import Case, Finding
from training.data.rows import counted
from training.measuring.intervals import percentiles
from training.measuring.statistics import Kappa, cohen_kappa, fleiss_kappa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.data.rows import Row
    from training.manifest import Manifest

GOOD_AGREEMENT = 0.75  # kappa; AIAG, Measurement Systems Analysis, 4th edition, page 137
POOR_AGREEMENT = 0.40  # the same
DRAWS = 2000


def find_disagreement(manifest: Manifest) -> list[Finding]:
    """One finding on all annotators together, the images that they dispute as its cases.

    Cohen's kappa of each two who judged the same images, with its normal interval; Fleiss' kappa
    when there are three or more, with the percentile interval of a bootstrap over the images.
    """
    voted = [i for i, row in enumerate(manifest.rows) if len(row.votes) > 1]
    disputed = [i for i in voted if len(set(_labels(manifest.rows[i]).values())) > 1]
    if not disputed:
        return []
    lines = [*_everybody(manifest, voted), *_pairs(manifest, voted)]
    values = [value for value, _ in lines if value is not None]
    worst = min(values, default=1.0)
    cases = sorted(disputed, key=lambda i: -_dispute(manifest.rows[i]))
    return [
        Finding(
            severity="warning" if worst < GOOD_AGREEMENT else "note",
            code="disagreement",
            text=f"Annotators disagree on {len(disputed)} of "
            f"{counted(len(voted), 'image')} that several judged. "
            + "; ".join(text for _, text in lines)
            + f". Above {GOOD_AGREEMENT} is good, below {POOR_AGREEMENT} poor (AIAG).",
            remedy="Let them judge the images below together and write down what decides; no model "
            "can be surer than its labels.",
            cases=tuple(
                Case(
                    rows=(i,),
                    said=", ".join(
                        f"{who}: {what}" for who, what in _labels(manifest.rows[i]).items()
                    ),
                )
                for i in cases
            ),
        )
    ]


def _labels(row: Row) -> dict[str, str]:
    return {vote.annotator: ";".join(vote.defects) or "good" for vote in row.votes}


def _dispute(row: Row) -> float:
    """How far a row's votes are from one opinion: 0 for one, towards 1 for many."""
    labels = list(_labels(row).values())
    shares = [labels.count(label) / len(labels) for label in set(labels)]
    return 1 - max(shares)


def _pairs(manifest: Manifest, voted: list[int]) -> list[tuple[float | None, str]]:
    labels = [_labels(manifest.rows[i]) for i in voted]
    names = sorted({name for each in labels for name in each})
    found = []
    for one, other in combinations(names, 2):
        both = [each for each in labels if one in each and other in each]
        if both:
            kappa = cohen_kappa([each[one] for each in both], [each[other] for each in both])
            found.append(
                (kappa.value, _in_words(f"{one} and {other}: Cohen's", kappa, kappa.interval()))
            )
    return found


def _everybody(manifest: Manifest, voted: list[int]) -> list[tuple[float | None, str]]:
    labels = [list(_labels(manifest.rows[i]).values()) for i in voted]
    people = {vote.annotator for i in voted for vote in manifest.rows[i].votes}
    if len(people) < 3:
        return []
    names = sorted({label for each in labels for label in each})
    counts = np.array([[each.count(name) for name in names] for each in labels], dtype=np.int64)
    kappa = fleiss_kappa(counts)
    said = f"All {len(people)} annotators: Fleiss'"
    return [(kappa.value, _in_words(said, kappa, _resampled(counts)))]


def _resampled(counts: NDArray[np.int64]) -> tuple[float, float] | None:
    """The interval of Fleiss' kappa over images drawn again, with replacement."""
    generator = np.random.default_rng([0, len(counts)])
    draws = [
        value
        for _ in range(DRAWS)
        if (value := fleiss_kappa(counts[generator.integers(0, len(counts), len(counts))]).value)
        is not None
    ]
    return percentiles(np.array(draws)) if draws else None


def _in_words(who: str, kappa: Kappa, interval: tuple[float, float] | None) -> str:
    if kappa.value is None:
        return f"{who} kappa is not defined (one label throughout), n = {kappa.items}"
    between = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f} at 95 %)"
    return f"{who} kappa {kappa.value:.2f}{between}, n = {kappa.items}"
