"""Fine-tuning: a tuned copy of the late stages beside the frozen ones, or the whole network.

    early stages' answers, kept -> tuned stages -> whitening -> head -> pooled score -> loss
    or, with full_frozen = 0:     image, varied -> whole network -> head -> pooled score -> loss

The stages start from where the `fast` fit left them, later ones learn faster than earlier ones;
batch normalisation keeps ImageNet's statistics, which a few thousand grey images would only
disturb; what is kept is the moving average of the weights, at the epoch that was best on groups
that were laid aside. Every draw follows from seed, epoch, step and rank.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from inspection.engines.network import pool_evidence
from training.fitting.averaging import follow
from training.fitting.checkpoint import INTERVAL_S
from training.fitting.fit_head import soft_loss
from training.fitting.fit_masks import places_loss
from training.fitting.validation import mean_auc
from training.fitting.views import draw_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.fit import FitSettings
    from training.fitting.batches import Batches
    from training.fitting.checkpoint import RunFolder
    from training.fitting.ranks import Ranks
    from training.fitting.stages import TunedStages, WholeNetwork

    Progress = Callable[[str, int, int], None]
    Say = Callable[[str], None]
    History = list[dict[str, float | int | str]]

STAGE = "fine-tuning"

# Share of the steps during which the learning rates rise.
WARM_UP = 0.1

# What a draw is for: parts of its seed.
ORDER, VIEWS, NETWORK = 1, 2, 3


@dataclass(slots=True, kw_only=True)
class State:
    """How far the tuning has come: all that a checkpoint holds beside the tensors.

    Attributes:
        epoch: that is under way, from 0.
        step: that comes next in this epoch, from 0.
        losses: of this epoch's steps so far.
        best_epoch: whose averaged weights were best, from 1; 0 for none yet.
        best_auc: of that epoch on the groups laid aside.
        finished: the last epoch is over, or the training stopped early.
        history: one entry an epoch.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_auc: float = -math.inf
    finished: bool = False
    history: History = field(default_factory=list)


