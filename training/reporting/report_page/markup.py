"""HTML out of Python calls, with everything escaped that is not markup already.

tag("td", "a < b", class_="name") gives <td class="name">a &lt; b</td>
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VOID = frozenset({"br", "hr", "img", "link", "meta", "col"})
# Without content, elements of SVG may close themselves; those of HTML may not.
SVG = frozenset({"circle", "line", "path", "polygon", "polyline", "rect"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter of the page; `anchor` is what the contents point to."""

    title: str
    anchor: str
    body: Markup


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        content: what stands in it; everything but `Markup` is escaped, None is left out.
        attributes: `class_` for class, `data_key` for data-key; None and False are left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{escape(str(value))}"')
    opening = " ".join(words)
    if name in VOID:
        return Markup(f"<{opening}>")
    if name in SVG and not content:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{join(*content)}</{name}>")


def join(*content: object) -> Markup:
    """Pieces one after another; everything but `Markup` is escaped, None is left out."""
    return Markup("".join(_safe(piece) for piece in content if piece is not None))


def paragraphs(*texts: object) -> Markup:
    """A paragraph each."""
    return join(*(tag("p", text) for text in texts))


def items(texts: Iterable[object], *, class_: str | None = None) -> Markup:
    """A list with a point each."""
    return tag("ul", *(tag("li", text) for text in texts), class_=class_)


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """A table of names and what they are; pairs whose second is None are left out."""
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", what))
        for name, what in pairs
        if what is not None
    ]
    return tag("table", tag("tbody", *rows), class_="facts")


def table(
    headings: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: object = None,
    words: int = 1,
    class_: str | None = None,
) -> Markup:
    """A table whose first column names the rows.

    Args:
        headings: of the columns.
        rows: the cells of each line.
        caption: above it.
        words: how many columns, from the left, hold words; the others hold figures.
        class_: of the element.
    """

    def side(column: int) -> str | None:
        return None if column < words else "n"

    head = tag(
        "tr", *(tag("th", text, scope="col", class_=side(i)) for i, text in enumerate(headings))
    )
    body = []
    for cells in rows:
        first, *others = cells
        body.append(
            tag(
                "tr",
                tag("th", first, scope="row"),
                *(tag("td", cell, class_=side(i)) for i, cell in enumerate(others, start=1)),
            )
        )
    return tag(
        "table",
        None if caption is None else tag("caption", caption),
        tag("thead", head),
        tag("tbody", *body),
        class_=class_,
    )


def _safe(piece: object) -> str:
    return piece if isinstance(piece, Markup) else escape(str(piece))
