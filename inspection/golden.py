"""A few prepared images that travel with a model, with the answers it gave when it was measured.

    training: test images -> answers of the serving engine -> golden.npz, in the package
    serving:  package -> engine -> the same answers? -> ready

A network that loads is not yet one that answers rightly: another processor, driver or release of a
runtime may compute something else. So no engine judges a part before it has answered these as it
did when its limits were chosen.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import EngineError, PackageDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inspection.engine import Engine, Prediction
    from inspection.package import ModelPackage

FILE_NAME = "golden.npz"
TOLERANCE = 0.01
"""How far a probability may lie from its golden one. Float32 on other processors differs by about
1e-5, half precision by about 1e-3; a wrong kernel or wrong weights by far more than this."""

ODDS_TOLERANCE = 0.1
"""The same of log-odds: limits may lie far below the other tolerance."""

RANGE = (1e-6, 1 - 1e-6)
"""Probabilities beyond these are one to this comparison."""

NOVELTY_TOLERANCE = 0.02  # of the golden value
_ARRAYS = ("images", "scores", "novelty")
_NOT_ONE = (  # what reading bytes that are no such file, or a damaged one, ends in
    KeyError,
    TypeError,
    ValueError,
    OSError,
    EOFError,
    MemoryError,  # a header that claims more numbers than there are
    RuntimeError,  # an encrypted member, or a way to compress that is not known
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Images and what is to come out.

    Attributes:
        images: (n, C, H, W) float32, as `prepare()` gives them.
        scores: (n, K) float32.
        novelty: (n,) float64.
    """

    images: NDArray[np.float32]
    scores: NDArray[np.float32]
    novelty: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.images)
        shapes = (self.images.ndim, self.scores.ndim, self.novelty.ndim)
        if not count or shapes != (4, 2, 1) or {len(self.scores), len(self.novelty)} != {count}:
            raise PackageDamaged(f"{FILE_NAME} holds arrays of other shapes than it should")
        if not all(np.isfinite(each).all() for each in (self.images, self.scores, self.novelty)):
            raise PackageDamaged(f"{FILE_NAME} holds a number that is not finite")

    @classmethod
    def of(cls, images: Sequence[NDArray[np.float32]], predictions: Sequence[Prediction]) -> Golden:
        """From prepared images and the serving engine's answers."""
        return cls(
            images=np.stack(images).astype(np.float32),
            scores=np.stack([each.scores for each in predictions]).astype(np.float32),
            novelty=np.array([each.novelty for each in predictions], dtype=np.float64),
        )

    def as_bytes(self) -> bytes:
        """The file's bytes; equal contents give equal bytes."""
        out = io.BytesIO()
        # numpy's own writer puts the time of day into the file.
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in _ARRAYS:
                member = io.BytesIO()
                np.save(member, getattr(self, name), allow_pickle=False)
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, member.getvalue())
        return out.getvalue()


def read_golden(data: bytes) -> Golden:
    """What `Golden.as_bytes` wrote.

    Raises:
        PackageDamaged: it is something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
        return Golden(
            images=arrays["images"].astype(np.float32, casting="same_kind"),
            scores=arrays["scores"].astype(np.float32, casting="same_kind"),
            novelty=arrays["novelty"].astype(np.float64, casting="same_kind"),
        )
    except _NOT_ONE as error:
        raise PackageDamaged(f"{FILE_NAME} cannot be read: {error}") from error


def self_test(package: ModelPackage, engine: Engine) -> int:
    """Let the engine answer the package's golden images, one by one and then all at once.

    An engine may have another graph for each size of batch, and each must be right.

    Returns:
        How many it answered; 0 for a package of an earlier release, which has none.

    Raises:
        EngineError: an answer is not the golden one; names the worst and by how much.
        PackageDamaged: the golden images cannot be read.
    """
    if not package.has(FILE_NAME):
        return 0
    golden = read_golden(package.read(FILE_NAME))
    calibration, count = package.document.calibration, len(golden.images)
    answers = [engine.infer([image])[0] for image in golden.images]
    answers += engine.infer(list(golden.images))
    scores = np.stack([each.scores for each in answers])
    right, right_novelty = np.tile(golden.scores, (2, 1)), np.tile(golden.novelty, 2)
    if scores.shape != right.shape:
        raise EngineError(f"{package.reference} gives {scores.shape[1]} scores an image")
    found, wanted = (np.clip(calibration.probabilities(each), *RANGE) for each in (scores, right))
    apart = np.abs(found - wanted)
    odds = np.abs(np.log(found / (1 - found)) - np.log(wanted / (1 - wanted)))
    novelty = np.array([each.novelty for each in answers])
    drift = np.abs(novelty - right_novelty) / np.maximum(right_novelty, 1e-6)
    # "not at most" and not "above": what is no number is not right either
    off = np.maximum(
        np.maximum(apart / TOLERANCE, odds / ODDS_TOLERANCE).max(axis=1), drift / NOVELTY_TOLERANCE
    )
    if not off.max() <= 1:
        worst = int(np.argmax(off))
        raise EngineError(
            f"{package.reference} does not answer golden image {worst % count + 1} of {count}"
            f"{' in a batch' if worst >= count else ''} as it did when it was measured: "
            f"probability off by {apart[worst].max():.3g}, novelty by {drift[worst]:.1%} "
            f"({engine.description})",
            remedy="Train the model again on this machine, or serve it where it was made.",
        )
    return count
