"""What a running server consists of. Put together in `serving/app.py`, used by every route."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inspection.errors import SerialError
from inspection.pipeline import Line
from serving.checkpoints import CheckpointKeeper
from serving.cursors import Cursors
from serving.feed import Feed
from serving.gate import Gate
from serving.inflight import InFlightGuard
from serving.lines import Lines
from serving.metrics import Metrics

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from inspection.detector.book import DetectorBook
    from inspection.image_store import ImageStore
    from inspection.registry import Registry
    from inspection.store import RecordStore
    from serving.in_bulk import InBulk
    from serving.keeping import Keeping
    from serving.keyring import KeyRing
    from serving.refusals import Refusals
    from serving.settings import Settings
    from serving.tracing import Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One running server.

    Attributes:
        cursors: makes and reads the cursors of lists and changes.
        keys: who may call.
        refusals: takes down who was refused.
        lines: for each listed product what it is judged with now, or why it cannot be.
        workers: the threads that work on posted images.
        in_flight: the requests that they work on.
        gate: lets posted images in, or not.
        in_bulk: answers those that it does not let in.
        metrics: what is told of all this.
        feed: where callers wait for changes.
        keeping: whether what is judged can be kept.
        detectors: the stations' calibrations, and their health.
        tracer: tells a collector of requests; None when that is not set.
        checkpoints: signs the records' head now and then; None when that is not set.
    """

    settings: Settings
    images: ImageStore
    records: RecordStore
    cursors: Cursors
    keys: KeyRing
    refusals: Refusals
    registry: Registry
    lines: Lines
    workers: ThreadPoolExecutor
    gate: Gate
    in_bulk: InBulk
    metrics: Metrics
    feed: Feed
    keeping: Keeping
    detectors: DetectorBook
    checkpoints: CheckpointKeeper | None = None
    tracer: Tracer | None = None
    in_flight: InFlightGuard = field(default_factory=InFlightGuard)

    def written_serial(self, text: str, product: str | None = None) -> str:
        """A serial as it stands in the records, for looking it up.

        Raises:
            SerialError: the product is being served and the text does not fit its marks.
        """
        if product is not None:
            line = self.lines.get(product)
            if isinstance(line, Line) and line.package.recipe.serial is not None:
                return line.package.recipe.serial.parse(text).text
            return text.strip()
        for line in self.lines.values():
            if isinstance(line, Line) and line.package.recipe.serial is not None:
                try:
                    return line.package.recipe.serial.parse(text).text
                except SerialError:
                    continue
        return text.strip()


def server_of(request: HTTPConnection) -> Server:
    """The server that a request came to."""
    server: Server = request.app.state.server
    return server
