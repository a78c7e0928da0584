"""What somebody at the command line relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import click
import pytest

from inspection import box, cli
from inspection.errors import (
    ConfigurationError,
    EngineError,
    InputError,
    InspectionError,
    MissingExtra,
    QualityGateError,
    RecordError,
)

# Refuses the modules named on the command line, as if they were not installed, and goes on.
WITHOUT = """
import sys
class Refuse:
    names = sys.argv[1].split(",")
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from inspection.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run_without(modules: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, modules, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def subclasses(of: type[InspectionError]) -> Iterator[type[InspectionError]]:
    yield of
    for below in of.__subclasses__():
        yield from subclasses(below)


def verb_that(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a command in the place of `doctor`, the verb that needs no extra."""

    @click.command("doctor")
    @click.argument("file", required=False, type=click.File())
    def command(file: object) -> None:
        act()

    def load(name: str) -> click.Command:
        return command

    monkeypatch.setattr(cli, "load_command", load)


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise error

    return act


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert f"  {name} " in out
        assert verb.help in out


def test_help_imports_neither_room_nor_anything_heavy() -> None:
    heavy = [
        "training",
        "serving",
        "torch",
        "openvino",
        "numpy",
        "sqlalchemy",
        "fastapi",
        "pydantic",
    ]
    code = (
        "import sys; from inspection.cli import main; status = main(['--help']);"
        f"print(*(set({heavy!r}) & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = python(code)
    assert done.returncode == 0
    assert done.stderr.strip() == ""


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "inspection 0.1.0\n"


@pytest.mark.parametrize(
    ("extra", "refused"),
    [("serve", "fastapi"), ("train", "torch"), ("demo", "elpv_dataset")],
)
def test_a_verb_without_its_extra_is_listed_and_names_what_installs_it(
    extra: str, refused: str
) -> None:
    listed = run_without(refused, "--help")
    assert listed.returncode == 0
    for name, verb in cli.VERBS.items():
        if verb.extra != extra:
            continue
        line = next(line for line in listed.stdout.splitlines() if line.startswith(f"  {name} "))
        start = listed.stdout.index(line)
        assert f"(needs the extra '{extra}')" in " ".join(listed.stdout[start:].split())

        done = run_without(refused, name, "--some-option", "argument")
        assert done.returncode == 4
        assert done.stdout == ""
        error, remedy = done.stderr.splitlines()
        assert error.startswith(f"error: '{name}' needs the extra '{extra}'")
        assert refused in error
        assert "pip install" in remedy
        assert f"[{extra}]" in remedy


def test_asking_for_help_on_a_missing_verb_names_what_installs_it_too() -> None:
    done = run_without("torch", "train", "--help")
    assert done.returncode == 4
    assert "[train]" in done.stderr


@pytest.mark.parametrize("name", [name for name, verb in cli.VERBS.items() if verb.extra is None])
def test_core_verbs_are_there_without_any_extra(name: str) -> None:
    done = run_without("fastapi,uvicorn,openvino,torch,timm,onnx,elpv_dataset", name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: inspection {name}" in done.stdout


def test_serving_on_a_cpu_needs_no_torch() -> None:
    done = run_without("torch,torchvision,timm,sklearn,onnx,albumentations", "serve", "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: inspection serve" in done.stdout


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "'trian'" in captured.err
    assert "train" in captured.err.replace("trian", "")


def test_an_unknown_option_is_a_matter_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--no-such-option"]) == 2
    assert "inspection doctor --help" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_a_matter_of_usage_or_input_never_of_quality(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verb_that(lambda: None, monkeypatch)
    assert cli.main(["doctor", "no-such-file"]) in {2, 3}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (QualityGateError, 1),
        (InputError, 3),
        (ConfigurationError, 4),
        (EngineError, 4),
        (RecordError, 4),
        (MissingExtra, 4),
        (InspectionError, 4),
    ],
)
def test_an_error_is_two_lines_and_a_status(
    kind: type[InspectionError],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    verb_that(raising(kind("the lamp is off", remedy="Switch it on.")), monkeypatch)
    assert cli.main(["doctor"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: the lamp is off\n  → Switch it on.\n"


@pytest.mark.parametrize("kind", list(subclasses(InspectionError)))
def test_every_error_has_a_status_of_its_branch(kind: type[InspectionError]) -> None:
    status = cli.exit_status(kind("x"))
    assert status in {1, 3, 4}
    assert (status == 1) == issubclass(kind, QualityGateError)
    assert (status == 3) == issubclass(kind, InputError)


def test_debug_shows_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    verb_that(raising(InputError("no")), monkeypatch)
    assert cli.main(["doctor"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_the_program_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(raising(ZeroDivisionError("two\nlines")), monkeypatch)
    assert cli.main(["doctor"]) == 4
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.startswith("error: ZeroDivisionError: two lines\n  → ")


def test_a_full_disk_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(raising(OSError(28, "No space left on device", "var/images/x")), monkeypatch)
    assert cli.main(["doctor"]) == 4
    assert "error: var/images/x: No space left on device\n" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_one_line(
    stop: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(raising(stop), monkeypatch)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_verb_can_end_with_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    verb_that(raising(click.exceptions.Exit(1)), monkeypatch)
    assert cli.main(["doctor"]) == 1


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "from inspection.cli import main; import sys; sys.exit(main(['--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert done.stderr == b""


def test_a_terminal_without_the_arrow_still_gets_the_line() -> None:
    code = "from inspection.cli import main; import sys; sys.exit(main(['nothing']))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert done.returncode == 2
    assert "error: there is no verb 'nothing'" in done.stderr


def test_no_color_reaches_every_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    verb_that(lambda: seen.append(click.get_current_context().color), monkeypatch)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli.main(["doctor"]) == 0
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(["doctor"]) == 0
    assert seen == [None, False]


def test_the_install_command_names_the_place_it_was_installed_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Installed:
        def __init__(self, text: str | None) -> None:
            self.text = text

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.text

    def installed_from(text: str | None) -> str:
        found = Installed(text)
        monkeypatch.setattr("importlib.metadata.distribution", lambda name: found)
        return box.install_command("train")

    folder = '{"url": "file:///srv/my%20tools/inspection", "dir_info": {"editable": true}}'
    assert installed_from(folder).endswith(" -e '/srv/my tools/inspection[train]'")
    wheel = '{"url": "file:///srv/inspection-0.1.0-py3-none-any.whl", "archive_info": {}}'
    assert installed_from(wheel).endswith("'/srv/inspection-0.1.0-py3-none-any.whl[train]'")
    assert installed_from(None).endswith(" 'inspection[train]'")


def test_an_installation_without_the_entry_point_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    with pytest.raises(ConfigurationError, match="no command 'train'"):
        cli.load_command("train")
