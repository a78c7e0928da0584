"""Whether engines agree: what becomes of the verdicts when the same weights run elsewhere.

    model.safetensors -> PyTorch -----------+
            | export                        |   the same parts, the same calibration and limits
    model.onnx -> ONNX Runtime -------------+-> verdicts -> a Pair for every two engines
            | precision                     |
    model.onnx -> the engine that serves ---+

Limits hold for the arithmetic that they were fitted in. A part that one engine fails and another
passes tells that the export, a runtime or a precision changed what the network says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from inspection.errors import RecipeError

_CLOSED = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the verdicts on the same parts differ between two engines.

    Attributes:
        parts: how many were judged by both.
        bad_parts: how many of them are bad.
        flips: how many verdicts differ, by kind: "pass -> review" is the first's pass, the second's
            review.
        bad_to_pass: how many bad parts pass under one of the two only, whichever it is.
        largest_difference: of a calibrated probability.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    parts: int
    bad_parts: int
    flips: dict[str, int]
    bad_to_pass: int
    largest_difference: float

    def __post_init__(self) -> None:
        if not 0 <= self.bad_to_pass <= self.bad_parts <= self.parts:
            raise RecipeError("an agreement counts bad parts that are not among its parts")
        if min(self.flips.values(), default=1) < 1 or not (
            self.bad_to_pass <= self.flipped <= self.parts
        ):
            raise RecipeError("an agreement counts flips that are not among its parts")
        if not 0 <= self.largest_difference <= 1:
            raise RecipeError("probabilities differ by 0 to 1")

    @property
    def flipped(self) -> int:
        """How many verdicts differ."""
        return sum(self.flips.values())

    def in_words(self) -> str:
        """Such as "1 of 660 verdicts differs (1 pass -> review); probabilities by up to 0.0004"."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.flips.items()))
        verb = "differs" if self.flipped == 1 else "differ"
        some = f"{self.flipped} of {self.parts} verdicts {verb} ({kinds})"
        said = some if self.flips else f"all {self.parts} verdicts agree"
        return f"{said}; probabilities differ by up to {self.largest_difference:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two engines, and what differs."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    first: str
    second: str
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a package records of its engines on the test parts.

    Attributes:
        serves: the engine and precision that limits and figures belong to.
        test_parts: how many there are; when fewer were compared, these were all bad ones and the
            good ones nearest to a limit.
        pairs: every two of the engines; the one that serves is among them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    serves: str
    test_parts: int
    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        if not any(self.serves in (pair.first, pair.second) for pair in self.pairs):
            raise RecipeError("an agreement compares the engine that serves with another one")
        if max(pair.changes.parts for pair in self.pairs) > self.test_parts:
            raise RecipeError("an agreement was made on more parts than there are")

    @property
    def parts(self) -> int:
        """How many parts every two engines were compared on."""
        return min(pair.changes.parts for pair in self.pairs)

    @property
    def bad_parts(self) -> int:
        """How many of them are bad."""
        return min(pair.changes.bad_parts for pair in self.pairs)

    @property
    def whole(self) -> bool:
        """Whether every test part was compared."""
        return self.parts == self.test_parts

    @property
    def bad_to_pass(self) -> int:
        """The most bad parts, of any two engines, that pass under one of them only."""
        return max(pair.changes.bad_to_pass for pair in self.pairs)

    @property
    def flipped(self) -> int:
        """The most verdicts in which two of the engines differ."""
        return max(pair.changes.flipped for pair in self.pairs)

    def in_words(self) -> str:
        """What it says, in a sentence."""
        names = [name for pair in self.pairs for name in (pair.first, pair.second)]
        engines = ", ".join(dict.fromkeys(names))
        on = f"{self.parts} test parts ({self.bad_parts} bad)"
        if not self.whole:
            on += f" of {self.test_parts}, all bad ones among them"
        if self.bad_to_pass:
            n = self.bad_to_pass
            said = f"{n} bad part{'s pass' if n != 1 else ' passes'} under one engine only"
        elif self.flipped:
            said = f"no bad part turns to pass, {self.flipped} other verdicts differ"
        else:
            said = "every verdict is the same"
        largest = max(pair.changes.largest_difference for pair in self.pairs)
        return f"{said}, on {on} under {engines}; probabilities differ by up to {largest:.2g}"
