"""From a serial as somebody writes it to the name under which the part is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection.errors import NotFound, SerialError
from inspection.lives import lives_of
from inspection.names import normalise_trace_id
from inspection.record import UNREAD

if TYPE_CHECKING:
    from inspection.lives import Life
    from serving.state import Server


def written_name(server: Server, product: str, text: str) -> tuple[str, SerialError | None]:
    """A part's name in its one written form, and why it cannot be a mark of the product.

    Raises:
        NotFound: a provisional identity that holds no trace ID.
    """
    mark = text.strip()
    if mark.lower().startswith(UNREAD):
        return UNREAD + normalise_trace_id(mark[len(UNREAD) :]), None
    try:
        return server.written_serial(text, product), None
    except SerialError as error:
        return mark, error  # it may still be on record from before the format was what it is


def name_to_add_to(server: Server, product: str, text: str) -> str:
    """The name of a part about which something is to be added; it need not be on record yet.

    Raises:
        SerialError: it does not fit the product's marks, and is not on record from before.
        NotFound: it is a provisional identity that is not on record.
    """
    name, refused = written_name(server, product, text)
    if refused is not None or name.startswith(UNREAD):
        known = server.records.part_history(product, name)
        if not known and refused is not None:
            raise refused
        if not known:
            raise _unknown(product, name)
    return name


def life_of(server: Server, product: str, text: str) -> Life:
    """A part's life, by any of its names.

    Raises:
        NotFound: nothing is recorded of such a part.
        SerialError: nothing is, and the serial does not fit the product's marks either.
    """
    name, refused = written_name(server, product, text)
    life = lives_of(server.records, product, [name]).get(name)
    if life is None:
        raise refused if refused is not None else _unknown(product, name)
    return life


def _unknown(product: str, name: str) -> NotFound:
    return NotFound(f"nothing is recorded of a part {name!r} of product {product!r}")
