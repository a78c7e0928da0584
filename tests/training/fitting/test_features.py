from __future__ import annotations

import numpy as np
import pytest

from inspection.errors import ConfigurationError
from training.fitting.features import FeatureCache

WHOLE = FeatureCache(
    cells=np.arange(6 * 4 * 3, dtype=np.float16).reshape(6, 2, 2, 3), source=("lite0", 64)
)
FIRST, SECOND = np.array([4, 0, 1]), np.array([2, 5, 3])


def test_features_that_were_extracted_in_parts_are_the_same_as_in_one_go() -> None:
    parts = [(FIRST, WHOLE.take(FIRST)), (SECOND, WHOLE.take(SECOND))]
    together = FeatureCache.put_together(parts)
    assert np.array_equal(together.cells, WHOLE.cells)
    assert together.source == WHOLE.source


@pytest.mark.parametrize(
    "parts",
    [
        [(FIRST, WHOLE.take(FIRST))],
        [(FIRST, WHOLE.take(FIRST)), (FIRST, WHOLE.take(FIRST))],
        [(FIRST, WHOLE.take(FIRST)), (SECOND, WHOLE.take([2, 5]))],
        [
            (FIRST, WHOLE.take(FIRST)),
            (SECOND, FeatureCache(cells=WHOLE.take(SECOND).cells, source=("lite1", 64))),
        ],
    ],
    ids=["some are missing", "some are there twice", "numbers without features", "two backbones"],
)
def test_parts_that_do_not_make_a_whole_are_refused(
    parts: list[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], FeatureCache]],
) -> None:
    with pytest.raises(ConfigurationError, match="whole"):
        FeatureCache.put_together(parts)
