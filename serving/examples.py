"""One part's story in JSON: what the OpenAPI document and the API page show."""

from __future__ import annotations

from typing import Any, Final

from serving.statement_examples import HOLD, SERIAL, TRACE_ID, VIEW_SET

INSPECTION_ID: Final = "0199d3f0-52e7-7c3a-9f6e-0c6b1d2e3f40"
REVIEW_ID: Final = "0199d3f4-1b02-7a11-8d21-5a6b7c8d9e0f"
_PLACE: Final = f"/v1/inspections/{INSPECTION_ID}"
_DIGESTS: Final = ["9c1e" * 16, "5b0d" * 16, "e3a7" * 16, "47f2" * 16, "0d86" * 16, "b1c5" * 16]

RECORDED: Final[dict[str, Any]] = {
    "id": INSPECTION_ID,
    "trace_id": TRACE_ID,
    "serial": SERIAL,
    "part": SERIAL,
    "station": "xray-1",
    "product": "KN-42",
    "lot": "L-2026-47",
    "machine": "LP-3",
    "mould": "M-12",
    "cavity": "2",
    "capture_id": "c-000017",
    "attempt": 1,
    "reason": "first",
    "disposition": "fail",
    "probability": {"shrinkage": 0.962114, "gas-porosity": 0.010332},
    "novelty": 0.41,
    "findings": [
        {
            "class": "shrinkage",
            "probability": 0.962114,
            "box": {"left": 412, "top": 128, "width": 96, "height": 64},
            "zone": "bearing seat",
            "size_mm": 1.84,
            "rule": "shrinkage in bearing seat: none is allowed",
        }
    ],
    "reasons": [
        {"code": "defect", "detail": "shrinkage: probability 0.962 is at or above its fail limit"}
    ],
    "model": {"name": "knuckle", "version": 3, "digest": _DIGESTS[0]},
    "recipe": {"product": "KN-42", "revision": 2, "digest": _DIGESTS[1]},
    "image_sha256": _DIGESTS[2],
    "captured_at": "2026-11-21T10:00:00.000Z",
    "received_at": "2026-11-21T10:00:00.412Z",
    "timings_ms": {"decode": 1.412, "prepare": 0.807, "infer": 6.934, "store": 2.115},
    "view_set": None,
    "view": None,
    "views": [],
    "engine": "OpenVINO 2026.4 CPU f32, batches up to 8",
    "acquisition": {
        "kv": 120.0,
        "ma": 1.5,
        "exposure_ms": 250.0,
        "frames_averaged": 16,
        "detector": "DXR-250-0417",
        "serial": SERIAL,
        "tags": {"ComponentManufacturer": "Gießerei Süd", "Modality": "DX"},
    },
    "detector": {
        "digest": _DIGESTS[3],
        "made_at": "2026-11-21T05:30:00.000Z",
        "checked_at": "2026-11-21T09:00:00.000Z",
    },
    "allowed": [],
    "links": {
        "self": _PLACE,
        "image": f"{_PLACE}/image",
        "heatmap": f"{_PLACE}/heatmap",
        "part": f"/v1/parts/KN-42/{SERIAL}",
        "trace": f"/v1/trace/{TRACE_ID}",
    },
}

INSPECTION: Final[dict[str, Any]] = {**RECORDED, "holds": [HOLD]}

REVIEW_REQUEST: Final[dict[str, Any]] = {
    "disposition": "pass",
    "reason": "surface mark, not shrinkage: seen under the microscope",
}

REVIEW: Final[dict[str, Any]] = {
    "id": REVIEW_ID,
    "inspection_id": INSPECTION_ID,
    **REVIEW_REQUEST,
    "reviewer": "kim",
    "reviewed_at": "2026-11-21T10:04:30.120Z",
}

INSPECTION_DETAIL: Final[dict[str, Any]] = {**INSPECTION, "reviews": [REVIEW]}

INSPECTION_LIST: Final[dict[str, Any]] = {
    "items": [INSPECTION],
    "next_cursor": None,
    "truncated": False,
}

VIEW_SET_STATE: Final[dict[str, Any]] = {
    "opened": VIEW_SET,
    "views": [{**RECORDED, "attempt": None, "view_set": VIEW_SET["id"], "view": "front"}],
    "missing": ["side"],
    "closed": None,
}

MODELS: Final[dict[str, Any]] = {
    "items": [
        {
            "product": "KN-42",
            "state": "serving",
            "detail": None,
            "serial_format": {
                "length": 10,
                "alphabet": "0123456789ABCDEFGHJKMNPQRSTVWXYZ",
                "check": "iso7064",
            },
            "model": {
                "name": "knuckle",
                "version": 3,
                "digest": _DIGESTS[0],
                "files": {"model.onnx": _DIGESTS[3], "recipe.toml": _DIGESTS[1]},
                "data_digest": _DIGESTS[4],
                "precision": "f32",
                "engine": "OpenVINO 2026.4 CPU f32, batches up to 8",
                "recipe_revision": 2,
                "recipe_digest": _DIGESTS[1],
                "classes": ["shrinkage", "gas-porosity"],
                "operating_point": {
                    "pass_below": {"shrinkage": 0.08, "gas-porosity": 0.11},
                    "fail_from": {"shrinkage": 0.71, "gas-porosity": 0.69},
                    "novelty_limit": 3.2,
                    "split_digest": _DIGESTS[5],
                    "certificate": {
                        "wanted_escape_rate": 0.01,
                        "escape_bound": 0.0094,
                        "naive_escape_bound": 0.0081,
                        "confidence": 0.95,
                        "bad_parts": 368,
                        "groups": 44,
                        "certified": True,
                        "more_bad_parts_needed": 0,
                        "escapes": 0,
                        "good_parts": 1104,
                        "overkills": 31,
                        "overkill_bound": 0.0394,
                        "naive_overkill_bound": 0.0379,
                        "measured_on": "test",
                        "scant_classes": [],
                    },
                },
            },
            "promotion": {
                "model": "knuckle",
                "version": 3,
                "digest": _DIGESTS[0],
                "at": "2026-11-20T08:12:09.003+00:00",
                "by": "kim",
                "certified": True,
                "accepted_risk": None,
            },
            "pending": False,
        }
    ]
}

PROMOTION_REQUEST: Final[dict[str, Any]] = {
    "model": "knuckle",
    "version": 3,
    "reason": "six weeks in the shadow of 2, without a miss",
}

DECISIONS: Final[dict[str, Any]] = {
    "items": [
        {
            **MODELS["items"][0]["promotion"],
            "by": "kim over HTTP",
            "action": "promote",
            "reason": PROMOTION_REQUEST["reason"],
        }
    ]
}

READINESS: Final[dict[str, Any]] = {
    "status": "ready",
    "checks": [
        {"name": "records", "ok": True, "detail": "can be written"},
        {"name": "product KN-42", "ok": True, "detail": "knuckle@3 is warm"},
    ],
}

PROBLEM: Final[dict[str, Any]] = {
    "type": "urn:inspection:problem:serial-check",
    "title": "The serial's check character does not hold",
    "status": 422,
    "detail": "serial 'KN42A0001X': its check character 'X' does not hold, so at least one "
    "character was misread",
    "instance": "urn:uuid:6f1c1f0e-6d0b-4a35-9d8e-0d3c5f7a1b2c",
    "code": "serial-check",
    "remedy": "Read the mark again; leave `serial` out when it cannot be read.",
}
