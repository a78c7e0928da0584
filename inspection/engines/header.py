"""What a weights file says of itself, read without PyTorch and without its tensors.

A safetensors file begins with the length of its header (8 bytes, little-endian) and the header, a
JSON object whose `__metadata__` holds text by name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

METADATA_KEY: Final = "inspection.architecture"
LONGEST: Final = 100 * 2**20  # what safetensors itself takes for a header at most


def holds_network(path: Path) -> bool:
    """Whether the file says that it is a network of this product; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LONGEST else {}
        return METADATA_KEY in header["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
