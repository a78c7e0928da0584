"""A station's side of the HTTP calls: one method, and retries that cannot make a duplicate.

    inspect -> POST -> 201 or 200: the inspection
                    -> 409 still running, 408, 429, 502, 503, 504, no connection: the same key
                       again, later, and not before Retry-After (or ten seconds, if that is sooner)
                    -> anything else: the error of ours that the problem names

The server makes one record of a capture however often it comes, so a station may repeat itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import httpx

from inspection.errors import InFlight, InspectionError
from inspection.frame import sniff
from serving.errors import ServerUnreachable

if TYPE_CHECKING:
    from types import TracebackType

RETRIED: Final = frozenset({408, 429, 502, 503, 504})
LONGEST_WAIT_S: Final = 10.0


class StationClient:
    """Posts images to one server. Safe to use from several threads.

    Args:
        address: such as http://127.0.0.1:8400.
        key: the access key, where the server has keys.
        tries: how often one image is sent at most.
        first_wait_s: the wait after the first failure; it doubles with each further one.
        timeout_s: for one try, from connecting to the last byte of the answer.
        sleep: replaces waiting, for tests.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        tries: int = 8,
        first_wait_s: float = 0.1,
        timeout_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if tries < 1:
            raise ValueError("tries counts from 1")
        self._tries = tries
        self._first_wait_s = first_wait_s
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=address,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,  # a station talks to its server, never through a proxy
        )

    def __enter__(self) -> StationClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def inspect(
        self,
        image: bytes,
        *,
        station: str,
        product: str,
        capture_id: str,
        idempotency_key: str | None = None,
        content_type: str | None = None,
        **fields: str | None,
    ) -> dict[str, Any]:
        """Post one image and return its inspection, as the JSON that came.

        Args:
            image: the file as camera or detector wrote it.
            station: the station's name.
            product: the product's name.
            capture_id: the station's own name of this capture, unique for ever.
            idempotency_key: `capture_id` serves when absent: the same capture is the same request.
            content_type: what the bytes are; looked at when absent.
            fields: serial, captured_at, lot, machine, mould, cavity, reason.

        Raises:
            InputError: the server refused it, for the reason that its class says.
            ServerUnreachable: no answer that counts came in all the tries.
        """
        query = {"station": station, "product": product, "capture_id": capture_id, **fields}
        headers = {
            "Idempotency-Key": idempotency_key or capture_id,
            "Content-Type": content_type or sniff(image),
        }
        last = "no answer"
        wait_s, asked_s = self._first_wait_s, 0.0
        for number in range(self._tries):
            if number:
                self._sleep(min(max(wait_s, asked_s), LONGEST_WAIT_S))
                wait_s, asked_s = 2 * wait_s, 0.0
            try:
                answer = self._client.post(
                    "/v1/inspections",
                    params={name: value for name, value in query.items() if value is not None},
                    headers=headers,
                    content=image,
                )
            except httpx.TransportError as error:
                last = f"{type(error).__name__}: {error}"
                continue
            if answer.is_success:
                inspection: dict[str, Any] = answer.json()
                return inspection
            refusal = error_of(answer)
            if answer.status_code not in RETRIED and not isinstance(refusal, InFlight):
                raise refusal
            last = str(refusal)
            said = answer.headers.get("Retry-After", "")
            asked_s = float(said) if said.isdecimal() else 0.0
        raise ServerUnreachable(f"{self._tries} tries; the last: {last}")


def error_of(answer: httpx.Response) -> InspectionError:
    """The error that an answer stands for: of the same class as on the server, where it is ours."""
    try:
        problem = answer.json()
        code, detail, remedy = problem["code"], problem["detail"], problem["remedy"]
    except (ValueError, KeyError, TypeError):
        return InspectionError(f"the server answered {answer.status_code} without a problem")
    kinds = {kind.__dict__.get("code"): kind for kind in _classes(InspectionError)}
    kind = kinds.get(code, InspectionError)
    return kind(str(detail), remedy=str(remedy))


def _classes(kind: type[InspectionError]) -> Iterator[type[InspectionError]]:
    for below in kind.__subclasses__():
        yield from _classes(below)
    yield kind
