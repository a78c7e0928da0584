"""Fitting a network to labelled images.

    images -> frozen features -> whitening -> evidence head -> novelty          (preset fast)
           |-> squares round what is marked, or suspected -> detail branch      (detail > 0)
           `-> evidence head -> whole network, slowly                           (preset full)
           `-> whitening -> memory of good cells -> novelty           (preset anomaly)

Same images, targets, settings and machine: the same weights, bit for bit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspection.engines.detail import Detail
from inspection.engines.memory import MemoryHead
from inspection.engines.network import (
    EvidenceHead,
    InspectionNetwork,
    create_network,
    extended,
    pool_evidence,
)
from inspection.errors import InputError
from training.fitting.features import FeatureCache, Images, extract_features, extract_with
from training.fitting.fit_anomaly import fit_memory
from training.fitting.fit_context import fit_context
from training.fitting.fit_detail import fit_detail
from training.fitting.fit_head import (
    describe_rows,
    fit_head,
    fit_novelty,
    fit_whitening,
    reproducible,
)
from training.fitting.fit_masks import checked_masks, on_cells
from training.fitting.fit_settings import FitSettings
from training.fitting.fit_tuned import Known, Tuned, describe_images, fine_tune, tunes_in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from training.fitting.checkpoint import RunFolder
    from training.fitting.stages import EarlyAnswers

    Progress = Callable[[str, int, int], None]

__all__ = [
    "FeatureCache",
    "FitResult",
    "FitSettings",
    "Images",
    "extract_features",
    "fit",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unseen:
    """Scores of images from whole groups that no part of the model learnt from.

    Attributes:
        rows: (n,) of the images to fit on.
        scores: (n, K) as the network's.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitResult:
    """A fitted network.

    Attributes:
        network: in evaluation mode, on the CPU.
        seconds: wall time of each stage.
        history: one entry an epoch: stage, epoch, loss, and with `full` validation_auc.
        unseen: of `full`, where groups were laid aside.
    """

    network: InspectionNetwork
    seconds: dict[str, float]
    history: list[dict[str, float | int | str]] = field(default_factory=list)
    unseen: Unseen | None = None


