"""Which engine runs a package: what is there, what was asked for, and what it says of it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from inspection import box
from inspection.engines import choice, onnxruntime
from inspection.engines.choice import choose_engine
from inspection.engines.header import METADATA_KEY, holds_network
from inspection.engines.onnxruntime import TENSORRT, TensorRt
from inspection.engines.torch import TorchEngine
from inspection.errors import ConfigurationError, EngineError
from inspection.golden import FILE_NAME, Golden, read_golden
from inspection.package import CONTENT, ModelPackage, next_version, write_package
from inspection.verdict import Calibration
from tests.contracts.engines import CALIBRATION, RECIPE, limits, tiny_network
from tests.spot_model import write_spot_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inspection.engines.choice import Wanted
    from inspection.package import Precision
    from inspection.verdict import OperatingPoint

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(autouse=True, scope="module")
def one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    tiny_network(place)
    return place


@pytest.fixture(scope="module")
def golden(folder: Path) -> Golden:
    return read_golden((folder / FILE_NAME).read_bytes())


@pytest.fixture(scope="module")
def package(folder: Path, golden: Golden) -> ModelPackage:
    return write(folder, limits(golden), golden)


def write(
    folder: Path, point: OperatingPoint, golden: Golden | None, *, precision: Precision = "f32"
) -> ModelPackage:
    """The network of `folder` as a package with these limits."""
    root = folder / "weights"
    spot = write_spot_package(folder / "spot")
    document = replace(
        spot.document,
        model="tiny",
        version=next_version(root, "tiny"),
        calibration=Calibration(slope=(1.0, 1.0), intercept=(0.0, 0.0)),
        operating_point=point,
        agreement=None,
        precision=precision,
    )
    files: dict[str, bytes | Path] = {
        "model.onnx": folder / "model.onnx",
        "model.safetensors": folder / "model.safetensors",
        "report.json": b"{}",
    }
    if golden is not None:
        files |= dict.fromkeys(CONTENT[2][4:], b"") | {FILE_NAME: golden.as_bytes()}
    return write_package(root, document, RECIPE, files)


@no_cuda
def test_a_box_without_a_gpu_takes_openvino_and_says_so(package: ModelPackage) -> None:
    chosen = choose_engine(package)
    assert chosen.kind == "openvino"
    assert "the best that is there" in chosen.why
    assert "no device here" in chosen.why
    assert chosen.why.startswith(chosen.engine.description)
    chosen.engine.close()


def test_a_cpu_server_imports_neither_pytorch_nor_onnx_runtime(package: ModelPackage) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from inspection.engines.choice import choose_engine\n"
        "from inspection.package import load_package\n"
        "print(choose_engine(load_package(Path(sys.argv[1])), device='cpu').kind)\n"
        "print([one for one in ('torch', 'onnxruntime', 'tritonclient') if one in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(package.folder), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["openvino", "[]"], done.stderr


def test_what_was_asked_for_is_taken(package: ModelPackage) -> None:
    for kind, name in (("torch", "PyTorch"), ("onnxruntime", "ONNX Runtime")):
        chosen = choose_engine(package, wanted=kind, device="cpu")  # type: ignore[arg-type]
        assert chosen.kind == kind
        assert chosen.engine.description.startswith(name)
        assert "asked for" in chosen.why
        chosen.engine.close()


@no_cuda
def test_a_device_that_pytorch_cannot_use_leaves_it_to_openvino(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a driver that is older than what PyTorch was built for."""
    monkeypatch.setattr(choice, "cuda_names", lambda: ("NVIDIA H200",))
    chosen = choose_engine(package)
    assert chosen.kind == "openvino"
    assert "not PyTorch on CUDA in f32: PyTorch sees no CUDA device here" in chosen.why
    with pytest.raises(EngineError, match="sees no CUDA device"):
        choose_engine(package, wanted="torch")


def test_a_package_without_a_network_is_not_for_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "cuda_names", lambda: ("NVIDIA H200",))
    chosen = choose_engine(write_spot_package(tmp_path))
    assert chosen.kind == "openvino"
    assert "not NVIDIA H200: the package holds no network for PyTorch" in chosen.why


def test_half_precision_that_was_asked_for_serves_where_golden_answers_come_out(
    package: ModelPackage,
) -> None:
    chosen = choose_engine(package, wanted="torch", device="cpu", precision="f16")
    assert chosen.engine.description.endswith("CPU f16")
    assert "fitted in f32, served in f16: 12 golden images get the same verdict" in chosen.why


def test_half_precision_that_changes_a_verdict_does_not_serve(folder: Path, golden: Golden) -> None:
    """The limit lies between what the two arithmetics say of one golden image."""
    half = TorchEngine(folder / "model.safetensors", device="cpu", precision="f16")
    found = np.stack([one.scores for one in half.infer(list(golden.images))])
    one, other = (CALIBRATION.probabilities(s) for s in (found, golden.scores))
    place = np.unravel_index(np.argmax(np.abs(one - other)), one.shape)
    point = limits(golden)
    between = list(point.pass_below)
    between[place[1]] = float(one[place] + other[place]) / 2
    highest = tuple(max(low, high) for low, high in zip(between, point.fail_from, strict=True))
    point = replace(point, pass_below=tuple(between), fail_from=highest)
    chosen = choose_engine(
        write(folder, point, golden), wanted="torch", device="cpu", precision="f16"
    )
    assert chosen.engine.description.endswith("CPU f32")
    assert "not PyTorch on CPU in f16: f16 changes the verdict on 1 of 12" in chosen.why


