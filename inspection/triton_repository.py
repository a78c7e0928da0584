"""A model package as an entry of Triton's model repository.

    package -> stamped graph, config.pbtxt, labels -> written beside REPO -> renamed into it

    REPO/<model>-<12 digits of the package's digest>/
        config.pbtxt        how Triton runs it; every figure says why
        labels.txt          the classes, in the order of `score`
        <version>/
            model.onnx      the package's graph, which says in every answer whose it is
            model.py        only for `python`: runs it in OpenVINO on a CPU

Every package has a folder of its own name, so two of one model stand side by side while servers go
over from one to the other, and none is ever changed. It is written outside REPO, because Triton
takes every folder in there for a model, hidden or not, and may refuse to start over a half one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from inspection import box
from inspection.engines.triton_names import ANSWERS, DIGEST_PARAMETER, INPUT, STAMP, served_name
from inspection.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inspection.package import ModelPackage

Backend = Literal["onnxruntime", "tensorrt", "python"]

ENGINE_CACHE: Final = "/var/cache/inspection/tensorrt"
QUEUE: Final = 256
WAIT_US: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How Triton is to run the model.

    Attributes:
        backend: "onnxruntime" and "tensorrt" are for the official container, "python" for a CPU.
        max_batch: the most images in one run; 64 on a GPU and 8 on a CPU when absent.
        instances: copies of the network that run side by side. With one, Triton's batcher misses
            now and then that it has become idle, and a lone image waits half a second
            (docs/decisions/0012-triton.md).
        gpu: what TensorRT's engines are built for, such as "l4"; they fit no other.
        engine_cache: where Triton keeps these engines, as the server sees it.
    """

    backend: Backend = "onnxruntime"
    max_batch: int | None = None
    instances: int = 2
    gpu: str | None = None
    engine_cache: str = ENGINE_CACHE

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 1024 or not 1 <= self.instances <= 16:
            raise ConfigurationError(
                "Triton takes batches of 1 to 1024 and 1 to 16 instances here",
                remedy="Correct --max-batch or --instances.",
            )
        if (self.backend == "tensorrt") != (self.gpu is not None):
            raise ConfigurationError(
                "TensorRT's engines fit one kind of GPU, and nothing else is built for one",
                remedy="Name it with --backend tensorrt, and only there: --gpu l4.",
            )
        if self.gpu is not None and not self.gpu.replace("-", "").isalnum():
            raise ConfigurationError(
                f"{self.gpu!r} cannot be a folder's name",
                remedy="Use letters, digits and '-', such as --gpu rtx-4000-ada.",
            )

    @property
    def batch(self) -> int:
        """`max_batch`, or what stands for it."""
        return self.max_batch or (8 if self.backend == "python" else 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An entry of the model repository.

    Attributes:
        folder: where it lies.
        model, version: as Triton names them.
        fresh: False when just this was there already.
    """

    folder: Path
    model: str
    version: str
    fresh: bool


def export_to_triton(
    package: ModelPackage, repository: Path, options: ExportOptions | None = None
) -> Exported:
    """Write a package into a model repository, whole or not at all.

    Doing it again changes nothing; nothing that is there is ever overwritten.

    Raises:
        ConfigurationError: something else has the name, the backend cannot keep the package's
            precision, or the disk refused.
        MissingExtra: onnx is not installed.
        PackageDamaged: a file of the package was changed since it was loaded.
        EngineError: the package's graph is not one of ours.
    """
    options = options or ExportOptions()
    files = entry_files(package, options)
    name = served_name(package)
    place = repository / name
    done = Exported(folder=place, model=name, version=str(package.document.version), fresh=True)
    if place.exists():
        if _same(place, files):
            return Exported(folder=place, model=name, version=done.version, fresh=False)
        raise ConfigurationError(
            f"{place} holds something else, or the same package exported otherwise",
            remedy="Let Triton unload it and remove that folder first, or take another repository.",
        )
    building: Path | None = None
    try:
        repository.mkdir(parents=True, exist_ok=True)
        above = repository.resolve().parent
        building = Path(tempfile.mkdtemp(prefix=f".{repository.resolve().name}-", dir=above))
        building.chmod(0o755)
        for relative, data in files.items():
            _write(building / relative, data)
        building.rename(place)
        _sync(repository)
    except OSError as error:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
        apart = error.errno == errno.EXDEV
        raise ConfigurationError(
            f"{name} could not be written to {repository}: {error.strerror or error}",
            remedy="Take a folder inside the mounted disk, not the disk itself."
            if apart
            else "Free some disk space or correct the folder's rights, and run it again.",
        ) from error
    return done


def entry_files(package: ModelPackage, options: ExportOptions) -> dict[str, bytes]:
    """The files of the entry, by their place in it.

    Raises:
        ConfigurationError: the backend cannot keep the package's precision.
        MissingExtra, PackageDamaged, EngineError: see `export_to_triton`.
    """
    precision = package.document.precision
    kept = {"onnxruntime": ("f32",), "tensorrt": ("f32", "f16"), "python": ("f32", "bf16", "f16")}
    if precision not in kept[options.backend]:
        raise ConfigurationError(
            f"the limits of {package.reference} were fitted in {precision}, which Triton's "
            f"{options.backend} does not compute in",
            remedy="Export it with --backend python, or train the model again with "
            "--precision f32.",
        )
    if not box.is_importable("onnx"):
        raise MissingExtra(
            "an export to Triton needs the extra 'triton', which is not installed (missing: onnx)",
            remedy=f"run: {box.install_command('triton')}",
        )
    from inspection.engines.stamp import stamped_graph

    recipe = package.recipe
    graph = stamped_graph(
        package.read("model.onnx"), package.digest, (recipe.channels, *recipe.input_size_px)
    )
    version = str(package.document.version)
    config = config_text(package, options, graph.shapes, hashlib.sha256(graph.data).hexdigest())
    files = {
        "config.pbtxt": config.encode(),
        "labels.txt": "".join(f"{name}\n" for name in recipe.classes).encode(),
        f"{version}/model.onnx": graph.data,
    }
    if options.backend == "python":
        source = resources.files("inspection.engines") / "triton_backend.py"
        files[f"{version}/model.py"] = source.read_bytes()
    return files


def config_text(
    package: ModelPackage,
    options: ExportOptions,
    shapes: Mapping[str, tuple[int, ...]],
    graph_sha256: str,
) -> str:
    """config.pbtxt: `inference.ModelConfig` in protobuf's text form."""
    document = package.document
    kind = "KIND_CPU" if options.backend == "python" else "KIND_GPU"
    sizes = sorted({1, *(2**n for n in range(10) if 2**n < options.batch), options.batch})
    said = {
        DIGEST_PARAMETER: package.digest,
        "graph_sha256": graph_sha256,
        "model_reference": package.reference,
        "product": package.recipe.product,
        "labels": json.dumps(list(package.recipe.classes), ensure_ascii=False),
        "precision": document.precision,
    }
    runs_in = "python" if options.backend == "python" else "onnxruntime"
    image = f"data_type: TYPE_FP32 dims: {list(shapes[INPUT])}"
    lines = [
        f"# {package.reference}, package {package.digest}",
        "# Written by `inspection export triton`; do not edit: the digest stands for the whole.",
        f"name: {_quoted(served_name(package))}",
        f"backend: {_quoted(runs_in)}",
        "# Servers send up to [engine] max_batch images in a call; Triton joins what waits.",
        f"max_batch_size: {options.batch}",
        "# This version and no other: a package is never replaced under its name.",
        f"version_policy {{ specific {{ versions: [{document.version}] }} }}",
        f"input [ {{ name: {_quoted(INPUT)} {image} }} ]",
        *(_output(name, shapes[name]) for name in (*ANSWERS, STAMP)),
        "# No delay: an idle GPU starts with what is there, a busy one takes what came meanwhile.",
        "# Nobody waits longer than a server's own deadline of 10 s; a call's own, shorter one",
        "# takes it out of the queue. A full queue refuses at once.",
        "dynamic_batching {",
        "  max_queue_delay_microseconds: 0",
        "  default_queue_policy {",
        f"    timeout_action: REJECT default_timeout_microseconds: {WAIT_US}",
        f"    allow_timeout_override: true max_queue_size: {QUEUE}",
        "  }",
        "}",
        "# Two: one copies while the other computes, and with a single one the batcher misses now",
        "# and then that it has become idle, so that a lone image waits half a second.",
        f"instance_group [ {{ kind: {kind} count: {options.instances} }} ]",
        "# Triton calls the model ready when these ran: no part pays for a first time.",
        *(
            f'model_warmup {{ name: "{size}" batch_size: {size} '
            f"inputs {{ key: {_quoted(INPUT)} value {{ {image} zero_data: true }} }} }}"
            for size in sizes
        ),
        *(
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in said.items()
        ),
        *_accelerators(package, options),
    ]
    return "\n".join(lines) + "\n"


def _output(name: str, shape: tuple[int, ...]) -> str:
    one_number = "" if shape else " reshape { shape: [] }"
    labels = ' label_filename: "labels.txt"' if name == "score" else ""
    form = f"data_type: TYPE_FP32 dims: {list(shape) or [1]}{one_number}{labels}"
    return f"output [ {{ name: {_quoted(name)} {form} }} ]"


def _accelerators(package: ModelPackage, options: ExportOptions) -> list[str]:
    if options.backend == "python":
        return []
    if options.backend == "onnxruntime":
        return [
            "# TF32 keeps 10 bits of mantissa; the limits were fitted with 23.",
            "optimization { execution_accelerators { gpu_execution_accelerator : [",
            '  { name: "cuda" parameters { key: "use_tf32" value: "0" } }',
            "] } }",
        ]
    precision = {"f32": "FP32", "f16": "FP16"}[package.document.precision]
    cache = f"{options.engine_cache}/{options.gpu}/{package.digest}"
    values = {
        "precision_mode": precision,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
    }
    return [
        "# Engines fit one kind of GPU and one graph, so both are in the folder's name. They are",
        "# built while the warm-up runs, for every size of batch in it: minutes, once.",
        "optimization { execution_accelerators { gpu_execution_accelerator : [",
        '  { name: "tensorrt"',
        *(
            f"    parameters {{ key: {_quoted(key)} value: {_quoted(value)} }}"
            for key, value in values.items()
        ),
        "  }",
        "] } }",
    ]


def _quoted(text: str) -> str:
    """A string of protobuf's text form; its escapes hold those of JSON, and UTF-8 stays."""
    return json.dumps(text, ensure_ascii=False)


def _same(place: Path, files: Mapping[str, bytes]) -> bool:
    """Whether these files are there and no others, but for what Python compiles model.py to."""
    found = {
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if not path.is_dir() and path.parent.name != "__pycache__"
    }
    return found == set(files) and all(
        (place / relative).read_bytes() == data for relative, data in files.items()
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
