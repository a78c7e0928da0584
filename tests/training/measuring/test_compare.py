"""A difference between two models is called real when it is, and not otherwise."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspection.cli import main
from inspection.errors import DataError, NotFound
from tests.spot_model import spot_graph, write_spot_package
from tests.spot_sets import spot_set
from tests.training.measuring.test_statistics import OUTCOME, S100B, WFNS
from training.manifest import write_manifest
from training.measuring.compare import (
    auc_difference,
    compare,
    count_difference,
    sign_test_by_group,
)
from training.measuring.paired_parts import (
    PairedParts,
    held_out_by_both,
    parse_test_csv,
    unseen_by_both,
)
from training.measuring.statistics import mcnemar_exact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.package import ModelPackage
    from training.manifest import Manifest

# --- the tests -------------------------------------------------------------------------------


def discordant(b: int, c: int, same: int = 20) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first = np.array([True] * b + [False] * c + [False] * same)
    second = np.array([False] * b + [True] * c + [False] * same)
    return first, second


@pytest.mark.parametrize(
    ("b", "c", "p"), [(121, 59, 0.000004), (70, 59, 0.378688), (10, 30, 0.002221), (10, 10, 1.0)]
)
def test_independent_parts_give_mcnemars_exact_p(b: int, c: int, p: float) -> None:
    """Tables of R and vassarstats, by way of statsmodels' tests."""
    first, second = discordant(b, c)
    found = count_difference(first, second, np.arange(len(first)))
    assert found.p == pytest.approx(p, abs=1e-6)
    assert found.p_by_group == pytest.approx(p, abs=1e-6)
    assert (found.only_first, found.only_second) == (b, c)


@given(
    arrays(np.bool_, st.shared(st.integers(1, 14), key="n")),
    arrays(np.bool_, st.shared(st.integers(1, 14), key="n")),
    arrays(np.int64, st.shared(st.integers(1, 14), key="n"), elements=st.integers(0, 13)),
)
def test_the_test_by_group_is_what_turning_every_sign_gives(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: NDArray[np.int64]
) -> None:
    apart = second.astype(int) - first.astype(int)
    sums = [int(apart[groups == g].sum()) for g in np.unique(groups)]
    turned = [
        abs(sum(sign * s for sign, s in zip(signs, sums, strict=True)))
        for signs in product((-1, 1), repeat=len(sums))
    ]
    exact = float(np.mean([value >= abs(sum(sums)) for value in turned]))
    p = sign_test_by_group(first, second, groups)
    assert p == pytest.approx(exact, abs=1e-12)
    assert p == pytest.approx(sign_test_by_group(second, first, groups), abs=1e-12)
    alone = np.arange(len(first))
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    assert sign_test_by_group(first, second, alone) == pytest.approx(mcnemar_exact(b, c))


def test_parts_that_go_together_do_not_count_one_by_one() -> None:
    first, second = discordant(0, 12)
    alone = count_difference(first, second, np.arange(32))
    assert alone.real
    two_lots = count_difference(first, second, np.repeat([0, 1, 2, 3], [6, 6, 10, 10]))
    assert two_lots.p == alone.p
    assert two_lots.p_by_group == 0.5  # two lots that go one way: a coin thrown twice
    assert not two_lots.real


def test_equal_models_are_told_apart_in_at_most_a_twentieth_of_all_cases() -> None:
    """Parts of a group go together, so the test part by part is wrong more often."""
    generator = np.random.default_rng(11)
    by_part = by_group = 0
    for _ in range(400):
        groups = np.repeat(np.arange(20), 10)
        leaning = generator.normal(0, 1.5, (20, 2))[groups]  # each model's, in each group
        drawn = generator.normal(0, 1, (200, 2)) + leaning > 1.5
        found = count_difference(drawn[:, 0], drawn[:, 1], groups)
        by_part += found.p < 0.05
        by_group += found.p_by_group < 0.05
    assert by_group / 400 <= 0.05 + 0.025
    assert by_part > 2 * by_group


