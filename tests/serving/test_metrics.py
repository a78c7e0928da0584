"""What Prometheus reads: names and labels that dashboards rely on, and figures that are true."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inspection.cli import main
from inspection.pipeline import Line
from inspection.stores.keys import AccessKeys
from inspection.stores.places import records_url
from serving.batching import BatchingEngine
from serving.metrics import MOST_STATIONS
from tests.live_server import Live, running, serial, settings_in
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD, BAD = part_png("good"), part_png("bad")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(live: Live) -> Samples:
    answer = live.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


@pytest.fixture
def served(site: Path) -> Iterator[Live]:
    with running(settings_in(site)) as live:
        yield live


def test_inspections_are_counted_once_by_what_became_of_them(served: Live) -> None:
    answers = [
        served.post(image, capture_id=f"c-{number}", serial=serial(number)).json()
        for number, image in enumerate([GOOD, GOOD, BAD])
    ]
    assert served.post(GOOD, capture_id="c-0", serial=serial(0)).status_code == 200
    samples = scrape(served)
    for disposition in ("pass", "fail", "review"):
        counted = value(
            samples,
            "inspection_inspections_total",
            product="KN-42",
            station="xray-1",
            disposition=disposition,
        )
        assert counted == sum(answer["disposition"] == disposition for answer in answers)
    for stage in ("decode", "prepare", "infer", "store", "total"):
        name = "inspection_stage_duration_seconds_count"
        timed = [
            value(samples, name, stage=stage, disposition=each)
            for each in ("pass", "fail", "review")
        ]
        assert timed == [
            sum(answer["disposition"] == each for answer in answers)
            for each in ("pass", "fail", "review")
        ]
    posts = {"route": "/v1/inspections"}
    assert value(samples, "inspection_request_duration_seconds_count", status="201", **posts) == 3
    assert value(samples, "inspection_request_duration_seconds_count", status="200", **posts) == 1
    reviews = sum(answer["disposition"] == "review" for answer in answers)
    assert value(samples, "inspection_review_ratio", product="KN-42") == reviews / 3


def test_refusals_are_counted_by_code(served: Live) -> None:
    served.post(b"no image")
    served.post(GOOD, key=None)
    served.http.get("/v1/no-such-path")
    samples = scrape(served)
    rejected = "inspection_rejected_requests_total"
    assert value(samples, rejected, reason="image-unreadable") == 1
    assert value(samples, rejected, reason="idempotency-key-missing") == 1
    assert value(samples, rejected, reason="not-found") == 1
    paths = {dict(labels).get("route") for _, labels in samples}
    assert not any("no-such-path" in str(path) for path in paths), "a path is no label"


def test_the_state_of_models_queue_and_disk(served: Live) -> None:
    engine = {"engine": "KN-42"}
    before = value(scrape(served), "inspection_batch_size_count", **engine)
    served.post(GOOD)
    samples = scrape(served)
    model = served.http.get("/v1/models").json()["items"][0]["model"]
    digest = model["digest"][:12]
    labels = {"product": "KN-42", "model": "spot-kn-42", "version": "1", "digest": digest}
    assert value(samples, "inspection_model_info", **labels) == 1
    bound = model["operating_point"]["certificate"]["escape_bound"]
    shown = value(samples, "inspection_escape_bound_ratio", product="KN-42", confidence="0.95")
    assert shown == pytest.approx(bound)
    assert value(samples, "inspection_product_ready", product="KN-42") == 1
    assert ("inspection_queue_depth", ()) in samples
    assert value(samples, "inspection_records_bytes", store="records") > 0
    assert value(samples, "inspection_disk_free_bytes", store="records") > 0
    assert value(samples, "inspection_disk_free_bytes", store="images") > 0
    assert value(samples, "inspection_batch_size_count", **engine) == before + 1
    assert value(samples, "inspection_engine_queue_depth", **engine) == 0
    assert ("inspection_engine_queue_depth", (("engine", "KN-42"),)) in samples
    for check in ("records", "disk", "images", "promotions"):
        assert value(samples, "inspection_check_ok", check=check) == 1
    assert value(samples, "process_resident_memory_bytes") > 10_000_000
    assert any(name == "inspection_build_info" for name, _ in samples)


def test_the_time_of_the_last_backup_is_told(served: Live) -> None:
    name = "inspection_last_backup_timestamp_seconds"
    assert not any(found == name for found, _ in scrape(served))
    served.post(GOOD)
    folder, data = served.folder / "copy", served.server.settings.data_dir
    began = time.time()
    assert main(["backup", str(folder), "--data-dir", str(data)]) == 0
    assert value(scrape(served), name) >= began - 1


def test_no_serial_no_trace_id_and_no_flood_of_stations(served: Live) -> None:
    for number in range(MOST_STATIONS + 5):
        served.server.metrics._station(f"s-{number}")
    answer = served.post(GOOD, station="one-too-many", serial=serial(7)).json()
    text = served.http.get("/metrics").text
    assert answer["serial"] not in text
    assert answer["trace_id"] not in text
    assert "one-too-many" not in text
    assert 'station="unknown"' in text


def test_a_product_whose_engine_has_stopped_does_not_count_as_ready(served: Live) -> None:
    line = served.server.lines["KN-42"]
    assert isinstance(line, Line)
    assert isinstance(line.engine, BatchingEngine)
    line.engine.abandon("as in a test")
    text = served.server.metrics.text().decode()  # at once: it is about to be replaced
    assert 'inspection_product_ready{product="KN-42"} 0.0' in text


def test_figures_want_a_key_where_there_are_keys(site: Path) -> None:
    (site / "var").mkdir()
    keys = AccessKeys(records_url(site / "var"))
    station, reader = keys.create("xray-1", "station")[0], keys.create("prometheus", "mes")[0]
    keys.close()
    with running(settings_in(site)) as live:
        assert live.http.get("/metrics").status_code == 401
        assert live.http.get("/livez").status_code == 200

        def asked(secret: str) -> int:
            headers = {"Authorization": f"Bearer {secret}"}
            return live.http.get("/metrics", headers=headers).status_code

        assert asked(reader) == 200
        assert asked(station) == 403
