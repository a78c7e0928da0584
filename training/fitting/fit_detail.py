"""Fitting the detail branch to what people marked, then to what it falls for.

    marked squares, others -> steps -> scan: what fools it -> steps -> scan again -> steps -> mean
    few are marked: a first guess says what is suspected ------'

The loss has two parts: each known cell, where the cells of a defect weigh together as one, and the
smooth maximum over a square, or over all that is suspected in an image that nobody marked, against
whether it shows a defect, which is what a part is judged by.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from training.data.cells import COVERED
from training.fitting.averaging import follow
from training.fitting.guess import first_guess, pool_owned
from training.fitting.squares import Squares

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from inspection.engines.detail import Detail
    from training.fit import FitSettings
    from training.fitting.features import Images
    from training.fitting.squares import Drawn

    Progress = Callable[[str, int, int], None]
    History = list[dict[str, float | int | str]]

BATCH = 32
ROUNDS = (0.2, 0.4, 0.4)  # of the steps; between them, what fools it is looked for
RATE, DECAY = 2e-3, 0.02  # AdamW's
WARM = 50  # steps in which the rate grows
LOWEST = 0.005  # of the rate, in the end
STEEPEST = 5.0  # norm of a step's gradient
AVERAGING = 0.998
SHARPNESS = 2.0  # of the maximum over a square: softer than over an image
PLAIN = 0.01  # what a cell without a defect weighs
FEW = 0.5  # of the bad images are marked: below, a first guess says what to suspect in the others
TOLD = 20  # how often the history is told of the loss


def fit_detail(
    detail: Detail,
    images: Images,
    targets: NDArray[np.float32],
    masks: NDArray[np.float32] | None,
    lengths: NDArray[np.float16] | None,
    settings: FitSettings,
    history: History,
    progress: Progress | None,
) -> None:
    """Fit a detail branch in place; it ends in evaluation mode.

    Args:
        detail: at its random start.
        images: N prepared ones.
        targets: (N, K) in 0..1.
        masks: (N, K, h, w), see `training.fit.fit`.
        lengths: (N, K, h, w), see there; None where nobody measured them.
        settings: size, window, seed, cores, detail_views.
        history: gets the mean loss now and then.
        progress: called as (stage, done, total).

    Raises:
        InputError: an image of another shape, or not finite.
        EngineError: the images could not be scanned.
    """
    drawn = unmarked(targets) if masks is None else masks
    squares = Squares(
        images,
        targets,
        drawn,
        lengths if detail.allowed is not None else None,
        shape=(1, *settings.input_size_px),
        window=settings.window,
        seed=settings.seed,
        threads=settings.cores,
        allowed=None if detail.allowed is None else detail.allowed[0].numpy(),
        progress=progress,
    )
    squares.add()
    if squares.unmarked > FEW:
        squares.add(
            first_guess(images, torch.from_numpy(targets), drawn, settings, history, progress)
        )
    steps = max(len(ROUNDS), math.ceil(settings.detail_views * len(images) / BATCH))
    ends = np.rint(np.cumsum(ROUNDS) * steps).astype(int).tolist()
    generator = np.random.default_rng([settings.seed, len(squares)])
    detail.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(detail.parameters(), RATE, weight_decay=DECAY)
    average = {name: one.clone() for name, one in detail.state_dict().items()}
    losses: list[float] = []
    detail.train()
    for step in range(steps):
        if step in ends:
            detail.eval()
            squares.add(detail)
            detail.train()
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        batch = squares.draw(BATCH, generator)
        levels = batch.levels.contiguous(memory_format=torch.channels_last)
        evidence = detail(levels, batch.allowed)
        loss = cells_loss(evidence, batch.places) + bags_loss(evidence, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(detail.parameters(), STEEPEST)
        optimizer.step()
        follow(average, detail.state_dict(), step, AVERAGING)
        losses.append(float(loss.detach()))
        if (step + 1) % max(1, steps // TOLD) == 0:
            history.append({"stage": "detail", "epoch": step + 1, "loss": float(np.mean(losses))})
            losses.clear()
        if progress is not None:
            progress("detail", step + 1, steps)
    detail.load_state_dict(average)
    detail.eval()


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate: up within `WARM` steps, then down along half a cosine."""
    down = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / WARM) * (LOWEST + (1 - LOWEST) * down)


def cells_loss(evidence: Tensor, places: Tensor) -> Tensor:
    """Cross-entropy of the known cells of (N, K, h, w) evidence, a square's share."""
    shown = (places >= COVERED).float()
    plain = (places == 0).float()
    count = shown.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    each = F.binary_cross_entropy_with_logits(evidence, shown, reduction="none")
    return (each * (shown / count + PLAIN * plain)).sum() / len(evidence)


def bags_loss(evidence: Tensor, batch: Drawn) -> Tensor:
    """Cross-entropy of each bag's smooth maximum; not of those of which nobody can say."""
    _, classes, *cells = evidence.shape
    rows = evidence.permute(0, 2, 3, 1).reshape(-1, classes)
    owner = batch.bags.repeat_interleave(math.prod(cells))
    peak = pool_owned(rows, owner, len(batch.wanted), SHARPNESS)
    known = ~batch.wanted.isnan()
    wanted = torch.where(known, batch.wanted, 0.0)
    each = F.binary_cross_entropy_with_logits(peak, wanted, reduction="none")
    return (each * known).mean()


def unmarked(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, K, 1, 1) of the (N, K) labels alone: no defect anywhere in good images, and NaN."""
    return np.where(targets > 0, np.nan, 0.0).astype(np.float32)[:, :, np.newaxis, np.newaxis]
