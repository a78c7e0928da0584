"""Dockerfile.gpu and compose.gpu.yml, as far as they can be tried without an engine for containers.

Both are read and held against the project; the image's own install steps are run in a clean folder,
and its own command in a name space whose root is read-only. The libraries are those of the CPU:
requirements/gpu.txt, of several gigabytes, is left out of the one step that names it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inspection import cli
from inspection.registry import Registry
from inspection.triton_repository import ENGINE_CACHE
from serving.routes import health
from serving.settings import ServerSettings, load_settings
from tests.spot_model import part_png, write_spot_package

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.gpu"
COMPOSE = ROOT / "compose.gpu.yml"
BARE_PYTHON = os.path.realpath(sys.executable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction of a Dockerfile, its continued lines joined."""

    word: str
    text: str


def stages() -> list[list[Step]]:
    """The instructions of each stage; what comes before the first FROM is the first list."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    found: list[list[Step]] = [[]]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, text = line.split(maxsplit=1)
            if word == "FROM":
                found.append([])
            found[-1].append(Step(word=word, text=" ".join(text.split())))
    return found


def environment(stage: list[Step]) -> dict[str, str]:
    words = [word for step in stage if step.word == "ENV" for word in shlex.split(step.text)]
    return dict(word.split("=", 1) for word in words)


def only(stage: list[Step], word: str) -> str:
    (text,) = [step.text for step in stage if step.word == word]
    return text


def health_command() -> list[str]:
    found: list[str] = json.loads(only(stages()[-1], "HEALTHCHECK").partition(" CMD ")[2])
    return found


def compose() -> dict[str, Any]:
    found: dict[str, Any] = importlib.import_module("yaml").safe_load(COMPOSE.read_text())
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def pip_index() -> dict[str, str]:
    """Where pip is pointed at an index of its own, uv is pointed there too, as in the Makefile."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or said
    return {"UV_DEFAULT_INDEX": index} if index else {}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the image's environment, made by the image's own steps in an empty one."""
    root = tmp_path_factory.mktemp("root")
    places = {"/opt/tools": f"{root}/tools", "/opt/inspection": f"{root}/inspection"}
    source = root / "src"
    source.mkdir()
    build = stages()[1]
    kept = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "PIP_CERT")
    env = {name: os.environ[name] for name in kept if name in os.environ} | pip_index()
    # What was fetched before is not fetched again here: the image has no store to find it in.
    env |= {n: text for n, text in environment(build).items() if "CACHE" not in n}
    ran = []
    for step in build:
        if step.word == "COPY":
            *copied, target = step.text.split()
            for name in copied:
                into = source / target if target.endswith("/") else source
                into.mkdir(exist_ok=True)
                if (ROOT / name).is_dir():
                    leave = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / name, source / target, ignore=leave)
                else:
                    shutil.copy(ROOT / name, into)
        if step.word != "RUN" or step.text.startswith("apt-get"):
            continue
        command = step.text.replace("-r requirements/gpu.txt ", "")
        command = re.sub(r"(^|&& )python3 ", rf"\g<1>{BARE_PYTHON} ", command)
        for place, folder in places.items():
            command = command.replace(place, folder)
        done = subprocess.run(
            ["sh", "-ec", command], cwd=source, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        ran.append(command)
    assert len(ran) == 3, ran
    return root / "inspection"


@pytest.mark.slow
def test_the_steps_of_the_image_make_an_environment_without_tools(installed: Path) -> None:
    said = subprocess.run(
        [installed / "bin" / "inspection", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("inspection ")
    site = next(installed.glob("lib/*/site-packages"))
    names = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert {"openvino", "fastapi", "psycopg", "tritonclient"} <= names
    assert not {"pip", "uv", "hatchling", "pytest"} & names
    ours = next(site.glob("serving/app.py"))
    assert list(ours.parent.glob("__pycache__/app.*.pyc")), "compiled before it is read-only"


@pytest.mark.slow
def test_the_command_of_the_image_judges_with_a_read_only_root(
    installed: Path, tmp_path: Path
) -> None:
    alone = ["unshare", "--mount", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("name spaces may not be made here")
    data, scratch = tmp_path / "data", tmp_path / "tmp"
    scratch.mkdir()
    package = write_spot_package(data / "weights")
    Registry(data / "weights").promote(package.reference)
    (tmp_path / "part.png").write_bytes(part_png("bad"))
    last = stages()[-1]
    path = environment(last)["PATH"].replace("/opt/inspection", str(installed))
    env = {n: text.replace("/tmp", str(scratch), 1) for n, text in environment(last).items()}
    env["PATH"] = path.replace("$PATH", os.environ["PATH"])
    command = [*json.loads(only(last, "ENTRYPOINT")), *json.loads(only(last, "CMD"))]
    (tmp_path / "health.json").write_text(json.dumps(health_command()))
    done = subprocess.run(
        [
            *alone,
            *(BARE_PYTHON, str(ROOT / "tests" / "offline_box.py"), "image", str(data)),
            *(str(scratch), str(tmp_path / "part.png"), str(tmp_path / "health.json"), *command),
        ],
        env={**env, "HOME": str(data), "OFFLINE_BOX_NAMESPACE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["written"] == [str(data), str(scratch)], "nothing else can be written to"
    assert seen["before"]["status"] != 0, "nothing answers yet"
    assert seen["ready"].endswith(":8400"), seen
    assert (seen["health"]["status"], seen["answer"]["disposition"]) == (0, "fail")
    assert seen["status"] == 0
    kept = {path.name for path in data.iterdir()}
    assert kept == {"weights", "var"}


def test_the_image_pins_from_the_files_that_the_makefile_makes() -> None:
    named = set(re.findall(r"-r (requirements/\S+)", DOCKERFILE.read_text()))
    written = set(re.findall(r"-o (requirements/\S+)", (ROOT / "Makefile").read_text()))
    assert named == {f"requirements/{name}.txt" for name in ("tools", "gpu", "serve")}
    assert named <= written
    copied = " ".join(step.text for step in stages()[1] if step.word == "COPY")
    assert named <= set(copied.split())
    installs = [
        part
        for step in stages()[1]
        if step.word == "RUN"
        for part in step.text.split(" && ")
        if "pip install" in part
    ]
    assert len(installs) == 3
    assert all("--compile-bytecode" in part for part in installs if "/uv " in part)
    for part in installs:
        assert "--require-hashes" in part or "--no-index --no-deps" in part


def test_the_base_has_no_default_and_the_last_stage_gets_nothing_but_python() -> None:
    before, build, last = stages()
    assert [step.text for step in before] == ["CUDA_IMAGE=nvidia/cuda", "CUDA_DIGEST"]
    assert build[0].text.endswith("@${CUDA_DIGEST} AS build")
    assert last[0].text.endswith("@${CUDA_DIGEST}")
    copied = [step.text for step in last if step.word == "COPY"]
    assert copied == ["--from=build /opt/inspection /opt/inspection"]
    fetched = [
        re.findall(r"install -y --no-install-recommends ([\w -]+?) &&", step.text)
        for step in last
        if step.word == "RUN"
    ]
    assert fetched == [["python3"]]


def test_the_image_runs_as_nobody_and_writes_under_data_and_tmp_only() -> None:
    last = stages()[-1]
    user = only(last, "USER")
    assert int(user) > 0
    assert f"--uid {user} " in " ".join(step.text for step in last if step.word == "RUN")
    assert only(last, "VOLUME") == only(last, "WORKDIR") == "/data"
    env = environment(last)
    places = {name: text for name, text in env.items() if text.startswith("/") and name != "PATH"}
    assert set(places) == {"TMPDIR", "XDG_CACHE_HOME", "CUDA_CACHE_PATH"}
    assert all(place.startswith("/tmp") for place in places.values())
    assert [name for name in env if name.startswith("INSPECTION_")] == []


def test_the_health_check_asks_a_route_and_the_port_that_there_are() -> None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)'", health_command()[-1])
    assert found is not None
    assert found[2] in {route.path for route in health.router.routes if hasattr(route, "path")}
    assert found[1] == only(stages()[-1], "EXPOSE") == str(ServerSettings().port)


def test_every_image_is_named_by_a_digest_that_has_no_default() -> None:
    for name, service in services().items():
        if name == "server":
            build = service["build"]
            assert (ROOT / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
            assert re.fullmatch(r"\$\{CUDA_DIGEST:\?.+\}", build["args"]["CUDA_DIGEST"])
            assert "image" not in service
        else:
            assert re.fullmatch(r"[^@]+@\$\{[A-Z]+_DIGEST:\?[^}]+\}", service["image"]), name
    text = "".join(line for line in COMPOSE.read_text().splitlines() if not line.startswith("#"))
    optional = {name for name, how in re.findall(r"\$\{(\w+)(:?.)", text) if how != ":?"}
    assert set(re.findall(r"\$\{(\w+):-", text)) == optional | {"LISTEN_ADDRESS"}


def test_the_variables_of_the_server_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    env = services()["server"]["environment"]
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    settings = load_settings()  # refuses a name that it does not know
    assert settings.server.host == "0.0.0.0"
    assert str(settings.server.port) == only(stages()[-1], "EXPOSE")
    assert settings.engine.kind == "triton"
    assert settings.engine.triton.url.partition(":")[0] in services()
    assert settings.database_url is not None
    assert re.fullmatch(r"postgresql://inspection@database:5432/inspection", settings.database_url)
    assert "database" in services()
    grace = services()["server"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > settings.server.drain_s


def test_nothing_computes_float32_with_the_mantissa_of_tf32() -> None:
    assert services()["triton"]["environment"]["NVIDIA_TF32_OVERRIDE"] == "0"


def test_secrets_are_files_and_only_the_server_can_be_reached() -> None:
    whole = compose()
    for secret in whole["secrets"].values():
        assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", secret["file"])
    for name, service in services().items():
        for variable, text in service.get("environment", {}).items():
            if re.search("PASS|SECRET|TOKEN", variable):
                assert text.startswith("/run/secrets/"), variable
                assert text.rpartition("/")[2] in service["secrets"]
        inside = {"inside"} if name != "server" else {"plant", "inside"}
        assert set(service["networks"]) == inside
        assert ("ports" in service) == (name == "server")
    assert whole["networks"]["inside"]["internal"] is True
    assert services()["server"]["ports"] == ["${LISTEN_ADDRESS:-127.0.0.1}:8400:8400"]


def test_every_service_is_watched_and_cannot_write_but_where_it_must() -> None:
    for name, service in services().items():
        assert service["read_only"] is True
        assert "/tmp" in service["tmpfs"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert name == "server" or service["healthcheck"]["test"][0] == "CMD"
    waits = services()["server"]["depends_on"]
    # The fallback judges while Triton is away; nothing stands in for the records.
    assert waits == {
        "database": {"condition": "service_healthy"},
        "triton": {"condition": "service_started"},
    }
    for name in ("server", "triton"):
        (device,) = services()[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_the_folders_are_where_the_image_and_triton_look_for_them() -> None:
    mounted = {
        name: {volume.split("}")[-1].removesuffix(":ro").rpartition(":")[2] for volume in volumes}
        for name, service in services().items()
        if (volumes := service["volumes"])
    }
    assert mounted["server"] == {only(stages()[-1], "VOLUME"), "/triton"}
    assert mounted["triton"] == {"/triton", ENGINE_CACHE}
    arguments = dict(
        word.partition("=")[::2] for word in services()["triton"]["command"] if "=" in word
    )
    assert Path(arguments["--model-repository"]).is_relative_to("/triton")
    assert arguments["--model-control-mode"] == "poll", "models are exported while it runs"
    assert services()["triton"]["user"].partition(":")[0] == only(stages()[-1], "USER")


def commands() -> list[list[str]]:
    """What the two files run or tell people to run with our command."""
    text = DOCKERFILE.read_text() + COMPOSE.read_text()
    told = re.findall(r"run --rm server (.+)$|`inspection ([^`]+)`", text, re.MULTILINE)
    return [
        json.loads(only(stages()[-1], "CMD")),
        services()["server"]["command"],
        *(shlex.split(run or named) for run, named in told),
    ]


def test_every_command_is_one_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(commands()) == 5
    for words in commands():
        verbs = [word for word in words if re.fullmatch(r"[a-z]+", word)]
        assert cli.main([*verbs, "--help"]) == 0, words
        said = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in said] == []
