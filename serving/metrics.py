"""What the server tells Prometheus: counted as it happens, or looked up when it is asked.

    answer, refusal, run of the engine -> counters and histograms
    GET /metrics -> models, queue, disk as they are now -> text

Seconds, bytes, ratios; no trace ID and no serial is ever a label. `unknown` stands for a station
beyond the first `MOST_STATIONS`, so that nobody can fill the memory with names.
"""

from __future__ import annotations

import shutil
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from inspection.pipeline import Line
from inspection.stores.places import records_path
from serving.lines import complaint_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from inspection.record import InspectionRecord
    from serving.state import Server

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
            "Time of one stage of an inspection.",
            ("stage",),
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
            "Images in one run of an engine.",
            buckets=IMAGES,
            registry=self.registry,
        )

    def inspected(self, record: InspectionRecord) -> None:
        """An inspection was recorded; not called for a replayed answer."""
        self._inspections.labels(
            record.product, self._station(record.station), record.disposition
        ).inc()
        for stage, spent_ms in record.timings_ms.items():
            self._stages.labels(stage).observe(spent_ms / 1000)
        novel = any(reason.code == "novel" for reason in record.reasons)
        self._recent[record.product].append((record.disposition == "review", novel))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has its answer. `route` is a template, never a path that somebody sent."""
        self._requests.labels(route, str(status)).observe(seconds)

    def rejected(self, code: str) -> None:
        """A request was refused with this code."""
        self._rejected.labels(code).inc()

    def ran(self, images: int) -> None:
        """An engine has run so many images at once."""
        self._batches.observe(images)

    def watch(self, server: Server) -> None:
        """Tell of this server's state too, whenever somebody asks."""
        self.registry.register(_State(self, server))

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


class _State:
    """What is looked up when Prometheus asks."""

    def __init__(self, metrics: Metrics, server: Server) -> None:
        self._metrics = metrics
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        yield from self._products()
        yield _gauge(
            "inspection_queue_depth",
            "Requests let in and not yet answered.",
            (),
            [((), float(self._server.gate.inside))],
        )
        ratios = list(self._metrics.recent())
        over = f"of a product's last {RECENT} inspections."
        yield _gauge(
            "inspection_review_ratio",
            f"Share of reviews {over}",
            ("product",),
            [((product,), reviews) for product, reviews, _ in ratios],
        )
        yield _gauge(
            "inspection_novel_ratio",
            f"Share unlike the training images {over}",
            ("product",),
            [((product,), novel) for product, _, novel in ratios],
        )
        yield from self._disk()
        yield from self._checkpoints()

    def _checkpoints(self) -> Iterator[Metric]:
        keeper = self._server.checkpoints
        if keeper is None:
            return
        yield _gauge(
            "inspection_checkpoint_records",
            "Records that the last signed checkpoint covers.",
            (),
            [((), float(keeper.size or 0))],
        )
        yield _gauge(
            "inspection_witness_ready",
            "Whether a witness has the last checkpoint.",
            ("witness",),
            [((name,), float(name not in keeper.failing)) for name in keeper.witnesses],
        )

    def _products(self) -> Iterator[Metric]:
        info, bounds, ready = [], [], []
        for product, line in self._server.lines.items():
            ready.append(((product,), float(complaint_of(line) is None)))
            if not isinstance(line, Line):
                continue
            document = line.package.document
            certificate = document.operating_point.certificate
            version, digest = str(document.version), line.package.digest[:12]
            info.append(((product, document.model, version, digest), 1.0))
            confidence = f"{certificate.confidence:g}"
            bounds.append(((product, confidence), certificate.escape_bound))
        yield _gauge(
            "inspection_product_ready", "Whether the product can be judged.", ("product",), ready
        )
        yield _gauge(
            "inspection_model_info",
            "The model that judges.",
            ("product", "model", "version", "digest"),
            info,
        )
        yield _gauge(
            "inspection_escape_bound_ratio",
            "Upper bound of the escape rate that the model's certificate names.",
            ("product", "confidence"),
            bounds,
        )

    def _disk(self) -> Iterator[Metric]:
        folder = self._server.settings.data_dir
        records = records_path(folder)
        if records.is_file():  # elsewhere, the database server knows
            size = float(records.stat().st_size)
            yield _gauge(
                "inspection_records_bytes",
                "Size of the record store.",
                ("store",),
                [(("records",), size)],
            )
        free = float(shutil.disk_usage(folder).free)
        yield _gauge(
            "inspection_disk_free_bytes",
            "Free on the disk of records and images.",
            ("store",),
            [(("records",), free)],
        )


def _gauge(
    name: str, words: str, labels: tuple[str, ...], values: Sequence[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
