"""What the zones of a recipe allow where, as a map over the judged region.

zones, the strictest first, over what is allowed elsewhere -> longest extent allowed, cell by cell

Where a part lies exactly is not known here: cells are those of the reference view. So a recipe
whose zones are told to a network holds parts nearer to that view (`held_near`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inspection.zones.shapes import rule_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.recipe import Recipe
    from inspection.zones.shapes import Rule

SUBPIXEL_BITS = 4
WITHIN_MM, WITHIN_DEG = 2.5, 2.0
"""How far off the reference view a part may lie where a network is told zones as they lie there. Of
simulated castings, off by 0.6 mm and 0.6 degrees each way, one in a thousand lies farther."""


def allowed_mm(recipe: Recipe, grid: tuple[int, int]) -> NDArray[np.float32] | None:
    """(K, h, w) the longest extent that each cell's zone allows of each class, mm.

    0 where it allows none, infinity where it sets no bound; None where the recipe draws no zones,
    or draws them over several views.

    Args:
        recipe: with `frame_size_px` and `pitch_mm` where it has zones.
        grid: (h, w) of the map.
    """
    frame, pitch = recipe.frame_size_px, recipe.pitch_mm
    if not tells_zones(recipe) or frame is None or pitch is None:
        return None
    region = recipe.judged_region(frame)
    scale = np.array([grid[1] / region.width, grid[0] / region.height])
    corner = np.array([region.left, region.top])
    middle = 0.5 * (np.array(frame[::-1]) - 1)
    found = np.empty((len(recipe.classes), *grid), np.float32)
    for k, name in enumerate(recipe.classes):
        found[k] = _longest(rule_for(name, recipe.elsewhere), recipe.severity_from_mm)
        for zone in reversed(recipe.zones):
            pixels = middle + np.array(zone.polygon) / pitch
            cells = (pixels + 0.5 - corner) * scale - 0.5
            outline = np.rint(cells * 2**SUBPIXEL_BITS).astype(np.int32)
            longest = _longest(rule_for(name, zone.rules), recipe.severity_from_mm)
            cv2.fillPoly(found[k], [outline], longest, shift=SUBPIXEL_BITS)
    return found


def held_near(recipe: Recipe) -> Recipe:
    """The recipe as a network that is told its zones needs it: what lies far off is misaligned."""
    if not tells_zones(recipe):
        return recipe
    references = tuple(
        replace(
            each,
            max_shift_mm=min(each.max_shift_mm, WITHIN_MM),
            max_turn_deg=min(each.max_turn_deg, WITHIN_DEG),
        )
        for each in recipe.references
    )
    return replace(recipe, references=references)


def tells_zones(recipe: Recipe) -> bool:
    """Whether a map of what is allowed can be drawn: zones over one view."""
    return bool(recipe.zones) and len(recipe.references) == 1


def _longest(rule: Rule | None, severity_from_mm: Sequence[float]) -> float:
    """The longest extent that a rule allows, whatever it says of number and spacing."""
    if rule is None:
        return 0.0
    longest = math.inf if rule.largest_mm is None else rule.largest_mm
    if rule.severity is not None:
        ends = dict(enumerate(severity_from_mm)).get(rule.severity, math.inf)
        longest = min(longest, ends)
    return longest
