"""The views of an image that `full` training draws on, and all that is random about them.

    image -> turned one of the ways that the recipe allows -> exposure, blur, noise, small shift

The first view of an image is the image itself. Every draw follows from the seed and from which
view of which image it is, so that nothing has to be remembered for a training to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from training.augment import augmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from training.fit import FitSettings

    Way = tuple[int, bool, bool]
    Vary = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


Pixel = TypeVar("Pixel", bound=np.generic)


def draw_seed(*parts: int) -> int:
    """A seed for one draw among many; the same parts give the same seed on every machine."""
    # With their number: a sequence of seeds takes no notice of zeros at its end.
    state = np.random.SeedSequence((len(parts), *parts)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def orientations(flips: Sequence[str]) -> tuple[Way, ...]:
    """All ways a part may lie: (quarter turns, mirrored left to right, mirrored top to bottom).

    The first one is as it lies. Different ways are different: half a turn is both mirrors.
    """
    ways: dict[bytes, Way] = {}
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2)
    for turns in range(4 if "rot90" in flips else 1):
        for across in (False, True) if "horizontal" in flips else (False,):
            for down in (False, True) if "vertical" in flips else (False,):
                way = (turns, across, down)
                ways.setdefault(turned(corners, way).tobytes(), way)
    return tuple(ways.values())


def turned(image: NDArray[Pixel], way: Way) -> NDArray[Pixel]:
    """An image, (..., H, W), turned and mirrored."""
    turns, across, down = way
    result = np.rot90(image, turns, axes=(-2, -1))
    if across:
        result = result[..., ::-1]
    if down:
        result = result[..., ::-1, :]
    return np.ascontiguousarray(result)


def ways_of_views(flips: Sequence[str], views: int, images: int) -> NDArray[np.int64]:
    """(views, images): which of the `orientations` each view of each image has.

    The first view is as it lies; later ones go through the other ways, from another one in each
    image, so that few views still show all ways of lying.
    """
    others = len(orientations(flips)) - 1
    chosen = np.zeros((views, images), np.int64)
    if others:
        turns = np.arange(1, views)[:, None] + np.arange(images)[None]
        chosen[1:] = 1 + (turns - 1) % others
    return chosen


def variation(settings: FitSettings) -> Vary:
    """A function that varies the grey levels of a (C, H, W) image; the same seed, the same way.

    The window is mapped to 0..1 for `augmentation` and back; grey levels outside it, which the
    network does not tell apart, are cut off.
    """
    low, high = settings.window
    change = augmentation(())

    def vary(image: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        inside = np.clip((image - low) / (high - low), 0, 1, dtype=np.float32)
        changed = change(np.ascontiguousarray(inside.transpose(1, 2, 0)), seed)
        return np.ascontiguousarray(low + (high - low) * changed.transpose(2, 0, 1), np.float32)

    return vary
