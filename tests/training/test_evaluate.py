"""Parts are judged as the server judges them, and counted as a person would count."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.engines.openvino import OpenVinoEngine
from inspection.errors import DataError
from inspection.frame import decode_image
from inspection.package import ModelPackage
from inspection.recipe import prepare
from inspection.verdict import Disposition, decide
from tests.labelled_sets import bare_manifest, write_png
from tests.spot_model import part_image, write_spot_package
from training.commands.show import show_figures
from training.data.facts import ImageFacts
from training.data.images import PreparedImages
from training.data.rows import Row, file_sha256
from training.evaluate import Evaluation, PartResult, evaluate, measure
from training.manifest import Manifest
from training.measuring.intervals import clopper_pearson

# What the spot model says of these kinds is known: pass, fail, review, review.
KINDS = ("good", "bad", "unsure", "novel")


def silent(_stage: str, _done: int, _total: int) -> None:
    return


@pytest.fixture
def spots(tmp_path: Path) -> Manifest:
    rows = []
    for number in range(40):
        kind = KINDS[(0, 0, 0, 1, 0, 2, 0, 3, 1, 0)[number % 10]]
        path = tmp_path / "spots" / "images" / f"{number:02d}.png"
        write_png(path, part_image(kind, seed=number))
        rows.append(
            Row(
                path=f"images/{path.name}",
                sha256=file_sha256(path),
                label="good" if kind in ("good", "novel") else "spot",
                part=f"{kind}-{number:02d}",
                group=f"lot-{number // 5}",
            )
        )
    facts = ImageFacts(bits=8, channels=1, grey_range=(0, 255), frame_size_px=(128, 128))
    made = bare_manifest(rows, ["spot"])
    return replace(made, folder=tmp_path / "spots", images=facts)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return write_spot_package(tmp_path / "weights")


def run(package: ModelPackage, manifest: Manifest) -> Evaluation:
    engine = OpenVinoEngine.for_package(package)
    rows = np.arange(len(manifest.rows))
    return evaluate(package, engine, manifest, rows, seed=1, progress=silent)


def test_rates_are_shares_of_the_right_parts(package: ModelPackage, spots: Manifest) -> None:
    made = run(package, spots)
    figures = made.figures
    assert figures["escape_rate"].value == 0
    assert figures["escape_rate"].parts == 12
    assert figures["overkill_rate"].parts == 28
    assert figures["overkill_rate"].hits == 0
    assert (figures["review_rate"].hits, figures["review_rate"].parts) == (8, 40)
    assert figures["auc"].value > 0.5
    assert made.summary()["dispositions"] == {
        "good": {"pass": 24, "review": 4, "fail": 0},
        "bad": {"pass": 0, "review": 4, "fail": 8},
    }
    assert made.summary()["classes"] == {"spot": {"bad_parts": 12, "escapes": 0}}


def test_intervals_enclose_and_naive_ones_are_exact(package: ModelPackage, spots: Manifest) -> None:
    for name, figure in run(package, spots).figures.items():
        assert figure.low <= figure.value <= figure.high, name
        if figure.hits is not None:
            naive = clopper_pearson(figure.hits, figure.parts)
            assert (figure.naive_low, figure.naive_high) == naive
    assert figure.groups == 8


def test_every_image_is_judged_as_serving_judges_it(package: ModelPackage, spots: Manifest) -> None:
    engine = OpenVinoEngine.for_package(package)
    document = package.document
    for part in run(package, spots).parts:
        frame = decode_image((spots.folder / part.path).read_bytes())
        (prediction,) = engine.infer([prepare(frame, package.recipe)])
        verdict = decide(
            prediction,
            document.calibration,
            document.operating_point,
            package.recipe,
            frame.size_px,
        )
        assert verdict.disposition == part.disposition
        assert verdict.probability["spot"] == pytest.approx(part.probabilities[0], abs=1e-6)


def test_the_same_seed_gives_the_same_figures(package: ModelPackage, spots: Manifest) -> None:
    assert run(package, spots).summary() == run(package, spots).summary()


def test_the_table_has_a_line_for_every_part(package: ModelPackage, spots: Manifest) -> None:
    made = run(package, spots)
    lines = list(csv.DictReader(io.StringIO(made.as_csv())))
    assert len(lines) == 40
    assert list(lines[0]) == [
        "path",
        "sha256",
        "part",
        "group",
        "lot",
        "mould",
        "station",
        "view",
        "label",
        "bad",
        "probability_spot",
        "novelty",
        "disposition",
    ]
    by_part = {line["part"]: line for line in lines}
    for part in made.parts:
        assert float(by_part[part.part]["probability_spot"]) == part.probabilities[0]
        assert by_part[part.part]["disposition"] == part.disposition


def test_a_part_is_as_bad_as_its_worst_image(package: ModelPackage, spots: Manifest) -> None:
    by_kind: dict[str, list[Row]] = {}
    for row in spots.rows:
        by_kind.setdefault(row.part.split("-")[0], []).append(row)
    pairs = zip(by_kind["good"], by_kind["bad"], strict=False)
    joined = [
        replace(row, part=f"joined-{number}", group="one")
        for number, pair in enumerate(pairs)
        for row in pair
    ]
    rest = [
        replace(row, group="other")
        for row in spots.rows
        if row.path not in {r.path for r in joined}
    ]
    made = run(package, replace(spots, rows=(*joined, *rest)))
    results = [part for part in made.parts if part.part.startswith("joined")]
    assert len(results) == 8
    assert all(part.disposition == "fail" and part.bad for part in results)
    assert all(part.label == "spot" for part in results)


def test_a_set_of_another_product_or_class_is_refused(
    package: ModelPackage, spots: Manifest
) -> None:
    with pytest.raises(DataError, match="judges KN-42"):
        run(package, replace(spots, product="KN-43"))
    strange = tuple(
        replace(row, label="stain") if row.label == "spot" else row for row in spots.rows
    )
    with pytest.raises(DataError, match="does not know: stain"):
        run(package, replace(spots, rows=strange, classes=("stain",)))


def test_an_image_that_cannot_be_used_is_named(package: ModelPackage, spots: Manifest) -> None:
    victim = spots.file(spots.rows[17])
    intact = victim.read_bytes()
    victim.write_bytes(intact[: len(intact) // 2])
    with pytest.raises(DataError, match=f"{victim.name} cannot be read"):
        run(package, spots)
    write_png(victim, part_image("bad", seed=99))
    with pytest.raises(DataError, match="was altered since it was imported"):
        run(package, spots)
    victim.unlink()
    with pytest.raises(DataError, match="No such file"):
        run(package, spots)


def test_an_image_that_the_recipe_cannot_judge_is_named(
    package: ModelPackage, spots: Manifest
) -> None:
    recipe = replace(package.recipe, channels=3)
    with pytest.raises(DataError, match="the frame is grey, the recipe wants colour"):
        PreparedImages(spots, recipe, [0])[0]


def test_prepared_images_come_in_order(package: ModelPackage, spots: Manifest) -> None:
    rows = [5, 3, 39, 0]
    images = PreparedImages(spots, package.recipe, rows)
    for index, (image, size) in enumerate(images.ahead()):
        assert size == (128, 128)
        assert (image == images[index]).all()


def judged(part: str, label: str, disposition: Disposition) -> PartResult:
    return PartResult(
        path=part,
        part=part,
        group=part,
        label=label,
        bad=label != "good",
        probabilities=(0.1, 0.2),
        novelty=1.0,
        disposition=disposition,
    )


def test_escapes_are_counted_for_every_class(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        judged("a", "good", "pass"),
        judged("b", "crack", "fail"),
        judged("c", "crack;void", "pass"),
        judged("d", "void", "pass"),
    ]
    made = measure(parts, ("crack", "void"), seed=0)
    assert made.summary()["classes"] == {
        "crack": {"bad_parts": 2, "escapes": 1},
        "void": {"bad_parts": 2, "escapes": 2},
    }
    show_figures(made)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["void", "2", "2"] for line in lines)


def test_parts_of_one_kind_have_no_figures() -> None:
    part = PartResult(
        path="a",
        part="a",
        group="a",
        label="good",
        bad=False,
        probabilities=(0.1,),
        novelty=1.0,
        disposition="pass",
    )
    with pytest.raises(DataError, match="all good or all bad"):
        measure([part], ("spot",), seed=0)
