"""Where each part comes from, what the machines measured, and what that causes.

    part n -> lot, machine, mould, cavity, shift -> melt temperature, pressure, cycle, die
           -> planted causes -> expected number of defects of each class -> how many there are

The planted causes are the truth that a search for causes should find; `truth()` writes them down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from inspection.serials import ALPHABET_32, SerialField, SerialFormat

if TYPE_CHECKING:
    import numpy as np

    from training.simulation.defects import DefectClass

PRODUCT: Final = "KN-42"
START: Final = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
CYCLE_S: Final = 55.0
LOT_PARTS: Final = 120
MACHINES: Final = ("LPC-1", "LPC-2")
MOULDS: Final = ("M1", "M2", "M3", "M4", "M5", "M6")
SERIALS: Final = SerialFormat(
    length=13,
    fields=(
        SerialField(name="plant", start=0, length=1, equals="K"),
        SerialField(name="mould", start=1, length=2),
        SerialField(name="date", start=3, length=4, date="%m%d"),
        SerialField(name="number", start=7, length=5),
    ),
)

# Expected defects a part where nothing is wrong.
BASE_RATE: Final[dict[DefectClass, float]] = {
    "gas-porosity": 0.55,
    "shrinkage-cavity": 0.03,
    "shrinkage-sponge": 0.03,
    "inclusion-less-dense": 0.03,
    "inclusion-more-dense": 0.02,
    "crack": 0.015,
    "cold-shut": 0.015,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One part's serial and everything that was measured while it was made."""

    number: int
    serial: str
    lot: str
    machine: str
    mould: str
    cavity: str
    shift: str
    cast_at: datetime
    melt_temperature_c: float
    pressure_mbar: float
    die_temperature_c: float
    cycle_s: float

    def process_values(self) -> dict[str, tuple[float, str]]:
        """By name: value and unit."""
        return {
            "melt-temperature": (self.melt_temperature_c, "degC"),
            "pressure": (self.pressure_mbar, "mbar"),
            "die-temperature": (self.die_temperature_c, "degC"),
            "cycle": (self.cycle_s, "s"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One planted cause: by how much the rate of a class is multiplied."""

    name: str
    defect_class: DefectClass
    words: str

    def factor(self, origin: Origin) -> float:
        """1 where it does not act."""
        return {
            "mould M3 leaks gas": 4.0 if origin.mould == "M3" else 1.0,
            "low pressure starves the feed": math.exp(max(0.0, 780 - origin.pressure_mbar) / 25),
            "hot melt dissolves gas": math.exp(max(0.0, origin.melt_temperature_c - 715) / 12),
            "cold die freezes the front": math.exp(max(0.0, 300 - origin.die_temperature_c) / 12),
            "cavity 2 of M5 tears": 8.0 if (origin.mould, origin.cavity) == ("M5", "2") else 1.0,
        }[self.name]


CAUSES: Final = (
    Cause(
        name="mould M3 leaks gas",
        defect_class="gas-porosity",
        words="parts of mould M3 have 4 times the gas pores",
    ),
    Cause(
        name="hot melt dissolves gas",
        defect_class="gas-porosity",
        words="above 715 degC, gas pores grow by e for each 12 K",
    ),
    Cause(
        name="low pressure starves the feed",
        defect_class="shrinkage-cavity",
        words="below 780 mbar, cavities grow by e for each 25 mbar",
    ),
    Cause(
        name="low pressure starves the feed",
        defect_class="shrinkage-sponge",
        words="below 780 mbar, sponge grows by e for each 25 mbar",
    ),
    Cause(
        name="cold die freezes the front",
        defect_class="cold-shut",
        words="below 300 degC of the die, cold shuts grow by e for each 12 K",
    ),
    Cause(
        name="cavity 2 of M5 tears",
        defect_class="crack",
        words="parts of cavity 2 of mould M5 have 8 times the cracks",
    ),
)


def origin_of(number: int, rng: np.random.Generator) -> Origin:
    """Where part `number` (from 0) comes from. Machines cast by turns, moulds change with lots."""
    lot = number // LOT_PARTS
    machine = MACHINES[number % len(MACHINES)]
    mould = MOULDS[(lot * len(MACHINES) + number % len(MACHINES)) % len(MOULDS)]
    cast_at = START + timedelta(seconds=CYCLE_S * number / len(MACHINES))
    hour = (cast_at.hour - 6) % 24
    swing = math.sin(2 * math.pi * lot / 7.0)
    payload = f"K{mould}{cast_at:%m%d}{_number(number)}"
    return Origin(
        number=number,
        serial=SERIALS.complete(payload).text,
        lot=f"AL-{lot + 1:04d}",
        machine=machine,
        mould=mould,
        cavity="12"[int(rng.integers(2))],
        shift=("early", "late", "night")[hour // 8],
        cast_at=cast_at,
        melt_temperature_c=round(705 + 8 * swing + float(rng.normal(0, 4)), 1),
        pressure_mbar=round(800 - 12 * swing + float(rng.normal(0, 12)), 1),
        die_temperature_c=round(318 + float(rng.normal(0, 9)), 1),
        cycle_s=round(CYCLE_S + float(rng.normal(0, 1.5)), 2),
    )


def expected(origin: Origin, least_rate: float = 0.0) -> dict[DefectClass, float]:
    """Expected number of defects of each class in a part of this origin, `least_rate` or more."""
    rates = dict(BASE_RATE)
    for cause in CAUSES:
        rates[cause.defect_class] *= cause.factor(origin)
    return {name: max(rate, least_rate) for name, rate in rates.items()}


def truth(least_rate: float = 0.0) -> dict[str, Any]:
    """What was planted, to be written beside the set."""
    return {
        "base_rate": dict(BASE_RATE),
        "least_rate": least_rate,
        "causes": [
            {"name": each.name, "class": each.defect_class, "words": each.words} for each in CAUSES
        ],
    }


def _number(number: int) -> str:
    """Five symbols of the 32-symbol alphabet."""
    return "".join(ALPHABET_32[number >> (5 * place) & 31] for place in reversed(range(5)))
