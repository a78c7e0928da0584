"""docs/api.md is run: every command works as printed, and every answer has the printed form."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inspection.decoding.acquisition import Acquisition
from inspection.detector.book import DetectorBook
from inspection.detector.calibrating import calibrate, sum_up
from inspection.detector.calibration import write_calibration
from inspection.detector.checks import Check, add_check
from inspection.detector.health import LIMITS_NAME, measure
from inspection.errors import InspectionError
from inspection.stores.places import detectors_dir
from serving.problems import KINDS
from tests.live_server import promoted_spot, running, settings_in
from tests.panels import Panel
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspection.detector.calibrating import Series

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"^```(?P<kind>sh|json)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MORE = "..."
"""A key that stands for fields which are printed elsewhere on the page."""


def same_form(printed: Any, real: Any, place: str = "answer") -> Iterator[str]:
    """Where the printed answer and the real one differ in their fields or kinds of value."""
    if isinstance(printed, dict) and isinstance(real, dict):
        missing = set(real) - set(printed)
        extra = set(printed) - set(real) - {MORE}
        if extra or (missing and MORE not in printed):
            yield f"{place}: printed {sorted(extra)}, not printed {sorted(missing)}"
        for name in set(printed) & set(real):
            yield from same_form(printed[name], real[name], f"{place}.{name}")
    elif isinstance(printed, list) and isinstance(real, list):
        for number, (left, right) in enumerate(zip(printed, real, strict=False)):
            yield from same_form(left, right, f"{place}[{number}]")
        if len(printed) != len(real):
            yield f"{place}: {len(printed)} printed, {len(real)} real"
    elif type(printed) is not type(real):
        yield f"{place}: printed {printed!r}, real {real!r}"


def remembered(answer: Any) -> dict[str, str]:
    """What the page calls by a name from then on, in the words in which it says so."""
    if not isinstance(answer, dict):
        return {}
    if answer.get("capture_id") == "c-000017":
        return {"ID": answer["id"], "TRACE": answer["trace_id"]}
    if str(answer.get("part", "")).startswith("unread:"):
        return {"UNREAD": answer["part"]}
    if "views" in answer and "recorded_at" in answer:
        return {"SET": answer["id"]}
    if "legal" in answer:
        return {"HOLD": answer["id"]}
    return {"NEXT": answer["next"]} if "next" in answer else {}


def checked_detector(folder: Path) -> None:
    """A station with a calibration and a check of its detector, which is fit."""
    panel = Panel(size_px=(64, 64), stuck=((40, 40), (40, 41)))
    about = Acquisition(kv=120.0, ma=4.5, exposure_ms=500.0, detector="XRD-0822-117")

    def series() -> tuple[Series, Series]:
        dark = sum_up(panel.frames(0, 16, about), kind="dark")
        return dark, sum_up(panel.frames(1.0, 16, about), kind="open", offset=dark.mean)

    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made = calibrate(*series(), station="xray-1", made_at=now, max_age_s=8 * 3600.0)
    place = DetectorBook(folder).folder("xray-1")
    write_calibration(made, place)
    (place / LIMITS_NAME).write_text("check_every_h = 24.0\n")
    figures = measure(made, *series(), lag_percent=0.3, contrast_sensitivity_percent=0.9)
    check = Check(
        checked_at=now,
        detector=made.flat.detector,
        calibration=made.flat.digest,
        dark_frames=16,
        open_frames=16,
        figures=figures,
        complaints=(),
    )
    add_check(place, check)


def test_every_command_of_the_page_works_and_answers_as_printed(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    promoted_spot(tmp_path / "weights", model="knuckle")
    (tmp_path / "part.png").write_bytes(part_png("bad"))
    checked_detector(detectors_dir(tmp_path / "var"))
    blocks = [(each["kind"], each["text"]) for each in BLOCK.finditer(PAGE.read_text())]
    assert blocks
    with running(settings_in(tmp_path)) as live:
        environment = {"PATH": os.environ["PATH"], "SERVER": live.address}
        answer: Any = None
        for kind, text in blocks:
            if kind == "json":
                assert list(same_form(json.loads(text), answer)) == [], text
                continue
            if text.startswith("SERVER="):
                continue
            done = subprocess.run(
                ["bash", "-euc", text.replace("curl ", "curl --silent --show-error ")],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stderr}"
            with contextlib.suppress(json.JSONDecodeError):
                answer = json.loads(done.stdout)
            environment = remembered(answer) | environment  # the first one keeps the name
            if isinstance(answer, dict) and "type" in answer:
                assert answer["code"] == "serial-check", f"{text}\n{answer}"
        made = [("KN42A00016", 1), ("KN42A00024", 1), (None, 1)]
        listed = live.http.get("/v1/inspections").json()["items"]
        for serial, count in made:  # the repeated post made no second record
            assert sum(each["serial"] == serial for each in listed) == count, serial
    for name in ("original.png", "heatmap.png", "evidence.npy"):
        assert (tmp_path / name).stat().st_size > 0


def test_the_table_of_refusals_agrees_with_the_server() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    known = {kind.code: entry.status for kind, entry in KINDS.items()}
    assert {code: int(status) for status, code in rows} == {code: known[code] for _, code in rows}
    assert InspectionError.code in {code for _, code in rows}
