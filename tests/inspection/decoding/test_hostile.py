"""Files made to do harm meet a refusal that says why, in bounded work and memory."""

from __future__ import annotations

import logging
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from inspection.canonical import canonical_bytes
from inspection.errors import ImageError
from inspection.frame import decode_image
from tests.hostile_images import hostile_images

if TYPE_CHECKING:
    from tests.hostile_images import Hostile

CORPUS = hostile_images()
BOUND = 340_000_000
"""Bytes: a file, the 128 MiB of the largest image, and as much again while it is unpacked."""


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", CORPUS)
def test_it_is_refused_or_decoded_as_the_corpus_says(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile: Hostile = CORPUS[name]
    with caplog.at_level(logging.DEBUG):
        if hostile.refused is None:
            frame = decode_image(hostile.data)
            assert frame.pixels.size
            assert canonical_bytes(frame.acquisition), "what it says can be written down"
        else:
            with pytest.raises(ImageError) as caught:
                decode_image(hostile.data)
            assert type(caught.value) is hostile.refused
            assert caught.value.remedy
            assert len(str(caught.value)) < 400, "no file writes our logs"
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")


def test_no_file_takes_more_memory_than_the_largest_image() -> None:
    large = ("bomb", "unpack", "million", "huge", "gigabytes", "two-billion")
    chosen = [name for name in CORPUS if any(word in name for word in large)]
    assert len(chosen) > 10
    for name in chosen:
        hostile = CORPUS[name]
        tracemalloc.start()
        try:
            decode_image(hostile.data)
        except ImageError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < BOUND, (name, peak)
