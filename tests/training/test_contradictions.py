"""Sources that contradict themselves are refused, and what contradicts what is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspection.errors import DataError
from tests.labelled_sets import write_folders, write_png
from training.importing import survey
from training.sources.folders import read_folders
from training.sources.table import read_table


def silent(_stage: str, _done: int, _total: int) -> None:
    return


def test_an_image_that_is_good_and_bad_at_once_is_refused_and_named(tmp_path: Path) -> None:
    line = write_folders(tmp_path / "line", lots=2, per_lot=5)
    first = min((line / "good").iterdir())
    (line / "crack").mkdir(exist_ok=True)
    (line / "crack" / "twin.png").write_bytes(first.read_bytes())
    with pytest.raises(DataError, match="1 image under contradictory labels") as caught:
        survey(read_folders(line), silent)
    assert f"good/{first.name} (good) = crack/twin.png (crack)" in str(caught.value)


def test_a_table_does_not_make_one_part_of_two_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("monday", "tuesday"):
        write_png(tmp_path / folder / "001.png", np.zeros((8, 8), np.uint8))
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nmonday/001.png,good\ntuesday/001.png,crack\n")
    with pytest.raises(DataError, match=r"'001': monday/001\.png, tuesday/001\.png") as caught:
        read_table(table)
    assert "column `part`" in caught.value.remedy
    table.write_text("path,label,part\nmonday/001.png,good,001\ntuesday/001.png,crack,\n")
    with pytest.raises(DataError, match="two files have the part name"):
        read_table(table)
    table.write_text("path,label,part\nmonday/001.png,good,001\ntuesday/001.png,crack,001\n")
    assert {file.part for file in read_table(table).files} == {"001"}
