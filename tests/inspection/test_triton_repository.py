"""`inspection export triton`: an entry of a model repository is whole and never replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inspection import cli
from inspection.engines.onnxruntime import OnnxRuntimeEngine
from inspection.engines.stamp import stamped_graph
from inspection.engines.triton_names import STAMP, served_name, stamp_of
from inspection.errors import ConfigurationError, EngineError, PackageDamaged
from inspection.package import ModelPackage, write_package
from inspection.triton_repository import ExportOptions, entry_files, export_to_triton
from tests.spot_model import SIZE, spot_graph, write_spot_package

SHAPE = (1, SIZE, SIZE)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return write_spot_package(tmp_path / "weights")


def at_precision(package: ModelPackage, root: Path, precision: Any) -> ModelPackage:
    files = {name: package.folder / name for name in package.files if name != "recipe.toml"}
    document = replace(package.document, precision=precision)
    return write_package(root, document, package.recipe, files)


def config_of(package: ModelPackage, options: ExportOptions) -> Any:
    """The configuration as Triton's own parser reads it; an unknown key is an error."""
    text = entry_files(package, options)["config.pbtxt"].decode()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt", "python"])
def test_the_configuration_is_one_that_triton_reads(package: ModelPackage, backend: Any) -> None:
    gpu = "l4" if backend == "tensorrt" else None
    config = config_of(package, ExportOptions(backend=backend, gpu=gpu))
    assert config.name == f"spot-{package.digest[:12]}" == served_name(package)
    assert config.backend == ("python" if backend == "python" else "onnxruntime")
    assert list(config.version_policy.specific.versions) == [1]
    assert [list(each.dims) for each in config.input] == [[1, SIZE, SIZE]]
    assert {each.name: list(each.dims) for each in config.output} == {
        "score": [1],
        "evidence": [1, 8, 8],
        "novelty": [1],
        "package": [32],
    }
    (novelty,) = (each for each in config.output if each.name == "novelty")
    assert novelty.HasField("reshape")
    assert list(novelty.reshape.shape) == []
    said = {key: value.string_value for key, value in config.parameters.items()}
    assert said["package_digest"] == package.digest
    assert said["model_reference"] == "spot@1"
    assert json.loads(said["labels"]) == ["spot"]
    sizes = [warmup.batch_size for warmup in config.model_warmup]
    assert sizes[0] == 1
    assert sizes[-1] == config.max_batch_size
    policy = config.dynamic_batching.default_queue_policy
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert policy.allow_timeout_override
    assert policy.timeout_action == policy.REJECT
    (group,) = config.instance_group
    assert group.count == 2
    assert group.kind == (group.KIND_CPU if backend == "python" else group.KIND_GPU)
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [each.name for each in accelerators] == {
        "onnxruntime": ["cuda"],
        "tensorrt": ["tensorrt"],
        "python": [],
    }[backend]


def test_engines_of_tensorrt_are_kept_by_gpu_and_digest(
    package: ModelPackage, tmp_path: Path
) -> None:
    half = at_precision(package, tmp_path / "half", "f16")
    found = []
    for one in (package, half):
        options = ExportOptions(backend="tensorrt", gpu="l4", engine_cache="/cache")
        config = config_of(one, options)
        (tensorrt,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert tensorrt.parameters["trt_engine_cache_path"] == f"/cache/l4/{one.digest}"
        found.append(tensorrt.parameters["precision_mode"])
    assert found == ["FP32", "FP16"]


def test_the_stamped_graph_answers_as_before_and_says_whose_it_is(package: ModelPackage) -> None:
    data = stamped_graph(package.read("model.onnx"), package.digest, SHAPE).data
    images = np.random.default_rng(1).uniform(0, 255, (5, *SHAPE)).astype(np.float32)
    before, after = OnnxRuntimeEngine(spot_graph()), OnnxRuntimeEngine(data)
    for one, other in zip(before.infer(list(images)), after.infer(list(images)), strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.evidence, other.evidence)
        assert one.novelty == other.novelty
    (stamps,) = after._session.run([STAMP], {"image": images})
    np.testing.assert_array_equal(stamps, np.tile(stamp_of(package.digest), (5, 1)))
    assert bytes(stamps[0].astype(np.uint8)).hex() == package.digest
    # the same bytes again, or a second export would look like another model
    assert stamped_graph(package.read("model.onnx"), package.digest, SHAPE).data == data


def _with_fixed_batch() -> bytes:
    model = onnx.load_from_string(spot_graph())
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    return bytes(model.SerializeToString())


def _without_novelty() -> bytes:
    model = onnx.load_from_string(spot_graph())
    del model.graph.output[2]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("data", [b"x", _with_fixed_batch(), _without_novelty()])
def test_a_graph_that_is_not_one_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError):
        stamped_graph(data, "0" * 64, SHAPE)


