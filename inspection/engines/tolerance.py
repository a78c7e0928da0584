"""How far an engine's probabilities may lie from those of the plain network in float32.

By the backbone's arithmetic, whatever runs it: a little above what was measured on 660 parts
(docs/decisions/0011-gpu.md). The golden images of a package have limits of their own
(`inspection.golden`), which bf16 does not keep for a package that was fitted in float32.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inspection.package import Precision

TOLERANCE: Final[Mapping[Precision, float]] = MappingProxyType(
    {"f32": 1e-4, "f16": 1e-2, "bf16": 0.15}
)
