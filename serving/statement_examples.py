"""What happens to one part besides inspections, in JSON: for the document and the API page."""

from __future__ import annotations

from typing import Any, Final

SERIAL: Final = "KN42A00016"
TRACE_ID: Final = "06AF-JB08-0ETGW"
_AT: Final = "2026-11-21T09:12:40.000Z"
_RECORDED: Final = "2026-11-21T10:06:00.310Z"
_NO_PLACE: Final[dict[str, Any]] = {"lot": None, "machine": None, "mould": None, "cavity": None}
_PLACE: Final[dict[str, Any]] = {
    "lot": "L-2026-47",
    "machine": "LP-3",
    "mould": "M-12",
    "cavity": "2",
}

EVENT_REQUEST: Final[dict[str, Any]] = {"event": "cast", "at": _AT, **_PLACE}
EVENT: Final[dict[str, Any]] = {
    "id": "0199d3e0-1a02-7c11-8d21-5a6b7c8d9e01",
    "product": "KN-42",
    "part": SERIAL,
    "event": "cast",
    "at": _AT,
    "by": "mes",
    "recorded_at": _RECORDED,
    **_PLACE,
    "station": None,
    "note": None,
}

NAME_REQUEST: Final[dict[str, Any]] = {
    "serial": SERIAL,
    "reason": "read by hand on the bench",
}
NAMING: Final[dict[str, Any]] = {
    "id": "0199d3e0-2b02-7c11-8d21-5a6b7c8d9e02",
    "product": "KN-42",
    "part": f"unread:{TRACE_ID}",
    **NAME_REQUEST,
    "why": "bound",
    "by": "kim",
    "recorded_at": _RECORDED,
}

COMPONENT_REQUEST: Final[dict[str, Any]] = {
    "product": "BRG-7",
    "serial": "B7-00412",
    "action": "fitted",
    "at": _AT,
    "position": "left",
}
ASSEMBLY: Final[dict[str, Any]] = {
    "id": "0199d3e0-3c02-7c11-8d21-5a6b7c8d9e03",
    "product": "KN-42",
    "part": SERIAL,
    "component_product": "BRG-7",
    "component_part": "B7-00412",
    "action": "fitted",
    "at": _AT,
    "by": "mes",
    "recorded_at": _RECORDED,
    "position": "left",
}

HOLD_REQUEST: Final[dict[str, Any]] = {
    "product": "KN-42",
    "scope": "mould",
    "value": "M-12",
    "reason": "cooling line 2 was blocked",
}
HOLD: Final[dict[str, Any]] = {
    "id": "0199d3e0-4d02-7c11-8d21-5a6b7c8d9e04",
    **HOLD_REQUEST,
    "by": "kim",
    "recorded_at": _RECORDED,
    "legal": False,
}
HOLD_STATE: Final[dict[str, Any]] = {**HOLD, "released_by": None}
HOLD_LIST: Final[dict[str, Any]] = {"items": [HOLD_STATE], "truncated": False}

RELEASE_REQUEST: Final[dict[str, Any]] = {"reason": "all 42 parts were X-rayed again"}
RELEASE: Final[dict[str, Any]] = {
    "id": "0199d3e0-5e02-7c11-8d21-5a6b7c8d9e05",
    "hold_id": HOLD["id"],
    **RELEASE_REQUEST,
    "by": "kim",
    "recorded_at": _RECORDED,
}

VIEW_SET_REQUEST: Final[dict[str, Any]] = {
    "station": "xray-1",
    "product": "KN-42",
    "serial": SERIAL,
    "views": ["front", "side"],
}
VIEW_SET: Final[dict[str, Any]] = {
    "id": "0199d3e0-6f02-7c11-8d21-5a6b7c8d9e06",
    "trace_id": TRACE_ID,
    **VIEW_SET_REQUEST,
    "part": SERIAL,
    "by": "xray-1",
    "recorded_at": _RECORDED,
    "reason": None,
    **_NO_PLACE,
}

PROCESS_VALUES_REQUEST: Final[dict[str, Any]] = {
    "values": [
        {
            "name": "melt-temperature",
            "value": 712.5,
            "unit": "degC",
            "at": _AT,
            "machine": "LP-3",
        },
        {
            "name": "cycle",
            "value": 84.2,
            "unit": "s",
            "at": _AT,
            "product": "KN-42",
            "serial": SERIAL,
        },
    ]
}
PROCESS_VALUE: Final[dict[str, Any]] = {
    "name": "melt-temperature",
    "value": 712.5,
    "unit": "degC",
    "at": _AT,
    "until": None,
    "product": None,
    "part": None,
    "machine": "LP-3",
}
PROCESS_VALUES_REPORT: Final[dict[str, Any]] = {
    "id": "0199d3e0-7f02-7c11-8d21-5a6b7c8d9e07",
    "accepted": 1,
    "refused": 1,
    "items": [
        {"item": 0, "status": "accepted", "problem": None},
        {
            "item": 1,
            "status": "refused",
            "problem": {
                "code": "serial-check",
                "detail": "serial 'KN42A0001X': its check character 'X' does not hold, so at least "
                "one character was misread",
                "remedy": "Read the mark again; leave `serial` out when it cannot be read.",
            },
        },
    ],
}
