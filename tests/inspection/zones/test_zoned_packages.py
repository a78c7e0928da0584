"""Reference views travel in the package, and the journey of a part goes through its zones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import PackageDamaged, RecipeError
from inspection.frame import DecodeLimits, decode_image
from inspection.package import ModelPackage, load_package, write_package
from inspection.package_archive import export_package, import_package
from inspection.pipeline import Line, judge
from inspection.recipe import prepare
from inspection.registry import Registry
from inspection.verdict import Verdict
from tests.zoned_model import write_zoned_package, zoned_png


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_zoned_package(tmp_path_factory.mktemp("weights"))


def rewritten(package: ModelPackage, root: Path, **changes: object) -> ModelPackage:
    files: dict[str, bytes | Path] = {
        name: package.folder / name for name in package.files if name != "recipe.toml"
    }
    extra = changes.pop("files", {})
    assert isinstance(extra, dict)
    recipe = replace(package.recipe, **changes)  # type: ignore[arg-type]
    return write_package(root, package.document, recipe, {**files, **extra})


def test_the_reference_view_travels_with_the_recipe(package: ModelPackage, tmp_path: Path) -> None:
    text = (package.folder / "package.toml").read_text()
    assert text.startswith("format = 3\n"), "an earlier release must not pass over the zones"
    (view,) = load_package(package.folder).views
    assert view.reference == package.recipe.references[0]
    there = tmp_path / "there"
    registry = Registry(package.folder.parents[1])
    export_package(registry, "zoned@1", tmp_path / "zoned.tar")
    carried = import_package(Registry(there), tmp_path / "zoned.tar")
    assert carried.digest == package.digest
    assert "reference.png" in carried.files


def test_a_package_without_its_reference_view_or_with_another_is_refused(
    package: ModelPackage, tmp_path: Path
) -> None:
    other = zoned_png("good", seed=5)
    with pytest.raises(PackageDamaged, match="not those of recipe"):
        rewritten(package, tmp_path / "other", files={"reference.png": other})
    with pytest.raises(PackageDamaged, match="not those of recipe"):
        rewritten(package, tmp_path / "extra", files={"reference-2.png": other})
    text = b"this is no picture"
    named = replace(package.recipe.references[0], sha256=hashlib.sha256(text).hexdigest())
    with pytest.raises(RecipeError, match=r"reference\.png"):
        rewritten(package, tmp_path / "text", references=(named,), files={"reference.png": text})
    with pytest.raises(RecipeError, match="frames are 128 x 64"):
        rewritten(package, tmp_path / "size", frame_size_px=(64, 128), zones=())


def test_a_part_is_judged_through_its_zones(package: ModelPackage) -> None:
    engine = OpenVinoEngine.for_package(package)
    line = Line(
        package=package,
        engine=engine,
        images=None,  # type: ignore[arg-type]
        records=None,  # type: ignore[arg-type]
        limits=DecodeLimits(),
    )

    def verdict_on(kind: str) -> tuple[Verdict, dict[str, float]]:
        timings: dict[str, float] = {}
        frame = decode_image(zoned_png(kind, seed=3))
        verdict, prediction, _ = judge(frame, "station", line, timings)
        assert prediction is not None, "the evidence is kept, misaligned or not"
        return verdict, timings

    try:
        good, timings = verdict_on("good")
        assert (good.disposition, good.allowed) == ("pass", ())
        assert list(timings) == ["prepare", "infer", "register", "size"]
        allowed, _ = verdict_on("allowed")
        assert (allowed.disposition, allowed.findings) == ("pass", ())
        assert allowed.allowed[0].zone == "left"
        assert allowed.allowed[0].size_mm == pytest.approx(1.5, abs=0.2)
        broken, _ = verdict_on("broken")
        assert broken.disposition == "fail"
        assert broken.reasons[-1].detail.startswith("spot 1.")
        assert broken.reasons[-1].detail.endswith("mm in 오른쪽: at most 0.8 mm")
        shifted, _ = verdict_on("shifted")
        assert shifted.disposition == "review"
        assert shifted.reasons[0].code in ("misaligned", "wrong-part")
    finally:
        engine.close()


def test_the_network_sees_nothing_of_zones_and_display(package: ModelPackage) -> None:
    frame = decode_image(zoned_png("allowed"))
    plain = replace(package.recipe, zones=(), references=(), display=None)
    assert np.array_equal(prepare(frame, package.recipe), prepare(frame, plain))