def test_doing_it_again_changes_nothing_and_another_model_is_never_replaced(
    package: ModelPackage, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    options = ExportOptions(backend="python")
    done = export_to_triton(package, repository, options)
    assert done.fresh
    assert names_below(repository / done.model) == {
        "config.pbtxt",
        "labels.txt",
        "1",
        "1/model.onnx",
        "1/model.py",
    }
    (done.folder / "1" / "__pycache__").mkdir()  # Triton's Python does
    (done.folder / "1" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    assert not export_to_triton(package, repository, options).fresh
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before
    with pytest.raises(ConfigurationError, match="holds something else"):
        export_to_triton(package, repository, ExportOptions(backend="onnxruntime"))
    (done.folder / "labels.txt").write_text("another\n")
    with pytest.raises(ConfigurationError, match="holds something else"):
        export_to_triton(package, repository, options)
    assert set(repository.rglob("*")) == set(before)
    # the next package of the same model stands beside it
    second = export_to_triton(write_spot_package(tmp_path / "weights"), repository, options)
    assert second.fresh
    assert (second.version, len(list(repository.iterdir()))) == ("2", 2)


def test_a_full_disk_leaves_nothing_behind(
    package: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inspection.triton_repository.os.fsync", full)
    with pytest.raises(ConfigurationError, match="No space left") as refused:
        export_to_triton(package, tmp_path / "repository", ExportOptions(backend="python"))
    assert "disk" in refused.value.remedy
    assert list((tmp_path / "repository").iterdir()) == []
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_package_that_was_changed_is_not_exported(package: ModelPackage, tmp_path: Path) -> None:
    (package.folder / "model.onnx").write_bytes(spot_graph(gain=39.0))
    with pytest.raises(PackageDamaged, match=r"model\.onnx"):
        export_to_triton(package, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("backend", "precision", "kept"),
    [
        ("onnxruntime", "f16", False),
        ("onnxruntime", "bf16", False),
        ("tensorrt", "bf16", False),
        ("tensorrt", "f16", True),
        ("python", "bf16", True),
    ],
)
def test_limits_of_one_arithmetic_are_not_served_in_another(
    package: ModelPackage, tmp_path: Path, backend: Any, precision: str, *, kept: bool
) -> None:
    other = at_precision(package, tmp_path / "other", precision)
    options = ExportOptions(backend=backend, gpu="l4" if backend == "tensorrt" else None)
    if kept:
        assert entry_files(other, options)
        return
    with pytest.raises(ConfigurationError, match=f"fitted in {precision}"):
        export_to_triton(other, tmp_path / "repository", options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch": 2000},
        {"instances": 17},
        {"backend": "tensorrt"},
        {"gpu": "l4"},
        {"backend": "tensorrt", "gpu": "../l4"},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ExportOptions(**wrong)
    assert "--" in refused.value.remedy


def test_the_command_writes_it_and_says_where(
    package: ModelPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "triton", "spot@1", str(tmp_path / "repository"), "--backend", "python"]
    weights = ["--weights-dir", str(package.folder.parents[1])]
    assert cli.main([*words, *weights]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "repository" / served_name(package))
    assert "written to" in said.err
    assert cli.main([*words, *weights]) == 0
    assert "already in" in capsys.readouterr().err
    assert cli.main([*words, "--max-batch", "4", *weights]) == cli.EXIT_ENVIRONMENT
    assert "→" in capsys.readouterr().err


def test_without_onnx_the_command_says_what_to_install(
    package: ModelPackage, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'onnx', 'torch', 'tritonclient'}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from inspection import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    words = ["export", "triton", "spot@1", str(tmp_path / "repository"), "--weights-dir"]
    command = [sys.executable, "-c", code, *words, str(package.folder.parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == cli.EXIT_ENVIRONMENT, done.stderr
    assert "'triton'" in done.stderr
