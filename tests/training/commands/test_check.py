"""`inspection data check` and `relabel` as a QA engineer uses them, on sets with planted faults."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspection.cli import main
from tests.labelled_sets import GROUP_PATTERN, write_folders, write_png
from training.commands.data import find_set

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "line", lots=8, per_lot=10)


def bring_in(line: Path) -> None:
    args = ["data", "import", str(line), "--name", "plates", "--group-from", GROUP_PATTERN]
    assert main(args) == 0


def checked(capsys: Captured, *args: str, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["data", "check", "plates", "--quick", "--format", "json", *args]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def codes(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding["severity"], finding["code"]) for finding in document["findings"]]


def decide(review: Path, **labels: str) -> None:
    """Fill in new_label of the lines whose path ends with the given name."""
    with review.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    for each in lines:
        each["new_label"] = labels.get(Path(each["path"]).stem.replace("-", "_"), "")
    with review.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)


def test_a_clean_set_has_no_findings(line: Path, capsys: Captured) -> None:
    bring_in(line)
    document = checked(capsys)
    assert document["findings"] == []
    assert document["sound"]
    assert main(["data", "check", "plates", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "Nothing was found." in out
    assert out.splitlines()[-1] == "checks/plates-1/check.html"


def test_missing_damaged_and_altered_files_are_errors(line: Path, capsys: Captured) -> None:
    bring_in(line)
    first, second, third = sorted(Path("datasets/plates/images/good").iterdir())[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:60])
    write_png(third, np.random.default_rng(1).integers(0, 255, (48, 48)).astype(np.uint8))
    document = checked(capsys, status=1)
    found = {finding["code"]: finding for finding in document["findings"]}
    broken = {path for case in found["unreadable"]["cases"] for path in case["images"]}
    assert broken == {f"images/good/{first.name}", f"images/good/{second.name}"}
    assert third.name in found["altered"]["cases"][0]["images"][0]
    assert not document["sound"]


def test_copies_are_sorted_by_what_they_spoil(line: Path, capsys: Captured) -> None:
    good = sorted((line / "good").glob("lot00*"))
    other = min((line / "good").glob("lot01*"))
    (line / "good" / "lot00-copy.png").write_bytes(good[0].read_bytes())
    (line / "good" / "lot05-copy.png").write_bytes(other.read_bytes())
    bring_in(line)
    document = checked(capsys)
    assert set(codes(document)) == {("warning", "duplicate"), ("warning", "straddling")}


def test_blank_and_badly_exposed_images_are_found(line: Path, capsys: Captured) -> None:
    noise = np.random.default_rng(2).normal(0, 5, (48, 48))
    write_png(line / "good" / "lot00-blank.png", np.full((48, 48), 90, np.uint8))
    write_png(line / "good" / "lot01-dark.png", (25 + noise).clip(0, 255).astype(np.uint8))
    glare = np.where(np.arange(48) < 30, 255.0, 130 + noise).clip(0, 255).astype(np.uint8)
    write_png(line / "good" / "lot02-glare.png", glare)
    bring_in(line)
    document = checked(capsys, status=1)
    found = {finding["code"]: finding for finding in document["findings"]}
    assert found["blank"]["cases"][0]["images"] == ["images/good/lot00-blank.png"]
    exposed = [case["images"][0] for case in found["exposure"]["cases"]]
    assert exposed == ["images/good/lot02-glare.png", "images/good/lot01-dark.png"]


def test_a_class_too_rare_to_measure_is_said_with_its_bound(line: Path, capsys: Captured) -> None:
    for lot in range(4):
        path = line / "void" / f"lot0{lot}-void.png"
        pixels = np.random.default_rng(lot).normal(120, 20, (48, 48)).clip(0, 255)
        write_png(path, pixels.astype(np.uint8))
    bring_in(line)
    (finding,) = checked(capsys)["findings"]
    assert (finding["severity"], finding["code"]) == ("warning", "rare-class")
    assert "4 bad parts in 4 groups" in finding["text"]
    assert "53%" in finding["text"]  # 1 - 0.05 ** (1 / 4)


def test_annotators_who_disagree_are_named_with_their_kappa(line: Path, capsys: Captured) -> None:
    rows = ["path,label,group,annotator"]
    for number, path in enumerate(sorted(line.glob("*/*.png"))):
        label = path.parent.name
        second = "good" if label == "scratch" and number % 2 else label
        for who, said in (("kim", label), ("lee", second)):
            rows.append(f"{path.relative_to(line)},{said},{path.stem[:5]},{who}")
    (line / "labels.csv").write_text("\n".join(rows))
    assert main(["data", "import", str(line / "labels.csv"), "--name", "plates"]) == 0
    found = {each["code"]: each for each in checked(capsys)["findings"]}
    finding = found["disagreement"]
    assert finding["severity"] == "warning"
    assert "kim and lee: Cohen's kappa 0.5" in finding["text"]
    assert "n = 80" in finding["text"]
    assert len(finding["cases"]) == 16
    assert finding["cases"][0]["text"] == "kim: scratch, lee: good"


def test_a_review_becomes_the_next_revision(line: Path, capsys: Captured) -> None:
    (line / "good" / "lot00-copy.png").write_bytes((line / "good" / "lot00-00.png").read_bytes())
    write_png(line / "good" / "lot01-blank.png", np.full((48, 48), 90, np.uint8))
    bring_in(line)
    checked(capsys, status=1)
    review = Path("checks/plates-1/review.csv")
    decide(review, lot00_copy="exclude", lot01_blank="exclude", lot00_00="scratch")
    checked(capsys, status=1)  # checking again keeps what was filled in
    args = ["data", "relabel", "plates", "--from", str(review), "--reason", "seen by Kim"]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert "images/good/lot00-00.png: good -> scratch" in out
    assert "images/good/lot00-copy.png: excluded" in out
    assert "2 images removed" in out
    assert "plates@2" in out
    assert checked(capsys)["dataset"] == "plates@2"
    assert checked(capsys, status=0)["findings"] == []
    assert main(args) == 3  # these lines are about images that are gone
    assert main(["data", "check", "plates@1", "--quick"]) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"new_label": "crack"}, "is no label here (known: good, scratch, exclude)"),
        ({"new_label": "good;scratch"}, "is no label here"),
        ({"sha256": "0" * 64, "new_label": "good"}, "is another image"),
        ({"path": "images/none.png", "new_label": "good"}, "holds no images/none.png"),
        ({"new_label": ""}, "no line has a new_label"),
    ],
)
def test_a_review_that_does_not_hold_changes_nothing(
    line: Path, capsys: Captured, change: dict[str, str], what: str
) -> None:
    write_png(line / "good" / "lot01-blank.png", np.full((48, 48), 90, np.uint8))
    bring_in(line)
    checked(capsys, status=1)
    review = Path("checks/plates-1/review.csv")
    with review.open(encoding="utf-8-sig", newline="") as file:
        (cells,) = csv.DictReader(file)
    changed = cells | change
    text = ",".join(cells) + "\n" + ",".join(changed.values()) + "\n"
    review.write_text(text)
    assert main(["data", "relabel", "plates", "--from", str(review), "--reason", "x"]) == 3
    assert what in capsys.readouterr().err
    assert not Path("datasets/plates/revisions/2").exists()


def test_checking_again_loses_no_decision(line: Path, capsys: Captured) -> None:
    write_png(line / "good" / "lot01-blank.png", np.full((48, 48), 90, np.uint8))
    bring_in(line)
    checked(capsys, status=1)
    review = Path("checks/plates-1/review.csv")
    doubted = next(row for row in find_set(Path("datasets"), "plates").rows if row.bad)
    with review.open("a", encoding="utf-8") as file:  # of a check that looked at label noise too
        file.write(f"{doubted.path},{doubted.sha256},scratch,good,label-noise,good\n")
    checked(capsys, status=1)
    with review.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(each["path"], each["finding"], each["new_label"]) for each in lines] == [
        ("images/good/lot01-blank.png", "blank", ""),
        (doubted.path, "decided before", "good"),
    ]
    before = review.read_bytes()
    with pytest.MonkeyPatch.context() as full:
        full.setattr("os.fsync", disk_full)
        assert main(["data", "check", "plates", "--quick"]) == 4
    assert review.read_bytes() == before


def disk_full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_lines_that_contradict_each_other_are_refused(line: Path, capsys: Captured) -> None:
    write_png(line / "good" / "lot01-blank.png", np.full((48, 48), 90, np.uint8))
    bring_in(line)
    checked(capsys, status=1)
    review = Path("checks/plates-1/review.csv")
    decide(review, lot01_blank="exclude")
    text = review.read_text()
    review.write_text(text + text.splitlines()[1].replace(",exclude", ",good") + "\n")
    assert main(["data", "relabel", "plates", "--from", str(review), "--reason", "x"]) == 3
    assert "is exclude in line 2" in capsys.readouterr().err


def test_the_page_is_whole_in_itself_and_escapes_names(line: Path, capsys: Captured) -> None:
    evil = line / "good" / "lot01-<script>alert(1)<b>&너클.png"
    evil.parent.mkdir(exist_ok=True)
    write_png(line / "good" / "lot01-blank.png", np.full((48, 48), 90, np.uint8))
    (line / "good" / "lot01-blank.png").rename(evil)
    bring_in(line)
    checked(capsys, status=1)
    page = Path("checks/plates-1/check.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;b&gt;&amp;너클.png" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "data:image/jpeg;base64," in page


def test_a_set_that_is_not_there_is_refused(capsys: Captured) -> None:
    assert main(["data", "check", "nothing"]) == 3
    assert "nothing" in capsys.readouterr().err
