"""The log of decisions: whole lines in a chain, by whom, and nothing lost when many write."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from inspection.errors import RegistryError
from inspection.promotions import FIRST_LINK
from inspection.registry import LOG_NAME, Registry
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from pathlib import Path


def registry_with(tmp_path: Path, versions: int = 2) -> Registry:
    for _ in range(versions):
        write_spot_package(tmp_path)
    return Registry(tmp_path)


def test_a_user_without_a_name_is_logged_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert registry_with(tmp_path, 1).promote("spot@1").by == "uid:54321"


def test_the_account_in_the_log_is_not_what_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    line = registry_with(tmp_path, 1).promote("spot@1", by="J. Kim")
    assert line.account == pwd.getpwuid(os.getuid()).pw_name != "somebody-else"


def test_a_line_says_who_what_and_on_which_evidence(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, 1)
    line = registry.promote("spot@1", by="  J. Kim,\n quality ")
    package = registry.load("spot@1")
    assert (line.by, line.reference, line.digest) == ("J. Kim, quality", "spot@1", package.digest)
    assert line.account
    assert line.evidence is not None
    certificate = package.document.operating_point.certificate
    assert line.evidence.certificate == certificate.in_words()
    assert line.evidence.agreement.startswith("every verdict is the same, on 660 test parts")
    assert line.evidence.report_sha256 == package.files["report.json"]
    assert registry.history() == [line]


def test_lines_of_the_first_release_still_hold(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    former = {
        "at": "2026-10-01T08:00:00.000+00:00",
        "action": "promote",
        "product": "KN-42",
        "model": "spot",
        "version": 1,
        "digest": registry.load("spot@1").digest,
        "by": "kim",
        "certified": True,
        "accepted_risk": None,
        "previous": FIRST_LINK,
    }
    (tmp_path / LOG_NAME).write_text(json.dumps(former, sort_keys=True) + "\n")
    assert registry.promoted("KN-42").reference == "spot@1"
    registry.promote("spot@2")
    first, second = registry.history()
    assert (first.evidence, first.account) == (None, None)
    assert second.previous != FIRST_LINK
    assert registry.rollback("KN-42").reference == "spot@1"


@pytest.mark.parametrize("harm", ["garbage", "another kind of thing", "a key too many", "removed"])
def test_damage_in_the_middle_of_the_log_is_refused(tmp_path: Path, harm: str) -> None:
    registry = registry_with(tmp_path)
    for version in (1, 2, 1):
        registry.promote(f"spot@{version}")
    log = tmp_path / LOG_NAME
    lines = log.read_text().splitlines()
    middle = json.loads(lines[1])
    changed = {
        "garbage": [lines[1][:40]],
        "another kind of thing": [json.dumps({**middle, "version": "2"})],
        "a key too many": [json.dumps({**middle, "approved": True})],
        "removed": [],
    }[harm]
    log.write_text("\n".join([lines[0], *changed, lines[2]]) + "\n")
    before = log.read_bytes()
    for act in (
        lambda: registry.promoted("KN-42"),
        lambda: registry.promote("spot@2"),
        lambda: registry.retire("spot@2", reason="x"),
        lambda: registry.rollback("KN-42"),
    ):
        with pytest.raises(RegistryError, match="line 2"):
            act()
    assert log.read_bytes() == before


def test_many_promote_at_once_and_no_line_is_lost(tmp_path: Path) -> None:
    registry_with(tmp_path)
    code = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\n"
        "from inspection.registry import Registry\n"
        "for turn in range(5):\n"
        "    Registry(Path(sys.argv[1])).promote(f'spot@{turn % 2 + 1}', by=sys.argv[2])\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name, *sys.path])
        for name in ("kim", "lee", "park")
    ]
    assert [one.wait(timeout=300) for one in running] == [0, 0, 0]
    lines = Registry(tmp_path).history()  # the chain holds
    assert sorted(line.by for line in lines) == ["kim"] * 5 + ["lee"] * 5 + ["park"] * 5


def test_a_disk_that_fills_up_in_the_middle_of_a_line_changes_nothing(tmp_path: Path) -> None:
    """The file-size limit of a child process stands in for a full disk."""
    registry = registry_with(tmp_path)
    registry.promote("spot@1")
    size = (tmp_path / LOG_NAME).stat().st_size
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\n"
        "from inspection.errors import RegistryError\n"
        "from inspection.registry import Registry\n"
        "limit = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try:\n    Registry(Path(sys.argv[1])).promote('spot@2')\n"
        "except RegistryError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(size + 100), *sys.path],
        capture_output=True,
        text=True,
    )
    assert "cannot be written" in done.stdout, done.stderr
    assert registry.promoted("KN-42").reference == "spot@1"
    assert registry.promote("spot@2").reference == "spot@2"
    assert len(registry.history()) == 2
