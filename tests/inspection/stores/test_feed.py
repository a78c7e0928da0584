"""Whoever follows the changes gets every record once, in order, whatever becomes of the writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.feed_writers import run

if TYPE_CHECKING:
    from pathlib import Path


def test_four_writers_that_are_killed_leave_one_order_without_gaps(
    postgres_url: str, tmp_path: Path
) -> None:
    found = run(postgres_url, tmp_path, writers=4, threads=3, kills=3, every_s=0.2, seed=7)
    assert (found.wrong, found.missing, found.twice) == ((), (), ())
    assert not found.otherwise, "what was followed is what is there"
    assert found.records >= found.promised > 20
    assert found.kills == 3