def tune(
    network: TunedStages | WholeNetwork,
    batches: Batches,
    settings: FitSettings,
    ranks: Ranks,
    *,
    progress: Progress | None = None,
    say: Say | None = None,
    run: RunFolder | None = None,
) -> History:
    """Tune in place, on this rank's device; the network is back on the CPU afterwards.

    Args:
        network: what is tuned.
        batches: what it sees, and what it should say.
        settings: see `FitSettings`, full_*.
        ranks: this process and the others.
        progress: called as ("fine-tuning", steps done, steps in all).
        say: called with a line at the end of each epoch.
        run: where checkpoints go; a checkpoint that is there is gone on from.

    Returns:
        One entry an epoch: stage, epoch, loss, validation_auc where groups were laid aside.
    """
    network.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = Learner(network, settings, ranks)
    state = State()
    held = run.load() if run is not None else None
    if held is not None:
        state = State(**held["state"])
        learner.restore(held["tensors"])
    training = batches.training
    size = max(1, min(settings.full_batch, len(training)) // ranks.world) * ranks.world
    per_epoch = len(training) // size
    total = settings.full_epochs * per_epoch
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if run is not None and ranks.rank == 0:
            run.save({"state": as_plain(state), "tensors": learner.tensors()})
            run.write_history(state.history)
            saved = time.monotonic()

    if held is None:
        save()
    if progress is not None:
        progress(STAGE, state.epoch * per_epoch + state.step, total)
    while not state.finished:
        shuffle = torch.Generator().manual_seed(draw_seed(settings.seed, ORDER, state.epoch))
        order = training[torch.randperm(len(training), generator=shuffle)]
        learner.set_training()
        while state.step < per_epoch:
            number = state.epoch * per_epoch + state.step
            chosen = ranks.share(order[state.step * size : (state.step + 1) * size])
            state.losses.append(learner.learn(batches, chosen, number, total))
            state.step += 1
            if progress is not None:
                progress(STAGE, number + 1, total)
            if time.monotonic() - saved >= INTERVAL_S and state.step < per_epoch:
                save()
        close_epoch(state, learner, batches, settings, say)
        save()
    learner.keep_best(average=state.best_epoch == 0)
    network.to(torch.device("cpu"), memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.eval()
    return state.history


def close_epoch(
    state: State, learner: Learner, batches: Batches, settings: FitSettings, say: Say | None
) -> None:
    """Measure the averaged weights on the groups laid aside; remember the best; go on or stop."""
    state.epoch += 1
    loss = sum(state.losses) / max(1, len(state.losses))
    entry: dict[str, float | int | str] = {"stage": STAGE, "epoch": state.epoch, "loss": loss}
    line = f"epoch {state.epoch} of {settings.full_epochs}: loss {loss:.4f}"
    if len(batches.validation):
        auc = mean_auc(learner.judge(batches), batches.labels[batches.validation].numpy())
        entry["validation_auc"] = auc
        if auc > state.best_auc:
            state.best_epoch, state.best_auc = state.epoch, auc
            learner.remember()
        line += f", AUC {auc:.4f} on {len(batches.validation)} images of other groups"
        line += f" (best {state.best_auc:.4f} after epoch {state.best_epoch})"
    state.history.append(entry)
    state.step, state.losses = 0, []
    early = bool(state.best_epoch) and state.epoch - state.best_epoch >= settings.patience
    state.finished = early or state.epoch >= settings.full_epochs
    if early and state.epoch < settings.full_epochs:
        line += "; no better for long enough: stopped"
    if say is not None:
        say(line)


class Learner:
    """The network that learns, its optimiser, and the moving average of its weights."""

    def __init__(
        self, network: TunedStages | WholeNetwork, settings: FitSettings, ranks: Ranks
    ) -> None:
        self.network, self.settings, self.ranks = network, settings, ranks
        network.whitening.requires_grad_(False)  # its rows are long: a small step there is a leap
        self.named = {name: one for name, one in network.named_parameters() if one.requires_grad}
        self.average = {name: one.detach().clone() for name, one in self.named.items()}
        self.best: dict[str, Tensor] = {}
        groups = parameter_groups(network, settings)
        self.rates = [float(group["lr"]) for group in groups]
        self.optimizer = torch.optim.AdamW(groups)
        self.together: nn.Module = network
        if ranks.world > 1:
            cuda = ranks.device.type == "cuda"
            self.together = DistributedDataParallel(
                network, device_ids=[ranks.device.index] if cuda else None
            )

    def set_training(self) -> None:
        """Training mode, apart from batch normalisation."""
        self.together.train()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def learn(self, batches: Batches, chosen: Tensor, number: int, total: int) -> float:
        """One step on these rows, number `number` of `total`; its loss."""
        settings, device = self.settings, self.ranks.device
        seed = draw_seed(settings.seed, VIEWS, number, self.ranks.rank)
        seen, places = batches.varied(chosen, seed)
        labels = batches.labels[chosen]
        if settings.full_mixing:
            mix = mixing(len(chosen), settings.full_mixing, seed)
            seen, labels = tuple(mix(one) for one in seen), mix(labels)
            places = None if places is None else mix(places)
        torch.manual_seed(draw_seed(settings.seed, NETWORK, number, self.ranks.rank))
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            evidence = self.together(*(on(one, device) for one in seen))
        scores = pool_evidence(evidence, settings.sharpness)
        loss = soft_loss(scores, labels.to(device), settings.positive_weight)
        if places is not None:
            loss = loss + settings.mask_weight * places_loss(evidence, places.to(device))
        factor = warm_up_and_cosine(number, total)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.named.values(), 1.0)
        self.optimizer.step()
        follow(self.average, self.named, number + 1, settings.full_averaging)
        return float(loss.detach())

    @torch.no_grad()
    def judge(self, batches: Batches) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Scores of the images laid aside, (n, K), by the averaged weights."""
        now = {name: one.detach().clone() for name, one in self.named.items()}
        self.set_weights(self.average)
        self.network.eval()
        scores = []
        for rows in torch.split(batches.validation, self.settings.full_batch):
            evidence = self.network(*(on(one, self.ranks.device) for one in batches.plain(rows)))
            scores.append(pool_evidence(evidence, self.settings.sharpness).cpu())
        self.set_weights(now)
        return torch.cat(scores).numpy()

    def remember(self) -> None:
        """Hold the averaged weights as the best so far."""
        self.best = {name: one.clone() for name, one in self.average.items()}

    def keep_best(self, *, average: bool) -> None:
        """Make the network's weights the best ones, or the average when none were measured."""
        self.set_weights(self.average if average else self.best)

    @torch.no_grad()
    def set_weights(self, weights: dict[str, Tensor]) -> None:
        """Copy these into the network."""
        for name, one in self.named.items():
            one.copy_(weights[name])

    def tensors(self) -> dict[str, Any]:
        """Weights, averages and the optimiser's state."""
        return {
            "weights": {name: one.detach() for name, one in self.named.items()},
            "average": self.average,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, held: dict[str, Any]) -> None:
        """Go back to what `tensors` gave."""
        device = self.ranks.device
        self.set_weights(held["weights"])
        self.average = {name: one.to(device) for name, one in held["average"].items()}
        self.best = {name: one.to(device) for name, one in held["best"].items()}
        self.optimizer.load_state_dict(held["optimizer"])


def mixing(count: int, strength: float, seed: int) -> Callable[[Tensor], Tensor]:
    """A function that mixes each of `count` rows with another one, always the same two alike."""
    generator = np.random.default_rng(seed)
    share = float(generator.beta(strength, strength))
    others = torch.from_numpy(generator.permutation(count))
    return lambda rows: share * rows + (1 - share) * rows[others]


def on(one: Tensor, device: torch.device) -> Tensor:
    """The tensor on this device, channels last where it has them."""
    return one.to(device, memory_format=torch.channels_last)


def as_plain(state: State) -> dict[str, Any]:
    """The state as what a checkpoint can hold."""
    return {name: getattr(state, name) for name in State.__slots__}


def parameter_groups(
    network: TunedStages | WholeNetwork, settings: FitSettings
) -> list[dict[str, Any]]:
    """Learning rates by depth: the last stage in full, less for each before; the head its own.

    Weight decay goes to matrices only.
    """
    rated: list[tuple[nn.Module, float]] = [(network.head, settings.full_head_learning_rate)]
    for depth, part in enumerate(reversed(list(network.stages))):
        rated.append((part, settings.full_learning_rate * settings.full_decay**depth))
    groups: list[dict[str, Any]] = []
    for part, rate in rated:
        for matrices in (True, False):
            own = [one for one in part.parameters() if (one.ndim > 1) == matrices]
            decay = settings.weight_decay if matrices else 0.0
            groups.append({"params": own, "lr": rate, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate at a step: up in a line, down in a half cosine."""
    rise = max(1, int(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))
