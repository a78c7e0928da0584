"""Errors that only HTTP knows; branches of the tree in `inspection/errors.py`.

InspectionError
├── InputError
│   └── NotAllowed
│       ├── KeyRequired        no access key, or none that is valid
│       └── ScopeMissing       a valid key, but not for this
└── ServerUnreachable          the client got no answer in its tries
"""

from __future__ import annotations

from inspection.errors import InspectionError, NotAllowed


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


class ServerUnreachable(InspectionError):
    """The client got no answer that counts, in all its tries."""

    code = "server-unreachable"
    default_remedy = "Check address and network, keep the image, and send it again later."
