"""Requests for load.c, and what it says of them.

    images -> messages with places for the number -> load (a process of its own) -> Answers

Every request is another capture with another image, as on a line: its number stands in the query,
in the key and in the image itself. A store that has seen an image does not write it again, so one
image posted over and over would measure a server that writes no images.
"""

from __future__ import annotations

import secrets
import struct
import subprocess
import sys
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from _figures import Answers, answers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from _place import Kind, Place, Server

DIGITS: Final = 8
PLACE_OF_NUMBER: Final = b"\x00NUMBER\x00"
NUMBER: Final = 0xFFFFFFFF
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One request as it goes over the line, with patches as load.c takes them."""

    data: bytes
    patches: tuple[tuple[int, int], ...]

    def written(self) -> bytes:
        """As load.c reads it."""
        flat = [value for patch in self.patches for value in patch]
        head = struct.pack(f"={2 + len(flat)}I", len(self.data), len(self.patches), *flat)
        return head + self.data


def numbered(image: bytes) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """An image with a place for its number, and the patches that keep the file whole.

    A PNG gets a text of its own before its end, with a checksum; a raw TIFF has its last pixels
    replaced.

    Raises:
        ValueError: it is neither.
    """
    token = secrets.token_hex(8).encode()
    if image.startswith(b"\x89PNG"):
        at = image.rindex(b"IEND") - 4
        text = b"tEXtComment\x00" + token
        length = struct.pack(">I", len(text) - 4 + DIGITS)
        chunk = length + text + b"0" * DIGITS + b"\x00" * 4
        number = at + 4 + len(text)
        whole = image[:at] + chunk + image[at:]
        return whole, ((number, NUMBER), (number + DIGITS, at + 4))
    if image[:4] == b"II*\x00":
        import io

        import tifffile

        with tifffile.TiffFile(io.BytesIO(image)) as tiff:
            page = tiff.pages.first
            end = page.dataoffsets[-1] + page.databytecounts[-1]
        start = end - DIGITS - len(token)
        whole = image[:start] + token + b"0" * DIGITS + image[end:]
        return whole, ((end - DIGITS, NUMBER),)
    raise ValueError("neither a PNG nor a little-endian TIFF")


def station_messages(
    images: Sequence[bytes], kind: Kind, *, deadline_s: float | None = None
) -> list[Message]:
    """What stations post to this product's server: every request another capture and image."""
    run, messages = secrets.token_hex(4), []
    for position, image in enumerate(images):
        body, patches = numbered(image)
        lines = capture_head(run, f"bench-{position % 8}", kind.product, kind.media_type, len(body))
        if deadline_s is not None:
            lines.append(f"X-Deadline-Ms: {1000 * deadline_s:.0f}")
        messages.append(with_head(lines, body, patches))
    return messages


def hostile_messages(files: Iterable[tuple[str, bytes]], product: str) -> list[Message]:
    """(media type, bytes) as somebody posts them who means harm: each try is another capture."""
    run = secrets.token_hex(4)
    return [
        with_head(capture_head(run, "bench-h", product, media_type, len(data)), data)
        for media_type, data in files
    ]


def capture_head(run: str, station: str, product: str, media_type: str, length: int) -> list[str]:
    """The lines of a head, with PLACE_OF_NUMBER where each request has its own."""
    capture = f"{run}-{PLACE_OF_NUMBER.decode('latin-1')}"
    query = f"station={station}&product={product}&capture_id={capture}"
    return [
        f"POST /v1/inspections?{query} HTTP/1.1",
        f"Host: {HOST}",
        f"Idempotency-Key: {capture}",
        f"Content-Type: {media_type}",
        f"Content-Length: {length}",
    ]


def with_head(lines: list[str], body: bytes, patches: Sequence[tuple[int, int]] = ()) -> Message:
    """A message out of the lines of its head, in which PLACE_OF_NUMBER may stand, and its body."""
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    places = []
    while (at := head.find(PLACE_OF_NUMBER)) >= 0:
        head = head[:at] + b"0" * DIGITS + head[at + DIGITS :]
        places.append((at, NUMBER))
    moved = [(at + len(head), NUMBER if f == NUMBER else f + len(head)) for at, f in patches]
    return Message(data=head + body, patches=(*places, *moved))


def as_sent(message: Message, number: int) -> bytes:
    """The message with its number in it, as load.c sends it; for tests."""
    data, digits = bytearray(message.data), f"{number:0{DIGITS}d}".encode()
    for at, start in message.patches:
        if start == NUMBER:
            data[at : at + DIGITS] = digits
        else:
            data[at : at + 4] = struct.pack(">I", zlib.crc32(bytes(data[start:at])))
    return bytes(data)


@contextmanager
def load(
    place: Place,
    server: Server,
    messages: Sequence[Message],
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
    first: int = 0,
) -> Iterator[Loading]:
    """A client that posts in the background; `Loading.answers` waits for its end.

    Requests are numbered from `first`, and the messages taken in turn by that number.
    """
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        folder = Path(name)
        (folder / "messages").write_bytes(b"".join(each.written() for each in messages))
        words = [str(place.client), str(server.port), str(folder / "messages")]
        words += [str(folder / "out"), str(connections), str(seconds)]
        words += [str(rate), str(first)]
        before = server.cpu_s()
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        loading = Loading(
            process=process, out=folder / "out", seconds=seconds, server=server, before=before
        )
        try:
            yield loading
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@dataclass(slots=True, kw_only=True)
class Loading:
    """A client at work."""

    process: subprocess.Popen[str]
    out: Path
    seconds: float
    server: Server
    before: float
    said: str = ""

    def answers(self) -> Answers:
        """Waits until everything is answered.

        Raises:
            SystemExit: the client failed.
        """
        printed, self.said = self.process.communicate()
        if self.process.returncode:
            raise SystemExit(f"error: the client failed: {self.said}")
        return answers_of(
            self.out,
            seconds=self.seconds,
            client_cpu_s=float(printed.split()[0]),
            server_cpu_s=self.server.cpu_s() - self.before,
        )


def posted(
    place: Place,
    server: Server,
    messages: Sequence[Message],
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
    only: Sequence[int] = (200, 201),
) -> Answers:
    """Post for so long and wait for all answers; any status but those of `only` is said aloud."""
    with load(
        place, server, messages, connections=connections, seconds=seconds, rate=rate
    ) as loading:
        answers = loading.answers()
        unexpected = {k: n for k, n in answers.statuses().items() if k not in only}
        if unexpected:
            print(f"unexpected answers {unexpected}: {loading.said[-1500:]}", file=sys.stderr)
    return answers
