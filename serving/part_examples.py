"""One part's life in JSON: its page, its trace, its genealogy, and the order of changes."""

from __future__ import annotations

from typing import Any, Final

from serving.examples import INSPECTION_DETAIL, INSPECTION_ID, RECORDED, REVIEW_ID, REVIEW_REQUEST
from serving.statement_examples import ASSEMBLY, EVENT, HOLD, NAMING, PROCESS_VALUE, SERIAL

IN_FORCE: Final[dict[str, Any]] = {
    "disposition": "pass",
    "inspection_id": INSPECTION_ID,
    "review_id": REVIEW_ID,
    "why": f"decided by kim: {REVIEW_REQUEST['reason']}",
}
_NAMES: Final = [SERIAL, NAMING["part"]]
_LINK: Final = f"/v1/parts/KN-42/{SERIAL}"

PART: Final[dict[str, Any]] = {
    "product": "KN-42",
    "part": SERIAL,
    "serial": SERIAL,
    "names": _NAMES,
    "namings": [NAMING],
    "in_force": IN_FORCE,
    "holds": [HOLD],
    "events": [EVENT],
    "components": [ASSEMBLY],
    "assemblies": [],
    "view_sets": [],
    "inspections": [INSPECTION_DETAIL],
    "views": [],
}

LOOKUP_REQUEST: Final[dict[str, Any]] = {
    "items": [
        {"product": "KN-42", "serial": SERIAL},
        {"product": "KN-42", "serial": "KN42A00024"},
    ]
}
LOOKUP: Final[dict[str, Any]] = {
    "items": [
        {
            "item": 0,
            "part": {
                "product": "KN-42",
                "part": SERIAL,
                "serial": SERIAL,
                "names": _NAMES,
                "in_force": IN_FORCE,
                "holds": [HOLD],
                "inspections": 1,
                "latest": RECORDED,
                "link": _LINK,
            },
            "problem": None,
        },
        {
            "item": 1,
            "part": None,
            "problem": {
                "code": "not-found",
                "detail": "nothing is recorded of a part 'KN42A00024' of product 'KN-42'",
                "remedy": "Check the identifier.",
            },
        },
    ]
}

TRACE: Final[dict[str, Any]] = {
    "part": PART,
    "origin": {
        "at": EVENT["at"],
        "known_from": "cast",
        "lot": "L-2026-47",
        "machine": "LP-3",
        "mould": "M-12",
        "cavity": "2",
        "castings": 1,
    },
    "window_min": 30,
    "values": [PROCESS_VALUE],
    "values_truncated": False,
    "siblings": {
        "mould": "M-12",
        "hour": "2026-11-21T10:00:00.000Z",
        "inspections": 41,
        "passed": 38,
        "failed": 2,
        "review": 1,
        "defect_rate": 0.04878048780487805,
    },
}

GENEALOGY: Final[dict[str, Any]] = {
    "product": "KN-42",
    "part": SERIAL,
    "components": [
        {
            "depth": 1,
            "assembly": {"product": "KN-42", "part": SERIAL},
            "component": {"product": "BRG-7", "part": "B7-00412"},
            "position": "left",
            "fitted_at": EVENT["at"],
            "removed_at": None,
            "repeated": False,
            "in_force": None,
            "holds": [],
        }
    ],
    "assemblies": [],
    "truncated": False,
}

CHANGES: Final[dict[str, Any]] = {
    "items": [
        {"sequence": 1, "cursor": "AAAAAAAAAAFoYXNoaGFzaA", "kind": "event", "entry": EVENT},
        {
            "sequence": 2,
            "cursor": "AAAAAAAAAAJoYXNoaGFzaA",
            "kind": "inspection",
            "entry": RECORDED,
        },
    ],
    "next": "AAAAAAAAAAJoYXNoaGFzaA",
}

COUNTS: Final[dict[str, Any]] = {
    "items": [
        {
            "start": "2026-11-21T00:00:00Z",
            "group": {"mould": "M-12"},
            "inspections": 412,
            "passed": 391,
            "failed": 17,
            "review": 4,
            "first": 400,
            "first_passed": 384,
            "first_pass_yield": 0.96,
        }
    ]
}
