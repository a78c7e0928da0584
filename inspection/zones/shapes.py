"""Zones and their rules as a recipe writes them: polygons on the part, and what they allow.

    [[zones]]  name, view, polygon, [[zones.rules]] defects, largest_mm, most, spacing_mm, severity

Part coordinates are millimetres from the middle of the reference view: x to the right, y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from pydantic import ConfigDict

from inspection.errors import RecipeError

Point = tuple[float, float]

LEAST_AREA_MM2 = 0.01
MOST_CORNERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one zone allows of some classes of defect. What no rule names is not allowed.

    Attributes:
        defects: the classes that it is for; every class that no other rule of the zone names
            when there are none.
        largest_mm: the longest extent of one indication that is allowed; 0 allows none.
        most: how many of one class the zone may hold; any number when absent.
        spacing_mm: the smallest gap between two of one class; any when absent.
        severity: the highest level of the recipe's `severity_from_mm` that is allowed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    defects: tuple[str, ...] = ()
    largest_mm: float | None = None
    most: int | None = None
    spacing_mm: float | None = None
    severity: int | None = None

    def __post_init__(self) -> None:
        if len(set(self.defects)) != len(self.defects):
            raise RecipeError(f"a zone's rule names a class twice: {', '.join(self.defects)}")
        if self.largest_mm is None and self.severity is None:
            raise RecipeError(
                "a zone's rule needs largest_mm or severity",
                remedy="Give it largest_mm; 0 says that nothing of these classes is allowed.",
            )
        for name in ("largest_mm", "spacing_mm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise RecipeError(f"a zone's rule has {name} {value}: it is in mm, 0 or more")
        if self.most is not None and self.most < 0:
            raise RecipeError(f"a zone's rule has most {self.most}: it counts from 0")
        if self.severity is not None and self.severity < 0:
            raise RecipeError(f"a zone's rule has severity {self.severity}: levels count from 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """An area of the part and its rules.

    Zones may overlap: of those that an indication touches, the first in the recipe counts. So the
    strictest is written first, and the largest last.

    Attributes:
        name: as findings and reasons say it.
        polygon: corners (x, y) in part coordinates, in order; the last joins the first.
        rules: what it allows; nothing when there are none.
        view: the view that it is drawn over, in a recipe that has several.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    polygon: tuple[Point, ...]
    rules: tuple[Rule, ...] = ()
    view: str | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name.strip() != self.name or not self.name.isprintable():
            raise RecipeError(f"{self.name!r} cannot be a zone's name")
        if not 3 <= len(self.polygon) <= MOST_CORNERS:
            raise RecipeError(
                f"zone {self.name}: {len(self.polygon)} corners; a polygon has 3 to {MOST_CORNERS}"
            )
        if not all(math.isfinite(value) for point in self.polygon for value in point):
            raise RecipeError(f"zone {self.name}: a corner is not a pair of numbers")
        if (crossing := first_crossing(self.polygon)) is not None:
            first, second = (number + 1 for number in crossing)
            raise RecipeError(
                f"zone {self.name}: its sides {first} and {second} cross or touch",
                remedy="Write the corners in the order in which a pencil would go round.",
            )
        if abs(area_of(self.polygon)) < LEAST_AREA_MM2:
            raise RecipeError(f"zone {self.name}: it has no area")
        check_rules(self.rules, where=f"zone {self.name}")


def check_rules(rules: tuple[Rule, ...], *, where: str) -> None:
    """No class may be under two rules of one zone.

    Raises:
        RecipeError: one is.
    """
    named = [name for rule in rules for name in rule.defects]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise RecipeError(f"{where}: two rules name {', '.join(twice)}")
    if sum(not rule.defects for rule in rules) > 1:
        raise RecipeError(f"{where}: two rules are for every other class")


def rule_for(defect: str, rules: tuple[Rule, ...]) -> Rule | None:
    """The rule that names the class, else the one for every other class, else None."""
    others = None
    for rule in rules:
        if defect in rule.defects:
            return rule
        if not rule.defects:
            others = rule
    return others


def area_of(polygon: tuple[Point, ...]) -> float:
    """Signed area, positive where the corners go clockwise on the screen (y down)."""
    closed = (*polygon, polygon[0])
    return 0.5 * sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(closed))


def first_crossing(polygon: tuple[Point, ...]) -> tuple[int, int] | None:
    """Two sides, counted from 0, that cross or touch other than at a shared corner; or None."""
    count = len(polygon)
    for i in range(count):
        a, b = polygon[i], polygon[(i + 1) % count]
        if a == b:
            return i, (i + 1) % count
        for j in range(i + 1, count):
            c, d = polygon[j], polygon[(j + 1) % count]
            if j == i + 1:
                if _folds(a, b, d):
                    return i, j
            elif (j + 1) % count == i:
                if _folds(c, d, b):
                    return i, j
            elif _meet(a, b, c, d):
                return i, j
    return None


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _folds(a: Point, b: Point, c: Point) -> bool:
    """Whether the path a, b, c goes back over itself."""
    back = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) < 0
    return back and _turn(a, b, c) == 0


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments a-b and c-d share a point."""
    abc, abd, cda, cdb = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if ((abc > 0) != (abd > 0)) and ((cda > 0) != (cdb > 0)) and 0 not in (abc, abd, cda, cdb):
        return True
    return any(
        side == 0 and _between(p, q, r)
        for side, p, q, r in ((abc, a, b, c), (abd, a, b, d), (cda, c, d, a), (cdb, c, d, b))
    )


def _between(a: Point, b: Point, c: Point) -> bool:
    """Whether c, on the line through a and b, lies on the segment."""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])
