"""What is measured on a package with zones is what it will serve: escapes after the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inspection.engines.openvino import OpenVinoEngine
from tests.labelled_sets import bare_manifest, write_png
from tests.spot_sets import FACTS
from tests.zoned_model import write_zoned_package, zoned_image
from training.data.rows import Row, file_sha256
from training.evaluate import evaluate, judge_parts, predict
from training.measuring.certify import certify

if TYPE_CHECKING:
    from pathlib import Path

    from training.manifest import Manifest

KINDS = ("good", "good", "good", "allowed", "allowed", "broken", "broken", "shifted")


def silent(_stage: str, _done: int, _total: int) -> None:
    """No progress is shown."""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The first of the "allowed" is labelled bad: a person sees more in it than the rule does."""
    rows = []
    for number, kind in enumerate(KINDS):
        path = tmp_path / "images" / f"{number}.png"
        write_png(path, zoned_image(kind, seed=number))
        bad = kind == "broken" or number == KINDS.index("allowed")
        rows.append(
            Row(
                path=f"images/{path.name}",
                sha256=file_sha256(path),
                label="spot" if bad else "good",
                part=f"{kind}-{number}",
                group=f"lot-{number}",
            )
        )
    return replace(bare_manifest(rows, ["spot"]), folder=tmp_path, images=FACTS)


def test_a_bad_part_that_the_rules_pass_is_an_escape(manifest: Manifest, tmp_path: Path) -> None:
    package = write_zoned_package(tmp_path / "weights")
    engine = OpenVinoEngine.for_package(package)
    rows = range(len(KINDS))
    try:
        measured = evaluate(package, engine, manifest, list(rows), seed=0, progress=silent)  # type: ignore[arg-type]
        answers = predict(engine, manifest, package.recipe, list(rows), silent, stage="t")  # type: ignore[arg-type]
    finally:
        engine.close()
    said = {part.part.split("-")[0]: part.disposition for part in measured.parts}
    assert said == {"good": "pass", "allowed": "pass", "broken": "fail", "shifted": "review"}
    document = package.document
    alone = judge_parts(
        answers, manifest, document.calibration, document.operating_point, package.recipe
    )
    assert [part.disposition for part in alone[3:5]] == ["fail", "fail"]
    certificate = certify(measured.parts, wanted_escape_rate=0.02, classes=("spot",))
    assert (certificate.bad_parts, certificate.escapes) == (3, 1)
    assert "escapes" not in certify(alone, wanted_escape_rate=0.02, classes=("spot",)).in_words()
    assert measured.parts[3].failed_by == ()
    assert measured.parts[5].failed_by == ("spot",)
