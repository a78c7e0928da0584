"""Memory of a server that exchanges models for months: what was freed is used again, or given back.

    few_arenas()  once, before there are threads: what one thread frees another one takes
    give_back()   when an engine is gone: free memory -> the system

glibc gives each few threads an arena of their own and keeps there what they free. Every new engine
brings new threads, so that a server under load held more with each model it exchanged, although no
byte was lost: docs/decisions/0025-life.md has the figures. Large pieces it gives back at once, and
the kernel clears their pages anew for the next image, 5 ms for each 8 MiB: so a few of them stay.
Another C library is left as it is.
"""

from __future__ import annotations

import ctypes
from typing import Final

ARENAS: Final = 2
KEPT_PIECE: Final = 32 * 1024 * 1024
"""Larger ones are given back when they are freed; glibc allows no more."""

KEPT_FREE: Final = 64 * 1024 * 1024
"""How much may be free at the end of an arena before it is given back."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""From malloc.h; see mallopt(3)."""


def few_arenas() -> None:
    """Let all threads share two arenas: Python's own lock leaves little for them to fight over."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, KEPT_PIECE)
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE)


def give_back() -> None:
    """Give free memory back to the system, in milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
