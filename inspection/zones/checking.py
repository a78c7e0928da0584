"""What must hold between a recipe's zones, its reference views and the rest of it."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from inspection.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.zones.reference import Reference
    from inspection.zones.shapes import Rule, Zone

COARSEST_MM = 10.0


def check_zones(
    *,
    zones: Sequence[Zone],
    elsewhere: Sequence[Rule],
    references: Sequence[Reference],
    severity_from_mm: Sequence[float],
    pitch_mm: float | None,
    frame_size_px: tuple[int, int] | None,
    views: Sequence[str] | None,
    classes: Sequence[str],
) -> None:
    """See `inspection.recipe.Recipe` for what each of these is.

    Raises:
        RecipeError: the first thing that does not hold.
    """
    if pitch_mm is not None and not (math.isfinite(pitch_mm) and 0 < pitch_mm <= COARSEST_MM):
        raise RecipeError(f"pitch_mm {pitch_mm} is out of range: above 0, at most {COARSEST_MM:g}")
    if (zones or elsewhere) and not references:
        raise RecipeError(
            "zones are drawn over a reference view, and the recipe names none",
            remedy="Add [[references]] with file and sha256: `inspection recipe draft` does so.",
        )
    if references and (pitch_mm is None or frame_size_px is None):
        missing = "pitch_mm" if pitch_mm is None else "frame_size_px"
        raise RecipeError(
            f"a recipe with a reference view needs {missing}",
            remedy="Give the size of a pixel on the part in mm, and the frame's height and width.",
        )
    _check_views(zones, references, views)
    _check_rules(zones, elsewhere, severity_from_mm, classes)
    if pitch_mm is not None and frame_size_px is not None:
        half_y, half_x = (0.5 * size * pitch_mm for size in frame_size_px)
        for zone in zones:
            outside = [p for p in zone.polygon if abs(p[0]) > half_x or abs(p[1]) > half_y]
            if outside:
                raise RecipeError(
                    f"zone {zone.name}: corner ({outside[0][0]:g}, {outside[0][1]:g}) mm lies "
                    f"outside the reference view, which reaches from its middle {half_x:g} mm to "
                    f"the sides and {half_y:g} mm up and down"
                )


def _check_views(
    zones: Sequence[Zone], references: Sequence[Reference], views: Sequence[str] | None
) -> None:
    shown = [reference.view for reference in references]
    for each, what in (
        (Counter(shown), "two reference views are of"),
        (Counter(reference.file for reference in references), "two reference views are in"),
        (Counter((zone.view, zone.name) for zone in zones), "two zones are called"),
    ):
        name, count = each.most_common(1)[0] if each else (None, 0)
        if count > 1:
            told = name[1] if isinstance(name, tuple) else name
            raise RecipeError(f"{what} {'the same view' if told is None else told}")
    wanted: set[str | None] = {None} if views is None else set(views)
    if references and set(shown) != wanted:
        if views is None:
            raise RecipeError("a reference view names a view, and the recipe has no `views`")
        raise RecipeError(f"each of the views {', '.join(views)} needs a reference view")
    for zone in zones:
        if zone.view not in wanted:
            if views is None:
                raise RecipeError(f"zone {zone.name} names a view, and the recipe has no `views`")
            raise RecipeError(f"zone {zone.name} needs a view, one of {', '.join(views)}")


def _check_rules(
    zones: Sequence[Zone],
    elsewhere: Sequence[Rule],
    severity_from_mm: Sequence[float],
    classes: Sequence[str],
) -> None:
    rising = all(low < high for low, high in pairwise(severity_from_mm))
    if not rising or not all(math.isfinite(v) and v >= 0 for v in severity_from_mm):
        raise RecipeError("severity_from_mm holds sizes in mm, each larger than the one before")
    for where, rules in (
        *((f"zone {zone.name}", zone.rules) for zone in zones),
        ("elsewhere", elsewhere),
    ):
        for rule in rules:
            unknown = [name for name in rule.defects if name not in classes]
            if unknown:
                raise RecipeError(
                    f"{where}: a rule names {unknown[0]!r}; the classes are {', '.join(classes)}"
                )
            if rule.severity is not None and rule.severity > len(severity_from_mm):
                raise RecipeError(
                    f"{where}: severity {rule.severity}, and severity_from_mm has "
                    f"{len(severity_from_mm)} levels"
                )
