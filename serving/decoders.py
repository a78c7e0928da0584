"""Decoding where a crash or a hang does not take the server along.

    bytes -> PNG, JPEG, DICOM, packed TIFF -> a worker process -> Frame
          -> raw TIFF, or what is none of these -> here: there is no foreign code in its way
    a worker that dies -> once more in another; when that dies too, that one image is refused
    a worker that takes longer than it may -> killed, and that one image refused

Bytes and pixels go through a file in memory that both have open; what else there is goes through a
socket. Workers start with the server and end with it, however it ends.
This keeps damage away, not intruders: a worker is the same user with the same files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from inspection import errors
from inspection.decoding.tiff_pages import pages_of
from inspection.errors import EngineError, ImageError, ImageTooLarge, UnreadableImage
from inspection.frame import DecodeLimits, Frame, decode_image, sniff

START_S: Final = 60.0
"""How long a worker may take until it can decode: it loads the decoders, on a busy machine."""

_ROOT: Final = str(Path(__file__).resolve().parent.parent)

log = logging.getLogger("serving")


class DecoderCrashed(Exception):
    """The worker is not there any more."""


class DecoderHangs(DecoderCrashed):
    """The worker does not answer in its time."""


class DecoderProcess:
    """One worker. Used by one thread at a time."""

    def __init__(self) -> None:
        """Start it; it can decode a moment later.

        Raises:
            OSError: the system has no room for another process.
        """
        command = [sys.executable, "-m", "serving.decoder_worker"]
        with contextlib.ExitStack() as until_started:
            self._shared = os.memfd_create("decoder")
            until_started.callback(os.close, self._shared)
            here, there = socket.socketpair()
            until_started.enter_context(here)
            with there:
                numbers = (there.fileno(), self._shared)
                self.process = subprocess.Popen(
                    [*command, *map(str, numbers)],
                    pass_fds=numbers,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": _ROOT},
                )
            until_started.pop_all()
        self._wire = here
        self._stream = here.makefile("rwb")
        self._ready = False

    def decode(self, data: bytes, options: dict[str, Any], *, limit_s: float) -> Frame:
        """As `decode_image`.

        Raises:
            ImageError: as there.
            DecoderCrashed: the worker died, or took longer than `limit_s`.
            EngineError: it never came to work.
        """
        if not self._ready:
            try:
                self._answer(START_S)
            except DecoderCrashed as error:
                raise EngineError(f"no decoder can be started: {error}") from error
            self._ready = True
        try:
            place = 0
            while place < len(data):
                place += os.pwrite(self._shared, memoryview(data)[place:], place)
            pickle.dump((len(data), options), self._stream, protocol=5)
            self._stream.flush()
        except OSError as error:
            raise DecoderCrashed("the decoder is gone") from error
        what, lengths = self._answer(limit_s)
        if isinstance(what, tuple):
            name, text, remedy = what
            kind: type[ImageError] = getattr(errors, name)
            raise kind(text, remedy=remedy)
        buffers, place = [], 0
        for length in lengths:
            buffer = bytearray(length)
            done = 0
            while done < length:
                done += os.preadv(self._shared, [memoryview(buffer)[done:]], place + done)
            buffers.append(buffer)
            place += length
        frame: Frame = pickle.loads(what, buffers=buffers)  # noqa: S301  of our own process
        frame.pixels.setflags(write=False)
        return frame

    def _answer(self, limit_s: float) -> tuple[Any, list[int]]:
        self._wire.settimeout(limit_s)
        try:
            found: tuple[Any, list[int]] = pickle.load(self._stream)  # noqa: S301
        except TimeoutError as error:
            raise DecoderHangs(f"the decoder did not answer within {limit_s:g} s") from error
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise DecoderCrashed("the decoder crashed") from error
        return found

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):  # what could not be sent is not wanted any more
            self._stream.close()
        self._wire.close()
        os.close(self._shared)


class Decoders:
    """Workers enough for the server's threads. For any thread.

    Args:
        processes: how many at a time.
        limit_s: how long one image may take.
    """

    def __init__(self, *, processes: int, limit_s: float) -> None:
        self._limit_s = limit_s
        self._free: queue.LifoQueue[DecoderProcess | None] = queue.LifoQueue()
        self._count = processes
        for _ in range(processes):
            self._free.put(DecoderProcess())

    def close(self) -> None:
        """End all workers, once each is done with its image."""
        for _ in range(self._count):
            worker = self._free.get()
            if worker is not None:
                worker.close()

    def decode(
        self,
        data: bytes,
        *,
        limits: DecodeLimits | None = None,
        declared: str | None = None,
        sha256: str | None = None,
    ) -> Frame:
        """As `inspection.frame.decode_image`, and raises what that raises.

        Raises:
            UnreadableImage: the decoder crashed on this image as well, or took too long.
        """
        limits = limits or DecodeLimits()
        options = {"limits": limits, "declared": declared, "sha256": sha256}
        if len(data) > limits.max_bytes:
            raise ImageTooLarge(f"{len(data)} bytes; the limit is {limits.max_bytes}")
        if _is_raw_tiff(data):
            return decode_image(data, limits=limits, declared=declared, sha256=sha256)
        try:
            return self._decode(data, options)
        except DecoderHangs as error:
            raise _brings_down(error) from error
        except DecoderCrashed:
            # Somebody else may have killed the worker, which is not the image's fault.
            try:
                return self._decode(data, options)
            except DecoderCrashed as error:
                raise _brings_down(error) from error

    def _decode(self, data: bytes, options: dict[str, Any]) -> Frame:
        worker = self._free.get()
        sound = False
        try:
            if worker is None:  # there was no room for it before
                worker = DecoderProcess()
            frame = worker.decode(data, options, limit_s=self._limit_s)
            sound = True
        except ImageError:
            sound = True
            raise
        except OSError as error:
            raise EngineError(f"no decoder can be started: {error.strerror}") from error
        finally:
            # Whatever happens its place is given back: without one, everybody would wait for ever.
            try:
                if not sound and worker is not None:
                    log.warning("decoder killed", extra={"sha256": options["sha256"]})
                    gone, worker = worker, None
                    gone.close()
                    worker = _started()
            finally:
                self._free.put(worker)
        return frame


def _started() -> DecoderProcess | None:
    """Another worker; None when the system has no room for one now."""
    try:
        return DecoderProcess()
    except OSError as error:
        log.error("no decoder can be started", extra={"detail": str(error.strerror)})
        return None


def _is_raw_tiff(data: bytes) -> bool:
    """Whether the pixels lie in the file as they are, so that only Python reads it."""
    if sniff(data) != "image/tiff":
        return False
    try:
        return all(
            set(page.integers.get("Compression", ())) <= {1}
            and set(page.integers.get("BitsPerSample", ())) <= {8, 16}
            for page in pages_of(data)
        )
    except ImageError:
        return True  # refused by the same lines here as there


def _brings_down(error: DecoderCrashed) -> UnreadableImage:
    return UnreadableImage(
        f"the image cannot be decoded: {error}",
        remedy="Look at the file: it brings the decoder down. Send another capture.",
    )
