"""How a client calls the server: one place for retries, keys and refusals.

    call -> answer
         -> 409 still running, 408, 429, 502, 503, 504, no connection: the same again, later, and
            not before Retry-After (or ten seconds, if that is sooner)
         -> anything else: the error of ours that the problem names

Only what may be repeated is: what reads, and what adds under an Idempotency-Key or an If-Match.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import httpx

from inspection.errors import InFlight, InspectionError
from serving.errors import ServerUnreachable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

RETRIED: Final = frozenset({408, 429, 502, 503, 504})
LONGEST_WAIT_S: Final = 10.0


class Caller:
    """Calls one server. Safe to use from several threads.

    Args:
        address: such as http://127.0.0.1:8400.
        key: the access key, where the server has keys.
        tries: how often one call is sent at most.
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
        self.http = httpx.Client(
            base_url=address,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,  # a station talks to its server, never through a proxy
        )

    def __enter__(self) -> Self:
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
        self.http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: Any = None,
        wait_s: float = 0.0,
    ) -> httpx.Response:
        """The answer, once there is one that counts.

        Args:
            method: of HTTP.
            path: below the address.
            params: of the query; None is left out.
            headers: besides the access key.
            content: a body as it is.
            json: a body to be written as JSON.
            wait_s: how much longer than usual an answer may take.

        Raises:
            InspectionError: of the class that the problem names.
            ServerUnreachable: no answer that counts came in all the tries.
        """
        sent = {name: value for name, value in (params or {}).items() if value is not None}
        timeout = httpx.Timeout(self.http.timeout.read or 0.0)
        if wait_s and self.http.timeout.read is not None:
            timeout = httpx.Timeout(self.http.timeout.read + wait_s)
        last = "no answer"
        pause_s, asked_s = self._first_wait_s, 0.0
        for number in range(self._tries):
            if number:
                self._sleep(min(max(pause_s, asked_s), LONGEST_WAIT_S))
                pause_s, asked_s = 2 * pause_s, 0.0
            try:
                answer = self.http.request(
                    method,
                    path,
                    params=sent,
                    headers=headers,
                    content=content,
                    json=json,
                    timeout=timeout,
                )
            except httpx.TransportError as error:
                last = f"{type(error).__name__}: {error}"
                continue
            if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
                return answer
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
