"""Whether one of two models is really better, on parts that neither was made from.

    test.csv of both -> the same parts -> verdicts in pairs -> exact tests -> words
    or a data set   -> parts unseen by both -> both engines

Pairs say more than two rates side by side: only the parts on which the models differ count. Parts
of one lot resemble each other, so every test is made twice, part by part and by whole groups, and
a difference is called real only when both find it.

Sources:
    McNemar 1947: see `training.measuring.statistics.mcnemar_exact`.
    Fisher 1935: The Design of Experiments, section 21 (signs of paired differences, turned round
        in every way).
    Davison, Hinkley 1997, section 3.8: see `training.measuring.intervals.GroupBootstrap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from inspection.errors import DataError
from training.data.rows import counted
from training.measuring.intervals import GroupBootstrap, number_groups, ranking
from training.measuring.statistics import mcnemar_exact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.verdict import Disposition
    from training.measuring.paired_parts import PairedParts

CONFIDENCE = 0.95
DISPOSITIONS: tuple[Disposition, ...] = ("pass", "review", "fail")
FEWEST = 6
"""Parts of each kind: of five, even if all differ one way, p is 2 / 2^5, above 0.05."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDifference:
    """How often each model gives a verdict, and whether that differs.

    Attributes:
        first, second: how many of the parts.
        of: the parts that could have got it.
        only_first, only_second: the parts on which they differ.
        p: exact, as if every part were independent (McNemar).
        p_by_group: exact, when the parts of a group may go together.
    """

    first: int
    second: int
    of: int
    only_first: int
    only_second: int
    p: float
    p_by_group: float

    @property
    def real(self) -> bool:
        """Whether both tests tell the models apart."""
        return max(self.p, self.p_by_group) < 1 - CONFIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class AucDifference:
    """AUC of each model, and the second's less the first's with its interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Whether the interval leaves out no difference."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same parts.

    Attributes:
        first, second: `name@version`.
        misses: bad parts that pass.
        overkills: good parts that fail.
        reviews: parts that go to a person.
        tables: for "bad" and "good" parts: how many, by the first's verdict, then the second's.
        notes: which parts were left out, and why.
    """

    first: str
    second: str
    parts: int
    bad_parts: int
    groups: int
    misses: CountDifference
    overkills: CountDifference
    reviews: CountDifference
    auc: AucDifference
    tables: dict[str, dict[str, dict[str, int]]]
    notes: tuple[str, ...]

    def in_words(self) -> tuple[str, ...]:
        """What was found, a sentence each."""
        groups = counted(self.groups, "group")
        return (
            f"On the same {self.parts} held-out parts ({self.bad_parts} bad), in {groups}:",
            self._count(self.misses, "misses", "bad part"),
            self._count(self.overkills, "fails", "good part"),
            self._count(self.reviews, "sends", "part", " to a person"),
            self._auc(),
        )

    def _count(self, found: CountDifference, verb: str, what: str, where: str = "") -> str:
        apart = found.second - found.first
        if not apart:
            said = f"as many {what}s{where} as {self.first} ({found.second} of {found.of}"
        else:
            more = "fewer" if apart < 0 else "more"
            said = (
                f"{abs(apart)} {more} {what}{'' if abs(apart) == 1 else 's'}{where} than "
                f"{self.first} ({found.second} against {found.first} of {found.of}"
            )
        differ = found.only_first + found.only_second
        if not differ:
            return f"{self.second} {verb} {said}, the very same ones)."
        if not apart:
            return f"{self.second} {verb} {said}, {differ} of them by one model only)."
        return f"{self.second} {verb} {said}; {_p(found)}): {_judgement(found)}."

    def _auc(self) -> str:
        auc = self.auc
        more = "higher" if auc.difference > 0 else "lower"
        end = "the difference is real" if auc.real else "they cannot be told apart"
        interval = f"{100 * CONFIDENCE:.0f} % interval by group {auc.low:+.3f} to {auc.high:+.3f}"
        return (
            f"{self.second} has an AUC of {auc.second:.3f} against {auc.first:.3f}: "
            f"{abs(auc.difference):.3f} {more} ({interval}): {end}."
        )


