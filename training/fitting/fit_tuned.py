"""Preset `full`: what is tuned, on which images, from which start.

fit on all images -> frozen head
groups laid aside -> head fitted on the rest -> tuned stages start from it -> tuned on the rest
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from inspection.engines.network import EvidenceHead, describe
from inspection.errors import ConfigurationError, InputError
from training.fitting.batches import Batches, EarlyBatches, ImageBatches
from training.fitting.early import early_source, extract_early
from training.fitting.features import checked_image
from training.fitting.fit_full import tune
from training.fitting.fit_head import fit_head
from training.fitting.ranks import joined
from training.fitting.stages import TunedStages, WholeNetwork
from training.fitting.validation import lay_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork
    from training.fitting.checkpoint import RunFolder
    from training.fitting.features import Images
    from training.fitting.fit_settings import FitSettings
    from training.fitting.stages import EarlyAnswers

    Progress = Callable[[str, int, int], None]
    Say = Callable[[str], None]
    History = list[dict[str, float | int | str]]

BLOCK = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What is known of the images to fit on.

    Attributes:
        cells: (N, h * w, components) whitened.
        labels: (N, K) in 0..1.
        groups: N names.
        places: (N, K, h, w), 1 in cells that show a defect, NaN where nobody said; or None.
    """

    cells: Tensor
    labels: Tensor
    groups: Sequence[str]
    places: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuned:
    """What came of fine-tuning, beside the network.

    Attributes:
        history: one entry an epoch.
        aside: (n,) rows of groups laid aside, which no part of the evidence learnt from.
        evidence: (n, K, h, w) of these rows: that of the tuned stages, and of a frozen head that
            was fitted without them.
    """

    history: History
    aside: NDArray[np.int64]
    evidence: Tensor


def tunes_in_place(network: InspectionNetwork, settings: FitSettings) -> bool:
    """Whether the backbone itself is tuned: it has no stages to copy, or none shall stay."""
    taps = network.trunk.taps
    return (
        settings.full_frozen == 0 or taps.stem is None or settings.full_frozen >= len(taps.stages)
    )


def fine_tune(
    network: InspectionNetwork,
    images: Images,
    known: Known,
    settings: FitSettings,
    early: EarlyAnswers | None = None,
    *,
    progress: Progress | None = None,
    say: Say | None = None,
    run: RunFolder | None = None,
) -> Tuned:
    """Tune the network's copy of the late stages, or the network itself; see `fit`."""
    aside = lay_aside(known.groups, known.labels.numpy(), settings.validation, settings.seed)
    if not len(aside) and say is not None and settings.validation:
        say("too few groups to lay some aside: fine-tuning runs for all its epochs")
    validation = torch.from_numpy(aside)
    training = torch.from_numpy(np.setdiff1d(np.arange(len(known.labels)), aside))
    learner: TunedStages | WholeNetwork
    head = network.head if network.tuned is None else network.tuned.head
    if not isinstance(head, EvidenceHead):
        raise InputError("a memory of good parts is not tuned")
    with joined() as ranks:
        if len(aside):
            fit_start(head, known, training, settings, progress)
        batches: Batches
        if network.tuned is None:
            learner = WholeNetwork(network, settings.full_dropout)
            batches = ImageBatches(
                images, known.labels, training, validation, known.places, settings
            )
        else:
            learner = TunedStages(network, settings.full_dropout)
            if early is None:
                early = extract_early(network, images, settings, ranks.device, progress)
            elif early.source != early_source(network, settings) or early.cells.shape[1] != len(
                images
            ):
                raise ConfigurationError(
                    "these answers are of other images or another backbone, size or window",
                    remedy="Extract them again with the settings of this fit.",
                )
            batches = EarlyBatches(
                early, known.labels, training, validation, known.places, settings.flips
            )
        start = copy.deepcopy(head)
        history = tune(learner, batches, settings, ranks, progress=progress, say=say, run=run)
    evidence = unseen_evidence(learner, batches, validation)
    if network.tuned is not None and len(aside):
        grid = (len(aside), *evidence.shape[2:], -1)
        with torch.no_grad():
            frozen = start.of_rows(known.cells[validation]).view(grid).permute(0, 3, 1, 2)
        evidence = settings.tuned_weight * evidence + (1 - settings.tuned_weight) * frozen
    return Tuned(history=history, aside=aside, evidence=evidence)


@torch.no_grad()
def unseen_evidence(learner: TunedStages | WholeNetwork, batches: Batches, rows: Tensor) -> Tensor:
    """(n, K, h, w) evidence of rows laid aside, by the tuned network, on the CPU."""
    blocks = [learner(*batches.plain(some)) for some in torch.split(rows, BLOCK) if len(some)]
    return torch.cat(blocks) if blocks else torch.empty(0, batches.labels.shape[1], 1, 1)


def fit_start(
    head: EvidenceHead,
    known: Known,
    training: Tensor,
    settings: FitSettings,
    progress: Progress | None,
) -> None:
    """Fit a head that has not seen the groups laid aside, for the tuned stages to start from."""
    places = None if known.places is None else known.places[training]
    unseen = known.cells[training], known.labels[training]
    fit_head(head, *unseen, settings, [], progress, places)


@torch.no_grad()
def describe_images(network: InspectionNetwork, images: Images, settings: FitSettings) -> Tensor:
    """(N, D) descriptions of the images by a network that was tuned itself, for the novelty."""
    shape = (settings.channels, *settings.input_size_px)
    described = []
    for start in range(0, len(images), BLOCK):
        rows = range(start, min(start + BLOCK, len(images)))
        block = torch.from_numpy(np.stack([checked_image(images, row, shape) for row in rows]))
        described.append(describe(network.whitening(network.trunk(block))))
    return torch.cat(described)
