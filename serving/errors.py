"""Errors that only HTTP knows; branches of the tree in `inspection/errors.py`.

InspectionError
├── InputError
│   ├── NotAllowed
│   │   ├── KeyRequired        no access key, or none that is valid
│   │   └── ScopeMissing       a valid key, but not for this
│   ├── BodyTooSlow            the body did not come in its time
│   ├── MatchMissing           a decision that does not say what it is based on
│   └── FileErased             an image that was deleted under a rule of retention
├── Overloaded                 the answer would come too late: not begun
├── DeadlinePassed             it became too late before work began
└── ServerUnreachable          the client got no answer in its tries
"""

from __future__ import annotations

from inspection.errors import InputError, InspectionError, NotAllowed


class KeyRequired(NotAllowed):
    """No access key came, or one that is not valid.

    Attributes:
        challenge: what the WWW-Authenticate header says.
    """

    code = "key-required"

    def __init__(self, message: str, *, challenge: str = 'Bearer realm="inspection"') -> None:
        super().__init__(message)
        self.challenge = challenge


class ScopeMissing(NotAllowed):
    """A valid key whose scope does not allow this call."""

    code = "scope-missing"
    default_remedy = "Use a key with the scope, or ask an admin for one."


class BodyTooSlow(InputError):
    """The body of a request did not come in the time that it has."""

    code = "body-too-slow"
    default_remedy = "Send it again; look at the network between station and server."


class MatchMissing(InputError):
    """A review came without If-Match."""

    code = "if-match-missing"
    default_remedy = (
        "Read the inspection, and send its ETag as If-Match; `If-Match: *` decides unseen."
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


class DeadlinePassed(InspectionError):
    """The caller's deadline passed before work began; nothing was judged or recorded."""

    code = "deadline-passed"
    default_remedy = "Keep the image and send the same request again, with more time if it has it."


class ServerUnreachable(InspectionError):
    """The client got no answer that counts, in all its tries."""

    code = "server-unreachable"
    default_remedy = "Check address and network, keep the image, and send it again later."
