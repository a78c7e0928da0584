"""The house rules that no single module can keep: imports, pins, verbs, paths."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest

from inspection import cli

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("dev", "serve", "train", "gpu", "tools", "triton-server")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def house_files() -> list[Path]:
    """Every file that is, or is about to be, under version control."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word[0], word[1]) for word in words]


def test_imports_keep_to_their_rooms() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    command = [str(linter), "--no-cache", "--config", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_a_registry_or_a_folder_of_somebodys_machine() -> None:
    # Put together from halves, so that this file does not name them either.
    hosts = [
        "pypi" + ".org",
        "python" + "hosted.org",
        "npmjs" + ".com",
        "download.py" + "torch.org",
    ]
    folders = ["/wo" + "rk/", "/ro" + "ot/", "/tm" + "p/w/", "/ho" + "me/"]
    named = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in house_files()
        for word in (*hosts, *folders)
        if word in text_of(path)
    ]
    assert named == []


@pytest.mark.parametrize("name", PINNED)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        first = entry.splitlines()[0]
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+", first), first
        assert "--hash=sha256:" in entry, first
    assert (
        re.search(
            r"^\s*(-i|--index|--extra-index|--find-links|-f|-e|--trusted)", text, re.MULTILINE
        )
        is None
    )
    assert "://" not in text


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["serve", "train", "gpu"])
def test_what_was_tested_together_runs_together(name: str) -> None:
    everything = pins("dev")
    assert pins(name).items() <= everything.items()


def test_serving_on_a_cpu_is_pinned_without_torch() -> None:
    serve = pins("serve")
    assert "openvino" in serve
    assert not {"torch", "torchvision", "timm", "triton"} & serve.keys()
    assert not [name for name in serve if name.startswith(("nvidia-", "cuda-"))]


def test_every_dependency_of_the_project_is_pinned() -> None:
    wanted = project()["project"]
    lines = [*wanted["dependencies"]]
    for extra in wanted["optional-dependencies"].values():
        lines += extra
    names = {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in lines} - {"inspection"}
    assert names <= {name.lower() for name in pins("dev")}


def test_the_table_of_verbs_and_the_entry_points_agree() -> None:
    declared = project()["project"]["entry-points"][cli.COMMAND_GROUP]
    assert set(declared) == set(cli.VERBS)
    for verb, target in declared.items():
        module, _, function = target.partition(":")
        assert function == verb.replace("-", "_") or module.endswith(f"_{verb}")
        room = module.partition(".")[0]
        extra = cli.VERBS[verb].extra
        expected = {None: "inspection", "train": "training", "serve": "serving", "demo": "serving"}
        assert room == expected[extra]
    installed = importlib.metadata.entry_points(group=cli.COMMAND_GROUP)
    assert {entry.name: entry.value for entry in installed} == declared


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_loads_and_explains_itself(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.load_command(verb).name == verb
    assert cli.main([verb, "--help"]) == 0
    assert f"Usage: inspection {verb}" in capsys.readouterr().out


def test_the_server_can_be_put_together_without_torch() -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'torchvision', 'timm', 'onnx'}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import serving.app, serving.cli, inspection.engines.openvino\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_carries_every_file_of_the_packages(tmp_path: Path) -> None:
    packages = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    relative = {path.relative_to(ROOT).as_posix() for path in house_files()}
    ours = {name for name in relative if name.partition("/")[0] in packages}
    assert ours - packed == set()
    assert {f"{package}/py.typed" for package in packages} <= packed


def test_the_gpu_image_copies_what_is_there_and_runs_a_verb() -> None:
    steps = instructions(ROOT / "Dockerfile.gpu")
    copied = [text.split() for word, text in steps if word == "COPY" and "--from" not in text]
    sources = [source for words in copied for source in words[:-1]]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {source.partition("/")[0] for source in sources} <= {
        line.removeprefix("!") for line in ignored if line.startswith("!")
    }

    last = dict(steps)  # of instructions that come twice, the last stage's
    assert json.loads(last["ENTRYPOINT"]) == list(project()["project"]["scripts"])
    assert json.loads(last["CMD"])[0] in cli.VERBS
    assert last["USER"].isdigit()
    assert int(last["USER"]) != 0
    assert "/livez" in last["HEALTHCHECK"]


def test_the_gpu_image_names_its_base_by_digest_and_has_no_default_for_it() -> None:
    steps = instructions(ROOT / "Dockerfile.gpu")
    bases = [text.split(" AS ")[0] for word, text in steps if word == "FROM"]
    assert bases
    assert all(base.endswith("@${CUDA_DIGEST}") for base in bases)
    assert ("ARG", "CUDA_DIGEST") in steps
    final = max(index for index, (word, _) in enumerate(steps) if word == "FROM")
    installs = " ".join(text for word, text in steps[final:] if word == "RUN")
    assert not re.search(r"gcc|g\+\+|build-essential|pip|-dev\b", installs)


def test_ci_runs_what_everybody_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith("exec make check")
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_the_changelog_says_what_changes_verdicts() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert "### Changes verdicts" in release


def test_every_module_of_ours_fits_on_a_few_pages() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {count}"
        for path in house_files()
        if path.suffix == ".py" and (count := len(text_of(path).splitlines())) > 400
    ]
    assert long == []


def test_the_readme_is_whole_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "@@" not in text
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_command_in_the_readme_exists_with_its_options() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}(inspection .+)$|`(inspection [a-z][^`]*)`", text, re.MULTILINE)
    commands = [shlex.split(indented or inline, comments=True)[1:] for indented, inline in lines]
    assert len(commands) > 8
    for words in commands:
        if words[0] in {"VERB", "demo"}:
            continue
        command = cli.load_command(words[0])
        if isinstance(command, click.Group) and len(words) > 1:
            found = command.get_command(click.Context(command), words[1])
            assert found is not None, words
            command = found
        known = {name for parameter in command.params for name in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in known] == [], words