def test_half_precision_that_is_far_off_does_not_serve(folder: Path, golden: Golden) -> None:
    other = replace(golden, scores=golden.scores + np.float32(0.2))
    package = write(folder, limits(golden), other)
    chosen = choose_engine(package, wanted="torch", device="cpu", precision="bf16")
    assert chosen.engine.description.endswith("CPU f32")
    assert "not PyTorch on CPU in bf16: tiny@" in chosen.why
    assert "does not answer golden image" in chosen.why


def test_half_precision_needs_golden_images(folder: Path, golden: Golden) -> None:
    package = write(folder, limits(golden), None)
    chosen = choose_engine(package, wanted="torch", device="cpu", precision="f16")
    assert chosen.engine.description.endswith("CPU f32")
    assert "has no golden images to try f16 with" in chosen.why


def test_float32_serves_a_package_of_another_precision_only_by_its_golden_images(
    folder: Path, golden: Golden
) -> None:
    """ONNX Runtime computes in float32 on a CPU, whatever a package was fitted in."""
    package = write(folder, limits(golden), golden, precision="bf16")
    chosen = choose_engine(package, wanted="onnxruntime")
    assert "fitted in bf16, served in f32: 12 golden images get the same verdict" in chosen.why
    with pytest.raises(EngineError, match="has no golden images to try f32 with"):
        choose_engine(write(folder, limits(golden), None, precision="bf16"), wanted="onnxruntime")


@no_cuda
@pytest.mark.parametrize("wanted", ["auto", "openvino"])
def test_half_precision_is_not_for_openvino_and_that_is_said(
    package: ModelPackage, wanted: Wanted
) -> None:
    chosen = choose_engine(package, wanted=wanted, precision="f16")
    assert chosen.engine.description.endswith("CPU f32")
    assert "not f16: that is for PyTorch on CUDA" in chosen.why


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("torch", "gpu"), ("openvino", "serve"), ("onnxruntime", "train"), ("triton", "triton")],
)
def test_what_is_not_installed_says_how_it_is(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch, kind: choice.Kind, extra: str
) -> None:
    there = box.is_importable
    gone = choice.NEEDS[kind][2]
    monkeypatch.setattr(box, "is_importable", lambda name: name not in gone and there(name))
    with pytest.raises(ConfigurationError, match="asked for and is not installed") as refused:
        choose_engine(package, wanted=kind)
    assert box.install_command(extra) in refused.value.remedy


def test_what_is_installed_but_broken_is_said_and_passed_over(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspection.engines.openvino", None)
    with pytest.raises(EngineError, match="OpenVINO is installed and cannot be loaded") as refused:
        choose_engine(package, wanted="openvino")
    assert box.install_command("serve") in refused.value.remedy
    chosen = choose_engine(package, device="cpu")
    assert chosen.engine.description.startswith("PyTorch")
    assert "not OpenVINO on CPU in f32: OpenVINO is installed and cannot" in chosen.why


def test_nothing_installed_is_said_too(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box, "is_importable", lambda _name: False)
    with pytest.raises(ConfigurationError, match="no engine for tiny@") as refused:
        choose_engine(package)
    assert "serve" in refused.value.remedy


@no_cuda
@pytest.mark.parametrize("kind", ["torch", "openvino", "auto"])
def test_a_device_that_is_not_there_is_an_error_not_another_device(
    package: ModelPackage, kind: choice.Wanted
) -> None:
    with pytest.raises(ConfigurationError, match="CUDA"):
        choose_engine(package, wanted=kind, device="cuda")


def test_triton_needs_an_address(package: ModelPackage) -> None:
    with pytest.raises(ConfigurationError, match="without its address"):
        choose_engine(package, wanted="triton")


def test_tensorrt_keeps_what_it_builds_by_gpu_and_package(
    package: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_names", lambda: ("NVIDIA H200",))
    built = TensorRt.of(package, root=tmp_path, max_batch=8)
    assert built.cache == tmp_path / "NVIDIA-H200" / package.digest
    assert built.cache.stat().st_mode & 0o077 == 0
    with pytest.raises(EngineError, match="TF32"):
        built.providers("image", (1, 64, 64))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    (name, options), *_ = built.providers("image", (1, 64, 64))
    assert name == TENSORRT
    assert options["trt_engine_cache_path"] == str(built.cache)
    assert options["trt_profile_max_shapes"] == "image:8x1x64x64"
    assert not options["trt_fp16_enable"]


@no_cuda
def test_tensorrt_is_refused_where_it_is_not(package: ModelPackage, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="without a folder"):
        choose_engine(package, wanted="onnxruntime", device="cuda")
    with pytest.raises(ConfigurationError, match="no CUDA device"):
        choose_engine(package, wanted="onnxruntime", device="cuda", tensorrt_cache=tmp_path)
    given = TensorRt(cache=tmp_path, precision="f16", max_batch=8)
    with pytest.raises(ConfigurationError, match="has no TensorRT"):
        onnxruntime.OnnxRuntimeEngine.for_package(package, tensorrt=given)


def test_what_a_weights_file_holds_is_read_from_its_header(folder: Path, tmp_path: Path) -> None:
    assert holds_network(folder / "model.safetensors")
    place = tmp_path / "other"
    assert not holds_network(place)
    others: list[object] = [{}, {"__metadata__": {}}, {"__metadata__": None}, [], 3]
    for header in (*others, {METADATA_KEY: "{}"}):
        text = json.dumps(header).encode()
        place.write_bytes(struct.pack("<Q", len(text)) + text)
        assert not holds_network(place)
    for data in (b"", b"\x00" * 8, b"\xff" * 64, b"PK\x03\x04"):
        place.write_bytes(data)
        assert not holds_network(place)
