"""Which engine runs a package here: the one that was asked for, or the best that is there.

    wanted -> candidates, best first -> installed? -> made -> golden images answered -> EngineChoice
                                             |          |            |
                                             `----------`------------`--> the next one, and why

`auto` means PyTorch on a CUDA device where there are both, then OpenVINO, then PyTorch on the CPU.
The arithmetic is the package's. Half precision for a package that was fitted in float32 has to be
asked for, and is used only where the golden images get their golden answers and verdicts in it;
otherwise float32 serves, and that is said (docs/decisions/0011-gpu.md).

Nothing heavy is imported before it is known that it will be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from inspection.errors import ConfigurationError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inspection.engine import Engine
    from inspection.package import ModelPackage, Precision

Kind = Literal["openvino", "torch", "onnxruntime", "triton"]
Wanted = Literal["auto", "openvino", "torch", "onnxruntime", "triton"]
Device = Literal["cpu", "cuda"]
Arithmetic = Literal["package", "f16", "bf16"]
Remote = Callable[["ModelPackage"], "Engine"]

NAMES: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        "openvino": "OpenVINO",
        "torch": "PyTorch",
        "onnxruntime": "ONNX Runtime",
        "triton": "Triton",
    }
)

# What each engine imports, and the extra that brings it.
NEEDS: Final[Mapping[Kind, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "openvino": ("serve", ("openvino",)),
        "torch": ("gpu", ("torch", "timm", "safetensors")),
        "onnxruntime": ("train", ("onnxruntime", "onnx")),
        "triton": ("triton", ("tritonclient",)),
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
class _Candidate:
    """One way to run a package."""

    kind: Kind
    device: Device
    precision: Precision

    @property
    def name(self) -> str:
        where = "" if self.kind == "triton" else f" on {'CUDA' if self.device == 'cuda' else 'CPU'}"
        return f"{NAMES[self.kind]}{where} in {self.precision}"


def choose_engine(
    package: ModelPackage,
    *,
    wanted: Wanted = "auto",
    device: Device | None = None,
    precision: Arithmetic = "package",
    threads: int | None = None,
    max_batch: int = 8,
    remote: Remote | None = None,
) -> EngineChoice:
    """The engine of a package, made.

    Args:
        package: verified.
        wanted: what the settings ask for.
        device: where to run; whatever is best when absent.
        precision: "f16" or "bf16" allow PyTorch that arithmetic for a package of another one, as
            long as the golden images come out right.
        threads: CPU cores to use; the engine's own choice when absent.
        max_batch: the most images in one run, which a CUDA engine prepares for.
        remote: how a package comes to its engine on Triton, for `wanted="triton"`.

    Raises:
        ConfigurationError: what was asked for is not installed, or not there; says what to do.
        PackageDamaged: a file of the package was changed since it was loaded.
        EngineError: nothing that is there can run the package.
    """
    found = list(_candidates(package, wanted, device, precision))
    refused: list[str] = []
    for candidate in found:
        last = candidate is found[-1]
        try:
            _require_installed(candidate.kind)
            engine = _make(package, candidate, threads=threads, max_batch=max_batch, remote=remote)
        except (ConfigurationError, EngineError) as error:
            if last or not isinstance(error, EngineError | _NotInstalled):
                raise
            refused.append(f"{candidate.name}: {error}")
            continue
        try:
            said = _tried(package, engine, candidate, last=last)
        except EngineError as error:
            engine.close()
            if last:
                raise
            refused.append(f"{candidate.name}: {error}")
            continue
        except BaseException:
            engine.close()
            raise
        reason = "asked for" if wanted == candidate.kind else "the best that is there"
        words = [f"{engine.description}: {reason}", *said, *(f"not {one}" for one in refused)]
        return EngineChoice(kind=candidate.kind, engine=engine, why="; ".join(words))
    raise EngineError("there is nothing to run a network with")