def fit(
    images: Images,
    targets: NDArray[np.float32],
    groups: Sequence[str],
    settings: FitSettings,
    *,
    masks: NDArray[np.float32] | None = None,
    allowed: NDArray[np.float32] | None = None,
    lengths: NDArray[np.float16] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    features: FeatureCache | None = None,
    early: EarlyAnswers | None = None,
    run: RunFolder | None = None,
) -> FitResult:
    """Fit a network to these images, and to nothing else.

    Args:
        images: N prepared images, (C, H, W) float32 each.
        targets: (N, K) float32 in [0, 1], one column a defect class; soft labels are welcome.
        groups: N names of lots or modules.
        settings: everything else that the result depends on.
        masks: (N, K, h, w) float32 of any size: 1 where the defect is, 0 where there is none, NaN
            where nobody said; they teach the evidence map. None when nobody drew anything.
        allowed: (K, h, w) mm, what the zones allow in each cell of a detail branch; None without
            zones. See `training.data.allowed`.
        lengths: (N, K, h, w) mm, how long the marked things are that cover those cells, allowed or
            not; see `training.data.regions.prepared_lengths`. None when nobody measured them.
        progress: called as (stage, done, total).
        say: called with a line at the end of each epoch of fine-tuning.
        features: of these images, from `extract_features`; extracted here when absent.
        early: of these images, from `extract_early`; extracted here when absent and needed.
        run: where `full` leaves checkpoints; one that is there is gone on from, to the same result.

    Raises:
        InputError: lengths, shapes or values that do not fit; a class without two kinds of label.
        ConfigurationError: the backbone cannot be had, `features` are of something else, or a
            checkpoint cannot be written or read.
    """
    targets = checked_targets(targets, images, groups, good_only=settings.preset == "anomaly")
    drawn = checked_masks(masks, targets)
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
            settings.architecture(targets.shape[1], zoned=allowed is not None),
            pretrained=settings.pretrained,
            weights=settings.weights,
        )
        done("network")
        if features is None:
            features = extract_with(network, images, threads=settings.cores, progress=progress)
        features.require(network.architecture, len(images))
        done("features")
        if isinstance(network.head, MemoryHead):
            fit_memory(network, features, settings, progress=progress)
            done("memory")
            return FitResult(network=network.eval(), seconds=seconds, history=history)
        cells = fit_whitening(network, features)
        done("whitening")
        labels = torch.from_numpy(targets)
        if isinstance(network.head, Detail):
            if allowed is not None:
                network.head.allow(torch.from_numpy(allowed))
            torch.set_num_threads(settings.cores)
            fit_detail(network.head, images, targets, drawn, lengths, settings, history, progress)
            torch.set_num_threads(1)
            done("head")
            fit_novelty(network.novelty, describe_rows(cells))
            done("novelty")
            return FitResult(network=network.eval(), seconds=seconds, history=history)
        places = None if drawn is None else on_cells(drawn, *features.cells.shape[1:3])
        fit_head(network.head, cells, labels, settings, history, progress, places)
        done("head")
        descriptions = describe_rows(cells)
        tuned = None
        in_place = settings.preset == "full" and tunes_in_place(network, settings)
        if not in_place:
            network = with_parts(network, settings, len(images))
        if settings.preset == "full":
            known = Known(cells=cells, labels=labels, groups=groups, places=places)
            torch.set_num_threads(settings.cores)
            tuned = fine_tune(
                network, images, known, settings, early, progress=progress, say=say, run=run
            )
            history += tuned.history
            torch.set_num_threads(1)
            done("fine-tuning")
        if in_place:
            descriptions = describe_images(network, images, settings)
        alone = None
        if network.context is not None:
            alone = fit_context(network.context, features, labels, groups)
            done("context")
        weigh_parts(network, settings)
        fit_novelty(network.novelty, descriptions)
        done("novelty")
    return FitResult(
        network=network.eval(),
        seconds=seconds,
        history=history,
        unseen=None if tuned is None else unseen_scores(tuned, alone, settings),
    )


def unseen_scores(tuned: Tuned, context: Tensor | None, settings: FitSettings) -> Unseen | None:
    """What the whole model says of the groups laid aside; None when there are none."""
    if not len(tuned.aside):
        return None
    scores = pool_evidence(tuned.evidence, settings.sharpness).numpy()
    if context is not None:
        without = context[torch.from_numpy(tuned.aside)].numpy()
        weighed = (1 - settings.context_weight) * scores + settings.context_weight * without
        scores = np.where(np.isnan(without), scores, weighed)
    return Unseen(rows=tuned.aside, scores=scores)


def with_parts(network: InspectionNetwork, settings: FitSettings, images: int) -> InspectionNetwork:
    """The network with the context and the tuned stages that the settings ask for."""
    parts: dict[str, float] = {}
    if settings.context:
        # A map that is scaled down pools alike when the sharpness is scaled up.
        parts["context"] = min(settings.context, images)
        parts["sharpness"] = settings.sharpness / (1 - settings.context_weight)
    if settings.preset == "full":
        parts["tuned_from"] = settings.full_frozen
    return extended(network, **parts) if parts else network


def weigh_parts(network: InspectionNetwork, settings: FitSettings) -> None:
    """Make the evidence the weighted mean of what the parts say."""
    maps = 1.0
    if network.context is not None:
        network.context.scale(settings.context_weight)
        maps -= settings.context_weight
    if network.tuned is not None:
        network.tuned.head.scale(maps * settings.tuned_weight)
        maps *= 1 - settings.tuned_weight
    if isinstance(network.head, EvidenceHead) and maps < 1:
        network.head.scale(maps)


def checked_targets(
    targets: NDArray[np.float32], images: Images, groups: Sequence[str], *, good_only: bool = False
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
    if good_only:
        if (held > 0.5).any():
            raise InputError("preset `anomaly` is fitted on good parts alone; a bad one is there")
        return held
    flat = [str(index) for index in range(held.shape[1]) if np.ptp(held[:, index]) == 0]
    if flat:
        raise InputError(f"all images have the same target for class {', '.join(flat)}")
    return held
