"""Which engine runs a package here: the one that was asked for, or the best that is there.

    wanted -> ways, best first -> made -> golden images answered -> EngineChoice
                                   |               |
                                   `---------------`--> the next way, and why not this one

`auto` means PyTorch on a CUDA device where there are both, then OpenVINO, then PyTorch on the CPU.
The arithmetic is the package's. Half precision for a package that was fitted in float32 has to be
asked for, and serves only where the golden images get their golden answers and verdicts in it;
otherwise float32 serves, and that is said (docs/decisions/0011-gpu.md).

No runtime is imported before it is known that it will be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from inspection import box
from inspection.engines.devices import cuda_names
from inspection.engines.header import holds_network
from inspection.errors import ConfigurationError, EngineError
from inspection.golden import FILE_NAME, read_golden, self_test

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.engine import Engine
    from inspection.package import ModelPackage, Precision

Kind = Literal["openvino", "torch", "onnxruntime", "triton"]
Wanted = Literal["auto", "openvino", "torch", "onnxruntime", "triton"]
Device = Literal["cpu", "cuda"]
Arithmetic = Literal["package", "f16", "bf16"]
Remote = Callable[["ModelPackage"], "Engine"]

# What people call each engine, the extra that brings it, and what it imports.
NEEDS: Final[Mapping[Kind, tuple[str, str, tuple[str, ...]]]] = MappingProxyType(
    {
        "openvino": ("OpenVINO", "serve", ("openvino",)),
        "torch": ("PyTorch", "gpu", ("torch", "timm", "safetensors")),
        "onnxruntime": ("ONNX Runtime", "train", ("onnxruntime", "onnx")),
        "triton": ("Triton", "triton", ("tritonclient",)),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineChoice:
    """An engine that is ready to run a package, and how it came to be this one.

    Attributes:
        kind: what runs it.
        engine: the caller's to close.
        why: in words, for the log and for people.
    """

    kind: Kind
    engine: Engine
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run a package."""

    kind: Kind
    device: Device
    precision: Precision

    def in_words(self) -> str:
        """Such as "PyTorch on CUDA in f16"."""
        where = "" if self.kind == "triton" else f" on {self.device.upper()} in {self.precision}"
        return NEEDS[self.kind][0] + where


def choose_engine(
    package: ModelPackage,
    *,
    wanted: Wanted = "auto",
    device: Device | None = None,
    precision: Arithmetic = "package",
    threads: int | None = None,
    max_batch: int = 8,
    remote: Remote | None = None,
    tensorrt_cache: Path | None = None,
) -> EngineChoice:
    """Make the engine of a package.

    Args:
        package: verified.
        wanted: what the settings ask for.
        device: where to run; whatever is best when absent.
        precision: "f16" and "bf16" allow PyTorch that arithmetic for a package of another one, as
            long as the golden images come out right.
        threads: CPU cores to use; the engine's own choice when absent.
        max_batch: the most images in one run, which an engine prepares for.
        remote: makes the package's engine on Triton, for `wanted="triton"`.
        tensorrt_cache: where ONNX Runtime on CUDA keeps what TensorRT builds; without it, it runs
            on the CPU alone.

    Raises:
        ConfigurationError: what was asked for is not installed or not there; says what to do.
        PackageDamaged: a file of the package was changed since it was loaded.
        EngineError: nothing that is there can run the package.
    """
    ways, left_out = (
        ways_here(package, device, precision)
        if wanted == "auto"
        else (ways_of(package, wanted, device, precision), [])
    )
    own = package.document.precision
    if precision not in ("package", own) and not any(way.precision == precision for way in ways):
        left_out.append(f"{precision}: that is for PyTorch on CUDA")
    if wanted == "triton" and remote is None:
        raise ConfigurationError(
            "Triton was asked for without its address",
            remedy="Set the address of the Triton server.",
        )

    def make(way: Way) -> Engine:
        if way.kind == "triton" and remote is not None:
            return remote(package)
        if way.kind == "torch":
            from inspection.engines.torch import TorchEngine

            return TorchEngine.for_package(
                package,
                device=way.device,
                precision=way.precision,
                threads=threads,
                max_batch=max_batch,
            )
        if way.kind == "openvino":
            from inspection.engines.openvino import OpenVinoEngine

            return OpenVinoEngine.for_package(package, threads=threads, at_once=max_batch)
        from inspection.engines.onnxruntime import OnnxRuntimeEngine, TensorRt

        built = None
        if way.device == "cuda":
            if tensorrt_cache is None:
                raise ConfigurationError(
                    "ONNX Runtime was asked for on CUDA without a folder for what TensorRT builds",
                    remedy="Set `engine.tensorrt_cache`, or leave the device out.",
                )
            built = TensorRt.of(package, root=tensorrt_cache, max_batch=max_batch)
        return OnnxRuntimeEngine.for_package(package, threads=threads, tensorrt=built)

    def made(way: Way) -> Engine:
        try:
            return make(way)
        except (ImportError, OSError) as error:  # OSError: a library beside it is not there
            name, extra, _ = NEEDS[way.kind]
            raise EngineError(
                f"{name} is installed and cannot be loaded: {error}",
                remedy=f"Install it again: {box.install_command(extra)}",
            ) from error

    for way in ways:
        try:
            engine = made(way)
            said = tried(package, engine, way, alone=way is ways[-1])
        except EngineError as error:
            if len(ways) == 1:
                raise
            left_out.append(f"{way.in_words()}: {error}")
            continue
        reason = "the best that is there" if wanted == "auto" else "asked for"
        not_these = [f"not {one}" for one in left_out]
        return EngineChoice(
            kind=way.kind,
            engine=engine,
            why="; ".join([f"{engine.description}: {reason}", *said, *not_these]),
        )
    raise EngineError(
        f"no engine here can run {package.reference}: {'; '.join(left_out)}",
        remedy="Serve it on another box, or train the model again with this release.",
    )


