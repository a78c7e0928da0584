"""What an image may look like tomorrow: the changes that `full` training draws on.

    flips and turns of the recipe -> small shift -> exposure and gain -> blur -> noise

Never a crop: a defect at the rim must stay in the picture. Shifts are small, and what leaves one
side is less than the margin that detectors leave around a part.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Change(Protocol):
    """Changes one (H, W, C) float32 image in 0..1; with a seed, always in the same way."""

    def __call__(
        self, image: NDArray[np.float32], seed: int | None = None
    ) -> NDArray[np.float32]: ...


SHIFT = 0.02  # of the image's size, either way
GAIN, OFFSET = 0.10, 0.05  # contrast and exposure, of the full range
BLUR_SIGMA_PX = (0.2, 0.8)
NOISE = (0.002, 0.012)  # standard deviation, of the full range


def augmentation(flips: Sequence[str], *, seed: int = 0) -> Change:
    """A function that changes an image a little, differently at every call.

    Args:
        flips: what the recipe says that a part may do.
        seed: the same seed gives the same sequence of changes; a seed that is given with an image
            gives that one change, whatever came before.

    Returns:
        From (H, W, C) float32 in 0..1 to the same; it raises ConfigurationError for anything else.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version
    import albumentations

    turns = {
        "horizontal": lambda: albumentations.HorizontalFlip(p=0.5),
        "vertical": lambda: albumentations.VerticalFlip(p=0.5),
        "rot90": lambda: albumentations.RandomRotate90(p=0.75),
    }
    pipeline = albumentations.Compose(
        [
            *(turns[flip]() for flip in flips),
            albumentations.Affine(
                translate_percent={"x": (-SHIFT, SHIFT), "y": (-SHIFT, SHIFT)},
                scale=1.0,
                rotate=0.0,
                border_mode=1,  # the rim's own grey goes on; black bars would teach the network
                p=0.5,
            ),
            albumentations.RandomBrightnessContrast(
                brightness_limit=OFFSET, contrast_limit=GAIN, p=0.7
            ),
            albumentations.GaussianBlur(sigma_limit=BLUR_SIGMA_PX, blur_limit=0, p=0.2),
            albumentations.GaussNoise(std_range=NOISE, mean_range=(0.0, 0.0), p=0.3),
        ],
        seed=seed,
    )

    def change(image: NDArray[np.float32], seed: int | None = None) -> NDArray[np.float32]:
        if image.dtype != np.float32 or image.ndim != 3:
            raise ConfigurationError(f"augmentation of {image.dtype} {image.shape}")
        if float(image.min()) < 0 or float(image.max()) > 1:
            raise ConfigurationError("augmentation wants grey levels in 0..1")
        if seed is not None:
            pipeline.set_random_seed(seed % 2**32)
        changed = np.asarray(pipeline(image=image)["image"], dtype=np.float32)
        return np.clip(changed.reshape(image.shape), 0, 1)

    return change
