"""The network as the rest of the product sees it: images in, predictions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What the network says of one image, before calibration and limits.

    Attributes:
        scores: (K,) float32, one log-odds score a defect class.
        evidence: (K, h, w) float32; pooling it gives `scores`.
        novelty: distance from the training images, 0 or more.
        engine: which of several engines gave it, in words; None when there is only one.
    """

    scores: NDArray[np.float32]
    evidence: NDArray[np.float32]
    novelty: float
    engine: str | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or self.evidence.ndim != 3:
            raise EngineError(
                f"scores of shape {self.scores.shape} with evidence of {self.evidence.shape}"
            )
        if len(self.scores) != len(self.evidence) or 0 in self.evidence.shape:
            raise EngineError("scores and evidence do not have the same classes")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.evidence).all()):
            raise EngineError("the network gave a score that is not a finite number")
        if not np.isfinite(self.novelty) or self.novelty < 0:
            raise EngineError(f"the network gave novelty {self.novelty}")


class Engine(Protocol):
    """Something that runs one model package's network. Safe to call from several threads."""

    @property
    def description(self) -> str:
        """Device and precision in words, such as "OpenVINO CPU f32"."""
        ...

    def infer(self, images: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """One prediction for each prepared image, in order.

        Args:
            images: (C, H, W) float32 each, as `prepare()` returns them.

        Raises:
            EngineError: the network failed, or one of the answers is not finite.
        """
        ...

    def close(self) -> None:
        """Stop; later calls of `infer` raise EngineError."""
        ...


def stack_images(
    images: Sequence[NDArray[np.float32]], shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    """(N, C, H, W) float32 out of one image or more.

    Args:
        images: (C, H, W) float32 each.
        shape: the (C, H, W) that the network takes; None where it takes any.

    Raises:
        EngineError: one of them has another shape or kind.
    """
    require_images(images, shape)
    return np.stack(images)


def require_images(images: Sequence[NDArray[np.float32]], shape: tuple[int | None, ...]) -> None:
    """Refuse images of another shape or kind than the network takes; see `stack_images`.

    Raises:
        EngineError: one of them is such a one.
    """
    for image in images:
        fits = len(image.shape) == len(shape) and all(
            wanted in (None, given) for given, wanted in zip(image.shape, shape, strict=True)
        )
        if not fits or image.dtype != np.float32:
            given = f"{image.dtype} {image.shape}"
            raise EngineError(f"an image of {given} for a network of float32 {shape}")


def split_outputs(
    scores: NDArray[np.float32], evidence: NDArray[np.float32], novelty: NDArray[np.float32]
) -> list[Prediction]:
    """Predictions out of a batch's outputs: (N, K), (N, K, h, w) and (N,) float32.

    Raises:
        EngineError: a shape does not fit, or a number is not finite.
    """
    if not len(scores) == len(evidence) == len(novelty):
        raise EngineError("the network's outputs do not have the same number of images")
    return [
        Prediction(
            scores=np.array(scores[i], dtype=np.float32),
            evidence=np.array(evidence[i], dtype=np.float32),
            novelty=float(novelty[i]),
        )
        for i in range(len(scores))
    ]
