"""Charts as SVG: lines, bands, bars and points over two axes.

    Chart(x=Axis(...), y=Axis(...)).band(...).line(...).drawn(title) -> <figure> with its key

Drawn here and not by a plotting library: a dozen plain charts take milliseconds so, equal figures
give equal bytes, and their text is the page's own, in its fonts, whatever script a class is named
in. Shapes differ in line and pattern as well as in colour, for a printer without colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.reporting.report_page.markup import Markup, join, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40  # of the plot, in the chart's own units
FEW_TICKS = 6


def plain(value: float) -> str:
    """A tick as people write it."""
    return f"{value:.6g}"


def percent(value: float) -> str:
    """A share as a tick."""
    return f"{100 * value:.4g} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One direction of a chart.

    Attributes:
        label: what it shows, with its unit.
        low, high: its ends; a range without extent is widened.
        form: how ticks are written.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    form: Callable[[float], str] = plain

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"an axis from {self.low} to {self.high} cannot be drawn")
        if self.high <= self.low:
            object.__setattr__(self, "high", self.low + (abs(self.low) or 1.0))

    def share(self, value: float) -> float:
        """Where a value lies between the ends; cut to 0..1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def ticks(self) -> list[float]:
        """Round values between the ends: steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / (FEW_TICKS - 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


@dataclass(slots=True, kw_only=True)
class Chart:
    """Layers over two axes; later ones lie above earlier ones.

    A layer's `kind` is a class of the style sheet: what colour, line and pattern it has.
    """

    x: Axis
    y: Axis
    width: int = 380
    height: int = 260
    _layers: list[Markup] = field(default_factory=list)
    _key: list[Markup] = field(default_factory=list)

    def line(
        self, xs: Sequence[float], ys: Sequence[float], kind: str, label: str | None = None
    ) -> Chart:
        """A line through points."""
        places = self._places(xs, ys)
        self._layers.append(tag("polyline", points=places, class_=f"line {kind}"))
        return self._named(label, tag("line", x1=1, y1=7, x2=25, y2=7, class_=f"line {kind}"))

    def band(
        self,
        xs: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        kind: str,
        label: str | None = None,
    ) -> Chart:
        """The area between two lines."""
        there = self._places(xs, low)
        back = self._places(list(reversed(xs)), list(reversed(high)))
        self._layers.append(tag("polygon", points=f"{there} {back}", class_=f"band {kind}"))
        return self._named(label, tag("rect", x=1, y=2, width=24, height=10, class_=f"band {kind}"))

    def bars(
        self,
        edges: Sequence[float],
        heights: Sequence[float],
        kind: str,
        label: str | None = None,
        *,
        side: tuple[float, float] = (0.0, 1.0),
    ) -> Chart:
        """A bar between each two edges; `side` is the share of the width that it takes."""
        floor = self._y(self.y.low)
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height <= 0:
                continue
            start, end = (left + share * (right - left) for share in side)
            top = self._y(height)
            self._layers.append(
                tag(
                    "rect",
                    x=_short(self._x(start)),
                    y=_short(top),
                    width=_short(self._x(end) - self._x(start)),
                    height=_short(floor - top),
                    class_=f"bar {kind}",
                )
            )
        return self._named(label, tag("rect", x=1, y=2, width=24, height=10, class_=f"bar {kind}"))

    def points(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        kind: str,
        label: str | None = None,
        *,
        low: Sequence[float] = (),
        high: Sequence[float] = (),
    ) -> Chart:
        """Points, with a bar from `low` to `high` through each where these are given."""
        for place, bottom, top in zip(xs, low, high, strict=False):
            at = _short(self._x(place))
            ends = {"y1": _short(self._y(bottom)), "y2": _short(self._y(top))}
            self._layers.append(tag("line", x1=at, x2=at, **ends, class_=f"whisker {kind}"))
        for place, value in zip(xs, ys, strict=True):
            centre = {"cx": _short(self._x(place)), "cy": _short(self._y(value))}
            self._layers.append(tag("circle", **centre, r=3.2, class_=f"point {kind}"))
        return self._named(label, tag("circle", cx=13, cy=7, r=3.2, class_=f"point {kind}"))

    def upright(self, value: float, kind: str, label: str | None = None) -> Chart:
        """A line from bottom to top, where the axis reaches it."""
        if self.x.low <= value <= self.x.high:
            at = _short(self._x(value))
            ends = {"y1": TOP, "y2": self.height - BOTTOM}
            self._layers.append(tag("line", x1=at, x2=at, **ends, class_=f"line {kind}"))
        return self._named(label, tag("line", x1=1, y1=7, x2=25, y2=7, class_=f"line {kind}"))

    def beside(self, x: float, y: float, words: str) -> Chart:
        """Small words to the right of a point, or to its left near the right end."""
        right = self.x.share(x) < 0.9
        at = self._x(x) + (6 if right else -6)
        place = {"x": _short(at), "y": _short(self._y(y) + 3.5)}
        self._layers.append(tag("text", words, **place, class_="tick" if right else "tick end"))
        return self

    def zone(self, low: float, high: float, kind: str, label: str | None = None) -> Chart:
        """All between two places of the horizontal axis."""
        left, right = self._x(low), self._x(high)
        box = {"x": _short(left), "y": TOP, "width": _short(max(0.0, right - left))}
        height = self.height - BOTTOM - TOP
        self._layers.append(tag("rect", **box, height=height, class_=f"band {kind}"))
        return self._named(label, tag("rect", x=1, y=2, width=24, height=10, class_=f"band {kind}"))

    def drawn(self, title: str, note: object = None) -> Markup:
        """The chart under its title, its key and a note below."""
        picture = tag(
            "svg",
            tag("title", title),
            self._frame(),
            *self._layers,
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            class_="chart",
        )
        key = tag("span", *self._key, class_="key") if self._key else None
        caption = tag("figcaption", key, None if note is None else tag("span", note, class_="note"))
        heading = tag("div", title, class_="chart-title")
        return tag("figure", heading, picture, caption if key or note is not None else None)

    def _frame(self) -> Markup:
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        pieces = []
        for value in self.x.ticks():
            at = _short(self._x(value))
            pieces.append(tag("line", x1=at, x2=at, y1=TOP, y2=bottom, class_="grid"))
            text = self.x.form(value)
            pieces.append(tag("text", text, x=at, y=bottom + 14, class_="tick middle"))
        for value in self.y.ticks():
            height = self._y(value)
            pieces.append(
                tag("line", x1=LEFT, x2=right, y1=_short(height), y2=_short(height), class_="grid")
            )
            text = self.y.form(value)
            pieces.append(tag("text", text, x=LEFT - 6, y=_short(height + 3.5), class_="tick end"))
        centre, middle = (LEFT + right) / 2, (TOP + bottom) / 2
        pieces.append(
            tag("text", self.x.label, x=_short(centre), y=self.height - 6, class_="axis middle")
        )
        turned = f"translate(11 {_short(middle)}) rotate(-90)"
        pieces.append(tag("text", self.y.label, transform=turned, class_="axis middle"))
        outline = {"width": right - LEFT, "height": bottom - TOP}
        pieces.append(tag("rect", x=LEFT, y=TOP, **outline, class_="frame"))
        return join(*pieces)

    def _named(self, label: str | None, swatch: Markup) -> Chart:
        if label is not None:
            small = tag("svg", swatch, viewBox="0 0 26 14", class_="swatch", aria_hidden="true")
            self._key.append(tag("span", small, label, class_="entry"))
        return self

    def _x(self, value: float) -> float:
        return LEFT + self.x.share(value) * (self.width - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return self.height - BOTTOM - self.y.share(value) * (self.height - TOP - BOTTOM)

    def _places(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        pairs = zip(xs, ys, strict=True)
        return " ".join(f"{_short(self._x(x))},{_short(self._y(y))}" for x, y in pairs)


def _short(value: float) -> str:
    """A coordinate to a tenth of a unit: what no eye can tell apart."""
    return f"{value:.1f}".removesuffix(".0")
