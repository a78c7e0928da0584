"""What is looked up when Prometheus asks: models, readiness, queues, disks, as they are now.

    Server -> State.collect -> gauges

Names and labels are part of the interface: docs/api.md lists them, docs/operations.md says what to
do about them.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from inspection.errors import RegistryError
from inspection.pipeline import Line
from inspection.stores.places import last_backup, records_path
from serving.batching import BatchingEngine
from serving.lines import complaint_of
from serving.metrics import MOST_STATIONS, RECENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from serving.state import Server


class State:
    """One server's state, for `Metrics.watch`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """The gauges of this moment."""
        yield _gauge(
            "inspection_build_info",
            "The release that runs.",
            ("version",),
            [((version("inspection"),), 1.0)],
        )
        yield from self._readiness()
        yield from self._products()
        yield from self._queues()
        ratios = list(self._server.metrics.recent())
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
        yield from self._detectors()

    def _readiness(self) -> Iterator[Metric]:
        """What /readyz looks at besides products."""
        wrong = self._server.keeping.causes()
        found = [((name,), float(error is None)) for name, error in wrong.items()]
        try:
            self._server.registry.current()
        except RegistryError:
            found.append((("promotions",), 0.0))
        else:
            found.append((("promotions",), 1.0))
        yield _gauge(
            "inspection_check_ok", "Whether a check of readiness holds.", ("check",), found
        )

    def _queues(self) -> Iterator[Metric]:
        yield _gauge(
            "inspection_queue_depth",
            "Requests let in and not yet answered.",
            (),
            [((), float(self._server.gate.inside))],
        )
        waiting = [
            ((product,), float(line.engine.queued))
            for product, line in self._server.lines.items()
            if isinstance(line, Line) and isinstance(line.engine, BatchingEngine)
        ]
        yield _gauge(
            "inspection_engine_queue_depth", "Images that wait for an engine.", ("engine",), waiting
        )

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

    def _detectors(self) -> Iterator[Metric]:
        """Each station's detector, as `GET /v1/detectors` shows it."""
        now = datetime.now(UTC)
        stations = self._server.detectors.stations()[:MOST_STATIONS]
        fit = [((each.station,), float(each.obstacle(now) is None)) for each in stations]
        made = [
            ((each.station,), datetime.fromisoformat(each.calibration.facts.made_at).timestamp())
            for each in stations
            if each.calibration is not None
        ]
        last = [((each.station,), each.trend.last) for each in stations]
        checks = [(labels, check) for labels, check in last if check is not None]
        yield _gauge(
            "inspection_detector_fit",
            "Whether a station's images are judged: calibration and health.",
            ("station",),
            fit,
        )
        yield _gauge(
            "inspection_detector_calibration_timestamp_seconds",
            "When a station's newest calibration was made.",
            ("station",),
            made,
        )
        yield _gauge(
            "inspection_detector_check_timestamp_seconds",
            "When a station's detector was last checked.",
            ("station",),
            [(labels, datetime.fromisoformat(c.checked_at).timestamp()) for labels, c in checks],
        )
        yield _gauge(
            "inspection_detector_snr_ratio",
            "Signal to noise of the last check, against the calibration's.",
            ("station",),
            [(labels, check.figures.snr_ratio) for labels, check in checks],
        )
        yield _gauge(
            "inspection_detector_bad_pixels",
            "Bad pixels that the last check found.",
            ("station",),
            [(labels, float(check.figures.bad_pixels)) for labels, check in checks],
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
        free = [((name,), float(left)) for name, left in self._server.keeping.free_bytes()]
        yield _gauge(
            "inspection_disk_free_bytes",
            "Free on the disk of records and images; with less than the least of the settings "
            "nothing is taken in.",
            ("store",),
            free,
        )
        with contextlib.suppress(OSError):  # there has been none
            yield _gauge(
                "inspection_last_backup_timestamp_seconds",
                "When `inspection backup` last ended well.",
                (),
                [((), last_backup(folder).stat().st_mtime)],
            )


def _gauge(
    name: str, words: str, labels: tuple[str, ...], values: Sequence[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
