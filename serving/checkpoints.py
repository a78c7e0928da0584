"""Checkpoints while the server runs: signed now and then, handed to witnesses, never in the way.

every_s over, or every_records more  ->  CheckpointMaker.make  ->  witnesses
                                      what fails is logged, shown, and tried again; parts go on
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from inspection.errors import InspectionError
from inspection.proofs.key_files import read_or_make_key
from inspection.proofs.witnesses import name_of, parse_witness
from inspection.stores.checkpoints import CheckpointMaker, key_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.settings import Settings

log = logging.getLogger("serving")

LOOK_EVERY_S: Final = 1.0


class CheckpointKeeper:
    """The thread that makes checkpoints. Read its attributes from anywhere.

    Args:
        settings: of the server; `checkpoints` says how often and for whom.
        url: of the records.
        newest: how many records there are.

    Attributes:
        size: how many records the last checkpoint covers; None before the first.
        failing: why a witness does not have it, by its name; "checkpoint" when none could be made.

    Raises:
        ConfigurationError, InputError: the key cannot be read or made, or a witness is none.
    """

    def __init__(self, settings: Settings, url: str, newest: Callable[[], int]) -> None:
        wanted = settings.checkpoints
        key = read_or_make_key(wanted.key_file or key_path(settings.data_dir))
        witnesses = [parse_witness(text) for text in wanted.witnesses]
        self.key = key.verifier
        self.witnesses = tuple(name_of(each) for each in witnesses)
        self.size: int | None = None
        self.failing: dict[str, str] = {}
        self._wanted = wanted
        self._newest = newest
        self._maker = CheckpointMaker(url, key, witnesses)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="checkpoints", daemon=True)

    def start(self) -> None:
        """From now on, make checkpoints."""
        log.info("checkpoints", extra={"detail": f"signed by {self.key}"})
        self._thread.start()

    def close(self) -> None:
        """Make no more; one that is being made is finished."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._maker.close()

    def make(self) -> None:
        """Make one now, if there is anything new or a witness lacks the last one."""
        try:
            newest = self._newest()
            if not newest or (newest == self.size and not self.failing):
                return
            made = self._maker.make()
        except InspectionError as error:
            failing = {"checkpoint": str(error)}
        else:
            self.size = made.checkpoint.size
            failing = {e.witness: str(e.error) for e in made.handed if e.error is not None}
        for name, why in failing.items():
            log.error("checkpoint not witnessed", extra={"detail": f"{name}: {why}"})
        self.failing = failing

    def _keep(self) -> None:
        made_at = time.monotonic()
        while not self._closing.wait(min(LOOK_EVERY_S, self._wanted.every_s)):
            due = time.monotonic() - made_at >= self._wanted.every_s
            if due or self._many_more():
                try:
                    self.make()
                except Exception:  # the thread outlives whatever a witness or disk does
                    log.exception("checkpoint failed")
                made_at = time.monotonic()

    def _many_more(self) -> bool:
        many = self._wanted.every_records
        try:
            return bool(many) and self._newest() - (self.size or 0) >= many
        except InspectionError:
            return False