def test_the_auc_difference_of_independent_patients_agrees_with_delong() -> None:
    """aSAH of pROC: Z 2.209, 95 % interval of the difference 0.0104 to 0.1742."""
    wfns = np.array(list(map(float, WFNS)))
    s100b = np.array(list(map(float, S100B.split())))
    bad = np.array([one == "1" for one in OUTCOME])
    alone = np.arange(len(bad))
    found = auc_difference(s100b, wfns, bad, alone, seed=1)
    assert found.difference == pytest.approx(0.82367886 - 0.73136856, abs=1e-7)
    assert (found.low, found.high) == pytest.approx((0.0104, 0.1742), abs=0.012)
    back = auc_difference(wfns, s100b, bad, alone, seed=1)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    itself = auc_difference(wfns, wfns, bad, alone, seed=1)
    assert (itself.difference, itself.low, itself.high, itself.real) == (0, 0, 0, False)


def test_one_group_says_nothing_of_an_auc() -> None:
    bad = np.array([True, False] * 6)
    score = np.arange(12.0)
    found = auc_difference(score, -score, bad, np.zeros(12, np.int64), seed=1)
    assert (found.low, found.high, found.real) == (-1, 1, False)


# --- words -----------------------------------------------------------------------------------


def judged(first: str, second: str, bad: str) -> PairedParts:
    """Verdicts as letters: p, f, r; bad parts as 1."""
    words = {"p": "pass", "f": "fail", "r": "review"}
    score = {"p": 0.1, "r": 0.5, "f": 0.9}
    return PairedParts(
        groups=tuple(f"lot-{i}" for i in range(len(bad))),
        bad=np.array([one == "1" for one in bad]),
        first_dispositions=tuple(words[one] for one in first),  # type: ignore[misc]
        second_dispositions=tuple(words[one] for one in second),  # type: ignore[misc]
        first_scores=np.array([score[one] for one in first]),
        second_scores=np.array([score[one] for one in second]),
    )


def test_a_real_difference_is_said_to_be_one() -> None:
    parts = judged("p" * 9 + "f" * 11 + "p" * 20, "f" * 20 + "p" * 20, "1" * 20 + "0" * 20)
    said = compare("a@1", "a@2", parts).in_words()
    assert said[0] == "On the same 40 held-out parts (20 bad), in 40 groups:"
    assert said[1] == (
        "a@2 misses 9 fewer bad parts than a@1 (0 against 9 of 20; p = 0.0039): "
        "the difference is real."
    )
    assert said[2] == "a@2 fails as many good parts as a@1 (0 of 20, the very same ones)."
    assert "the difference is real" in said[4]
    back = compare("a@2", "a@1", replace_sides(parts)).in_words()
    assert "a@1 misses 9 more bad parts than a@2" in back[1]


def replace_sides(parts: PairedParts) -> PairedParts:
    return replace(
        parts,
        first_dispositions=parts.second_dispositions,
        second_dispositions=parts.first_dispositions,
        first_scores=parts.second_scores,
        second_scores=parts.first_scores,
    )


def test_too_few_parts_are_said_to_be_that() -> None:
    parts = judged("ppp" + "f" * 17 + "p" * 20, "f" * 20 + "p" * 20, "1" * 20 + "0" * 20)
    found = compare("a@1", "a@2", parts)
    assert "3 fewer bad parts" in found.in_words()[1]
    assert found.in_words()[1].endswith("they cannot be told apart with this many parts.")
    few = replace(parts, groups=("lot-0",) * 3 + parts.groups[3:])
    assert compare("a@1", "a@2", few).misses.p_by_group == 1
    nine = judged("p" * 9 + "f" * 11 + "p" * 20, "f" * 20 + "p" * 20, "1" * 20 + "0" * 20)
    lots = replace(nine, groups=("lot-0",) * 5 + ("lot-1",) * 4 + nine.groups[9:])
    sentence = compare("a@1", "a@2", lots).in_words()[1]
    assert "p = 0.0039, by group p = 0.5" in sentence
    assert sentence.endswith("they cannot be told apart, as too few groups show it.")


