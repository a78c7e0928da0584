"""A station posts an image and gets a verdict with a trace ID; the MES and QA ask and decide."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tifffile

from tests.dicom_files import dicom
from tests.live_server import Live, serial
from tests.spot_model import part_image, part_png

if TYPE_CHECKING:
    import httpx

FIELDS = {
    *("id", "trace_id", "serial", "part", "station", "product", "lot", "machine", "mould"),
    *("cavity", "capture_id", "attempt", "reason", "disposition", "probability", "novelty"),
    *("findings", "reasons", "model", "recipe", "image_sha256", "captured_at", "received_at"),
    *("timings_ms", "links", "view_set", "view", "views", "engine", "holds"),
    *("acquisition", "detector", "allowed"),
}


def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    inspection: dict[str, Any] = answer.json()
    return inspection


@pytest.mark.parametrize(
    ("kind", "disposition", "reason"),
    [
        ("good", "pass", None),
        ("bad", "fail", "defect"),
        ("unsure", "review", "uncertain"),
        ("novel", "review", "novel"),
    ],
)
def test_every_disposition_comes_with_its_reasons(
    live: Live, kind: str, disposition: str, reason: str | None
) -> None:
    answer = live.post(part_png(kind), capture_id=f"disp-{kind}", serial=serial(1))
    inspection = made(answer)
    assert inspection["disposition"] == disposition
    assert [each["code"] for each in inspection["reasons"]][:1] == ([reason] if reason else [])
    assert set(inspection) == FIELDS
    assert answer.headers["Location"] == f"/v1/inspections/{inspection['id']}"
    assert inspection["model"]["name"] == "spot-kn-42"


def test_a_finding_says_where_in_image_pixels(live: Live) -> None:
    image = np.full((128, 256), 51, dtype=np.uint8)
    image[32:48, 64:96] = 190
    done, data = cv2.imencode(".png", image)
    assert done
    inspection = made(live.post(bytes(data), capture_id="where", serial=serial(2)))
    (finding,) = inspection["findings"]
    assert finding["class"] == "spot"
    assert finding["box"] == {"left": 64, "top": 32, "width": 32, "height": 16}


def test_all_fields_are_kept_and_times_become_utc(live: Live) -> None:
    fields: dict[str, Any] = {
        "lot": "로트-7",
        "machine": "LP-3",
        "mould": "M-12",
        "cavity": "2",
        "reason": "audit",
        "captured_at": "2026-11-21T19:00:00.5+09:00",
    }
    inspection = made(live.post(part_png("good"), capture_id="fields", serial=serial(3), **fields))
    assert inspection | fields | {"captured_at": "2026-11-21T10:00:00.500Z"} == inspection
    assert inspection["attempt"] is None, "an audit does not count"
    assert inspection["received_at"].endswith("Z")


@pytest.mark.parametrize("value", [None, " "])
def test_an_unread_mark_is_judged_but_never_a_pass(live: Live, value: str | None) -> None:
    fields: dict[str, Any] = {} if value is None else {"serial": value}
    inspection = made(live.post(part_png("good"), capture_id=f"unread-{len(fields)}", **fields))
    assert inspection["disposition"] == "review"
    assert inspection["serial"] is None
    assert inspection["part"] == f"unread:{inspection['trace_id']}"
    assert "mark-unread" in [each["code"] for each in inspection["reasons"]]
    part = live.http.get(inspection["links"]["part"]).json()
    assert [each["id"] for each in part["inspections"]] == [inspection["id"]]
    assert part["in_force"]["disposition"] == "review"


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_the_three_kinds_of_file(live: Live, kind: str) -> None:
    pixels = part_image("bad", seed=3)
    if kind == "tiff":
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels)
        data = buffer.getvalue()
    else:
        done, encoded = cv2.imencode(f".{kind}", pixels)
        assert done
        data = bytes(encoded)
    media_type = f"image/{kind}"
    answer = live.post(data, content_type=media_type, capture_id=f"kind-{kind}", serial=serial(4))
    inspection = made(answer)
    assert inspection["disposition"] == "fail"
    original = live.http.get(inspection["links"]["image"])
    assert original.content == data
    assert original.headers["Content-Type"] == media_type


def test_multipart_is_the_same_request_as_a_raw_body(live: Live) -> None:
    data = part_png("bad", seed=5)
    first = made(live.post(data, capture_id="both", serial=serial(5), lot="L1"))
    again = live.http.post(
        "/v1/inspections",
        data={
            "station": "xray-1",
            "product": "KN-42",
            "capture_id": "both",
            "serial": serial(5).lower(),
            "lot": "L1",
            "machine": "",
        },
        files={"image": ("part.png", data, "image/png")},
        headers={"Idempotency-Key": "key-both"},
    )
    assert again.status_code == 200
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first


def test_a_frame_the_recipe_does_not_fit_is_recorded_as_review(live: Live) -> None:
    inspection = made(live.post(part_png("good"), product="KN-16", capture_id="depth"))
    assert inspection["disposition"] == "review"
    assert inspection["probability"] == {}
    assert inspection["novelty"] is None
    assert inspection["reasons"][0]["code"] == "unjudgeable"
    assert "8 bits" in inspection["reasons"][0]["detail"]
    assert inspection["links"]["heatmap"] is None
    missing = live.http.get(f"{inspection['links']['self']}/heatmap")
    assert missing.status_code == 404
    assert missing.json()["code"] == "not-found"
    assert live.http.get(inspection["links"]["image"]).status_code == 200


def test_sixteen_bits_are_judged_as_sixteen_bits(live: Live) -> None:
    pixels = part_image("bad").astype(np.uint16) * 257
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels)
    answer = live.post(
        buffer.getvalue(),
        content_type="image/tiff",
        product="KN-16",
        capture_id="deep",
        serial=serial(6),
    )
    assert made(answer)["disposition"] == "fail"


def test_a_detectors_file_is_judged_and_what_it_says_is_told(live: Live) -> None:
    pixels = part_image("bad").astype(np.uint16) * 257
    told: dict[str, Any] = {"SpecificCharacterSet": "ISO_IR 192", "ComponentManufacturer": "Süd"}
    data = dicom(pixels, KVP="120", PatientID=serial(7), **told)
    inspection = made(
        live.post(
            data,
            content_type="application/dicom",
            product="KN-16",
            capture_id="radiograph",
            serial="",
        )
    )
    assert (inspection["disposition"], inspection["serial"]) == ("fail", serial(7))
    said = inspection["acquisition"]
    assert (said["kv"], said["serial"]) == (120.0, serial(7))
    assert said["tags"] == {"ComponentManufacturer": "Süd"}
    image = live.http.get(inspection["links"]["image"])
    assert (image.headers["Content-Type"], image.content) == ("application/dicom", data)
    assert live.http.get(inspection["links"]["heatmap"]).status_code == 200
    form = live.http.post(
        "/v1/inspections",
        data={"station": "xray-1", "product": "KN-16", "capture_id": "radiograph"},
        files={"image": ("part.dcm", data, "application/dicom")},
        headers={"Idempotency-Key": "key-radiograph"},
    )
    assert (form.status_code, form.json()["id"]) == (200, inspection["id"])


def test_the_heatmap_is_a_picture_and_the_raw_map_is_the_evidence(live: Live) -> None:
    inspection = made(live.post(part_png("bad"), capture_id="heat", serial=serial(7)))
    path = inspection["links"]["heatmap"]
    picture = live.http.get(path, params={"alpha": "1"})
    assert picture.headers["Content-Type"] == "image/png"
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown is not None
    assert shown.shape == (128, 128, 3)
    assert picture.content != live.http.get(path, params={"alpha": "0"}).content
    raw = live.http.get(path, params={"raw": "1"})
    evidence = np.load(io.BytesIO(raw.content), allow_pickle=False)
    assert evidence.dtype == np.float16
    assert evidence.shape == (1, 8, 8)
    score = 1 / (1 + np.exp(-float(evidence.max())))
    assert inspection["probability"]["spot"] == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("path", ["image", "heatmap", "heatmap?raw=1"])
def test_a_copy_that_is_still_right_is_not_sent_again(live: Live, path: str) -> None:
    inspection = made(
        live.post(part_png("bad"), capture_id=f"etag-{path[:5]}{len(path)}", serial=serial(8))
    )
    first = live.http.get(f"{inspection['links']['self']}/{path}")
    again = live.http.get(
        f"{inspection['links']['self']}/{path}", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize("alpha", ["-0.1", "1.1", "nan", "much"])
def test_an_alpha_without_meaning_is_refused(live: Live, alpha: str) -> None:
    inspection = made(live.post(part_png("bad"), capture_id=f"alpha-{alpha}", serial=serial(9)))
    answer = live.http.get(inspection["links"]["heatmap"], params={"alpha": alpha})
    assert answer.status_code == 422


def test_a_review_is_added_and_changes_what_is_in_force(live: Live) -> None:
    inspection = made(live.post(part_png("bad"), capture_id="review-1", serial=serial(10)))
    recheck = made(live.post(part_png("good"), capture_id="review-2", serial=serial(10)))
    assert (recheck["attempt"], recheck["reason"], recheck["disposition"]) == (2, "recheck", "pass")
    part = live.http.get(inspection["links"]["part"]).json()
    assert part["in_force"]["disposition"] == "fail", "a recheck does not lift a fail"
    decided = live.review(recheck["id"], reason="seen under the microscope")
    assert decided.status_code == 201
    assert decided.json()["reviewer"] == "local"
    part = live.http.get(inspection["links"]["part"]).json()
    assert part["in_force"]["disposition"] == "pass"
    assert part["in_force"]["review_id"] == decided.json()["id"]
    assert [len(each["reviews"]) for each in part["inspections"]] == [0, 1]
    detail = live.http.get(recheck["links"]["self"]).json()
    assert detail["reviews"] == [decided.json()]
    assert detail["disposition"] == "pass"
    unchanged = live.http.get(inspection["links"]["self"]).json()
    assert {name: unchanged[name] for name in inspection} == inspection


@pytest.mark.parametrize(
    "body",
    [
        {"disposition": "review", "reason": "not a decision"},
        {"disposition": "pass", "reason": "  "},
        {"disposition": "pass"},
        {"disposition": "pass", "reason": "x" * 2001},
        {"disposition": "pass", "reason": "x", "reviewer": "somebody else"},
        [],
    ],
)
def test_a_review_that_makes_no_sense_is_refused(live: Live, body: object) -> None:
    inspection = made(
        live.post(part_png("bad"), capture_id=f"rr-{hash(str(body))}", serial=serial(11))
    )
    answer = live.http.post(
        f"{inspection['links']['self']}/reviews", json=body, headers={"If-Match": "*"}
    )
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert live.http.get(inspection["links"]["self"]).json()["reviews"] == []


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{", 422, "invalid-request"),
        ("application/json", b" " * 70_000, 413, "body-too-large"),
        ("text/plain", b'{"disposition": "pass", "reason": "x"}', 415, "content-type-unsupported"),
        ("", b'{"disposition": "pass", "reason": "x"}', 415, "content-type-unsupported"),
    ],
)
def test_a_review_that_is_not_a_small_json_body_is_refused(
    live: Live, content_type: str, body: bytes, status: int, code: str
) -> None:
    answer = live.http.post(
        "/v1/inspections/any/reviews", content=body, headers={"Content-Type": content_type}
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_review_of_nothing_is_not_found(live: Live) -> None:
    answer = live.http.post(
        "/v1/inspections/0199d3f0-52e7-7c3a-9f6e-000000000000/reviews",
        json={"disposition": "pass", "reason": "x"},
        headers={"If-Match": "*"},
    )
    assert answer.status_code == 404


def test_a_trace_id_is_found_as_people_type_it(live: Live) -> None:
    inspection = made(live.post(part_png("bad"), capture_id="trace", serial=serial(12)))
    typed = inspection["trace_id"].replace("-", " ").lower().replace("0", "o")
    found = live.http.get(f"/v1/trace/{typed}")
    assert found.json()["id"] == inspection["id"]
    wrong = inspection["trace_id"][:-2] + ("2" if inspection["trace_id"][-2] != "2" else "3")
    wrong += inspection["trace_id"][-1]
    refused = live.http.get(f"/v1/trace/{wrong}")
    assert refused.status_code == 404
    assert "check character" in refused.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/inspections/0199d3f0-52e7-7c3a-9f6e-000000000000",
        "/v1/inspections/0199d3f0-52e7-7c3a-9f6e-000000000000/image",
        "/v1/inspections/0199d3f0-52e7-7c3a-9f6e-000000000000/heatmap",
        "/v1/inspections/..%2F..%2Fetc",
        f"/v1/parts/KN-42/{serial(99999)}",
        f"/v1/parts/nothing/{serial(99999)}",
        "/v1/parts/KN-42/a/b",
        "/v1/trace/abc",
        "/v1/nothing",
        "/v1/inspections/",
    ],
)
def test_what_is_not_there_is_a_problem_with_404_or_422(live: Live, path: str) -> None:
    answer = live.http.get(path)
    assert answer.status_code == (422 if path.endswith("a/b") else 404)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["remedy"]


def test_a_method_that_a_path_does_not_take(live: Live) -> None:
    answer = live.http.delete("/v1/inspections")
    assert answer.status_code == 405
    assert answer.json()["code"] == "method-not-allowed"
    assert set(answer.headers["Allow"].split(", ")) <= {"GET", "POST"}
