"""Images of a manifest as the network gets them: the very path that serving takes."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from inspection.errors import DataError, ImageError, Unjudgeable
from inspection.frame import decode_image
from inspection.recipe import prepare
from training.data.facts import flat_field_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from inspection.recipe import Recipe
    from training.manifest import Manifest

WORKERS = 2
AHEAD = 32  # images decoded while the network is busy: bounds the memory


class PreparedImages:
    """A sequence of prepared images: decode, check the digest, `prepare()`.

    Where the recipe flat-fields, by the calibration that the set names.

    Args:
        manifest: the set.
        recipe: what the images are prepared by.
        rows: (n,) row numbers of the manifest, in the order wanted.

    Raises:
        DataError: the recipe flat-fields, and the set has no calibration, or a damaged one.
    """

    def __init__(
        self, manifest: Manifest, recipe: Recipe, rows: NDArray[np.int64] | Sequence[int]
    ) -> None:
        self._manifest = manifest
        self._recipe = recipe
        self._rows = [int(row) for row in rows]
        self._flat = (
            flat_field_in(manifest.folder, manifest.calibration, manifest.name)
            if recipe.flat_field
            else None
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """(C, H, W) float32 grey levels of image `index`.

        Raises:
            DataError: the file is gone, damaged, altered, or not what the recipe is for.
        """
        return self.load(index)[0]

    def load(self, index: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """The prepared image and the (height, width) of the frame it came from; see above."""
        row = self._manifest.rows[self._rows[index]]
        path = self._manifest.file(row)
        try:
            frame = decode_image(path.read_bytes())
            if frame.sha256 != row.sha256:
                raise DataError(f"{path} was altered since it was imported")
            return prepare(frame, self._recipe, self._flat), frame.size_px
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error
        except ImageError as error:
            raise DataError(f"{path} cannot be read: {error}", remedy=error.remedy) from error
        except Unjudgeable as error:
            raise DataError(
                f"{path} cannot be judged by the recipe for {self._recipe.product}: {error}",
                remedy="Use a data set of the product that the recipe is for.",
            ) from error

    def ahead(self) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
        """All of `load`, in order, prepared in threads a little ahead of the reader."""
        waiting: deque[Future[tuple[NDArray[np.float32], tuple[int, int]]]] = deque()
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for index in range(len(self)):
                    waiting.append(pool.submit(self.load, index))
                    if len(waiting) >= AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
