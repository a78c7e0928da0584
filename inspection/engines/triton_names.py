"""What the exporter, the served graph and the client agree on, and nothing else.

package digest -> name of the model in Triton       `knuckles-1f0c2b9d4e77`, version 3
               -> parameter `package_digest` of its config.pbtxt
               -> output `package` of every answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspection.package import ModelPackage

INPUT: Final = "image"
ANSWERS: Final = ("score", "evidence", "novelty")
STAMP: Final = "package"
"""The output that names the package: (N, 32) float32, a byte of its SHA-256 each. Float32, because
every backend has it; bytes, because the integers up to 256 are exact in half precision too."""

STAMP_BYTES: Final = 32
DIGITS: Final = 12  # of the digest in a model's name: for people, and to keep packages apart
DIGEST_PARAMETER: Final = "package_digest"


def served_name(package: ModelPackage) -> str:
    """The name under which Triton serves the package; no other package has it."""
    return f"{package.document.model}-{package.digest[:DIGITS]}"


def stamp_of(digest: str) -> NDArray[np.float32]:
    """(32,) float32: the bytes of a SHA-256 in hexadecimal."""
    stamp = np.frombuffer(bytes.fromhex(digest), dtype=np.uint8).astype(np.float32)
    if stamp.shape != (STAMP_BYTES,):
        raise ValueError(f"{digest!r} is not a SHA-256")
    return stamp
