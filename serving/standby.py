"""An engine on another server, and what happens while that is not there.

            ┌── a call fails, or a look finds it gone ──┐
            │                                           v
         at work                                      away: the fallback judges,
            ^                                           │   or EngineAway at once
            └── made anew, warm, golden images answered ┘

It never guesses: what judges has answered the package's golden images since it was last away, and
while nothing may judge, everybody is told so at once instead of after a deadline.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from inspection.engine import Engine
from inspection.errors import EngineAway, EngineError, InspectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from inspection.engine import Prediction

log = logging.getLogger("serving")

LOOK_EVERY_S: Final = 1.0


class RemoteEngine(Engine, Protocol):
    """An engine that can be asked whether it is there."""

    def check(self) -> None:
        """Whether its server is there and has the model.

        Raises:
            EngineAway: it is not, or has not.
        """
        ...


class StandbyEngine:
    """Keeps a remote engine at work, and says or does what is due while it is away.

    Args:
        make: makes the remote engine, ready to judge: warm, and its golden images answered.
        fallback: what judges while that is away, as ready; closed with this one. None refuses.
        look_every_s: how often it is looked at.

    Raises:
        ConfigurationError: `make` needs what is not installed. That the engine is away, or answers
            otherwise than the package was measured, is no error: it is put to work when it is
            there and right.
    """

    def __init__(
        self,
        make: Callable[[], RemoteEngine],
        *,
        fallback: Engine | None = None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._make = make
        self._fallback = fallback
        self._look_every_s = look_every_s
        self._remote: RemoteEngine | None = None
        self._away = ""
        self._lock = threading.Lock()
        self._look_now = threading.Event()
        self._closing = False
        try:
            self._remote = make()
        except EngineError as error:
            self._away = str(error)
            log.error("engine away", extra={"detail": self._away})
        self._keeper = threading.Thread(target=self._keep, name="standby", daemon=True)
        self._keeper.start()

    @property
    def description(self) -> str:
        """Of what judges now."""
        remote = self._remote
        if remote is not None:
            return remote.description
        if self._fallback is not None:
            return self._standing_in(self._fallback)
        return "none: Triton is away"

    @property
    def away(self) -> str | None:
        """Why the remote engine does not judge, in words; None while it does."""
        return self._away if self._remote is None else None

    @property
    def complaint(self) -> str | None:
        """Why nothing can be judged now; None while something judges."""
        return self.away if self._fallback is None else None

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each image, all from one engine; see `inspection.engine.Engine`.

        Raises:
            EngineAway: the remote engine is away and there is no fallback.
            EngineError: the engine that judges failed, or this one is closed.
        """
        if self._closing:
            raise EngineError("the engine is closed")
        remote = self._remote
        if remote is not None:
            try:
                return _signed(remote.infer(images), remote.description)
            except EngineAway as error:
                self._lost(remote, error)
            except EngineError:
                self._look_now.set()  # it may be of the image, and it may be of the model
                raise
        if self._fallback is None:
            raise EngineAway(self._away)
        return _signed(self._fallback.infer(images), self._standing_in(self._fallback))

    def close(self) -> None:
        """Stop; later calls of `infer` raise EngineError."""
        self._closing = True
        self._look_now.set()
        self._keeper.join()
        with self._lock:
            remote, self._remote = self._remote, None
            self._away = "the engine is closed"
        if remote is not None:
            remote.close()
        if self._fallback is not None:
            self._fallback.close()

    def _standing_in(self, fallback: Engine) -> str:
        return f"{fallback.description}, while Triton is away"

    def _lost(self, remote: RemoteEngine, why: InspectionError) -> None:
        with self._lock:
            if self._remote is not remote:
                return  # somebody else has seen it, and it may be back already
            self._away = str(why)
            self._remote = None
        log.error("engine away", extra={"detail": self._away})
        remote.close()

    def _keep(self) -> None:
        while not self._closing:
            self._look_now.wait(self._look_every_s)
            self._look_now.clear()
            if not self._closing:
                self._look()

    def _look(self) -> None:
        """Bring it back when it is away; otherwise see whether it still is there."""
        remote = self._remote
        try:
            if remote is not None:
                remote.check()
                return
            made = self._make()
        except InspectionError as error:
            if remote is not None:
                self._lost(remote, error)
            else:
                self._away = str(error)
            return
        except Exception as error:
            log.exception("engine not looked at")
            self._away = f"{type(error).__name__}: {error}"
            return
        with self._lock:
            self._remote = made
        log.info("engine back", extra={"detail": made.description})


def _signed(predictions: list[Prediction], engine: str) -> list[Prediction]:
    """The same, each saying which engine gave it: asked afterwards, it may be another by then."""
    return [replace(each, engine=engine) for each in predictions]
