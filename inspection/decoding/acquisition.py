"""What a detector's file says of the exposure and of the part; read from DICOM and DICONDE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from inspection.errors import UnreadableImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """What the file says of itself; nothing here was measured by us.

    Attributes:
        kv: tube voltage in kilovolts.
        ma: tube current in milliamperes.
        exposure_ms: time of one exposure in milliseconds.
        frames_averaged: exposures that are in the image.
        detector: what names the detector: its ID, else its serial number.
        serial: the part's mark, as the file has it.
        tags: (name, text) of the other tags of the part and the exposure, by DICOM keyword.
    """

    kv: float | None = None
    ma: float | None = None
    exposure_ms: float | None = None
    frames_averaged: int | None = None
    detector: str | None = None
    serial: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    MAX_LENGTH: ClassVar[int] = 200
    MAX_TAGS: ClassVar[int] = 100

    def __post_init__(self) -> None:
        for name in ("kv", "ma", "exposure_ms", "frames_averaged"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UnreadableImage(f"the file says {name} {value}, which makes no sense")
        texts = [self.detector, self.serial, *(text for tag in self.tags for text in tag)]
        if len(self.tags) > self.MAX_TAGS or any(
            text is not None and (not text or len(text) > self.MAX_LENGTH) for text in texts
        ):
            raise UnreadableImage("what the file says of itself is empty or longer than is kept")
