"""Fitting the evidence head and the novelty on features that are held in memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from inspection.engines.network import EvidenceHead, describe, pool_evidence
from training.fitting.averaging import follow
from training.fitting.fit_masks import places_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inspection.engines.network import InspectionNetwork, Novelty
    from training.fit import FitSettings
    from training.fitting.features import FeatureCache

    Progress = Callable[[str, int, int], None]
    History = list[dict[str, float | int | str]]

# Dimensions of the novelty's subspace that keep their own variance.
NOVELTY_DIMENSIONS = 64

# Images at a time, where all of them at once would not fit in the caches.
BLOCK = 32


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seed torch and fix its number of CPU threads inside; leave both as they were after."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def fit_whitening(network: InspectionNetwork, features: FeatureCache) -> Tensor:
    """Fit the whitening convolution; return the whitened cells, (N, h * w, components) float32.

    Principal components of the standardised features over all cells of all images, each scaled to
    variance 1. They become the weights of one plain 1x1 convolution.
    """
    count, height, width, channels = features.cells.shape
    rows = torch.from_numpy(features.cells).view(count, height * width, channels)
    total = torch.zeros(channels, dtype=torch.float64)
    products = torch.zeros(channels, channels, dtype=torch.float64)
    # Every second image is plenty for means and products, and half the time.
    chosen = rows[:: 2 if count >= 4 * BLOCK else 1]
    for block in torch.split(chosen, BLOCK):
        flat = block.reshape(-1, channels).float()
        total += flat.sum(0).double()
        products += (flat.T @ flat).double()
    cells = chosen.shape[0] * chosen.shape[1]
    mean = total / cells
    covariance = products / cells - torch.outer(mean, mean)
    deviation = covariance.diagonal().clamp_min(1e-8).sqrt()
    correlation = covariance / deviation[:, None] / deviation[None, :]
    values, vectors = torch.linalg.eigh(correlation)
    components = network.whitening.out_channels
    # Directions without variance are noise: scaling them up to 1 would make them loud.
    scale = values.flip(0)[:components].clamp_min(1e-3).rsqrt()
    matrix = vectors.flip(1)[:, :components] * scale / deviation[:, None]
    found = matrix.shape[1]
    weight = torch.zeros(components, channels)
    weight[:found] = matrix.T.float()
    bias = torch.zeros(components)
    bias[:found] = -(mean @ matrix).float()
    network.whitening.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    whitened = torch.empty(count, height * width, components)
    for start in range(0, count, BLOCK):
        block = rows[start : start + BLOCK].float()
        whitened[start : start + BLOCK] = F.linear(block, weight, bias)
    return whitened


def pool_rows(evidence: Tensor, sharpness: float) -> Tensor:
    """`pool_evidence` of (N, cells, K) rows: (N, K)."""
    return pool_evidence(evidence.transpose(1, 2).unsqueeze(2), sharpness)


def soft_loss(scores: Tensor, targets: Tensor, positive_weight: float) -> Tensor:
    """Cross-entropy against soft labels; (N, K) both."""
    weights = 1 + (positive_weight - 1) * targets
    return F.binary_cross_entropy_with_logits(scores, targets, weight=weights)


def fit_head(
    head: EvidenceHead,
    cells: Tensor,
    targets: Tensor,
    settings: FitSettings,
    history: History,
    progress: Progress | None,
    places: Tensor | None = None,
) -> None:
    """Fit the head to whitened cells, (N, cells, components), and targets, (N, K), in place.

    Several narrow heads with different draws are fitted side by side, one a core, and their
    evidence is averaged: that is again one head, as wide as all of them together. `places`,
    (N, K, h, w), says which cells show a defect, NaN where that is unknown.
    """
    drawn = None if places is None else places.flatten(2).transpose(1, 2)
    members = [
        EvidenceHead(head.inner.in_channels, settings.hidden // settings.heads, targets.shape[1])
        for _ in range(settings.heads)
    ]
    report = epochs_counter(settings.heads * settings.epochs, progress)

    def fit_member(index: int) -> list[float]:
        # Threads of one product wait for each other; on a busy box that costs more than it gains.
        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(settings.seed * settings.heads + index)
        return fit_one_head(members[index], cells, targets, settings, generator, report, drawn)

    with ThreadPoolExecutor(max_workers=min(settings.heads, settings.cores)) as pool:
        losses = list(pool.map(fit_member, range(settings.heads)))
    for epoch, values in enumerate(zip(*losses, strict=True)):
        loss = sum(values) / len(values)
        history.append({"stage": "head", "epoch": epoch + 1, "loss": loss})
    merge_heads(head, members)


def epochs_counter(total: int, progress: Progress | None) -> Callable[[], None]:
    """A function that reports one more epoch each time it is called, from any thread."""
    lock = threading.Lock()
    done = 0
    if progress is not None:
        progress("head", 0, total)

    def report() -> None:
        nonlocal done
        with lock:
            done += 1
            if progress is not None:
                progress("head", done, total)

    return report


@torch.no_grad()
def merge_heads(head: EvidenceHead, members: Sequence[EvidenceHead]) -> None:
    """Make `head` the mean of its members: hidden layers side by side, outputs averaged."""
    states = [one.state_dict() for one in members]
    count = len(states)
    head.load_state_dict(
        {
            "inner.weight": torch.cat([one["inner.weight"] for one in states]),
            "inner.bias": torch.cat([one["inner.bias"] for one in states]),
            "outer.weight": torch.cat([one["outer.weight"] for one in states], dim=1) / count,
            "outer.bias": torch.stack([one["outer.bias"] for one in states]).mean(0),
            "straight.weight": torch.stack([one["straight.weight"] for one in states]).mean(0),
        }
    )


def fit_one_head(
    head: EvidenceHead,
    cells: Tensor,
    targets: Tensor,
    settings: FitSettings,
    generator: torch.Generator,
    report: Callable[[], None],
    places: Tensor | None = None,
) -> list[float]:
    """Fit one head in place; the mean loss of each epoch.

    AdamW, one cycle, whole components hidden at random, moving average of the weights.
    """
    start_head(head, targets, generator)
    batch = min(settings.batch, len(cells))
    decayed: list[dict[str, Any]] = [
        {"params": [one for one in head.parameters() if one.ndim > 1]},
        {"params": [one for one in head.parameters() if one.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        decayed, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        settings.learning_rate,
        total_steps=settings.epochs * (len(cells) // batch) + 1,
        pct_start=0.2,
    )
    average = {name: one.clone() for name, one in head.state_dict().items()}
    step = 0
    kept = 1 - settings.dropout
    epochs = []
    for _ in range(settings.epochs):
        losses = []
        for chosen in torch.split(torch.randperm(len(cells), generator=generator), batch):
            if len(chosen) < batch:
                continue
            rows = cells[chosen]
            if kept < 1:
                mask = torch.rand(batch, 1, rows.shape[2], generator=generator) < kept
                rows = rows * (mask.float() / kept)
            evidence = head.of_rows(rows)
            scores = pool_rows(evidence, settings.sharpness)
            loss = soft_loss(scores, targets[chosen], settings.positive_weight)
            if places is not None:
                loss = loss + settings.mask_weight * places_loss(evidence, places[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
            follow(average, head.state_dict(), step, settings.averaging)
            losses.append(loss.detach())
        epochs.append(float(torch.stack(losses).mean()))
        report()
    head.load_state_dict(average)
    return epochs


@torch.no_grad()
def start_head(head: EvidenceHead, targets: Tensor, generator: torch.Generator) -> None:
    """Random inner layer; the rest says what the share of each class says, everywhere."""
    start = {name: torch.zeros_like(one) for name, one in head.state_dict().items()}
    reach = head.inner.in_channels**-0.5
    start["inner.weight"].uniform_(-reach, reach, generator=generator)
    start["outer.bias"] = torch.logit(targets.mean(0).clamp(0.01, 0.99))
    head.load_state_dict(start)


@torch.no_grad()
def fit_novelty(novelty: Novelty, descriptions: Tensor) -> None:
    """Fit the novelty to `describe`d training images, (N, D), in place.

    Probabilistic PCA: leading eigenvalues of the covariance as they are, the rest at their mean.
    """
    count, dimensions = descriptions.shape
    data = descriptions.double()
    mean = data.mean(0)
    centred = data - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(count - 1, 1))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    leading = max(1, min(NOVELTY_DIMENSIONS, count // 8, dimensions - 1))
    rest = values[leading:].mean()
    variances = torch.cat([values[:leading], rest.expand(dimensions - leading)])
    variances = torch.maximum(variances, values.sum() * 1e-6 + 1e-12)
    matrix = vectors.T / variances.sqrt()[:, None]
    fitted = {"weight": matrix.float(), "bias": -(matrix @ mean).float()}
    novelty.whiten.load_state_dict(fitted)


@torch.no_grad()
def describe_rows(cells: Tensor) -> Tensor:
    """`describe` of (N, cells, C) rows, a block at a time: (N, 2 C)."""
    return torch.cat(
        [describe(block.transpose(1, 2).unsqueeze(2)) for block in torch.split(cells, BLOCK)]
    )
