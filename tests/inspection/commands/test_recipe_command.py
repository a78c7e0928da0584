"""`inspection recipe show`: in words, as JSON, as a drawing; names in any script."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from inspection.cli import main
from inspection.recipe import dump_recipe
from tests.zoned_model import SIDE_PX, write_zoned_package, zoned_png

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.package import ModelPackage


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_zoned_package(tmp_path_factory.mktemp("weights"))


def test_a_recipe_is_shown_in_words_and_drawn(
    package: ModelPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text(dump_recipe(package.recipe), encoding="utf-8")
    (tmp_path / "reference.png").write_bytes(zoned_png("good", seed=99))
    drawing = tmp_path / "zones.png"
    assert main(["recipe", "show", str(tmp_path / "recipe.toml"), "--png", str(drawing)]) == 0
    said = capsys.readouterr().out
    assert "1 오른쪽\n       any class: at most 0.8 mm" in said
    assert "elsewhere\n       any class: none allowed" in said
    picture = cv2.imread(str(drawing))
    assert picture is not None
    assert picture.shape == (SIDE_PX, SIDE_PX, 3)
    left, right = (picture[10:118, a : a + 30].reshape(-1, 3).mean(axis=0) for a in (10, 88))
    assert np.abs(left - right).max() > 8, "each zone has a colour of its own"


def test_what_a_model_carries_is_shown_as_json(
    package: ModelPackage, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(package.folder.parents[1])
    assert main(["recipe", "show", "zoned@1", "--weights-dir", weights, "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["digest"] == package.recipe.digest
    assert [zone["name"] for zone in said["zones"]] == ["오른쪽", "left"]


def test_a_recipe_whose_reference_view_is_gone_or_another_is_refused(
    package: ModelPackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(dump_recipe(package.recipe), encoding="utf-8")
    assert main(["recipe", "show", str(recipe)]) == 4
    assert "beside the recipe" in capsys.readouterr().err
    (tmp_path / "reference.png").write_bytes(zoned_png("good", seed=1))
    assert main(["recipe", "show", str(recipe)]) == 4
    assert "is not the reference view that the recipe names" in capsys.readouterr().err
    (tmp_path / "reference.png").write_bytes(zoned_png("good", seed=99))
    nowhere = str(tmp_path / "no" / "zones.png")
    assert main(["recipe", "show", str(recipe), "--png", nowhere]) == 4
    assert main(["recipe", "show", str(recipe), "--png", nowhere, "--view", "top"]) == 3
