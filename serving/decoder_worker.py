"""The process that decodes for a server, and that may crash or hang instead of it.

    socket: (length, options) -> shared file: the image's bytes -> decode_image
            -> shared file: the pixels -> socket: (lengths, the frame without its pixels)

Started by `serving.decoders` as `python -m serving.decoder_worker`; it ends with its socket.
"""

from __future__ import annotations

import os
import pickle
import resource
import socket
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import cv2

from inspection.errors import ImageError, InspectionError
from inspection.frame import decode_image


def main(wire_number: int, shared: int) -> None:
    """Decode what comes, one image after another.

    Args:
        wire_number: the descriptor of the socket.
        shared: the descriptor of the file in memory.
    """
    cv2.setNumThreads(1)  # a worker is one of several already
    if find_spec("pydicom") is not None:  # before it is ready: loading it takes half a second
        import_module("inspection.decoding.dicom")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=wire_number) as wire, wire.makefile("rwb") as stream:
        answer(stream, "ready", [])
        while True:
            try:
                length, options = pickle.load(stream)  # noqa: S301  the server wrote it
            except EOFError:
                return
            data = os.pread(shared, length, 0)
            while len(data) < length:  # one call reads 2 GiB at most
                data += os.pread(shared, length - len(data), len(data))
            try:
                frame: Any = decode_image(data, **options)
            except ImageError as error:
                said: InspectionError = error
                answer(stream, (type(said).__name__, str(said), said.remedy), [])
                continue
            buffers: list[pickle.PickleBuffer] = []
            body = pickle.dumps(frame, protocol=5, buffer_callback=buffers.append)
            views = [each.raw() for each in buffers]
            place = 0
            for view in views:
                write(shared, view, place)
                place += view.nbytes
            answer(stream, body, [view.nbytes for view in views])


def answer(stream: Any, what: object, lengths: list[int]) -> None:
    """Send one answer."""
    pickle.dump((what, lengths), stream, protocol=5)
    stream.flush()


def write(shared: int, view: memoryview, place: int) -> None:
    """All of `view`, from `place` on."""
    done = 0
    while done < view.nbytes:
        done += os.pwrite(shared, view[done:], place + done)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
