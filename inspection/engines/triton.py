"""The engine that asks NVIDIA Triton, wherever that runs.

    images -> batches -> one call each, with a deadline -> answer -> of our package? -> predictions
                          |          ^
                          `- broken -' again, as long as there is time: the network has no memory

No server's word is taken for which model it runs. The package's digest stands in the model's name
(asked for), in its configuration (read at the start and by `check`) and in the output `package` of
the served graph: every answer carries it, and one of another package is refused.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from inspection.engine import Prediction, split_outputs, stack_images
from inspection.engines.triton_memory import Region
from inspection.engines.triton_names import (
    ANSWERS,
    DIGEST_PARAMETER,
    INPUT,
    STAMP,
    STAMP_BYTES,
    served_name,
    stamp_of,
)
from inspection.engines.triton_wire import Answer, Broken, Call, Wire, WireName, open_wire
from inspection.errors import EngineAway, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from numpy.typing import NDArray

    from inspection.package import ModelPackage

    T = TypeVar("T")

PAUSES_S: Final = (0.01, 0.05, 0.25)  # between tries; the last one goes on
HERE: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
NOT_EXPORTED: Final = (
    "Export the package into Triton's model repository: inspection export triton PACKAGE REPO."
)


class TritonEngine:
    """One package on a Triton server. Safe to call from several threads.

    Args:
        url: host:port.
        model, version: as Triton names them.
        digest: SHA-256 of the package, in hexadecimal; nothing else is believed.
        protocol: which of its ends `url` is.
        timeout_s: how long `infer` may take with all its tries; never a try after that.
        shared_memory: hand images over in memory where Triton is on this machine and can open it.
        max_batch: the most images in one call; less where Triton takes less.

    Raises:
        EngineAway: Triton is not there, or does not serve this package.
        EngineError: it serves the package in another form than this release reads.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        version: str,
        digest: str,
        protocol: WireName = "grpc",
        timeout_s: float = 2.0,
        shared_memory: bool = True,
        max_batch: int = 64,
    ) -> None:
        self._model, self._version, self._digest = model, version, digest
        self._stamp = stamp_of(digest)
        self._timeout_s = timeout_s
        self._protocol = protocol
        self._sharing = shared_memory and url.rpartition(":")[0] in HERE
        self._region: Region | None = None
        self._lock = threading.Lock()  # of the region; calls without one run side by side
        self._closed = False
        self._wire: Wire = open_wire(protocol, url)
        try:
            config = self._until(
                lambda left: self._wire.config(model, version, within_s=left), self._end()
            )
            self._check_digest(config)
            self._read(config, max_batch)
            if self._sharing:
                self._share(timeout_s)
        except BaseException:
            self._wire.close()
            raise

    @classmethod
    def for_package(
        cls,
        package: ModelPackage,
        url: str,
        *,
        protocol: WireName = "grpc",
        timeout_s: float = 2.0,
        shared_memory: bool = True,
        max_batch: int = 64,
    ) -> TritonEngine:
        """The engine of a package that was exported with `inspection export triton`."""
        return cls(
            url,
            model=served_name(package),
            version=str(package.document.version),
            digest=package.digest,
            protocol=protocol,
            timeout_s=timeout_s,
            shared_memory=shared_memory,
            max_batch=max_batch,
        )

    @property
    def description(self) -> str:
        """Such as "Triton onnxruntime knuckles-1f0c2b9d4e77 version 3, gRPC, shared memory"."""
        protocol = "gRPC" if self._protocol == "grpc" else "HTTP"
        sharing = ", shared memory" if self._region is not None else ""
        name = f"{self._model} version {self._version}"
        return f"Triton {self._backend} {name}, {protocol}{sharing}"

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each (C, H, W) float32 image; see `inspection.engine.Engine`.

        Raises:
            EngineAway: no answer in time, none at all, or one of another model.
            EngineError: Triton refused the images, or an answer is not finite.
        """
        if not images:
            return []
        batch = stack_images(images, self._shapes[INPUT])
        end = self._end()
        found: list[Prediction] = []
        for start in range(0, len(batch), self._max_batch):
            outputs = self._ask(batch[start : start + self._max_batch], end)
            found += split_outputs(*(outputs[name] for name in ANSWERS))
        return found

    def check(self) -> None:
        """Whether Triton is there and serves this package now.

        Raises:
            EngineAway: it is not, or does not.
        """

        def ask(left: float) -> dict[str, Any]:
            if not self._wire.ready(self._model, self._version, within_s=left):
                raise EngineAway(f"{self._model} is not ready in Triton", remedy=NOT_EXPORTED)
            return self._wire.config(self._model, self._version, within_s=left)

        self._check_digest(self._until(ask, self._end()))

    def close(self) -> None:
        """Stop; later calls of `infer` raise EngineError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._drop_region()
        self._wire.close()

    def _check_digest(self, config: dict[str, Any]) -> None:
        said = config.get("parameters", {}).get(DIGEST_PARAMETER, {}).get("string_value")
        if said != self._digest:
            raise EngineAway(
                f"Triton's {self._model} is of package {said}, not of {self._digest}",
                remedy=NOT_EXPORTED,
            )

    def _read(self, config: dict[str, Any], max_batch: int) -> None:
        """What the configuration says of shapes; numbers come as text over gRPC."""
        try:
            self._max_batch = min(int(config["max_batch_size"]), max_batch)
            tensors = [*config["input"], *config["output"]]
            self._shapes = {each["name"]: _shape_of(each) for each in tensors}
            self._backend = str(config["backend"])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"Triton's {self._model} has a strange configuration") from error
        expected = {INPUT, *ANSWERS, STAMP}
        if set(self._shapes) != expected or self._max_batch < 1:
            raise EngineError(
                f"Triton's {self._model} has {sorted(self._shapes)}, not {sorted(expected)}",
                remedy="Export the package again with this release.",
            )

    def _end(self) -> float:
        return time.monotonic() + self._timeout_s

    def _ask(self, batch: NDArray[np.float32], end: float) -> dict[str, NDArray[np.float32]]:
        """The outputs of one call, in the shapes that Triton was configured with."""
        if not self._sharing:
            return self._of_ours(self._until(self._sent(batch), end), len(batch))
        with self._lock:
            try:
                answer = self._until(self._shared(batch), end)
            except BaseException:
                # Triton may still be at work on it, and would write into the next call's answer.
                self._drop_region()
                raise
        return self._of_ours(answer, len(batch))

    def _sent(self, batch: NDArray[np.float32]) -> Callable[[float], Answer]:
        def once(left: float) -> Answer:
            return self._wire.infer(self._call(batch, None), within_s=left)

        return once

    def _shared(self, batch: NDArray[np.float32]) -> Callable[[float], Answer]:
        """Through the shared memory; once a call broke there, the memory is not used again."""

        def once(left: float) -> Answer:
            if self._region is None:
                self._share(left)
            if self._region is not None:
                self._region.write(INPUT, batch)
            try:
                return self._wire.infer(self._call(batch, self._region), within_s=left)
            except Broken:
                self._drop_region()
                raise

        return once

    def _call(self, batch: NDArray[np.float32], region: Region | None) -> Call:
        return Call(
            model=self._model,
            version=self._version,
            images=batch,
            outputs=(*ANSWERS, STAMP),
            region=region,
        )

    def _until(self, once: Callable[[float], T], end: float) -> T:
        """Ask, and again while the connection breaks and time is left: the network is pure."""
        tries = 0
        while True:
            if self._closed:
                raise EngineError("the engine is closed")
            try:
                return once(max(end - time.monotonic(), 0.001))
            except EngineError as error:
                if self._closed:  # under it; what the connection says of that is no matter
                    raise EngineError("the engine is closed") from error
                raise
            except Broken as error:
                pause = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
                tries += 1
                if time.monotonic() + pause >= end:
                    raise EngineAway(f"no answer in {tries} tries: {error}") from error
                time.sleep(pause)

    def _of_ours(self, answer: Answer, count: int) -> dict[str, NDArray[np.float32]]:
        """The answer's outputs.

        Raises:
            EngineAway: it does not say of every image that this package answered.
        """
        stamps = answer.outputs[STAMP]
        if (answer.model, answer.version) != (self._model, self._version) or not (
            stamps.shape == (count, STAMP_BYTES) and (stamps == self._stamp).all()
        ):
            raise EngineAway(
                f"another model answered for {self._model}: nothing of it is used",
                remedy=NOT_EXPORTED,
            )
        try:
            return {
                name: answer.outputs[name].reshape(count, *self._shapes[name]) for name in ANSWERS
            }
        except ValueError as error:
            raise EngineError(f"an answer of another shape than {self._shapes}") from error

    def _share(self, within_s: float) -> None:
        """Set the memory up; without it calls carry the images, which is slower and no less safe.

        A Triton in a container of its own has another /dev/shm, and says that it cannot open it.
        """
        try:
            region = Region(self._shapes, batch=self._max_batch)
        except OSError:
            self._sharing = False
            return
        try:
            self._wire.share(region, within_s=within_s)
            self._region = region
        except Broken:
            pass  # Triton is away: the next call finds out
        except EngineError:
            self._sharing = False
        finally:
            region.hide()

    def _drop_region(self) -> None:
        region, self._region = self._region, None
        if region is not None:
            with suppress(Broken, EngineError):
                self._wire.unshare(region, within_s=0.1)


def _shape_of(tensor: dict[str, Any]) -> tuple[int, ...]:
    """Of one image's; an empty list is left out of what gRPC gives."""
    dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
    return tuple(int(size) for size in dims)
