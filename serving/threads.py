"""Which threads go first where there are fewer cores than work.

    the event loop   refuses, and hands out what is done: in its turn within a millisecond
    workers, engine  judge: they have what is left, which is nearly all

Without this, 16 workers and an engine that want two cores let the loop wait its turn among them,
and a refusal that costs nothing takes as long as an answer (docs/decisions/0024-hot-path.md).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Final

NICENESS: Final = 5
SWITCH_S: Final = 0.001
"""How long a thread may keep Python's lock while another one wants it; Python's own is 5 ms."""


def take_turns() -> None:
    """Let no thread keep the others waiting for long; once, for the whole process."""
    sys.setswitchinterval(SWITCH_S)


def stand_back() -> None:
    """Let the threads that serve callers go before this one, and those that it starts."""
    with suppress(OSError, AttributeError):  # not on every system; then all are alike
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
