"""docs/operations.md, done: every command in its order, on a box of its own; and its words."""

from __future__ import annotations

import logging
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inspection.cli import main
from inspection.stores.places import records_path
from serving.lines import LOOK_EVERY_S
from serving.patience import MOST
from serving.settings import Settings, load_settings
from tests.live_server import running, serial
from tests.spot_model import part_png, write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
KEEP = '[[retention]]\nname = "good parts"\nproducts = ["KN-42"]\nimages_days = 365\n'


def blocks(kind: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return found


def commands() -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    assert lines
    assert all(line.startswith("$ inspection ") for line in lines)
    return [line.removeprefix("$ inspection ") for line in lines]


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folders of the document, and two packages on a stick; the loggers as they were after."""
    for name in ("srv", "usb", "nas", "made"):
        (tmp_path / name).mkdir()
    for version in (1, 2):
        write_spot_package(tmp_path / "made", model="knuckle")
        stick = str(tmp_path / "usb" / f"knuckle-{version}.tar")
        words = ["package", "export", f"knuckle@{version}", stick]
        assert main([*words, "--weights-dir", str(tmp_path / "made")]) == 0
    (toml,) = blocks("toml")
    assert tomllib.loads(toml)["products"] == ["KN-42"]
    (tmp_path / "srv" / "inspection.toml").write_text(
        toml.replace("5_000_000_000", "1_000_000")  # a machine that tests may have little room
    )
    (tmp_path / "srv" / "keep.toml").write_text(KEEP)
    monkeypatch.chdir(tmp_path / "srv")
    monkeypatch.setenv("INSPECTION_SERVER__PORT", "0")
    loggers = [logging.getLogger(name) for name in ("serving", "uvicorn")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    yield tmp_path
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_every_command_works_in_the_order_in_which_it_is_told(
    box: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "/srv/inspection": box / "srv",
        "/media/usb": box / "usb",
        "/mnt/nas": box / "nas",
    }
    done = set()
    for line in commands():
        for place, here in places.items():
            line = line.replace(place, str(here))  # noqa: PLW2901
        words = shlex.split(line)
        status = main(words)
        said = capsys.readouterr()
        allowed = {0, 4} if words[0] == "doctor" else {0}  # the box is what it is
        assert status in allowed, f"{line}\n{said.out}{said.err}"
        if words[:3] == ["keys", "create", "xray-1"]:
            secret = next(word for word in said.out.split() if len(word) > 30)
            post_parts(load_settings(), secret)
        done.add(words[0])
    assert done >= {"backup", "restore", "verify", "fsck", "serve", "keys", "models", "db"}
    assert records_path(box / "srv" / "restored").is_file()


def post_parts(settings: Settings, secret: str) -> None:
    """Two parts, as the station sends them whose key this is."""
    with running(settings) as live:
        for number in (1, 2):
            answer = live.post(
                part_png("good", seed=number),
                capture_id=f"c-{number}",
                serial=serial(number),
                headers={"Authorization": f"Bearer {secret}"},
            )
            assert answer.status_code == 201, answer.text


def test_the_words_are_those_of_the_program() -> None:
    metrics = (ROOT / "serving" / "metrics.py").read_text()
    metrics += (ROOT / "serving" / "gauges.py").read_text()
    named = set(re.findall(r"`(inspection_\w+)`", TEXT))
    assert named
    assert {name for name in named if f'"{name}"' not in metrics} == set()
    assert f"given up after {MOST} tries" in TEXT
    assert LOOK_EVERY_S == 1.0, "the document says at once, and every second"
    for name in re.findall(r"`deploy/([\w.-]+)`|\]\(\.\./deploy/([\w.-]+)\)", TEXT):
        assert (ROOT / "deploy" / (name[0] or name[1])).is_file(), name
    for link in re.findall(r"\]\(([\w.-]+\.md)\)", TEXT):
        assert (ROOT / "docs" / link).is_file(), link
