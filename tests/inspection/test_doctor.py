"""The doctor tells what is wrong, what to do, and never touches anything."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inspection import box, cli, doctor
from inspection.doctor import GIB, Check

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /dev/shm rw,nosuid - tmpfs tmpfs rw
31 22 8:1 / /srv/two\\040words rw master:1 - xfs /dev/sdb rw
32 31 0:44 / /srv/two\\040words/fast rw - tmpfs tmpfs rw
"""


def answering(*answers: str | None) -> Callable[[Sequence[str]], str | None]:
    """A stand-in for running commands: one answer after the other."""
    rest = iter(answers)
    return lambda command: next(rest)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_check_cannot_be_bad_without_a_remedy() -> None:
    with pytest.raises(ValueError, match="remedy"):
        Check(code="INS-D01", name="x", status="warn", text="y")


@pytest.mark.parametrize("code", ["D01", "INS-D1", "INS-D001", "INS-D01\n"])
def test_a_check_has_a_code_of_the_one_form(code: str) -> None:
    with pytest.raises(ValueError, match="code"):
        Check(code=code, name="x", status="ok", text="y")


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((4, 0, 0), "ok")]
)
def test_python(version: tuple[int, int, int], status: str) -> None:
    assert doctor.check_python(version).status == status


@pytest.mark.parametrize(("cores", "status"), [(1.0, "warn"), (1.5, "warn"), (2.0, "ok")])
def test_cores(cores: float, status: str) -> None:
    assert doctor.check_cores(cores).status == status


