"""A first guess of where defects are, from labels alone: what a detail branch begins with.

    images -> fixed filters -> cells that stand out -> a small head, from what each part is

The loss is the labels': the smooth maximum over an image's chosen cells against what the part is.
Where people drew masks, each known cell counts as well; of the others the head learns as if each
were what its part is: wrong for most cells of a bad part, but those are like the cells of good
parts, and what is left over is the defect. From a random start the maximum alone learns nothing
(docs/decisions/0023-castings.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from training.data.cells import COVERED
from training.fitting.averaging import follow
from training.fitting.fit_head import soft_loss
from training.fitting.fixed_filters import FEATURES, Guess, GuessHead
from training.fitting.guess_cells import scan
from training.fitting.views import draw_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from training.fit import FitSettings
    from training.fitting.features import Images
    from training.fitting.guess_cells import Cells

    Progress = Callable[[str, int, int], None]
    History = list[dict[str, float | int | str]]

WIDTH = 128
EPOCHS = 20
SHARPNESS = 4.0  # of the maximum over an image's cells
DECAY = 0.01  # of weights
FAR = -1e9


def first_guess(
    images: Images,
    targets: Tensor,
    masks: NDArray[np.float32],
    settings: FitSettings,
    history: History,
    progress: Progress | None,
) -> Guess:
    """Filters and a head fitted to them, in evaluation mode.

    Args:
        images: N prepared ones.
        targets: (N, K) in 0..1.
        masks: (N, K, h, w), see `training.fit.fit`.
        settings: size, window, seed, cores, batch, learning rate, averaging.
        history: gets an entry an epoch.
        progress: called as (stage, done, total).

    Raises:
        InputError: an image of another shape, or not finite.
        EngineError: the images could not be scanned.
    """
    guess = Guess(settings.window, WIDTH, targets.shape[1])
    cells = scan(
        guess.filters,
        images,
        masks,
        shape=(1, *settings.input_size_px),
        seed=settings.seed,
        threads=settings.cores,
        progress=progress,
    )
    start_head(guess.head, torch.Generator().manual_seed(settings.seed))
    fit_guess(guess.head, cells, targets, settings, history, progress)
    return guess.eval()


def fit_guess(
    head: GuessHead,
    cells: Cells,
    targets: Tensor,
    settings: FitSettings,
    history: History,
    progress: Progress | None,
) -> None:
    """Fit a head in place, from what it is: AdamW, one cycle, moving average of the weights."""
    rows = torch.from_numpy(cells.rows).float()
    middle, spread = rows.mean(dim=0), rows.std(dim=0).clamp_min(1e-3)
    rows = (rows - middle) / spread
    standardise(head, middle, spread)
    places = torch.from_numpy(cells.places)
    generator = torch.Generator().manual_seed(draw_seed(settings.seed, 1))
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=DECAY)
    batch = min(settings.batch, len(cells))
    per_epoch = len(cells) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=EPOCHS * per_epoch + 1, pct_start=0.2
    )
    average = {name: one.clone() for name, one in head.state_dict().items()}
    step = 0
    for epoch in range(EPOCHS):
        order = torch.randperm(len(cells), generator=generator)
        losses = []
        for chosen in torch.split(order, batch)[:per_epoch]:
            spans = [(cells.starts[index], cells.starts[index + 1]) for index in chosen.tolist()]
            owner = torch.repeat_interleave(torch.tensor([end - begin for begin, end in spans]))
            evidence = head.of_rows(torch.cat([rows[begin:end] for begin, end in spans]))
            drawn = torch.cat([places[begin:end] for begin, end in spans])
            scores = pool_owned(evidence, owner, len(spans), SHARPNESS)
            wanted = targets[chosen]
            loss = soft_loss(scores, wanted, settings.positive_weight)
            loss = loss + drawn_loss(evidence, drawn, owner, len(spans))
            loss = loss + guessed_loss(evidence, drawn, wanted[owner])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
            follow(average, head.state_dict(), step, settings.averaging)
            losses.append(loss.detach())
        history.append(
            {"stage": "guess", "epoch": epoch + 1, "loss": float(torch.stack(losses).mean())}
        )
        if progress is not None:
            progress("guess", epoch + 1, EPOCHS)
    head.load_state_dict(average)
    standardise(head, -middle / spread, 1 / spread)


@torch.no_grad()
def standardise(head: GuessHead, middle: Tensor, spread: Tensor) -> None:
    """Let the head take (x - middle) / spread for the x that it took before."""
    weight = head.first.weight[:, :, 0, 0]
    bias = head.first.bias
    if bias is not None:
        bias.add_(weight @ middle)
    weight.mul_(spread)


def pool_owned(evidence: Tensor, owner: Tensor, images: int, sharpness: float) -> Tensor:
    """(images, K): log(sum(exp(r e))) / r over each image's cells, of (M, K) evidence.

    A sum, not the mean of `pool_evidence`: cells that were not chosen add next to nothing to it,
    and a constant is the calibration's business.
    """
    index = owner[:, None].expand_as(evidence)
    held = evidence * sharpness
    peak = torch.full((images, evidence.shape[1]), FAR).scatter_reduce(0, index, held, "amax")
    peak = peak.detach()
    total = torch.zeros_like(peak).scatter_add(0, index, torch.exp(held - peak[owner]))
    return (peak + total.log()) / sharpness


def drawn_loss(evidence: Tensor, places: Tensor, owner: Tensor, images: int) -> Tensor:
    """Cross-entropy of the known cells; 0 where none is known.

    Each image's marked cells weigh together as ten cells, each of the others as a tenth of one.
    """
    known = ~places.isnan()
    shown = (places >= COVERED).float()
    index = owner[:, None].expand_as(places)
    count = torch.zeros(images, places.shape[1]).scatter_add(0, index, shown).clamp_min(1.0)
    weight = 10 * shown / count[owner] + 0.1 * (known & (places == 0)).float()
    each = F.binary_cross_entropy_with_logits(evidence, shown, weight=weight, reduction="sum")
    return each / (weight.sum() + 1.0)


def guessed_loss(evidence: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of the cells nobody knows of, against their part's label; all (M, K)."""
    unknown = places.isnan().float()
    each = F.binary_cross_entropy_with_logits(evidence, wanted, weight=unknown, reduction="sum")
    return each / (unknown.sum() + 1.0)


@torch.no_grad()
def start_head(head: GuessHead, generator: torch.Generator) -> None:
    """Random layers; the evidence starts low everywhere, for nearly every cell shows nothing."""
    for layer, inputs in (
        (head.first, FEATURES),
        (head.second, head.second.in_channels),
        (head.last, head.last.in_channels),
    ):
        reach = inputs**-0.5
        layer.weight.uniform_(-reach, reach, generator=generator)
        bias = layer.bias
        if bias is not None:
            bias.fill_(-4.0 if layer is head.last else 0.0)
