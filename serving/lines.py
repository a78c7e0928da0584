"""The models at work: for each product the promoted one, exchanged while parts come in.

    promotions change -> package (digests) -> engine -> warm -> pointer -> the old one drains
    an engine hangs   -> the same, with the package that it had; what hung is left behind
    neither works     -> tried again, later and later (`patience.py`), then given up

A package that cannot be put to work leaves what served before where it is, and says so; only a
product that has never had a working model, or whose model was retired, is refused. What was given
up is tried anew after another line in the log of promotions, or a restart. Whoever judges holds its
line for as long as that takes, so nobody's engine is closed under them, and an engine runs one
package only: no batch is ever of two models.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from inspection.errors import EngineError, InspectionError, NoPromotedModel, UnknownProduct
from inspection.pipeline import Line
from inspection.promotions import in_force, retired_in, retirement
from inspection.registry import LOG_NAME
from serving.batching import BatchingEngine
from serving.memory import give_back
from serving.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from inspection.package import ModelPackage
    from inspection.registry import Promotion, Registry

    Judge = Line | InspectionError
    MakeLine = Callable[[ModelPackage], Line]

log = logging.getLogger("serving")

LOOK_EVERY_S: Final = 1.0
"""How often the log of promotions is looked at: one `stat` of a small file."""


def complaint_of(line: Judge) -> str | None:
    """Why nothing can be judged with it now, in words; None while it is well."""
    if not isinstance(line, Line):
        return str(line)
    if not isinstance(line.engine, BatchingEngine):
        return None
    return line.engine.complaint or line.engine.unable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """A promotion that could not be put to work; `line` names it in the log."""

    line: str
    error: InspectionError
    patience: Patience = field(default_factory=Patience)


@dataclass(slots=True, kw_only=True)
class _Hung:
    """What became of a product's engines: `package` waits for one where its own has hung."""

    package: ModelPackage | None = None
    patience: Patience = field(default_factory=lambda: Patience(at_once=True))


