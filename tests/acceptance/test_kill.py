"""A killed server loses nothing that it has answered, and a station that repeats makes no double.

The short form of benchmarks/serving/kill9.py, which does the same a hundred times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live_server import environment

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving" / "kill9.py"


@pytest.mark.slow
def test_kills_under_load_lose_nothing_and_double_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "4", "--stations", "3", "--seed", "7"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["kills"] == 4
    assert figures["answered"] > 0
    assert figures["lost"] == figures["twice"] == figures["changed"] == figures["unknown"] == 0
    assert figures["verify"] == "ok"
    assert figures["repeats"] > 0, "the kills hit somebody"
