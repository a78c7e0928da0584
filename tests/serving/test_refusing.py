"""What bad input gets: a problem that says what to do, and no record, no file, no stuck worker."""

from __future__ import annotations

import contextlib
import gc
import io
import socket
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import tifffile

from inspection.errors import ImageError
from serving.admission import Arrival
from tests.live_server import Live, serial, until
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = part_png("good")


def huge_header() -> bytes:
    """A PNG whose header says 60,000 x 60,000 pixels, in a few bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00" * 64


def two_pages() -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((2, 32, 32), np.uint8), photometric="minisblack")
    return buffer.getvalue()


def as_jpeg() -> bytes:
    done, data = cv2.imencode(".jpg", np.full((64, 64), 51, np.uint8))
    assert done
    return bytes(data)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    status: int
    code: str
    says: str = ""
    image: bytes = GOOD
    key: str | None = "default"
    content_type: str | None = "image/png"
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


WRONG_CHECK = serial(1)[:-1] + ("A" if serial(1)[-1] != "A" else "B")

CASES = [
    Case(name="not-an-image", status=422, code="image-unreadable", image=b"hello, I am text"),
    Case(name="empty", status=422, code="image-unreadable", image=b"", says="no bytes"),
    Case(name="truncated-png", status=422, code="image-unreadable", image=GOOD[:-30]),
    Case(name="cut-in-header", status=422, code="image-unreadable", image=GOOD[:20]),
    Case(
        name="damaged-png",
        status=422,
        code="image-unreadable",
        image=GOOD[:100] + b"\xff" * 40 + GOOD[140:],
    ),
    Case(
        name="truncated-jpeg",
        status=422,
        code="image-unreadable",
        image=as_jpeg()[:-200],
        content_type="image/jpeg",
    ),
    Case(
        name="other-than-declared",
        status=422,
        code="image-unreadable",
        image=as_jpeg(),
        says="declared as image/png",
    ),
    Case(
        name="two-pages",
        status=415,
        code="image-unsupported",
        image=two_pages(),
        content_type="image/tiff",
        says="2 pages",
    ),
    Case(
        name="unknown-type", status=415, code="image-unsupported", content_type="application/json"
    ),
    Case(name="no-type", status=415, code="image-unsupported", content_type=None),
    Case(
        name="compressed",
        status=415,
        code="image-unsupported",
        headers={"Content-Encoding": "gzip"},
    ),
    Case(name="too-many-bytes", status=413, code="image-too-large", image=b"\x89" * 4_100_000),
    Case(
        name="too-many-pixels",
        status=413,
        code="image-too-large",
        image=huge_header(),
        says="60000 x 60000",
    ),
    Case(
        name="serial-length",
        status=422,
        code="serial-format",
        fields={"serial": serial(1)[:-1]},
        says="character 10 is missing",
    ),
    Case(
        name="serial-alphabet",
        status=422,
        code="serial-format",
        fields={"serial": "KN4!000016"},
        says="character 4 is '!'",
    ),
    Case(
        name="serial-check",
        status=422,
        code="serial-check",
        fields={"serial": WRONG_CHECK},
        says="does not hold",
    ),
    Case(name="product-unknown", status=404, code="product-unknown", fields={"product": "KN-43"}),
    Case(
        name="no-promoted-model",
        status=503,
        code="no-promoted-model",
        fields={"product": "NO-0"},
    ),
    Case(
        name="package-damaged",
        status=503,
        code="package-damaged",
        fields={"product": "DM-9"},
        says="spot-dm-9/1/model.onnx",
    ),
    Case(name="no-key", status=400, code="idempotency-key-missing", key=None),
    Case(name="blank-key", status=400, code="idempotency-key-missing", key=""),
    Case(name="long-key", status=422, code="invalid-request", key="k" * 201),
    Case(name="no-station", status=422, code="invalid-request", fields={"station": ""}),
    Case(name="no-product", status=422, code="invalid-request", fields={"product": ""}),
    Case(
        name="no-capture",
        status=422,
        code="invalid-request",
        key="some",
        fields={"capture_id": ""},
        says="capture_id",
    ),
    Case(
        name="unknown-field",
        status=422,
        code="invalid-request",
        fields={"mold": "M-1"},
        says="mold",
    ),
    Case(
        name="unknown-reason",
        status=422,
        code="invalid-request",
        fields={"reason": "because"},
        says="reason",
    ),
    Case(
        name="time-without-zone",
        status=422,
        code="invalid-request",
        fields={"captured_at": "2026-11-21T10:00:00"},
        says="zone",
    ),
    Case(
        name="no-time",
        status=422,
        code="invalid-request",
        fields={"captured_at": "2026-13-21T10:00:00Z"},
        says="captured_at",
    ),
    Case(name="number-as-time", status=422, code="invalid-request", fields={"captured_at": "17"}),
    Case(name="long-lot", status=422, code="invalid-request", fields={"lot": "L" * 201}),
    Case(name="control-character", status=422, code="invalid-request", fields={"lot": "a\nb"}),
]


@contextlib.contextmanager
def nothing_is_kept(live: Live) -> Iterator[None]:
    """Afterwards the same records and files are there, and a part is judged as ever."""
    before = live.kept()
    yield
    assert live.kept() == before
    assert live.http.get("/readyz", params={"product": "KN-42"}).status_code == 200
    assert live.post(GOOD, capture_id=f"after-{before[0]}", serial=serial(50)).status_code == 201


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_a_problem_and_leaves_nothing(live: Live, case: Case) -> None:
    with nothing_is_kept(live):
        answer = live.post(
            case.image,
            key=case.key,
            content_type=case.content_type,
            headers=case.headers,
            **{"capture_id": f"refuse-{case.name}", **case.fields},
        )
        assert answer.status_code == case.status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"] == f"urn:inspection:problem:{case.code}"
        assert problem["code"] == case.code
        assert problem["status"] == case.status
        assert case.says in problem["detail"]
        assert problem["title"]
        assert problem["remedy"]
        assert problem["instance"].startswith("urn:uuid:")
        assert str(live.folder) not in answer.text, "no paths of this machine"
        assert ("Retry-After" in answer.headers) == (case.status == 503)


def test_an_unknown_field_gets_the_nearest_name(live: Live) -> None:
    answer = live.post(GOOD, capture_id="near", mold="M-1")
    assert answer.json()["remedy"] == "Did you mean `mould`?"
    answer = live.http.get("/v1/inspections", params={"statoin": "x"})
    assert answer.json()["remedy"] == "Did you mean `station`?"
    answer = live.http.get("/v1/models", params={"x": "y"})
    assert answer.status_code == 422


def test_a_field_that_comes_twice_is_refused(live: Live) -> None:
    query = "station=a&station=b&product=KN-42&capture_id=twice"
    with nothing_is_kept(live):
        answer = live.http.post(
            f"/v1/inspections?{query}",
            content=GOOD,
            headers={"Idempotency-Key": "twice", "Content-Type": "image/png"},
        )
        assert answer.status_code == 422
        assert "2 times" in answer.json()["detail"]


def raw_exchange(live: Live, head: str, body: bytes = b"") -> bytes:
    """What comes back for bytes that a decent client would not send; reads until it closes."""
    place = urlsplit(live.address)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as wire:
        wire.sendall(head.replace("\n", "\r\n").encode() + body)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := wire.recv(65536):
                answer += part
        return answer


def head(content_length: int | None, capture: str) -> str:
    length = "Transfer-Encoding: chunked" if content_length is None else ""
    length = length or f"Content-Length: {content_length}"
    return (
        f"POST /v1/inspections?station=x&product=KN-42&capture_id={capture} HTTP/1.1\n"
        f"Host: 127.0.0.1\nIdempotency-Key: {capture}\nContent-Type: image/png\n{length}\n\n"
    )


def test_too_large_is_said_before_any_of_the_body_is_sent(live: Live) -> None:
    with nothing_is_kept(live):
        answer = raw_exchange(live, head(5_000_000_000, "announced"))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()


def test_a_body_without_a_length_is_counted_as_it_comes(live: Live) -> None:
    chunk = b"10000\r\n" + b"\x00" * 65536 + b"\r\n"
    with nothing_is_kept(live):
        # One chunk more than is allowed, and no end: the answer comes without waiting for one.
        answer = raw_exchange(live, head(None, "endless"), chunk * (4_000_000 // 65536 + 1))
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_station_that_hangs_up_halfway_leaves_nothing(live: Live) -> None:
    with nothing_is_kept(live):
        place = urlsplit(live.address)
        with socket.create_connection((place.hostname or "", place.port or 0)) as wire:
            wire.sendall(head(len(GOOD), "gone").replace("\n", "\r\n").encode() + GOOD[:100])
    again = live.post(GOOD, capture_id="gone", key="gone", station="x")
    assert again.status_code == 201, "its names were not left taken"


FORM = {"station": "x", "product": "KN-42", "capture_id": "form"}
FILE = ("part.png", GOOD, "image/png")


@pytest.mark.parametrize(
    ("status", "says", "data", "files"),
    [
        (422, "holds no file", FORM, {"lot": (None, "x")}),
        (422, "2 files", FORM, [("image", FILE), ("image", FILE)]),
        (422, "called `picture`", FORM, {"picture": FILE}),
        (422, "`station` is missing", {}, {"image": FILE}),
        (422, "no field `statoin`", FORM | {"statoin": "y"}, {"image": FILE}),
        (415, "application/pdf", FORM, {"image": ("a.pdf", GOOD, "application/pdf")}),
        (422, "declared as image/tiff", FORM, {"image": ("a.tif", GOOD, "image/tiff")}),
        (422, "not an image", FORM, {"image": ("../../etc/passwd", b"root:x:0:0", "image/png")}),
        (413, "4000001 bytes", FORM, {"image": ("a.png", bytes(4_000_001), "image/png")}),
        (413, "limit", FORM, {"image": ("a.png", bytes(4_200_000), "image/png")}),
        (422, "longer than 4096 bytes", FORM | {"lot": "x" * 5000}, {"image": FILE}),
        (422, "more than 30 parts", FORM | {f"f{n}": "" for n in range(40)}, {"image": FILE}),
    ],
)
def test_a_form_that_cannot_be_used_leaves_nothing(
    live: Live, status: int, says: str, data: dict[str, str], files: Any
) -> None:
    with nothing_is_kept(live):
        answer = live.http.post(
            "/v1/inspections",
            data=data,
            files=files,
            headers={"Idempotency-Key": "form"},
        )
        assert answer.status_code == status, answer.text
        assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary in here"),
        (f"multipart/form-data; boundary={'x' * 300}", b"too long a boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + GOOD,
        ),
    ],
)
def test_a_broken_form_is_a_problem(live: Live, content_type: str, body: bytes) -> None:
    with nothing_is_kept(live):
        answer = live.http.post(
            "/v1/inspections",
            content=body,
            headers={"Idempotency-Key": "broken", "Content-Type": content_type},
        )
        assert answer.status_code == 422, answer.text


def test_a_form_has_its_fields_in_the_body_only(live: Live) -> None:
    with nothing_is_kept(live):
        answer = live.http.post(
            "/v1/inspections",
            params={"station": "x"},
            data=FORM,
            files={"image": FILE},
            headers={"Idempotency-Key": "form"},
        )
        assert answer.status_code == 422


def test_a_form_without_the_files_type_is_looked_at(live: Live) -> None:
    answer = live.http.post(
        "/v1/inspections",
        data=FORM | {"capture_id": "untyped"},
        files={"image": ("part", GOOD, "application/octet-stream")},
        headers={"Idempotency-Key": "untyped"},
    )
    assert answer.status_code == 201


def kinds() -> list[type]:
    """Of all that Python keeps; a deprecated thing may warn when it is asked for its class."""
    return [type(each) for each in gc.get_objects()]


def test_a_refused_image_is_forgotten_at_once(live: Live) -> None:
    """Not only when Python next looks for circles, which may take hours: images are large."""
    gc.collect()
    gc.disable()
    try:
        image = GOOD[: len(GOOD) // 2]
        assert live.post(image, capture_id="forgotten").status_code == 422
        until(lambda: not [kind for kind in kinds() if kind is Arrival])
        assert not [kind for kind in kinds() if issubclass(kind, ImageError)]
    finally:
        gc.enable()
