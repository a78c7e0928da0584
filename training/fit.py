"""Fitting a network to labelled images.

    images -> frozen features -> whitening -> evidence head -> novelty          (preset fast)
                                                  `-> whole network, slowly     (preset full)

Same images, targets, settings and machine: the same weights, bit for bit.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from inspection.engines.backbones import DEFAULT_BACKBONE
from inspection.engines.network import Architecture, InspectionNetwork, create_network
from inspection.errors import ConfigurationError, InputError
from training.features import FeatureCache, Images, extract_features, extract_with
from training.fit_full import fine_tune
from training.fit_head import describe_rows, fit_head, fit_novelty, fit_whitening, reproducible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Progress = Callable[[str, int, int], None]

__all__ = [
    "FeatureCache",
    "FitResult",
    "FitSettings",
    "Images",
    "extract_features",
    "fit",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What a fit depends on beside images and targets.

    The figures are those of docs/decisions/0002-fast-preset.md.

    Attributes:
        preset: "fast" fits the head on frozen features; "full" goes on to fine-tune everything.
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
        full_epochs: of fine-tuning.
        full_batch: images a step of fine-tuning.
        full_learning_rate: of the backbone's last stage; halved for each stage before it.
    """

    preset: Literal["fast", "full"] = "fast"
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
    hidden: int = 128
    heads: int = 2
    sharpness: float = 2.0
    epochs: int = 30
    batch: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    averaging: float = 0.99
    positive_weight: float = 1.0
    full_epochs: int = 8
    full_batch: int = 16
    full_learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        def refuse(what: str) -> None:
            raise ConfigurationError(what, remedy="Correct the training settings.")

        if self.preset not in {"fast", "full"}:
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
        if min(self.epochs, self.batch, self.full_epochs, self.full_batch) < 1:
            refuse("epochs and batches must be 1 or more")
        if self.heads < 1 or self.hidden < 1 or self.hidden % self.heads:
            refuse("hidden must be a multiple of heads")
        if not 0 <= self.dropout < 1 or not 0 <= self.averaging < 1:
            refuse("dropout and averaging lie between 0 and 1")
        rates = (self.learning_rate, self.full_learning_rate, self.positive_weight)
        if not all(math.isfinite(rate) and rate > 0 for rate in rates):
            refuse("learning rates and positive_weight must be above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            refuse("weight_decay must be 0 or more")
        self.architecture(1)

    @property
    def cores(self) -> int:
        """How many CPU cores to use."""
        return self.threads or len(os.sched_getaffinity(0))

    def architecture(self, classes: int) -> Architecture:
        """The network's, for so many defect classes."""
        return Architecture(
            backbone=self.backbone,
            input_size_px=self.input_size_px,
            window=self.window,
            channels=self.channels,
            classes=classes,
            components=self.components,
            hidden=self.hidden,
            sharpness=self.sharpness,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitResult:
    """A fitted network.

    Attributes:
        network: in evaluation mode, on the CPU.
        seconds: wall time of each stage.
        history: one entry an epoch: stage, epoch, loss.
    """

    network: InspectionNetwork
    seconds: dict[str, float]
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def fit(
    images: Images,
    targets: NDArray[np.float32],
    groups: Sequence[str],
    settings: FitSettings,
    *,
    progress: Progress | None = None,
    features: FeatureCache | None = None,
) -> FitResult:
    """Fit a network to these images, and to nothing else.

    Args:
        images: N prepared images, (C, H, W) float32 each.
        targets: (N, K) float32 in [0, 1], one column a defect class; soft labels are welcome.
        groups: N names of lots or modules.
        settings: everything else that the result depends on.
        progress: called as (stage, done, total).
        features: of these images, from `extract_features`; extracted here when absent.

    Raises:
        InputError: lengths, shapes or values that do not fit; a class without two kinds of label.
        ConfigurationError: the backbone cannot be had, or `features` are of something else.
    """
    targets = checked_targets(targets, images, groups)
    seconds: dict[str, float] = {}
    history: list[dict[str, float | int | str]] = []
    lap = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal lap
        now = time.perf_counter()
        seconds[stage] = now - lap
        lap = now

    with reproducible(settings.seed, threads=1):
        network = create_network(
            settings.architecture(targets.shape[1]),
            pretrained=settings.pretrained,
            weights=settings.weights,
        )
        done("network")
        if features is None:
            features = extract_with(network, images, threads=settings.cores, progress=progress)
        features.require(network.architecture, len(images))
        done("features")
        cells = fit_whitening(network, features)
        done("whitening")
        labels = torch.from_numpy(targets)
        fit_head(network.head, cells, labels, settings, history, progress)
        done("head")
        descriptions = describe_rows(cells)
        if settings.preset == "full":
            torch.set_num_threads(settings.cores)
            descriptions = fine_tune(network, images, labels, settings, history, progress)
            done("fine-tuning")
        fit_novelty(network.novelty, descriptions)
        done("novelty")
    return FitResult(network=network.eval(), seconds=seconds, history=history)


def checked_targets(
    targets: NDArray[np.float32], images: Images, groups: Sequence[str]
) -> NDArray[np.float32]:
    """The targets as contiguous float32, (N, K).

    Raises:
        InputError: see `fit`.
    """
    held = np.ascontiguousarray(targets, dtype=np.float32)
    if held.ndim != 2 or held.shape[1] < 1:
        raise InputError(f"targets of shape {held.shape}: one row an image, one column a class")
    if not len(held) == len(images) == len(groups):
        raise InputError(f"{len(images)} images, {len(held)} targets and {len(groups)} groups")
    if len(held) < 2:
        raise InputError("a fit needs at least two images")
    if not (np.isfinite(held).all() and (held >= 0).all() and (held <= 1).all()):
        raise InputError("targets lie between 0 and 1")
    flat = [str(index) for index in range(held.shape[1]) if np.ptp(held[:, index]) == 0]
    if flat:
        raise InputError(f"all images have the same target for class {', '.join(flat)}")
    return held
