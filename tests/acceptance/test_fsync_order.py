"""The answer leaves only after image and record are on the disk, seen in the system calls.

A killed process loses no page cache, so killing cannot show this. The server runs under strace for
two POSTs, and the calls are put in the order in which they returned:

    small image: renamed to its digest; its bytes are in the database's log with the record
    large image: fsync, rename to its digest, fsync of the folder
    record:      the last write to the database's log, fdatasync of that log
    answer:      the first byte of "HTTP/1.1 201" on the socket
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from inspection.stores.sql import CARRIED_BYTES
from tests.live_server import promoted_spot, serial, start_process
from tests.spot_model import part_png

if TYPE_CHECKING:
    from pathlib import Path

CALLS = (
    "fsync,fdatasync,rename,renameat,renameat2,write,writev,pwrite64,pwritev,sendto,sendmsg,"
    "recvfrom,recvmsg"
)
LINE = re.compile(r"^(?P<pid>\d+) +(?P<text>.*)$")
RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")


def tracing_works(tmp_path: Path) -> str | None:
    """Why system calls cannot be traced here; None when they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-D", "-f", "-y", "-o", str(tmp_path / "try"), "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"strace is refused: {tried.stderr.strip()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call. `began` and `ended` are its places in the order of all."""

    text: str
    began: int
    ended: int

    @property
    def name(self) -> str:
        return self.text.partition("(")[0]


def calls_of(trace: str) -> list[Call]:
    """The calls that returned without an error, in the order in which they returned."""
    calls = []
    pending: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        found = LINE.match(line)
        if found is None:
            continue
        pid, text = found["pid"], found["text"]
        if text.endswith("<unfinished ...>"):
            pending[pid] = (number, text.removesuffix("<unfinished ...>"))
            continue
        began = number
        resumed = RESUMED.match(text)
        if resumed is not None:
            began, start = pending.pop(pid, (number, resumed["name"] + "("))
            text = start + resumed["rest"]
        if re.search(r"\) += +\d+", text):
            calls.append(Call(text=text, began=began, ended=number))
    return calls


def finished_trace(path: Path) -> str:
    """What strace wrote, once it has written that the server is gone."""
    for _ in range(2000):
        text = path.read_text(errors="replace")
        if re.search(r"\+\+\+ exited with \d+ \+\+\+\s*\Z", text):
            return text
        time.sleep(0.01)
    raise AssertionError("strace did not finish")


def test_image_and_record_are_on_the_disk_before_the_answer_leaves(tmp_path: Path) -> None:
    reason = tracing_works(tmp_path)
    if reason is not None:
        pytest.skip(reason)
    promoted_spot(tmp_path / "weights")
    trace = tmp_path / "trace"
    # -D: the server is our child and strace is not, so that signals reach the server.
    options = ("strace", "-D", "-f", "-y", "-s", "5000", "-e", f"trace={CALLS}", "-o", str(trace))
    small, large = part_png("bad"), part_png("bad", size=1024)
    assert len(small) <= CARRIED_BYTES < len(large)
    posted = {"capture-small": small, "capture-large": large}
    server = start_process(tmp_path, wrapper=options)
    try:
        for number, (name, image) in enumerate(posted.items(), start=1):
            answer = httpx.post(
                f"{server.address}/v1/inspections?station=s&product=KN-42&capture_id={name}"
                f"&serial={serial(number)}",
                content=image,
                headers={"Idempotency-Key": name, "Content-Type": "image/png"},
                timeout=60,
                trust_env=False,
            )
            assert answer.status_code == 201
    finally:
        status = server.stop()
    assert status == 0
    calls = calls_of(finished_trace(trace))
    arrivals = where(calls, "recvfrom|recvmsg|read", r"POST /v1/inspections")
    answers = where(calls, "write|writev|sendto|sendmsg", r"HTTP/1\.1 201")
    assert (len(arrivals), len(answers)) == (2, 2)

    for (name, image), arrival, leaving in zip(posted.items(), arrivals, answers, strict=True):
        arrived, answered = arrival.ended, leaving.began
        digest = hashlib.sha256(image).hexdigest()
        kept = f"images/{digest[:2]}/{digest[2:]}"
        (named,) = where(calls, "rename.*", re.escape(kept), after=arrived, before=answered)
        log = r"records\.db-wal>"
        pages = where(calls, "write|pwrite64|pwritev", log, after=arrived, before=answered)
        written = [page for page in pages if name in page.text]
        assert written, "the record is written before the answer leaves"
        assert where(calls, "fdatasync|fsync", log, after=written[-1].ended, before=answered), (
            "the record is on the disk before the answer leaves"
        )
        assert named.ended < written[-1].began, "no record names an image that is not there yet"
        if image is small:
            assert sum(map(returned, before(pages, written[-1]))) > len(image), (
                "the image's bytes are on the disk with the record"
            )
            continue
        temporary = re.search(r"images/incoming/[^\"]+", named.text)
        assert temporary is not None
        assert where(calls, "fsync", re.escape(temporary[0]), after=arrived, before=named.began), (
            "the image's bytes are on the disk before the image gets its name"
        )
        folder = rf"images/{digest[:2]}>"
        (synced,) = where(calls, "fsync", folder, after=named.ended, before=answered)
        assert synced.ended < written[-1].began, (
            "the image's name is on the disk before its record is"
        )


def where(
    calls: list[Call], name: str, pattern: str, *, after: int = -1, before: int | None = None
) -> list[Call]:
    """The calls of this name whose text shows the pattern, between two places."""
    return [
        call
        for call in calls
        if re.fullmatch(name, call.name)
        and re.search(pattern, call.text)
        and call.began > after
        and (before is None or call.ended < before)
    ]


def before(calls: list[Call], last: Call) -> list[Call]:
    """Those up to one of them, and it."""
    return [call for call in calls if call.ended <= last.ended]


def returned(call: Call) -> int:
    """How many bytes it wrote."""
    found = re.search(r"\) += +(\d+)", call.text)
    assert found is not None
    return int(found[1])