@pytest.mark.parametrize(
    ("memory", "status"),
    [(None, "warn"), (GIB // 2, "fail"), (2 * GIB, "warn"), (int(3.8 * GIB), "ok")],
)
def test_memory(memory: int | None, status: str) -> None:
    assert doctor.check_memory(memory).status == status


def test_cpu_features_are_read_on_both_families() -> None:
    intel = box.cpu_flags("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_bf16\n")
    found = doctor.check_cpu_features("x86_64", intel)
    assert found.status == "ok"
    assert found.text == "x86_64: AVX2, AVX-512, AVX-512 VNNI, AMX bf16"

    arm = box.cpu_flags("processor : 0\nFeatures\t: fp asimd crc32\n")
    assert doctor.check_cpu_features("aarch64", arm).status == "ok"

    assert doctor.check_cpu_features("x86_64", frozenset({"sse4_2"})).status == "warn"
    assert box.cpu_flags("") == frozenset()


@pytest.mark.parametrize(
    ("free", "status"), [(GIB // 2, "fail"), (5 * GIB, "warn"), (50 * GIB, "ok")]
)
def test_disk(free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        def __init__(self) -> None:
            self.free = free

    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage())
    assert doctor.check_disk(tmp_path).status == status


def test_fsync_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    start = time.monotonic()
    found = doctor.check_fsync(tmp_path / "not" / "there" / "yet", rounds=5)
    assert time.monotonic() - start < 30
    assert "fsyncs/s" in found.text
    assert str(tmp_path) in found.text
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_a_warning_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box, "time_fsyncs", lambda folder, rounds, limit_s: [0.02] * 10)
    monkeypatch.setattr(box, "filesystem_kind", lambda path, mountinfo: "ext4")
    found = doctor.check_fsync(tmp_path)
    assert found.status == "warn"
    assert found.text.startswith("50 fsyncs/s (median 20.00 ms)")
    assert "SSD" in str(found.remedy)


def test_a_disk_in_memory_is_a_warning_however_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box, "filesystem_kind", lambda path, mountinfo: "tmpfs")
    found = doctor.check_fsync(tmp_path, rounds=2)
    assert found.status == "warn"
    assert "tmpfs" in str(found.remedy)


def test_fsync_stops_at_its_time_but_measures_once(tmp_path: Path) -> None:
    assert len(box.time_fsyncs(tmp_path, rounds=100, limit_s=0.0)) == 1
    assert len(box.time_fsyncs(tmp_path, rounds=3, limit_s=30.0)) == 3


def test_an_fsync_that_cannot_be_measured_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, *, rounds: int, limit_s: float) -> list[float]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(box, "time_fsyncs", refuse)
    found = doctor.check_fsync(tmp_path)
    assert found.status == "warn"
    assert "Permission denied" in found.text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv", "ext4"),
        ("/dev/shm/x", "tmpfs"),
        ("/srv/two words/records", "xfs"),
        ("/srv/two words/fast/records", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, kind: str) -> None:
    assert box.filesystem_kind(Path(path), MOUNTS) == kind


def test_a_kernel_that_tells_no_mounts_is_no_error() -> None:
    assert box.filesystem_kind(Path("/srv"), "") is None
    assert box.filesystem_kind(Path("/srv"), "what - is\nthis") is None


def test_write_rights_make_no_folder(tmp_path: Path) -> None:
    found = doctor.check_writable(tmp_path / "var", tmp_path)
    assert found.status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    found = doctor.check_writable(tmp_path / "var", tmp_path)
    assert found.status == "fail"
    assert os.strerror(20) in found.text


def test_a_closed_weights_folder_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "weights"

    def why_not(path: Path) -> str | None:
        return "Permission denied" if path == closed else None

    monkeypatch.setattr(box, "why_not_writable", why_not)
    found = doctor.check_writable(tmp_path / "var", tmp_path)
    assert found.status == "warn"
    assert f"{closed}: Permission denied" in found.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_rights_are_found_by_trying(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert box.why_not_writable(tmp_path / "var") is not None
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_taken_port_names_the_next_free_one(taken_port: int) -> None:
    found = doctor.check_port(taken_port)
    assert found.status == "warn"
    assert f"{taken_port} is taken" in found.text
    free = int(found.text.partition("; ")[2].split()[0])
    assert box.port_is_free("127.0.0.1", free)


def test_no_free_port_fails(taken_port: int) -> None:
    assert doctor.check_port(taken_port, tries=1).status == "fail"


def test_no_gpu_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = doctor.check_gpu()
    assert found.status == "ok"
    assert found.text == "no GPU: the CPU engine serves"


def test_a_driver_that_does_not_answer_is_a_warning() -> None:
    assert doctor.check_gpu(answering(None)).status == "warn"


@pytest.mark.parametrize(
    ("torch", "sees", "status", "words"),
    [
        (None, None, "ok", "not used without the extra 'gpu'"),
        ("2.15.0", "True\n", "ok", "torch uses it"),
        ("2.15.0", "False\n", "warn", "torch sees none"),
        ("2.15.0", None, "warn", "torch sees none"),
    ],
)
def test_a_gpu_is_named_and_tried(
    torch: str | None, sees: str | None, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box, "installed_version", lambda name: torch)
    found = doctor.check_gpu(answering("NVIDIA H200, 143771 MiB, 580.1\n", sees))
    assert found.status == status
    assert found.text.startswith("NVIDIA H200, 143771 MiB, 580.1; ")
    assert words in found.text


def test_an_extra_is_read_from_the_installation_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"fastapi", "uvicorn", "openvino"} <= set(box.libraries_of("serve"))
    assert "torch" not in box.libraries_of("serve")
    assert "elpv-dataset" in box.libraries_of("demo")
    assert box.libraries_of("no-such-extra") == ()

    versions = {"openvino": "2026.4.1"}
    monkeypatch.setattr(box, "installed_version", versions.get)
    partly = doctor.check_extra("serve")
    assert partly.status == "ok"
    assert partly.text.startswith("incomplete, without ")
    assert "fastapi" in partly.text
    assert "openvino" not in partly.text
    absent = doctor.check_extra("triton")
    assert absent.text == "not installed"
    assert "[triton]" in str(absent.remedy)


@pytest.mark.parametrize(("year", "status"), [(1970, "fail"), (2026, "ok"), (2199, "fail")])
def test_a_clock_that_was_never_set_fails(year: int, status: str) -> None:
    found = doctor.check_clock(datetime(year, 12, 1, tzinfo=UTC), "Asia/Seoul")
    assert found.status == status
    assert "Asia/Seoul" in found.text


def test_the_zone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Seoul")
    assert box.time_zone_name() == "Asia/Seoul"
    monkeypatch.delenv("TZ")
    assert box.time_zone_name()


@pytest.mark.parametrize(
    ("fonts", "text"),
    [(None, "not looked at"), ("", "none"), ("Noto Sans CJK KR\nNanumGothic\n", "NanumGothic")],
)
def test_a_korean_font_is_welcome_and_not_required(fonts: str | None, text: str) -> None:
    found = doctor.check_korean_font(answering(fonts))
    assert found.status == "ok"
    assert found.text.startswith(text)


def test_every_check_has_a_code_of_its_own(tmp_path: Path) -> None:
    checks = doctor.examine(data_dir=tmp_path / "var", root=tmp_path)
    codes = [check.code for check in checks]
    assert len(set(codes)) == len(codes)
    assert codes == sorted(codes)


def test_the_command_prints_a_line_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status = cli.main(["doctor", "--data-dir", str(tmp_path / "var")])
    lines = capsys.readouterr().out.splitlines()
    assert status in {0, 4}
    checks = [line for line in lines if line[:4].strip() in {"ok", "warn", "fail"}]
    assert (status == 4) == any(line.startswith("fail") for line in checks)
    assert checks[0].split()[1] == "INS-D01"
    assert "\x1b" not in "".join(lines)
    assert list(tmp_path.iterdir()) == []


def test_the_command_answers_programs_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Check(code="INS-D99", name="Lamp", status="fail", text="off", remedy="Switch it on.")
    monkeypatch.setattr(doctor, "examine", lambda **_: (bad,))
    assert cli.main(["doctor", "--format", "json"]) == 4
    answer = json.loads(capsys.readouterr().out)
    assert answer["fit"] is False
    assert answer["checks"][0] == {
        "code": "INS-D99",
        "name": "Lamp",
        "status": "fail",
        "text": "off",
        "remedy": "Switch it on.",
    }


def test_the_table_puts_the_remedy_below() -> None:
    bad = Check(code="INS-D99", name="Lamp", status="warn", text="dim", remedy="Clean it.")
    line, below = doctor.as_table([bad]).splitlines()
    assert line.split() == ["warn", "INS-D99", "Lamp", "dim"]
    assert below.strip() == "→ Clean it."
    assert "\x1b[33m" in doctor.as_table([bad], color=True)