def test_the_table_counts_every_part_once() -> None:
    parts = judged("pprrff" * 4, "prpfrf" * 4, "111111" * 2 + "000000" * 2)
    tables = compare("a@1", "a@2", parts).tables
    assert sum(n for kind in tables.values() for row in kind.values() for n in row.values()) == 24
    assert tables["bad"]["pass"] == {"pass": 2, "review": 2, "fail": 0}


def test_parts_too_few_for_any_difference_are_refused() -> None:
    for bad in ("1" * 5 + "0" * 20, "1" * 20 + "0" * 5, "1" * 20):
        with pytest.raises(DataError, match="at least 6 bad and 6 good") as caught:
            compare("a@1", "a@2", judged("p" * len(bad), "f" * len(bad), bad))
        assert "--dataset" in caught.value.remedy


# --- packages --------------------------------------------------------------------------------

KINDS = ("good", "good", "bad", "unsure") * 10
COLUMNS = ["path", "sha256", "part", "group", "lot", "mould", "station", "view", "label", "bad"]
COLUMNS += ["probability_spot", "novelty", "disposition"]


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def package_of(
    root: Path,
    manifest: Manifest,
    *,
    test: Sequence[int],
    fit: Sequence[int] = (),
    says: str = "fail",
    labels: Mapping[int, str] | None = None,
    graph: bytes | None = None,
) -> ModelPackage:
    """A package that was tested on some rows, and fitted on others."""
    rows = manifest.rows
    lines = [
        {
            **{name: getattr(rows[i], name) for name in ("path", "sha256", "part", "group")},
            "label": (labels or {}).get(i, rows[i].label),
            "bad": int((labels or {}).get(i, rows[i].label) != "good"),
            "probability_spot": 0.9 if rows[i].bad and says == "fail" else 0.1,
            "novelty": 0.1,
            "disposition": says if rows[i].bad else "pass",
        }
        for i in test
    ]
    split = [
        {
            **{name: getattr(rows[i], name) for name in ("sha256", "part", "group")},
            "side": side,
            "perceptual_hash": f"{i:064x}",
        }
        for side, numbers in (("fit", fit), ("test", test))
        for i in numbers
    ]
    sides = ["sha256", "part", "group", "side", "perceptual_hash"]
    more = {"test.csv": as_csv(COLUMNS, lines), "split.csv": as_csv(sides, split)}
    return write_spot_package(root, more=more, graph=graph)


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    manifest = spot_set(tmp_path_factory.mktemp("sets") / "spots", KINDS, per_group=2)
    write_manifest(manifest, manifest.folder)
    return manifest


