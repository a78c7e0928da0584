"""A form means the same however its bytes arrive, and is refused when some of them do not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import RequestError
from serving.forms import Part, read_form

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


def read(content_type: str, chunks: list[bytes]) -> list[Part]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return asyncio.run(read_form(content_type, body()))


def encoded(fields: dict[str, str], image: bytes) -> tuple[str, bytes]:
    request = httpx.Request(
        "POST", "http://x", data=fields, files={"image": ("a.png", image, "image/png")}
    )
    return request.headers["Content-Type"], request.read()


@given(
    st.dictionaries(st.sampled_from(["station", "lot", "serial"]), TEXT),
    st.binary(max_size=400),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_fields_and_file_come_back_whatever_the_chunks(
    fields: dict[str, str], image: bytes, cuts: list[int]
) -> None:
    content_type, body = encoded(fields, image)
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[a:b] for a, b in itertools.pairwise(edges)]
    parts = read(content_type, chunks)
    assert {part.name: part.text() for part in parts if not part.is_file} == fields
    (file,) = [part for part in parts if part.is_file]
    assert (file.name, file.media_type, bytes(file.data)) == ("image", "image/png", image)


@given(st.binary(max_size=200), st.data())
def test_a_form_that_was_cut_off_is_refused(image: bytes, data: st.DataObject) -> None:
    content_type, body = encoded({"station": "x"}, image)
    # The last line end after the closing boundary is no part of the form.
    length = data.draw(st.integers(0, len(body) - 5))
    with pytest.raises(RequestError):
        read(content_type, [body[:length]])


@given(st.binary(max_size=300))
def test_anything_else_is_refused_or_read_but_never_a_fault(body: bytes) -> None:
    with contextlib.suppress(RequestError):
        read("multipart/form-data; boundary=x", [b"--x\r\n" + body])
