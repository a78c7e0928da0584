"""What a network that is tuned sees, step by step, and what it should say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from training.fitting.features import checked_image
from training.fitting.views import draw_seed, orientations, turned, variation

if TYPE_CHECKING:
    from training.fit import FitSettings
    from training.fitting.features import Images
    from training.fitting.stages import EarlyAnswers


class Batches(Protocol):
    """Images as a network's inputs, with their labels.

    Attributes:
        labels: (N, K) float32 in 0..1.
        training: rows to learn from.
        validation: rows of groups laid aside.
    """

    labels: Tensor
    training: Tensor
    validation: Tensor

    def varied(self, rows: Tensor, seed: int) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Inputs for these rows, each image in one of its views, and the places (n, K, h, w)."""
        ...

    def plain(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Inputs for these rows, each image as it is."""
        ...


class EarlyBatches:
    """Answers of the early stages, that wait in memory.

    Args:
        answers: of all N images.
        labels, training, validation: see `Batches`.
        places: (N, K, h, w) of cells that show a defect; None where nobody drew any.
        flips: that the views were turned by.
    """

    def __init__(
        self,
        answers: EarlyAnswers,
        labels: Tensor,
        training: Tensor,
        validation: Tensor,
        places: Tensor | None,
        flips: tuple[str, ...],
    ) -> None:
        self.answers, self.labels, self.places = answers, labels, places
        self.training, self.validation = training, validation
        self.ways = orientations(flips)

    def varied(self, rows: Tensor, seed: int) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """See `Batches`."""
        generator = torch.Generator().manual_seed(seed)
        views = torch.randint(self.answers.views, (len(rows),), generator=generator)
        ways = self.answers.ways[views.numpy(), rows.numpy()]
        return self.answers.of(rows, views), turned_places(self.places, rows, ways, self.ways)

    def plain(self, rows: Tensor) -> tuple[Tensor, ...]:
        """See `Batches`."""
        return self.answers.of(rows, torch.zeros(len(rows), dtype=torch.long))


class ImageBatches:
    """Images themselves, prepared and varied as they are needed.

    Args:
        images: N prepared ones.
        labels, training, validation, places: see `EarlyBatches`.
        settings: size, channels, window, flips and seed.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        training: Tensor,
        validation: Tensor,
        places: Tensor | None,
        settings: FitSettings,
    ) -> None:
        self.images, self.labels, self.places = images, labels, places
        self.training, self.validation = training, validation
        self.shape = (settings.channels, *settings.input_size_px)
        self.ways = orientations(settings.flips)
        self.vary = variation(settings)

    def varied(self, rows: Tensor, seed: int) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """See `Batches`."""
        ways = np.random.default_rng(seed).integers(len(self.ways), size=len(rows))
        held = []
        for place, (row, way) in enumerate(zip(rows.tolist(), ways.tolist(), strict=True)):
            image = checked_image(self.images, row, self.shape)
            held.append(turned(self.vary(image, draw_seed(seed, place)), self.ways[way]))
        block = torch.from_numpy(np.stack(held))
        return (block,), turned_places(self.places, rows, ways, self.ways)

    def plain(self, rows: Tensor) -> tuple[Tensor, ...]:
        """See `Batches`."""
        held = [checked_image(self.images, row, self.shape) for row in rows.tolist()]
        return (torch.from_numpy(np.stack(held)),)


def turned_places(
    places: Tensor | None,
    rows: Tensor,
    chosen: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    ways: tuple[tuple[int, bool, bool], ...],
) -> Tensor | None:
    """The places of these rows, turned as their images are: (n, K, h, w)."""
    if places is None:
        return None
    held = places[rows].numpy()
    return torch.from_numpy(
        np.stack([turned(one, ways[way]) for one, way in zip(held, chosen.tolist(), strict=True)])
    )