def ways_here(
    package: ModelPackage, device: Device | None, precision: Arithmetic
) -> tuple[list[Way], list[str]]:
    """All ways to run a package on this box, best first, and why those left out are.

    Raises:
        ConfigurationError: there is none.
    """
    own = package.document.precision
    ways: list[Way] = []
    left_out: list[str] = []
    network = holds_network(package.folder / "model.safetensors")
    torch = not _missing("torch") and network
    if device != "cpu":
        names = cuda_names()
        if not names:
            left_out.append("CUDA: no device here")
        elif not network:
            left_out.append(f"{names[0]}: the package holds no network for PyTorch")
        elif _missing("torch"):
            left_out.append(f"{names[0]}: the extra 'gpu' is not installed")
        else:
            ways += _in_torch("cuda", precision, own)
    if device != "cuda" and not _missing("openvino"):
        ways.append(Way(kind="openvino", device="cpu", precision=own))
    if device != "cuda" and torch:
        ways.append(Way(kind="torch", device="cpu", precision=own))
    if not ways:
        raise ConfigurationError(
            f"no engine for {package.reference}: {'; '.join(left_out) or 'none is installed'}",
            remedy=f"run: {box.install_command('gpu' if device == 'cuda' else 'serve')}",
        )
    return ways, left_out


def ways_of(
    package: ModelPackage,
    kind: Kind,
    device: Device | None,
    precision: Arithmetic,
) -> list[Way]:
    """The ways in which an engine that was asked for can run a package.

    Raises:
        ConfigurationError: it is not installed, or cannot run there.
    """
    name, extra, _ = NEEDS[kind]
    if missing := _missing(kind):
        raise ConfigurationError(
            f"{name} was asked for and is not installed (missing: {', '.join(missing)})",
            remedy=f"run: {box.install_command(extra)}",
        )
    own = package.document.precision
    if kind == "torch":
        there = bool(cuda_names())
        if device == "cuda" and not there:
            raise ConfigurationError(
                "PyTorch was asked for on CUDA, and there is no CUDA device here",
                remedy='Set the device to "cpu" or the engine to "auto", or look at the driver '
                "with `nvidia-smi`.",
            )
        return _in_torch(device or ("cuda" if there else "cpu"), precision, own)
    if kind == "openvino" and device == "cuda":
        raise ConfigurationError(
            "OpenVINO runs on the CPU here, and CUDA was asked for",
            remedy='Set the engine to "torch", or leave the device out.',
        )
    if kind == "onnxruntime" and device != "cuda":
        own = "f32"  # it has no other arithmetic there
    return [Way(kind=kind, device=device or "cpu", precision=own)]


def _in_torch(device: Device, wanted: Arithmetic, own: Precision) -> list[Way]:
    """In the arithmetic that was allowed, where it is another one, then in the package's own."""
    allowed: Precision = own if wanted == "package" else wanted
    each_once = dict.fromkeys((allowed, own))
    return [Way(kind="torch", device=device, precision=each) for each in each_once]


def _missing(kind: Kind) -> list[str]:
    return [module for module in NEEDS[kind][2] if not box.is_importable(module)]


def tried(package: ModelPackage, engine: Engine, way: Way, *, alone: bool) -> list[str]:
    """What is to be said of an engine that may serve; it is closed when it may not.

    The only way left in the package's own arithmetic is not tried here: whoever warms the engine up
    asks it the golden images, and there is nothing to fall back on.

    Raises:
        EngineError: it does not answer the golden images as it should.
    """
    own = package.document.precision
    try:
        if way.precision != own:
            return [may_differ(package, engine, way.precision)]
        if not alone:
            self_test(package, engine)
    except BaseException:
        engine.close()
        raise
    return []


def may_differ(package: ModelPackage, engine: Engine, precision: Precision) -> str:
    """That a package may be served in another arithmetic than its own, in words.

    Raises:
        EngineError: there are no golden images, or one of them gets another answer or verdict.
    """
    own = package.document.precision
    asked = self_test(package, engine)
    if not asked:
        raise EngineError(f"{package.reference} has no golden images to try {precision} with")
    golden = read_golden(package.read(FILE_NAME))
    answers = [engine.infer([image])[0] for image in golden.images]
    scores = np.stack([each.scores for each in answers])
    novelty = np.array([each.novelty for each in answers])
    flipped = bands(package, scores, novelty) != bands(package, golden.scores, golden.novelty)
    if count := int(flipped.any(axis=1).sum()):
        raise EngineError(f"{precision} changes the verdict on {count} of {asked} golden images")
    found, wanted = (package.document.calibration.probabilities(s) for s in (scores, golden.scores))
    largest = float(np.abs(found - wanted).max())
    return (
        f"fitted in {own}, served in {precision}: {asked} golden images get the same verdict, "
        f"probabilities differ by up to {largest:.1g}"
    )


def bands(
    package: ModelPackage, scores: NDArray[np.float32], novelty: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(n, K + 1): where each class lies between its limits, and whether the image is novel."""
    point = package.document.operating_point
    probabilities = package.document.calibration.probabilities(scores)
    bands = (probabilities >= point.pass_below).astype(np.int64) + (
        probabilities >= point.fail_from
    )
    return np.concatenate([bands, (novelty > point.novelty_limit)[:, None]], axis=1)
