"""Memory of a server that exchanges models for months: what was freed is used again, or given back.

    few_arenas()  once, before there are threads: what one thread frees another one takes
    give_back()   when an engine is gone: free memory -> the system

glibc gives each few threads an arena of their own and keeps there what they free. Every new engine
brings new threads, so that a server under load held more with each model it exchanged, although no
byte was lost: docs/decisions/0025-life.md has the figures. Another C library is left as it is.
"""

from __future__ import annotations

import ctypes
from typing import Final

ARENAS: Final = 2
_M_ARENA_MAX: Final = -8
"""From malloc.h; see mallopt(3)."""


def few_arenas() -> None:
    """Let all threads share two arenas: Python's own lock leaves little for them to fight over."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give free memory back to the system, in milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
