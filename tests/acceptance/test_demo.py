"""`inspection demo --once`, whole, as a newcomer runs it: with nothing left out."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.live_server import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("elpv_dataset") is None, reason="needs the extra 'demo'"
)
def test_the_demo_walks_the_whole_way_and_stops_cleanly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inspection.cli", "demo", "--once"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout
    assert "CC BY-NC-SA 4.0" in said
    assert "cannot certify 5 %" in said
    assert "random split" in said.lower()
    rows = re.findall(
        r"^ +(?:EC\d{7}\w|\(unread\)) +(?:good|defective) +(pass|fail|review) .*"
        r"([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{5}) *$",
        said,
        re.MULTILINE,
    )
    assert len(rows) == 60
    assert len({trace for _, trace in rows}) == 60
    assert {verdict for verdict, _ in rows} == {"pass", "fail", "review"}
    assert "Everything holds." in said
    assert "Stopped." in said
    assert (tmp_path / "weights" / "elpv" / "1" / "package.toml").is_file()
    assert (tmp_path / "datasets" / "elpv" / "revisions" / "1" / "manifest.csv").is_file()
