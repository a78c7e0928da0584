"""How one call reaches Triton and its answer comes back: gRPC and HTTP behind one face.

    Call (model, version, images) -> GrpcWire ─┐                        ┌─> Answer
                                               ├─> Triton (KServe v2) ──┤
                                  -> HttpWire ─┘                        └─> Broken | EngineAway
                                                                            | EngineError

What the libraries raise is translated here, once:

    Broken       no answer, but one may still come: the connection broke, or "not now"
    EngineAway   no answer will come of it: too late, or no such model there
    EngineError  Triton looked at the request and refused it
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import quote

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from inspection.engines.triton_names import INPUT
from inspection.errors import EngineAway, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from inspection.engines.triton_memory import Region

WireName = Literal["grpc", "http"]

PIECE: Final = 1 << 20
CHANNEL: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits up to two minutes before it tries a server again that was away; stations do not.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A new engine gets a new connection, never one that another engine has found to be dead.
    ("grpc.use_local_subchannel_pool", 1),
)


class Broken(Exception):
    """No answer came; asking again may help."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One batch on its way.

    Attributes:
        model, version: as Triton names them.
        images: (N, C, H, W) float32.
        outputs: the names of those wanted.
        region: memory that both sides see; the images are in it already. None sends them.
    """

    model: str
    version: str
    images: NDArray[np.float32]
    outputs: tuple[str, ...]
    region: Region | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What came back, and from which model Triton says that it is."""

    model: str
    version: str
    outputs: Mapping[str, NDArray[np.float32]]


class Wire(Protocol):
    """One way to speak to Triton. Safe to call from several threads; `within_s` bounds each call.

    Every call raises Broken, EngineAway or EngineError as the module says.
    """

    def config(self, model: str, version: str, *, within_s: float) -> dict[str, Any]:
        """The model's config.pbtxt, as JSON."""
        ...

    def ready(self, model: str, version: str, *, within_s: float) -> bool:
        """Whether this version of the model takes calls."""
        ...

    def infer(self, call: Call, *, within_s: float) -> Answer:
        """Run the model on one batch."""
        ...

    def share(self, region: Region, *, within_s: float) -> None:
        """Let Triton open memory of this machine."""
        ...

    def unshare(self, region: Region, *, within_s: float) -> None:
        """Let Triton close it."""
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


def open_wire(name: WireName, url: str) -> Wire:
    """The wire to `url`, host:port; nothing is sent yet."""
    return GrpcWire(url) if name == "grpc" else HttpWire(url)


def _request(library: Any, call: Call) -> tuple[list[Any], list[Any]]:
    """Inputs and wanted outputs as `tritonclient.grpc` or `tritonclient.http` takes them."""
    image = library.InferInput(INPUT, list(call.images.shape), "FP32")
    if call.region is None:
        image.set_data_from_numpy(call.images)
        return [image], [library.InferRequestedOutput(name) for name in call.outputs]
    offset, _ = call.region.place_of(INPUT)
    image.set_shared_memory(call.region.name, call.images.nbytes, offset)
    wanted = [library.InferRequestedOutput(name) for name in call.outputs]
    for output in wanted:
        offset, size = call.region.place_of(output.name())
        output.set_shared_memory(call.region.name, size, offset)
    return [image], wanted


def _outputs(
    call: Call, result: Any, shapes: Mapping[str, list[int]]
) -> dict[str, NDArray[np.float32]]:
    """Every wanted output as float32, out of the answer or out of the shared memory."""
    if set(shapes) != set(call.outputs):
        raise EngineAway(f"Triton answered with {sorted(shapes)}, not {sorted(call.outputs)}")
    found = {}
    for name, shape in shapes.items():
        if call.region is not None:
            values = call.region.read(name, tuple(int(size) for size in shape))
        else:
            values = result.as_numpy(name)
        if values is None or values.dtype != np.float32:
            raise EngineAway(f"Triton's answer holds no numbers for `{name}`")
        found[name] = values
    return found


class GrpcWire:
    """gRPC: one HTTP/2 connection for all threads."""

    def __init__(self, url: str) -> None:
        self._client = tritonclient.grpc.InferenceServerClient(url, channel_args=list(CHANNEL))

    def config(self, model: str, version: str, *, within_s: float) -> dict[str, Any]:
        """See `Wire`."""
        with _grpc_translated():
            found = self._client.get_model_config(
                model, version, as_json=True, client_timeout=within_s
            )
        config: dict[str, Any] = found["config"]
        return config

    def ready(self, model: str, version: str, *, within_s: float) -> bool:
        """See `Wire`."""
        with _grpc_translated():
            return bool(self._client.is_model_ready(model, version, client_timeout=within_s))

    def infer(self, call: Call, *, within_s: float) -> Answer:
        """See `Wire`."""
        inputs, wanted = _request(tritonclient.grpc, call)
        with _grpc_translated():
            result = self._client.infer(
                call.model,
                inputs,
                model_version=call.version,
                outputs=wanted,
                timeout=max(1, int(within_s * 1e6)),
                client_timeout=within_s,
            )
            answer = result.get_response()
            shapes = {each.name: list(each.shape) for each in answer.outputs}
            outputs = _outputs(call, result, shapes)
        return Answer(model=answer.model_name, version=answer.model_version, outputs=outputs)

    def share(self, region: Region, *, within_s: float) -> None:
        """See `Wire`."""
        with _grpc_translated():
            self._client.register_system_shared_memory(
                region.name, region.key, region.size, client_timeout=within_s
            )

    def unshare(self, region: Region, *, within_s: float) -> None:
        """See `Wire`."""
        with _grpc_translated():
            self._client.unregister_system_shared_memory(region.name, client_timeout=within_s)

    def close(self) -> None:
        """See `Wire`."""
        self._client.close()


