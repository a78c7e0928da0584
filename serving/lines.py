"""The models at work: for each product the promoted one, exchanged while parts come in.

    promotions change -> package (digests) -> engine -> warm -> pointer -> the old one drains
    an engine hangs   -> the same, with the package that it had; what hung is left behind

A package that cannot be put to work leaves what served before where it is, and says so; only a
product that has never had a working model, or whose model was retired, is refused. Whoever judges
holds its line for as long as that takes, so nobody's engine is closed under them, and an engine
runs one package only: no batch is ever of two models.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from inspection.errors import EngineError, InspectionError, NoPromotedModel, UnknownProduct
from inspection.pipeline import Line
from inspection.promotions import in_force, retired_in, retirement
from inspection.registry import LOG_NAME
from serving.batching import BatchingEngine

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
        self._refused: dict[str, tuple[str, InspectionError]] = {}
        self._held: Counter[int] = Counter()
        self._leaving: dict[int, Line] = {}
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._closing = threading.Event()
        self._seen: object = None
        self._unread = ""
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

    def refused(self, product: str) -> InspectionError | None:
        """Why the package that is promoted now does not judge, although an older one does."""
        refused = self._refused.get(product)
        return refused[1] if refused else None

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
                self._refused.pop(product, None)  # what was passed over for it is tried once more
                self._put(product, NoPromotedModel(f"no model judges {product}: {retirement(why)}"))

    def _bring(self, product: str, promotion: Promotion | None) -> None:
        before = self._at_work.get(product)
        refused = self._refused.get(product)
        if promotion is not None:
            if isinstance(before, Line) and before.package.digest == promotion.digest:
                self._refused.pop(product, None)
                return
            if refused is not None and refused[0] == promotion.previous:
                return  # this very line of the log was tried; promoting it again is another line
        try:
            package = self._registry.promoted(product)
            if package.recipe.product != product:
                raise NoPromotedModel(f"{package.reference} judges {package.recipe.product}")
            line = self._made(package)
        except InspectionError as error:
            log.error("product refused", extra={"product": product, "detail": str(error)})
            if promotion is not None:
                self._refused[product] = (promotion.previous, error)
            if not isinstance(before, Line) or promotion is None:
                self._put(product, error)  # nothing served it, or nothing may any more
            return
        self._refused.pop(product, None)
        self._put(product, line)
        log.info("product ready", extra={"product": product, "model": package.reference})

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

    def _keep(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                if self._signature() != self._seen:
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

    def _replace_broken(self) -> None:
        """Put a package to work anew whose engine has stopped or hangs."""
        for product, line in list(self._at_work.items()):
            if not isinstance(line, Line) or not isinstance(line.engine, BatchingEngine):
                continue
            # One that is away comes back by itself; what has stopped or hangs does not.
            if (complaint := line.engine.complaint) is None:
                continue
            log.error("engine replaced", extra={"product": product, "detail": complaint})
            line.engine.abandon(complaint)
            with self._changing:
                try:
                    again: Judge = self._made(line.package)
                except InspectionError as error:
                    again = error
                    self._seen = None  # looked at again in a moment, as if newly promoted
                self._put(product, again)

    def _signature(self) -> object:
        """Something that differs once the log of promotions has been written to."""
        try:
            found = (self._registry.root / LOG_NAME).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
