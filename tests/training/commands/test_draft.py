"""`inspection recipe draft`: a recipe that holds, and that nothing is written over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inspection.cli import main
from inspection.recipe import load_recipe
from inspection.references import reference_views
from tests.labelled_sets import write_png
from tests.zoned_model import zoned_image

if TYPE_CHECKING:
    from pathlib import Path


def test_a_draft_holds_and_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "faces"
    for label in ("good", "spot"):
        for number in range(3):
            kind = "good" if label == "good" else "broken"
            image = zoned_image(kind, seed=number + 10 * (label == "spot"))
            write_png(folder / label / f"{label}{number}.png", image)
    good = tmp_path / "part.png"
    write_png(good, zoned_image("good", seed=50))
    sets = ["--datasets-dir", str(tmp_path / "sets")]
    assert (
        main(["data", "import", str(folder), "--name", "faces", "--modality", "vision", *sets]) == 0
    )
    capsys.readouterr()
    draft = ["recipe", "draft", "faces", "--reference", str(good), *sets]
    assert main(draft) == 3
    assert "give --pitch-mm" in capsys.readouterr().err
    assert main([*draft, "--pitch-mm", "0.1"]) == 0
    path = tmp_path / "sets" / "faces" / "recipe.toml"
    recipe = load_recipe(path)
    assert recipe.classes == ("spot",)
    assert recipe.zones[0].rules[0].largest_mm == 0, "nothing is allowed until it is drawn"
    (view,) = reference_views(recipe, path.parent)
    assert view.size_px == (128, 128)
    assert replace(recipe, display=None).display is None
    assert main([*draft, "--pitch-mm", "0.1"]) == 3
    assert "is there already; nothing was written" in capsys.readouterr().err
    nowhere = tmp_path / "new" / "recipe.toml"
    nowhere.parent.mkdir()
    nowhere.symlink_to(tmp_path / "gone" / "recipe.toml")
    assert main([*draft, "--pitch-mm", "0.1", "--output", str(nowhere)]) == 3
    assert "cannot be written" in capsys.readouterr().err
    assert not list(nowhere.parent.glob("*.png")), "no view is left without its recipe"
