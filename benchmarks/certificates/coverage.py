"""Does the certified bound hold as often as it promises? Draw parts, choose limits, certify, count.

    python benchmarks/certificates/coverage.py --draws 1000
    python benchmarks/certificates/coverage.py --draws 1000 --population test.csv

Every draw is what a customer does: calibration parts, from which `choose_limits` takes a limit, and
other parts, on which `certify` measures it. The true escape rate of that limit is known, because
the population is: simulated, or all parts of a CSV of `inspection evaluate --csv`. Counted are

    covered         draws whose bound is at least the true rate: 95 % are promised, at the least
    naive covered   the same of the bound as if all parts were independent
    wrong           draws with a certificate whose wanted rate the true one exceeds: at most 5 %
    limits covered  the bound of the calibration parts, which steers the limits

In a simulated population, the score of a bad part is sqrt(r) times its group's level plus
sqrt(1 - r) times its own, both normal: r is the correlation within groups.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from training.measuring.certify import certify  # noqa: E402
from training.measuring.evaluation import PartResult  # noqa: E402
from training.measuring.intervals import clopper_pearson  # noqa: E402
from training.operating_point import choose_limits  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Parts = tuple[NDArray[np.float64], NDArray[np.int64]]

BUDGET = 0.5
GOOD = 20  # good calibration parts, of the lowest probability: a limit needs some


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where parts come from.

    Attributes:
        groups: in a draw's calibration, and as many again to test.
        size: mean number of bad parts in a group.
        correlation: within groups.
        wanted: escape rate.
        population: (n,) probabilities and groups of bad parts to draw from, instead of simulating.
    """

    name: str
    groups: int
    size: int
    correlation: float
    wanted: float
    population: Parts | None = None

    def draw(self, generator: np.random.Generator) -> Parts:
        """Bad parts of new groups: probability and group number."""
        if self.population is None:
            member = np.repeat(np.arange(self.groups), self._sizes(generator))
            level = np.sqrt(self.correlation) * generator.standard_normal(self.groups)[member]
            own = np.sqrt(1 - self.correlation) * generator.standard_normal(len(member))
            return special.ndtr(level + own), member
        probability, group = self.population
        drawn = generator.choice(np.unique(group), self.groups)
        kept = [probability[group == each] for each in drawn.tolist()]
        return np.concatenate(kept), np.repeat(np.arange(len(kept)), [len(each) for each in kept])

    def true_rate(self, limit: float) -> float:
        """The share of all bad parts that lie below the limit."""
        if self.population is None:
            return limit  # probabilities of bad parts are uniform
        return float((self.population[0] < limit).mean())

    def _sizes(self, generator: np.random.Generator) -> NDArray[np.int64]:
        if self.size == 1:
            return np.ones(self.groups, dtype=np.int64)
        return generator.integers(self.size // 2, self.size + self.size // 2 + 1, self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What came of one draw."""

    covered: bool
    naive_covered: bool
    limits_covered: bool
    certified: bool
    wrong: bool
    true_rate: float
    bound: float


def one_draw(scene: Scene, seed: int) -> Draw:
    """Choose a limit on some groups, certify it on others, and compare with the truth."""
    generator = np.random.default_rng([20261121, seed])
    probability, groups = scene.draw(generator)
    good = np.linspace(0, 1e-9, GOOD)
    chosen = choose_limits(
        np.concatenate([probability, good])[:, np.newaxis],
        np.ones(len(probability) + GOOD),
        np.arange(len(probability) + GOOD)[:, np.newaxis] < len(probability),
        np.concatenate([groups, scene.groups + np.arange(GOOD)]),
        wanted_escape_rate=scene.wanted,
        review_budget=BUDGET,
        classes=("spot",),
        split_digest="",
        seed=seed,
    )
    (limit,) = chosen.operating_point.pass_below
    tested, tested_groups = scene.draw(generator)
    parts = [
        PartResult(
            path=str(i),
            part=str(i),
            group=str(group),
            label="spot",
            bad=True,
            probabilities=(p,),
            novelty=1.0,
            disposition="pass" if p < limit else "fail",
        )
        for i, (p, group) in enumerate(zip(tested.tolist(), tested_groups.tolist(), strict=True))
    ]
    found = certify(parts, wanted_escape_rate=scene.wanted, classes=("spot",), seed=seed)
    truth = scene.true_rate(limit)
    return Draw(
        covered=found.escape_bound >= truth,
        naive_covered=found.naive_escape_bound >= truth,
        limits_covered=chosen.bound.bound >= truth,
        certified=found.certified,
        wrong=found.certified and truth > scene.wanted,
        true_rate=truth,
        bound=found.escape_bound,
    )


def scenes(population: Path | None) -> list[Scene]:
    """The populations of the study."""
    if population is not None:
        probability, group = read_population(population)
        count, size = len(np.unique(group)), round(len(group) / len(np.unique(group)))
        return [
            Scene(
                name=f"{population.stem}, {used} groups",
                groups=used,
                size=size,
                correlation=float("nan"),
                wanted=0.1,
                population=(probability, group),
            )
            for used in (count, 2 * count)
        ]
    few = partial(Scene, name="6 groups", groups=6, size=30, wanted=0.2)
    many = partial(Scene, name="20 groups", groups=20, size=10, wanted=0.1)
    return [
        Scene(name="independent", groups=160, size=1, correlation=0.0, wanted=0.05),
        Scene(name="independent", groups=400, size=1, correlation=0.0, wanted=0.01),
        *(many(correlation=correlation) for correlation in (0.0, 0.1, 0.3, 0.6)),
        *(few(correlation=correlation) for correlation in (0.1, 0.3, 0.6)),
    ]


def read_population(file: Path) -> Parts:
    """Largest probability and group of every bad part in a CSV of `inspection evaluate`."""
    with file.open(encoding="utf-8", newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["label"] != "good"]
    columns = [name for name in rows[0] if name.startswith("probability_")]
    probability = np.array([max(float(row[name]) for name in columns) for row in rows])
    return probability, np.unique([row["group"] for row in rows], return_inverse=True)[1]


def share(count: int, of: int) -> str:
    """A share with its exact interval, in per cent."""
    low, high = clopper_pearson(count, of)
    return f"{100 * count / of:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> int:
    """Run the study, print its table; 1 when a bound holds less often than it promises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--population", type=Path, help="a CSV of `inspection evaluate --csv`")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="20 draws of each population")
    asked = parser.parse_args()
    draws = 20 if asked.short else asked.draws
    print(
        "| population | bad parts a draw | correlation | wanted, % | mean true rate, % "
        "| mean bound, % | certified, % | covered, % | naive covered, % | wrong, % "
        "| limits covered, % |"
    )
    print("|" + "---|" * 11)
    short_of_promise = False
    begun = time.perf_counter()
    with ProcessPoolExecutor(asked.workers) as pool:
        for scene in scenes(asked.population):
            found = list(pool.map(partial(one_draw, scene), range(draws), chunksize=5))
            covered = sum(each.covered for each in found)
            cells = [
                scene.name,
                str(scene.groups * scene.size),
                "its own" if scene.population else f"{scene.correlation:g}",
                f"{100 * scene.wanted:g}",
                f"{100 * np.mean([each.true_rate for each in found]):.2f}",
                f"{100 * np.mean([each.bound for each in found]):.2f}",
                f"{100 * np.mean([each.certified for each in found]):.1f}",
                share(covered, draws),
                share(sum(each.naive_covered for each in found), draws),
                share(sum(each.wrong for each in found), draws),
                share(sum(each.limits_covered for each in found), draws),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            short_of_promise |= clopper_pearson(covered, draws)[1] < 0.95
    print(f"\n{draws} draws each, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return int(short_of_promise)


if __name__ == "__main__":
    sys.exit(main())
