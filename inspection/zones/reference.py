"""The reference view as a recipe names it: a file beside it, and how far a part may lie off it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from inspection.errors import RecipeError

_FILE_NAME = re.compile(r"reference(-[A-Za-z0-9_-]{1,40})?\.(png|tif|tiff)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A view of a good part, to which every image of that view is aligned.

    Attributes:
        file: its name, in the folder of the recipe; it travels in the package.
        sha256: of that file, in hex.
        view: which view it is, in a recipe that has several.
        max_shift_mm: how far the part's middle may lie from where the reference has it.
        max_turn_deg: how far it may be turned.
        max_scale: how much larger or smaller it may be, as a share.
        least_agreement: the least correlation of the aligned structure, 0 to 1: below it, it is
            another part.
        least_tile_agreement: the same in each tile of the view that shows structure, a 64th of it:
            below it a hole or a rib may be missing, and the part does not pass; -1 asks nothing.
        edge_mm: how far an edge of a good part may lie off the reference's; nearer than that to an
            edge, only what is stronger than the edge is measured.
        least_contrast: differences below it, relative, are the tolerance of a good part's walls.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    file: str
    sha256: str
    view: str | None = None
    max_shift_mm: float = 5.0
    max_turn_deg: float = 5.0
    max_scale: float = 0.02
    least_agreement: float = 0.8
    least_tile_agreement: float = 0.7
    edge_mm: float = 0.3
    least_contrast: float = 0.01

    def __post_init__(self) -> None:
        if not is_reference_name(self.file):
            raise RecipeError(
                f"a reference view cannot be called {self.file!r}",
                remedy="Call it reference.png, or reference-VIEW.png; .tif does too.",
            )
        if not _DIGEST.fullmatch(self.sha256):
            raise RecipeError(f"{self.file}: sha256 is 64 hex digits, in small letters")
        if not (math.isfinite(self.max_shift_mm) and self.max_shift_mm > 0):
            raise RecipeError(f"{self.file}: max_shift_mm {self.max_shift_mm} is not above 0")
        if not 0 < self.max_turn_deg <= 45:
            raise RecipeError(f"{self.file}: max_turn_deg {self.max_turn_deg} is outside 0..45")
        if not 0 <= self.max_scale <= 0.1:
            raise RecipeError(f"{self.file}: max_scale {self.max_scale} is outside 0..0.1")
        if not 0 < self.least_agreement < 1:
            raise RecipeError(f"{self.file}: least_agreement lies between 0 and 1")
        if not -1 <= self.least_tile_agreement < 1:
            raise RecipeError(f"{self.file}: least_tile_agreement lies between -1 and 1")
        if not 0 <= self.edge_mm <= 5:
            raise RecipeError(f"{self.file}: edge_mm {self.edge_mm} is outside 0..5")
        if not 0 <= self.least_contrast < 1:
            raise RecipeError(f"{self.file}: least_contrast lies between 0 and 1")


def is_reference_name(name: str) -> bool:
    """Whether a file is a reference view by its name: reference.png, reference-left.tif."""
    return _FILE_NAME.fullmatch(name) is not None