@contextmanager
def _grpc_translated() -> Iterator[None]:
    try:
        yield
    except InferenceServerException as error:
        status = str(error.status()).removeprefix("StatusCode.")
        text = f"Triton: {error.message()}"
        if status == "UNAVAILABLE":
            raise Broken(text) from error
        if status == "DEADLINE_EXCEEDED":
            raise EngineAway("Triton did not answer in time") from error
        if status == "INVALID_ARGUMENT":
            raise EngineError(text) from error
        raise EngineAway(text) from error
    except ValueError as error:  # what gRPC says of a channel that was closed meanwhile
        raise EngineError(f"the engine is closed: {error}") from error


class HttpWire:
    """HTTP/1.1: a connection for each call that is under way, kept for the next.

    Bodies are made and read by tritonclient; they travel over the standard library's connections,
    because tritonclient's own belong to one thread and know no deadline of a single call.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def config(self, model: str, version: str, *, within_s: float) -> dict[str, Any]:
        """See `Wire`."""
        body, _ = self._send("GET", f"{_path(model, version)}/config", within_s=within_s)
        with _http_translated():
            config: dict[str, Any] = json.loads(body)
        return config

    def ready(self, model: str, version: str, *, within_s: float) -> bool:
        """See `Wire`."""
        try:
            self._send("GET", f"{_path(model, version)}/ready", within_s=within_s)
        except EngineAway:
            raise
        except EngineError:  # with a status of 400 it says that the model is not ready
            return False
        return True

    def infer(self, call: Call, *, within_s: float) -> Answer:
        """See `Wire`."""
        inputs, wanted = _request(tritonclient.http, call)
        client = tritonclient.http.InferenceServerClient
        body, length = client.generate_request_body(
            inputs, wanted, timeout=max(1, int(within_s * 1e6))
        )
        headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
        path = f"{_path(call.model, call.version)}/infer"
        data, length = self._send("POST", path, body=body, headers=headers, within_s=within_s)
        with _http_translated():
            result = client.parse_response_body(data, header_length=length)
            answer = result.get_response()
            shapes = {each["name"]: each["shape"] for each in answer["outputs"]}
            outputs = _outputs(call, result, shapes)
            return Answer(
                model=answer["model_name"], version=answer["model_version"], outputs=outputs
            )

    def share(self, region: Region, *, within_s: float) -> None:
        """See `Wire`."""
        said = {"key": region.key, "offset": 0, "byte_size": region.size}
        path = f"/v2/systemsharedmemory/region/{region.name}/register"
        self._send("POST", path, body=json.dumps(said).encode(), within_s=within_s)

    def unshare(self, region: Region, *, within_s: float) -> None:
        """See `Wire`."""
        path = f"/v2/systemsharedmemory/region/{region.name}/unregister"
        self._send("POST", path, body=b"{}", within_s=within_s)

    def close(self) -> None:
        """See `Wire`."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _send(
        self,
        method: str,
        path: str,
        *,
        within_s: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[bytes, int | None]:
        """The body of a good answer, and how much of it is its header."""
        end = time.monotonic() + within_s
        connection = self._take()
        try:
            with _http_translated():
                if connection.sock is None:
                    connection.timeout = within_s
                    connection.connect()  # which switches Nagle's algorithm off
                connection.sock.settimeout(_left(end))
                connection.request(method, path, body=body, headers=dict(headers or {}))
                answer = connection.getresponse()
                pieces = []
                while piece := answer.read(PIECE):
                    pieces.append(piece)
                    if connection.sock is not None:  # the library lets go of it at the end
                        connection.sock.settimeout(_left(end))
                data = b"".join(pieces)
                length = answer.getheader("Inference-Header-Content-Length")
                _raise_for(answer.status, data)
                done = (data, None if length is None else int(length))
        except BaseException:
            connection.close()
            self._drop_idle()  # they lead to the same server, and may be as broken
            raise
        self._give_back(connection)
        return done

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._idle:
                return self._idle.pop()
        return http.client.HTTPConnection(self._url)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _path(model: str, version: str) -> str:
    return f"/v2/models/{quote(model, safe='')}/versions/{version}"


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _raise_for(status: int, data: bytes) -> None:
    if status == 200:
        return
    try:
        text = f"Triton: {json.loads(data)['error']}"
    except (ValueError, KeyError, TypeError):
        text = f"Triton answered with status {status}"
    if status == 503:
        raise Broken(text)
    if status == 400:
        raise EngineError(text)
    raise EngineAway(text)


@contextmanager
def _http_translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise EngineAway("Triton did not answer in time") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"Triton: {type(error).__name__}: {error}") from error
    except (InferenceServerException, ValueError, KeyError, TypeError) as error:
        raise EngineAway(f"Triton's answer cannot be read: {error}") from error
