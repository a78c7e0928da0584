"""All that is needed to build a network again, apart from its tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inspection.engines.backbones import DEFAULT_BACKBONE, FIRST_STAGE
from inspection.engines.detail import MULTIPLE
from inspection.errors import ConfigurationError

LONGEST_SHRUNK = 512  # side of the image that a backbone sees beside a detail branch


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All that is needed to build the network again, apart from its tensors.

    Attributes:
        backbone: timm's name.
        backbone_sha256: of the weights file that the backbone started from; "" for none.
        input_size_px: (height, width) of the input.
        window: (low, high) grey levels that the backbone's input range spans.
        channels: 1 for grey, 3 for RGB.
        classes: how many defect classes.
        components: how many whitened components each grid cell is described by.
        hidden: width of the evidence head's hidden layer.
        sharpness: of the pooling; 0+ is the mean of the map, infinity its maximum.
        memory: how many cells of good parts are stored; 0 for a head that learnt from labels.
        context: how many training images the context stores; 0 for a network without it.
        context_components: of the summaries that these are stored as.
        tuned_from: the backbone's first stage that has a tuned copy beside it, as have all after
            it; 0 for none.
        detail: width of the detail branch, which then gives the evidence by itself, while the
            backbone sees the image shrunk and says how novel it is; 0 for a network without it.
        zoned: whether the detail branch is told what the recipe's zones allow where.
    """

    backbone: str = DEFAULT_BACKBONE
    backbone_sha256: str = ""
    input_size_px: tuple[int, int] = (300, 300)
    window: tuple[float, float]
    channels: int = 1
    classes: int = 1
    components: int = 256
    hidden: int = 128
    sharpness: float = 2.0
    memory: int = 0
    context: int = 0
    context_components: int = 512
    tuned_from: int = 0
    detail: int = 0
    zoned: bool = False

    def __post_init__(self) -> None:
        remedy = "Correct the recipe or the training settings."
        low, high = self.window
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigurationError(f"window {self.window} is empty", remedy=remedy)
        if self.channels not in {1, 3}:
            raise ConfigurationError(f"{self.channels} channels, not 1 or 3", remedy=remedy)
        if min(self.input_size_px) < 32:
            raise ConfigurationError(f"input size {self.input_size_px} is below 32", remedy=remedy)
        if min(self.classes, self.components, self.hidden) < 1:
            raise ConfigurationError("classes, components, hidden must be 1 or more", remedy=remedy)
        if self.memory < 0 or (self.memory and self.classes != 1):
            raise ConfigurationError("a memory has 1 or more cells and 1 class", remedy=remedy)
        if self.context < 0 or self.context_components < 1 or (self.context and self.memory):
            raise ConfigurationError("a context has 1 or more images and no memory", remedy=remedy)
        if self.tuned_from and self.tuned_from <= FIRST_STAGE:
            raise ConfigurationError(f"stages up to {FIRST_STAGE} are not copied", remedy=remedy)
        self._check_detail(remedy)
        if self.detail and any(side % MULTIPLE for side in self.input_size_px):
            raise ConfigurationError(
                f"input size {self.input_size_px}: with a detail branch, sides are "
                f"multiples of {MULTIPLE}",
                remedy="Set input_size_px of the recipe, or its region, to such a size.",
            )
        if not (math.isfinite(self.sharpness) and self.sharpness > 0):
            raise ConfigurationError(f"sharpness {self.sharpness} is not above 0", remedy=remedy)

    def _check_detail(self, remedy: str) -> None:
        if self.detail < 0 or self.detail % 2 or (self.detail and self.channels != 1):
            raise ConfigurationError("a detail branch is of even width, for grey", remedy=remedy)
        if self.zoned and not self.detail:
            raise ConfigurationError("zones are told to a detail branch", remedy=remedy)
        if self.detail and (self.memory or self.context or self.tuned_from):
            raise ConfigurationError("a detail branch gives the evidence by itself", remedy=remedy)

    @property
    def shrink(self) -> int:
        """How many pixels along one of the backbone's; 1 where it gives the evidence."""
        longest = max(self.input_size_px)
        return -(-longest // LONGEST_SHRUNK) if self.detail else 1
