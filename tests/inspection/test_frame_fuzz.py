"""A bounded fuzz run over the decoders: no crash, no hang, no growth of memory.

The longer run of the same mutations is `benchmarks/hostile/fuzz.py`.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import ImageError
from inspection.frame import DecodeLimits, decode_image
from tests.mutations import damaged, seed_files

LIMITS = DecodeLimits(max_pixels=2**22)
SECONDS = 2.0
"""Of processor time, for files of 1 to 10 KB: a thousand times what one takes."""


def decoded(data: bytes) -> bool:
    """Whether a file was decoded; anything but pixels or an `ImageError` fails the test."""
    start = time.process_time()
    try:
        frame = decode_image(data, limits=LIMITS)
    except ImageError:
        return False
    finally:
        assert time.process_time() - start < SECONDS
    assert frame.pixels.dtype in (np.uint8, np.uint16)
    assert frame.pixels.shape[0] * frame.pixels.shape[1] <= LIMITS.max_pixels
    return True


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_the_seeds_are_decoded() -> None:
    assert all(decoded(data) for data in seed_files().values())


@pytest.mark.timeout(120)
@settings(max_examples=400, deadline=None)
@given(randomness=st.randoms(use_true_random=False))
def test_damaged_files_end_in_pixels_or_a_refusal(randomness: random.Random) -> None:
    decoded(damaged(randomness)[1])


@pytest.mark.timeout(120)
def test_damaged_pngs_take_no_references_with_them() -> None:
    """A decoder that forgot one of None with each file would end the process after thousands."""
    before = sys.getrefcount(None)
    for number in range(4000):
        name, data = damaged(random.Random(number))
        if name.startswith("png"):
            decoded(data)
    assert abs(sys.getrefcount(None) - before) < 50


@pytest.mark.timeout(120)
def test_refusing_takes_no_memory_that_stays() -> None:
    def some(count: int) -> None:
        for number in range(count):
            decoded(damaged(random.Random(number))[1])

    some(500)  # what libraries keep once, they have now
    before = resident_bytes()
    for _ in range(3):
        some(500)
    assert resident_bytes() - before < 8_000_000
