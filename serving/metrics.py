"""What the server tells Prometheus: counted as it happens, or looked up when it is asked.

    answer, refusal, run of an engine -> counters and histograms
    GET /metrics -> this process, and what `gauges.py` looks up -> text

Seconds, bytes, ratios; no trace ID and no serial is ever a label. `unknown` stands for a station
beyond the first `MOST_STATIONS`, so that nobody can fill the memory with names.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.registry import Collector

    from inspection.record import InspectionRecord

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_STATIONS: Final = 200
RECENT: Final = 500
"""How many of a product's last inspections the ratios are over."""

SECONDS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
IMAGES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)


class Metrics:
    """One server's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self._stations: set[str] = set()
        self._recent: dict[str, deque[tuple[bool, bool]]] = defaultdict(
            lambda: deque(maxlen=RECENT)
        )
        self._inspections = Counter(
            "inspection_inspections_total",
            "Inspections recorded.",
            ("product", "station", "disposition"),
            registry=self.registry,
        )
        self._stages = Histogram(
            "inspection_stage_duration_seconds",
            "Time of one stage of an inspection; `total` is from its last byte to its record.",
            ("stage", "disposition"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._requests = Histogram(
            "inspection_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route", "status"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rejected = Counter(
            "inspection_rejected_requests_total",
            "Requests refused, by the code of their problem.",
            ("reason",),
            registry=self.registry,
        )
        self._batches = Histogram(
            "inspection_batch_size",
            "Images in one run of an engine; each product has one.",
            ("engine",),
            buckets=IMAGES,
            registry=self.registry,
        )

    def inspected(self, record: InspectionRecord, *, total_s: float | None = None) -> None:
        """An inspection was recorded; not called for a replayed answer.

        Args:
            record: as it was made.
            total_s: from the last byte of its image to the durable record, where there is one.
        """
        self._inspections.labels(
            record.product, self._station(record.station), record.disposition
        ).inc()
        for stage, spent_ms in record.timings_ms.items():
            self._stages.labels(stage, record.disposition).observe(spent_ms / 1000)
        if total_s is not None:
            self._stages.labels("total", record.disposition).observe(total_s)
        novel = any(reason.code == "novel" for reason in record.reasons)
        self._recent[record.product].append((record.disposition == "review", novel))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has its answer. `route` is a template, never a path that somebody sent."""
        self._requests.labels(route, str(status)).observe(seconds)

    def rejected(self, code: str) -> None:
        """A request was refused with this code."""
        self._rejected.labels(code).inc()

    def runs_of(self, product: str) -> Callable[[int], None]:
        """What the engine of a product tells how many images it has run at once."""
        return self._batches.labels(product).observe

    def watch(self, state: Collector) -> None:
        """Tell of this too, whenever somebody asks: see `gauges.State`."""
        self.registry.register(state)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def recent(self) -> Iterator[tuple[str, float, float]]:
        """(product, share of reviews, share of novel parts) of the last inspections."""
        for product, seen in list(self._recent.items()):
            if not (kept := list(seen)):
                continue  # asked for between a product's first inspection and its note of it
            reviews, novel = (sum(each) / len(kept) for each in zip(*kept, strict=True))
            yield product, reviews, novel

    def _station(self, name: str) -> str:
        if name not in self._stations and len(self._stations) >= MOST_STATIONS:
            return "unknown"
        self._stations.add(name)
        return name
