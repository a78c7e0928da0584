"""Fine-tuning the whole network, from where the fast fit left it.

    image -> window -> augmentation -> trunk -> whitening -> head -> pooled score -> soft-label loss

The backbone's late stages learn faster than its early ones; batch normalisation keeps ImageNet's
statistics, which a few thousand grey images would only disturb; what is kept is the moving average
of the weights.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from inspection.engines.network import describe, pool_evidence
from training.augment import augmentation
from training.features import checked_image
from training.fit_head import soft_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork
    from training.features import Images
    from training.fit import FitSettings

    Progress = Callable[[str, int, int], None]
    History = list[dict[str, float | int | str]]

# Share of the steps during which the learning rates rise.
WARM_UP = 0.1


def fine_tune(
    network: InspectionNetwork,
    images: Images,
    targets: Tensor,
    settings: FitSettings,
    history: History,
    progress: Progress | None,
) -> Tensor:
    """Fine-tune in place, on a CUDA device when there is one; back on the CPU afterwards.

    Returns:
        (N, D) descriptions of the images by the tuned network, for the novelty.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = (settings.channels, *settings.input_size_px)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network)
    batch = min(settings.full_batch, len(images))
    steps = settings.full_epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(
        parameter_groups(network, settings), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up_and_cosine(steps))
    varied = variations(settings)
    step = 0
    if progress is not None:
        progress("fine-tuning", 0, steps)
    for epoch in range(settings.full_epochs):
        set_training(network)
        losses = []
        for chosen in torch.split(torch.randperm(len(images)), batch):
            if len(chosen) < batch:
                continue
            loaded = [varied(checked_image(images, int(index), shape)) for index in chosen]
            block = torch.from_numpy(np.stack(loaded))
            block = block.to(device, memory_format=torch.channels_last)
            with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
                cells = network.whitening(network.trunk(block))
            # Pooling exponentiates: it stays in float32 whatever the device.
            evidence = network.head(cells.float())
            scores = pool_evidence(evidence, settings.sharpness)
            loss = soft_loss(scores, targets[chosen].to(device), settings.positive_weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            decay = min(settings.averaging, (1 + step) / (10 + step))
            with torch.no_grad():
                for kept, one in zip(average.parameters(), network.parameters(), strict=True):
                    kept.lerp_(one, 1 - decay)
            losses.append(loss.detach())
            if progress is not None:
                progress("fine-tuning", step, steps)
        history.append(
            {"stage": "fine-tuning", "epoch": epoch + 1, "loss": float(torch.stack(losses).mean())}
        )
    network.load_state_dict(average.state_dict())
    network.eval()
    described = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            indices = range(start, min(start + batch, len(images)))
            block = torch.from_numpy(np.stack([checked_image(images, i, shape) for i in indices]))
            block = block.to(device, memory_format=torch.channels_last)
            described.append(describe(network.whitening(network.trunk(block))).cpu())
    network.to(torch.device("cpu"), memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return torch.cat(described)


def set_training(network: InspectionNetwork) -> None:
    """Training mode, apart from batch normalisation."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def parameter_groups(network: InspectionNetwork, settings: FitSettings) -> list[dict[str, object]]:
    """Learning rates by depth: the last stage and the head in full, halved for each before."""
    taps = network.trunk.taps
    parts = list(taps.stages) if taps.stem is not None else list(taps.stages[0].children())
    if taps.stem is not None:
        parts.insert(0, taps.stem)
    groups: list[dict[str, object]] = []
    for depth, part in enumerate(reversed(parts)):
        rate = settings.full_learning_rate * 0.5**depth
        groups.append({"params": list(part.parameters()), "lr": rate})
    new = [*network.whitening.parameters(), *network.head.parameters()]
    groups.append({"params": new, "lr": settings.full_learning_rate})
    return [group for group in groups if group["params"]]


def warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at each step: up in a line, down in a half cosine."""
    rise = max(1, int(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor


def variations(settings: FitSettings) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function that varies a (C, H, W) image in grey levels; the seed gives the sequence.

    The window is mapped to 0..1 for `augmentation` and back; grey levels outside it, which the
    network does not tell apart, are cut off.
    """
    low, high = settings.window
    change = augmentation(settings.flips, seed=settings.seed)

    def vary(image: NDArray[np.float32]) -> NDArray[np.float32]:
        inside = np.clip((image - low) / (high - low), 0, 1, dtype=np.float32)
        changed = change(np.ascontiguousarray(inside.transpose(1, 2, 0)))
        return np.ascontiguousarray(low + (high - low) * changed.transpose(2, 0, 1), np.float32)

    return vary
