"""What a fit depends on beside images and targets."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inspection.engines.backbones import DEFAULT_BACKBONE, FIRST_STAGE
from inspection.engines.network import Architecture
from inspection.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Preset, input and hyperparameters.

    The figures are those of docs/decisions/0002-fast-preset.md and 0008-full-preset.md.

    Attributes:
        preset: "fast" fits the head on frozen features; "full" goes on to fine-tune everything;
            "anomaly" remembers what good parts look like, and is fitted on these alone.
        seed: of every random draw.
        backbone: timm's name.
        input_size_px: (height, width) of the prepared images.
        window: (low, high) grey levels that the backbone's input range spans.
        channels: 1 or 3.
        flips: under which of them a part is still such a part; used by `full`.
        weights: the backbone's weights file; without it, the known backbone's own package.
        pretrained: False starts the backbone at random, for tests.
        threads: CPU cores to use; all of this process's when absent.
        components: whitened components a cell.
        hidden: width of the head's hidden layer, all heads together.
        heads: how many heads are fitted and averaged into one.
        sharpness: of the pooling.
        epochs: over the training images, of the head.
        batch: images a step.
        learning_rate: at the peak of the one-cycle schedule.
        weight_decay: of matrices, AdamW.
        dropout: share of components hidden from the head, a different one for each image.
        averaging: decay of the weights' moving average, which is what is kept.
        positive_weight: how much heavier a defective image weighs than a good one.
        memory: cells of good parts that `anomaly` stores.
        context: training images that the context may store; 0 for a network without it.
        context_weight: of the context, against the head's 1 less that.
        mask_weight: of the places that people drew, against the labels' 1.
        detail: width of the detail branch, which reads every pixel with filters that it learns, and
            gives the evidence by itself; 0 for a network without it. Of preset `fast`, for grey
            images.
        detail_views: how many squares it learns from, for each training image.
        detail_sharpness: of the pooling, of a network with a detail branch.
        full_frozen: how many of the backbone's first stages stay as they are; the rest gets a tuned
            copy beside it. 0 tunes the whole backbone, in place and far more slowly.
        full_views: of each image, turned and varied, that the frozen stages answer once.
        full_epochs: of fine-tuning, at most.
        full_batch: images a step of fine-tuning, all processes together.
        full_learning_rate: of the backbone's last stage.
        full_decay: factor of it for each stage before.
        full_head_learning_rate: of the head, while the stages are tuned.
        full_dropout: as `dropout`, while the stages are tuned.
        full_mixing: how much two images are mixed into one, and their labels with them (Zhang et
            al. 2018, "mixup": the share is drawn from Beta(a, a)), while the stages are tuned; 0
            for not at all.
        full_averaging: as `averaging`, while the stages are tuned.
        tuned_weight: of the tuned copy's evidence, against the frozen head's 1 less that.
        validation: share of the images, in whole groups, laid aside to say when to stop; the tuned
            stages do not learn from them.
        patience: epochs without a better figure on these before fine-tuning stops.
    """

    preset: Literal["fast", "full", "anomaly"] = "fast"
    seed: int = 0
    backbone: str = DEFAULT_BACKBONE
    input_size_px: tuple[int, int]
    window: tuple[float, float]
    channels: int = 1
    flips: tuple[str, ...] = ()
    weights: Path | None = None
    pretrained: bool = True
    threads: int | None = None
    components: int = 256
    hidden: int = 256
    heads: int = 4
    sharpness: float = 2.0
    epochs: int = 30
    batch: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    averaging: float = 0.99
    positive_weight: float = 1.0
    memory: int = 1000
    context: int = 4000
    context_weight: float = 0.3
    mask_weight: float = 0.5
    detail: int = 0
    detail_views: int = 120
    detail_sharpness: float = 4.0
    full_frozen: int = 4
    full_views: int = 4
    full_epochs: int = 8
    full_batch: int = 32
    full_learning_rate: float = 5e-4
    full_decay: float = 0.7
    full_head_learning_rate: float = 5e-4
    full_dropout: float = 0.3
    full_mixing: float = 0.4
    full_averaging: float = 0.995
    tuned_weight: float = 0.5
    validation: float = 0.1
    patience: int = 4

    def __post_init__(self) -> None:
        def refuse(what: str) -> None:
            raise ConfigurationError(what, remedy="Correct the training settings.")

        if self.preset not in {"fast", "full", "anomaly"}:
            refuse(f"there is no preset {self.preset!r}")
        if self.seed < 0:
            refuse("the seed must be 0 or more")
        unknown = set(self.flips) - {"horizontal", "vertical", "rot90"}
        if unknown:
            refuse(f"unknown flips {sorted(unknown)}")
        if "rot90" in self.flips and self.input_size_px[0] != self.input_size_px[1]:
            refuse("a quarter turn needs a square input")
        if self.threads is not None and self.threads < 1:
            refuse("threads must be 1 or more")
        if min(self.epochs, self.batch, self.full_epochs, self.full_batch, self.full_views) < 1:
            refuse("epochs, batches and views must be 1 or more")
        if self.full_frozen < 0 or 0 < self.full_frozen <= FIRST_STAGE:
            refuse(f"full_frozen must be 0, or more than {FIRST_STAGE}")
        if not (0 <= self.validation <= 0.5 and self.patience >= 1):
            refuse("validation lies between 0 and 0.5, patience must be 1 or more")
        if not (math.isfinite(self.full_mixing) and self.full_mixing >= 0):
            refuse("full_mixing must be 0 or more")
        if not (0 < self.tuned_weight < 1 and 0 < self.full_decay <= 1):
            refuse("tuned_weight and full_decay lie between 0 and 1")
        if self.memory < 1:
            refuse("memory must be 1 or more")
        if self.context < 0 or not 0 < self.context_weight < 1:
            refuse("context must be 0 or more, context_weight lie between 0 and 1")
        if not (math.isfinite(self.mask_weight) and self.mask_weight >= 0):
            refuse("mask_weight must be 0 or more")
        if self.detail and self.preset != "fast":
            refuse("a detail branch is for the preset `fast`")
        if self.detail_views < 1:
            refuse("detail_views must be 1 or more")
        if self.heads < 1 or self.hidden < 1 or self.hidden % self.heads:
            refuse("hidden must be a multiple of heads")
        shares = (self.dropout, self.averaging, self.full_dropout, self.full_averaging)
        if not all(0 <= share < 1 for share in shares):
            refuse("dropout and averaging lie between 0 and 1")
        rates = (
            self.learning_rate,
            self.full_learning_rate,
            self.full_head_learning_rate,
            self.positive_weight,
        )
        if not all(math.isfinite(rate) and rate > 0 for rate in rates):
            refuse("learning rates and positive_weight must be above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            refuse("weight_decay must be 0 or more")
        self.architecture(1)

    @property
    def cores(self) -> int:
        """How many CPU cores to use."""
        return self.threads or len(os.sched_getaffinity(0))

    def architecture(self, classes: int, *, zoned: bool = False) -> Architecture:
        """The network's, for so many defect classes, before it is extended.

        `zoned` where the recipe draws zones: a detail branch is told what they allow.
        """
        return Architecture(
            backbone=self.backbone,
            input_size_px=self.input_size_px,
            window=self.window,
            channels=self.channels,
            classes=classes,
            components=self.components,
            hidden=self.hidden,
            sharpness=self.detail_sharpness if self.detail else self.sharpness,
            memory=self.memory if self.preset == "anomaly" else 0,
            detail=self.detail,
            zoned=zoned and self.detail > 0,
        )