class Lines(Mapping[str, "Line | InspectionError"]):
    """What each listed product is judged with now, or why it cannot be judged.

    Read it like a mapping; what it shows of a product is replaced as a whole, never changed.

    Args:
        registry: which package is promoted for which product.
        make: puts a package to work; it returns only when the engine is warm.
        products: the listed ones; every one with a promoted model when empty.

    Raises:
        RegistryError: the log of promotions does not hold.
    """

    def __init__(self, registry: Registry, make: MakeLine, *, products: Iterable[str] = ()) -> None:
        self._registry = registry
        self._make = make
        self._listed = tuple(products)
        self._at_work: dict[str, Line | InspectionError] = {}
        self._refused: dict[str, _Refused] = {}
        self._hung: dict[str, _Hung] = {}
        self._tried: dict[str, str] = {}
        self._held: Counter[int] = Counter()
        self._leaving: dict[int, Line] = {}
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._closing = threading.Event()
        self._seen: object = None
        self._unread = ""
        self._closed_one = False
        self._keeper = threading.Thread(target=self._keep, name="models", daemon=True)
        self.refresh()

    def __getitem__(self, product: str) -> Line | InspectionError:
        """What the product is judged with, or why it cannot be."""
        return self._at_work[product]

    def __iter__(self) -> Iterator[str]:
        """The listed products."""
        return iter(self._at_work)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._at_work)

    @contextmanager
    def use(self, product: str) -> Iterator[Line]:
        """What the product is judged with, for as long as the block takes.

        Raises:
            UnknownProduct: it is not listed.
            ConfigurationError, EngineError: its model could not be put to work.
        """
        with self._lock:
            line = self._at_work.get(product)
            if isinstance(line, Line):
                self._held[id(line)] += 1
        if line is None:
            raise UnknownProduct(f"this server does not list a product {product!r}")
        if not isinstance(line, Line):
            # A new one each time: an error collects the frames of everybody who raises it.
            raise type(line)(str(line), remedy=line.remedy) from line
        try:
            yield line
        finally:
            with self._lock:
                self._held[id(line)] -= 1
                last = self._held[id(line)] == 0
                gone = self._leaving.pop(id(line), None) if last else None
                if last:
                    del self._held[id(line)]
            if gone is not None:
                gone.engine.close()
                self._closed_one = True

    def refused(self, product: str, line: Promotion | None = None) -> InspectionError | None:
        """Why the package that is promoted now does not judge, although an older one does.

        None where it was another `line` of the log that did not work: this one was not tried yet.
        """
        refused = self._refused.get(product)
        if refused is None or (line is not None and refused.line != line.previous):
            return None
        return refused.error

    @property
    def hanging(self) -> bool:
        """Whether an engine that is to judge now has stopped or hangs, and is not replaced yet."""
        return any(
            isinstance(line, Line)
            and isinstance(line.engine, BatchingEngine)
            and line.engine.complaint is not None
            for line in self._at_work.values()
        )

    @property
    def gone(self) -> bool:
        """Whether nothing is judged any more because engines hung: only a new process may help."""
        hung = [
            product
            for product, each in list(self._hung.items())
            if each.package is not None and each.patience.given_up
        ]
        return bool(hung) and not any(isinstance(each, Line) for each in self._at_work.values())

    def watch(self) -> None:
        """From now on, take up promotions as they come."""
        self._keeper.start()

    def refresh(self) -> None:
        """Bring every product to what is promoted for it now.

        Raises:
            RegistryError: the log of promotions does not hold; all stays as it was.
        """
        with self._changing:
            found = self._signature()
            history = self._registry.history()
            self._stop_retired(retired_in(history))
            promoted = in_force(history)
            known = {line.product for line in history}
            for product in self._listed or sorted({*known, *self._at_work}):
                self._bring(product, promoted.get(product))
            self._seen = found  # now, so that what could not be read is looked at again
            self._unread = ""

    def close(self) -> None:
        """Stop looking, then close every engine after what waits for it."""
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._lock:
            lines = [line for line in self._at_work.values() if isinstance(line, Line)]
            lines += self._leaving.values()
            self._at_work = {}
            self._leaving = {}
        for line in lines:
            line.engine.close()

    def _stop_retired(self, retired: Mapping[str, Promotion]) -> None:
        """What was retired judges no more, whether or not there is another one to do it."""
        for product, line in list(self._at_work.items()):
            if isinstance(line, Line) and (why := retired.get(line.package.digest)) is not None:
                log.error("product stopped", extra={"product": product, "detail": retirement(why)})
                self._forget(product)  # what was passed over for it is tried once more
                self._put(product, NoPromotedModel(f"no model judges {product}: {retirement(why)}"))
        for product, hung in list(self._hung.items()):
            if hung.package is not None and hung.package.digest in retired:
                self._forget(product)  # nor is it brought back

    def _bring(self, product: str, promotion: Promotion | None) -> None:
        before = self._at_work.get(product)
        if promotion is not None:
            if isinstance(before, Line) and before.package.digest == promotion.digest:
                self._refused.pop(product, None)
                self._tried[product] = promotion.previous
                return
            # This very line of the log was tried; promoting it again is another line.
            if self._tried.get(product) == promotion.previous and not self._due(product):
                return
        else:
            self._forget(product)  # there is nothing to be tried again
        try:
            package = self._registry.promoted(product)
            if package.recipe.product != product:
                raise NoPromotedModel(f"{package.reference} judges {package.recipe.product}")
            line = self._made(package)
        except InspectionError as error:
            if promotion is not None:
                error = self._refuse(product, promotion, error)
            else:
                self._log_refused(product, error, before)
            self._closed_one = True  # what was refused was an engine too
            if not isinstance(before, Line) or promotion is None:
                self._put(product, error)  # nothing served it, or nothing may any more
            return
        self._forget(product)
        if promotion is not None:
            self._tried[product] = promotion.previous
        self._put(product, line)
        log.info("product ready", extra={"product": product, "model": package.reference})

    def _due(self, product: str) -> bool:
        """Whether what is promoted for it failed, and is to be tried again now."""
        refused = self._refused.get(product)
        return refused is not None and refused.patience.due(time.monotonic())

    def _refuse(
        self, product: str, promotion: Promotion, error: InspectionError
    ) -> InspectionError:
        """Keep why a promotion was refused, and until when; the error as it is shown."""
        before = self._refused.get(product)
        again = before is not None and before.line == promotion.previous
        patience = before.patience if before is not None and again else Patience()
        patience.failed(time.monotonic())
        # A new one: what was raised holds its frames, and with them the engine.
        error = type(error)(str(error), remedy=error.remedy)
        if patience.given_up:
            error = _given_up(error, patience)
        if before is None or str(before.error) != str(error):
            log.error("product refused", extra={"product": product, "detail": str(error)})
        self._refused[product] = _Refused(line=promotion.previous, error=error, patience=patience)
        self._tried[product] = promotion.previous
        return error

    def _log_refused(self, product: str, error: InspectionError, before: Judge | None) -> None:
        if str(before) != str(error):  # said once
            log.error("product refused", extra={"product": product, "detail": str(error)})

    def _forget(self, product: str) -> None:
        """Whatever went wrong with it before counts no more."""
        self._refused.pop(product, None)
        self._hung.pop(product, None)
        self._tried.pop(product, None)

    def _made(self, package: ModelPackage) -> Line:
        """The package at work; whatever goes wrong with it is its own failure and nobody else's."""
        try:
            return self._make(package)
        except InspectionError:
            raise
        except Exception as error:
            raise EngineError(
                f"{package.reference} cannot be put to work: {type(error).__name__}: {error}"
            ) from error

    def _put(self, product: str, line: Line | InspectionError) -> None:
        with self._lock:
            before = self._at_work.get(product)
            self._at_work = {**self._at_work, product: line}
            idle = isinstance(before, Line) and id(before) not in self._held
            if isinstance(before, Line) and not idle:
                self._leaving[id(before)] = before
        if isinstance(before, Line) and idle:
            before.engine.close()
            self._closed_one = True

    def _keep(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                if self._signature() != self._seen or any(map(self._due, list(self._refused))):
                    self.refresh()
            except InspectionError as error:
                if str(error) != self._unread:  # said once, tried for as long as it lasts
                    log.error("promotions not read", extra={"detail": str(error)})
                self._unread = str(error)
            except Exception:
                log.exception("models not exchanged")
            try:
                self._replace_broken()
            except Exception:
                log.exception("engines not replaced")
            if self._closed_one:
                self._closed_one = False
                give_back()

    def _replace_broken(self) -> None:
        """Put a package to work anew whose engine has stopped or hangs, but not for ever."""
        with self._changing:
            for product, line in list(self._at_work.items()):
                if not isinstance(line, Line) or not isinstance(line.engine, BatchingEngine):
                    continue
                # One that is away comes back by itself; what has stopped or hangs does not.
                if (complaint := line.engine.complaint) is not None:
                    line.engine.abandon(complaint)
                    hung = self._hung.setdefault(product, _Hung())
                    hung.package = line.package
                    self._broke(product, hung, EngineError(complaint))
            now = time.monotonic()
            for product, hung in list(self._hung.items()):
                if hung.package is not None and hung.patience.due(now):
                    self._replace(product, hung, hung.package)

    def _replace(self, product: str, hung: _Hung, package: ModelPackage) -> None:
        log.warning("engine made anew", extra={"product": product, "model": package.reference})
        try:
            line = self._made(package)
        except InspectionError as error:
            self._broke(product, hung, error)
            return
        hung.package = None  # its patience is kept: it may hang again
        self._put(product, line)
        log.info("product ready", extra={"product": product, "model": package.reference})

    def _broke(self, product: str, hung: _Hung, error: InspectionError) -> None:
        """Count it, say it, and let nobody wait for it."""
        hung.patience.failed(time.monotonic())
        if hung.patience.given_up:
            error = _given_up(error, hung.patience)
        log.error("engine lost", extra={"product": product, "detail": str(error)})
        self._put(product, error)

    def _signature(self) -> object:
        """Something that differs once the log of promotions has been written to."""
        try:
            found = (self._registry.root / LOG_NAME).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _given_up(error: InspectionError, patience: Patience) -> InspectionError:
    """The same error, which says that nothing more is tried by itself."""
    return type(error)(
        f"{error}; given up after {patience.failures} tries",
        remedy="Promote the model again, or another one, or restart the server: each tries anew. "
        f"{error.remedy}",
    )
