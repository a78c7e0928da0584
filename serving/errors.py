"""Errors that only HTTP knows; branches of the tree in `inspection/errors.py`.

InspectionError
├── InputError
│   ├── NotAllowed
│   │   ├── KeyRequired        no access key, or none that is valid
│   │   ├── ScopeMissing       a valid key, but not for this
│   │   └── ForeignPlace       a station's key that is bound to other stations or products
│   ├── BodyTooSlow            the body did not come in its time
│   ├── MatchMissing           a decision that does not say what it is based on
│   └── FileErased             an image that was deleted under a rule of retention
├── Overloaded                 the answer would come too late: not begun
│   └── KeyOverLimit           one key has sent more than it may
├── DeadlinePassed             it became too late before work began
├── RecordError
│   ├── DiskFull               too little room is left: refused before it is begun
│   └── RecordsAway            the record store does not take anything: refused likewise
└── ServerUnreachable          the client got no answer in its tries
"""

from __future__ import annotations

from inspection.errors import InputError, InspectionError, NotAllowed, RecordError


class KeyRequired(NotAllowed):
    """No access key came, or one that is not valid.

    Attributes:
        challenge: what the WWW-Authenticate header says.
        unknown: a key came, and nobody has it.
    """

    code = "key-required"

    def __init__(
        self,
        message: str,
        *,
        challenge: str = 'Bearer realm="inspection"',
        unknown: bool = False,
    ) -> None:
        super().__init__(message)
        self.challenge = challenge
        self.unknown = unknown


class ScopeMissing(NotAllowed):
    """A valid key whose scope does not allow this call."""

    code = "scope-missing"
    default_remedy = "Use a key with the scope, or ask an admin for one."


class ForeignPlace(NotAllowed):
    """A station's key that is bound to other stations or products."""

    code = "foreign-place"
    default_remedy = "Use the key of that station, or make one that is bound to it as well."


class BodyTooSlow(InputError):
    """The body of a request did not come in the time that it has."""

    code = "body-too-slow"
    default_remedy = "Send it again; look at the network between station and server."


class MatchMissing(InputError):
    """A review or a promotion came without If-Match."""

    code = "if-match-missing"
    default_remedy = (
        "Read what you decide on, and send its ETag as If-Match; `If-Match: *` decides unseen."
    )


class FileErased(InputError):
    """The file was deleted on purpose; its digest and proof stay."""

    code = "file-erased"
    default_remedy = "Use the record: digest, verdict and findings are still there and proven."


class Overloaded(InspectionError):
    """More work waits than can be done by the caller's deadline.

    Attributes:
        retry_after_s: when it is worth while to come again.
    """

    code = "overloaded"
    default_remedy = "Keep the image and send the same request again after Retry-After."

    def __init__(
        self, message: str, *, remedy: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class KeyOverLimit(Overloaded):
    """The access key has sent more than it may; others are not kept waiting for it."""

    code = "key-over-limit"
    default_remedy = "Keep the image and send the same request again after Retry-After."


class DeadlinePassed(InspectionError):
    """The caller's deadline passed before work began; nothing was judged or recorded."""

    code = "deadline-passed"
    default_remedy = "Keep the image and send the same request again, with more time if it has it."


class DiskFull(RecordError):
    """Too little room is left on a disk that records or images are kept on."""

    code = "disk-full"
    default_remedy = (
        "Make room: `inspection retention apply`, or a larger disk. It goes on by itself; until "
        "then stations keep their images and send them again."
    )


class RecordsAway(RecordError):
    """The record store takes nothing now: the database is down, or its disk hangs."""

    code = "records-away"
    default_remedy = (
        "See whether the database runs and its disk answers. It goes on by itself; until then "
        "stations keep their images and send them again."
    )


class ServerUnreachable(InspectionError):
    """The client got no answer that counts, in all its tries."""

    code = "server-unreachable"
    default_remedy = "Check address and network, keep the image, and send it again later."