def compare(first: str, second: str, parts: PairedParts, *, seed: int = 0) -> Comparison:
    """Test two models on the same parts.

    Args:
        first: the name of one, for the sentences.
        second: the name of the other.
        parts: what each of them made of these parts.
        seed: of the bootstrap; the same seed and parts give the same figures.

    Raises:
        DataError: there are too few bad or good parts for any difference to show.
    """
    bad = parts.bad
    few = min(int(bad.sum()), int((~bad).sum()))
    if few < FEWEST:
        raise DataError(
            f"{first} and {second} have {counted(len(bad), 'held-out part')} in common, "
            f"{int(bad.sum())} of them bad; at least {FEWEST} bad and {FEWEST} good ones are "
            "needed for a difference to show",
            remedy="Compare them on a data set that neither was made from: --dataset NAME.",
        )
    groups = number_groups(parts.groups)
    said = [np.array(one) for one in (parts.first_dispositions, parts.second_dispositions)]
    every = np.ones(len(bad), dtype=np.bool_)

    def count(verdict: Disposition, of: NDArray[np.bool_]) -> CountDifference:
        return count_difference(said[0][of] == verdict, said[1][of] == verdict, groups[of])

    return Comparison(
        first=first,
        second=second,
        parts=len(bad),
        bad_parts=int(bad.sum()),
        groups=len(np.unique(groups)),
        misses=count("pass", bad),
        overkills=count("fail", ~bad),
        reviews=count("review", every),
        auc=auc_difference(parts.first_scores, parts.second_scores, bad, groups, seed=seed),
        tables={
            kind: {
                one: {
                    other: int(((said[0] == one) & (said[1] == other) & of).sum())
                    for other in DISPOSITIONS
                }
                for one in DISPOSITIONS
            }
            for kind, of in (("bad", bad), ("good", ~bad))
        },
        notes=parts.notes,
    )


def count_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: NDArray[np.int64]
) -> CountDifference:
    """Whether two models give a verdict equally often.

    Args:
        first: (n,) whether the first gave it.
        second: (n,) whether the second did.
        groups: (n,) number of each part's group.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return CountDifference(
        first=int(first.sum()),
        second=int(second.sum()),
        of=len(first),
        only_first=only_first,
        only_second=only_second,
        p=mcnemar_exact(only_first, only_second),
        p_by_group=sign_test_by_group(first, second, groups),
    )


def sign_test_by_group(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: NDArray[np.int64]
) -> float:
    """Two-sided exact p that the models could be exchanged in any of the groups (Fisher 1935).

    Under that hypothesis each group's difference is as likely with its sign turned round. With one
    part in every group this is McNemar's exact test.

    Args:
        first: (n,) whether the first gave the verdict.
        second: (n,) whether the second did.
        groups: (n,) number of each part's group.
    """
    apart = second.astype(np.int64) - first.astype(np.int64)
    sums = np.abs(np.bincount(groups, weights=apart).astype(np.int64))
    chance = np.ones(1)  # of every sum of the signed differences, from -reach to reach
    for step in sums[sums > 0].tolist():
        wider = np.zeros(len(chance) + 2 * step)
        wider[: len(chance)] += chance / 2
        wider[2 * step :] += chance / 2
        chance = wider
    reach = len(chance) // 2
    observed = abs(int(apart.sum()))
    return min(1.0, float(chance[np.abs(np.arange(-reach, reach + 1)) >= observed].sum()))


def auc_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    bad: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    seed: int,
) -> AucDifference:
    """The second's AUC less the first's, with an interval from the group bootstrap.

    Every draw takes the same groups for both models. The deviation of the draws is made wider for
    k groups as in `training.measuring.intervals.curve_interval`; one group says nothing of others.

    Args:
        first: (n,) scores of the first, higher is more likely bad.
        second: (n,) of the second.
        bad: (n,).
        groups: (n,) number of each part's group.
        seed: of the draws.
    """
    bootstrap = GroupBootstrap(groups, seed=seed)
    draws = bootstrap.ranking(second, bad)[0] - bootstrap.ranking(first, bad)[0]
    aucs = ranking(first, bad)[0], ranking(second, bad)[0]
    difference = aucs[1] - aucs[0]
    k = min(len(np.unique(groups[bad])), len(np.unique(groups[~bad])))
    half = 2.0
    if k > 1:
        spread = float(draws.std()) * math.sqrt(k / (k - 1))
        half = float(special.stdtrit(k - 1, 0.5 + CONFIDENCE / 2)) * spread
    return AucDifference(
        first=aucs[0],
        second=aucs[1],
        difference=difference,
        low=max(-1.0, difference - half),
        high=min(1.0, difference + half),
    )


def _p(found: CountDifference) -> str:
    by_part, by_group = (
        "p < 0.001" if p < 0.001 else f"p = {p:.2g}" for p in (found.p, found.p_by_group)
    )
    return by_part if by_part == by_group else f"{by_part}, by group {by_group}"


def _judgement(found: CountDifference) -> str:
    if found.real:
        return "the difference is real"
    if found.p < 1 - CONFIDENCE:
        return "they cannot be told apart, as too few groups show it"
    return "they cannot be told apart with this many parts"