def run(weights: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["models", "compare", *words, "--weights-dir", str(weights)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_compares_on_what_both_held_out(
    spots: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package_of(tmp_path, spots, test=range(30), fit=range(30, 40), says="pass")
    package_of(tmp_path, spots, test=range(4, 40), fit=range(2), says="fail")
    status, out, _ = run(tmp_path, capsys, "spot@1", "spot@2")
    assert status == 0
    bad = sum(spots.rows[i].bad for i in range(4, 30))
    assert f"On the same 26 held-out parts ({bad} bad)" in out
    assert f"spot@2 misses {bad} fewer bad parts than spot@1" in out
    assert "the difference is real" in out
    assert "4 test parts of spot@1 left out that the other was not tested on" in out
    assert max(len(line) for line in out.splitlines() if "parts: spot" in line) <= 80
    facts = json.loads(run(tmp_path, capsys, "spot@1", "spot@2", "--format", "json")[1])
    assert (facts["parts"], facts["misses"]["only_first"]) == (26, bad)
    assert facts["misses"]["real"]
    assert facts["in_words"][0] in out


def test_what_either_was_made_from_is_left_out(spots: Manifest, tmp_path: Path) -> None:
    first = package_of(tmp_path, spots, test=range(40))
    second = package_of(tmp_path, spots, test=range(40), fit=range(5), says="pass")
    parts = held_out_by_both(first, second)
    assert len(parts.bad) == 35
    assert parts.notes == ("5 parts left out that one of them was made from",)


def test_parts_that_were_labelled_anew_are_left_out(spots: Manifest, tmp_path: Path) -> None:
    first = package_of(tmp_path, spots, test=range(40))
    now = {3: "good" if spots.rows[3].bad else "spot"}
    second = package_of(tmp_path, spots, test=range(40), labels=now, says="pass")
    parts = held_out_by_both(first, second)
    assert len(parts.bad) == 39
    assert "label differently" in parts.notes[0]


def test_models_without_parts_in_common_point_to_a_data_set(
    spots: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package_of(tmp_path, spots, test=range(20))
    package_of(tmp_path, spots, test=range(20, 40))
    status, _, err = run(tmp_path, capsys, "spot@1", "spot@2")
    assert status == 3
    assert "have 0 held-out parts in common" in err
    assert "--dataset NAME" in err


def test_models_that_cannot_be_compared_are_refused(spots: Manifest, tmp_path: Path) -> None:
    first = package_of(tmp_path, spots, test=range(40))
    with pytest.raises(DataError, match="compared with itself"):
        held_out_by_both(first, first)
    other = write_spot_package(tmp_path, product="AX-7", model="axle", more={})
    with pytest.raises(DataError, match="judges KN-42, axle@1 AX-7"):
        held_out_by_both(first, other)
    former = write_spot_package(tmp_path)
    with pytest.raises(NotFound, match=r"spot@2 has no test\.csv"):
        held_out_by_both(first, former)


def test_on_a_data_set_both_judge_what_neither_was_made_from(
    spots: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = package_of(tmp_path, spots, test=range(20, 40), fit=range(5))
    darker = spot_graph(bits=9)  # bad parts look good to it
    second = package_of(tmp_path, spots, test=range(20, 40), fit=range(5, 9), graph=darker)
    # No training made these packages, so they have no report of one; split.csv says it all.
    monkeypatch.setattr("training.measuring.paired_parts.read_report", lambda _package: None)

    def silent(_stage: str, _done: int, _total: int) -> None:
        return

    parts = unseen_by_both(first, second, spots, silent)
    assert len(parts.bad) <= 31
    found = compare("spot@1", "spot@2", parts)
    assert found.misses.first == 0
    assert found.misses.second == found.bad_parts
    assert found.misses.real
    assert all(note.startswith("spot@") for note in parts.notes)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("bad", "yes"),
        ("disposition", "maybe"),
        ("probability_spot", "nan"),
        ("probability_spot", "1.5"),
        ("probability_spot", ""),
        ("sha256", ""),
    ],
)
def test_a_table_that_makes_no_sense_names_the_line(column: str, value: str) -> None:
    row = dict.fromkeys(COLUMNS, "x") | {
        "bad": "1",
        "probability_spot": "0.5",
        "disposition": "pass",
    }
    assert len(parse_test_csv(as_csv(COLUMNS, [row]), "m@1")) == 1
    with pytest.raises(DataError, match=r"m@1, line 3"):
        parse_test_csv(as_csv(COLUMNS, [row | {"sha256": "y"}, row | {column: value}]), "m@1")
    with pytest.raises(DataError, match="second time"):
        parse_test_csv(as_csv(COLUMNS, [row, row]), "m@1")


@given(st.binary(max_size=200))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(DataError):
        parse_test_csv(data, "m@1")


def test_an_apostrophe_that_kept_a_spreadsheet_quiet_is_taken_off() -> None:
    row = dict.fromkeys(COLUMNS, "'=x") | {"bad": "0", "probability_spot": "0", "part": "'plain"}
    (part,) = parse_test_csv(as_csv(COLUMNS, [row | {"disposition": "review"}]), "m@1")
    assert (part.group, part.part) == ("=x", "'plain")
