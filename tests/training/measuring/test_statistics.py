"""Comparisons of readings agree with published worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspection.errors import DataError
from training.measuring.intervals import ranking
from training.measuring.statistics import (
    cohen_kappa,
    cohen_kappa_of_table,
    delong_interval,
    delong_test,
    delong_variance,
    fleiss_kappa,
    mcnemar_exact,
)

# The data set aSAH of the R package pROC: 113 patients, 41 with a poor outcome.
OUTCOME = (
    "00001101001011001011101000000000100110110000000001100010001010011101101111000110100000010000"
    "000000001111110001000"
)
WFNS = (
    "11113254125255125225211112121134214541425511241125521251222151125214524414121421232421451154"
    "221113125225552445111"
)
S100B = """
0.13 0.14 0.1 0.04 0.13 0.1 0.47 0.16 0.18 0.1 0.12 0.1 0.44 0.71 0.04 0.08 0.49 0.04 0.07 0.33
0.09 0.09 0.07 0.11 0.07 0.17 0.07 0.11 0.13 0.19 0.05 0.16 0.41 0.14 0.34 0.35 0.48 0.09 0.96
0.25 0.5 0.46 0.16 0.07 0.43 0.45 0.11 0.08 0.09 0.86 0.52 0.08 0.06 0.13 2.07 0.1 0.14 0.15 0.07
0.06 0.77 0.05 0.09 0.3 0.03 0.09 0.04 0.23 0.7 0.09 0.27 0.71 0.08 0.26 0.08 0.16 0.09 0.13 0.1
0.08 0.11 0.33 0.11 0.28 0.07 0.1 0.32 0.22 0.07 0.05 0.24 0.38 0.1 0.15 0.08 0.14 0.1 0.07 0.04
0.19 0.56 0.14 0.58 0.32 0.82 0.74 0.15 0.47 0.17 0.44 0.15 0.5 0.48
"""
NDKA = """
3.01 8.54 8.09 10.42 17.4 12.75 6 13.2 15.54 6.01 15.96 17.86 5.18 8.9 13.41 20.75 11.6 16.11
32.37 54.82 32.41 49.94 40.34 9.47 6.29 12.53 6.54 6.3 80.3 12.8 9.8 9.81 9.85 18.21 5.03 14.04
21.93 8.02 7.42 8.38 6.59 9.63 13.12 7.96 14.34 41.43 7.63 7.06 12.59 13.56 3.87 9.44 7.66 12.98
419.19 27.19 22.27 9.95 21.22 11.73 10.4 58.83 6.39 11.09 12.22 13.67 17.21 22.63 12.9 9.7 21.57
8.23 72.57 15.54 10.51 10.6 14.57 5.19 9.63 4.61 21.48 17.3 12.71 9.44 11.07 19.46 10.83 5.37
11.97 7.75 9.83 10.55 28.49 8.53 12.57 12.9 46.83 11.68 12.67 9.01 9.57 34.06 11.72 14.26 47.61
11.67 24.58 10.33 13.87 15.89 22.43 6.79 13.45
"""
POOR = np.array([symbol == "1" for symbol in OUTCOME])


@pytest.mark.parametrize(
    ("values", "auc", "variance"),
    [
        (list(map(float, WFNS)), 0.82367886, 0.00146991470882363),
        (list(map(float, S100B.split())), 0.73136856, 0.00266868245717244),
        (list(map(float, NDKA.split())), 0.611957994579946, 0.0031908105493913),
    ],
    ids=["wfns", "s100b", "ndka"],
)
def test_auc_and_its_delong_variance_agree_with_proc(
    values: list[float], auc: float, variance: float
) -> None:
    scores = np.array(values)
    assert len(scores) == len(POOR) == 113
    assert ranking(scores, POOR)[0] == pytest.approx(auc, abs=5e-9)
    assert delong_variance(scores, POOR) == pytest.approx(variance, abs=1e-12)


def test_delong_interval_agrees_with_proc() -> None:
    interval = delong_interval(np.array(list(map(float, NDKA.split()))), POOR)
    assert interval == pytest.approx((0.501244999271703, 0.722670989888189), abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "z", "p", "low", "high"),
    [
        ("wfns", "s100b", 2.20898359144091, 0.0271757822291882, 0.010406177, 0.174214419),
        ("wfns", "ndka", 2.79777591868904, 0.00514557970691098, 0.0634011709, 0.3600405634),
        ("ndka", "s100b", -1.39077002573558, 0.164295175223054, -0.287691745, 0.048870606),
    ],
)
def test_paired_aucs_agree_with_proc(
    first: str, second: str, z: float, p: float, low: float, high: float
) -> None:
    values = {
        "wfns": np.array(list(map(float, WFNS))),
        "s100b": np.array(list(map(float, S100B.split()))),
        "ndka": np.array(list(map(float, NDKA.split()))),
    }
    found = delong_test(values[first], values[second], POOR)
    assert (found.z, found.p) == pytest.approx((z, p), rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-8)


def test_a_curve_with_itself_does_not_differ() -> None:
    scores = np.array(list(map(float, WFNS)))
    found = delong_test(scores, scores, POOR)
    assert (found.z, found.p, found.difference) == (0, 1, 0)


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (121, 59, 0.000004),
        (70, 59, 0.378688),
        (80, 59, 0.089452),
        (30, 60, 0.002060),
        (10, 30, 0.002221),
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_agrees_with_r(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(p, abs=1e-6)
    assert mcnemar_exact(c, b) == mcnemar_exact(b, c)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(DataError, match="count from 0"):
        mcnemar_exact(-1, 3)


# AIAG MSA, 4th edition, table III-C 1: trials of A, B and C; every part not listed is 1 throughout.
ALWAYS_REJECTED = (3, 4, 5, 9, 25, 37, 39, 42, 45, 48, 50)
MIXED = """
6 1 110 110 100  7 1 111 111 101  12 0 000 000 010  14 1 110 111 100  21 1 110 101 010
22 0 001 010 110  26 0 010 000 001  30 0 000 001 000  34 0 001 001 011  36 1 110 111 101
43 1 101 111 110
"""


def appraisals() -> dict[str, list[int]]:
    """The 150 readings of A, B and C, and the reference beside each."""
    cells = MIXED.split()
    mixed = {int(cells[i]): cells[i + 1 : i + 5] for i in range(0, len(cells), 5)}
    read: dict[str, list[int]] = {"A": [], "B": [], "C": [], "reference": []}
    for part in range(1, 51):
        usual = "0" if part in ALWAYS_REJECTED else "1"
        reference, *trials = mixed.get(part, [usual, usual * 3, usual * 3, usual * 3])
        for name, three in zip("ABC", trials, strict=True):
            read[name] += [int(symbol) for symbol in three]
        read["reference"] += [int(reference)] * 3
    return read


@pytest.mark.parametrize(
    ("first", "second", "kappa", "error"),
    [
        ("A", "B", 0.862944, 0.044198),
        ("A", "C", 0.776119, 0.054671),
        ("B", "C", 0.788007, 0.053702),
        ("A", "reference", 0.878788, 0.041641),
        ("B", "reference", 0.922982, 0.033847),
        ("C", "reference", 0.773960, 0.055137),
    ],
)
def test_cohens_kappa_agrees_with_the_aiag_manual(
    first: str, second: str, kappa: float, error: float
) -> None:
    read = appraisals()
    found = cohen_kappa(read[first], read[second])
    assert found.value == pytest.approx(kappa, abs=1e-6)
    assert found.standard_error == pytest.approx(error, abs=1e-6)
    assert found.items == 150


@pytest.mark.parametrize(
    ("names", "kappa"), [("A", 0.76), ("B", 0.845073), ("C", 0.702911), ("ABC", 0.793606)]
)
def test_fleiss_kappa_agrees_with_the_aiag_manual(names: str, kappa: float) -> None:
    read = appraisals()
    trials = np.concatenate([np.reshape(read[name], (50, 3)) for name in names], axis=1)
    counts = np.stack([(trials == label).sum(axis=1) for label in (0, 1)], axis=1)
    assert fleiss_kappa(counts).value == pytest.approx(kappa, abs=1e-6)


def test_cohens_kappa_agrees_with_sas() -> None:
    found = cohen_kappa_of_table(np.array([[0.0, 4, 1], [0, 8, 0], [0, 1, 5]]))
    assert found.value == pytest.approx(0.4842, abs=5e-5)
    assert found.standard_error == pytest.approx(0.1380, abs=5e-5)
    assert found.interval() == pytest.approx((0.2137, 0.7547), abs=5e-5)
    assert found.value is not None
    assert found.null_standard_error is not None
    assert found.value / found.null_standard_error == pytest.approx(3.2626, abs=5e-5)


def test_cohens_kappa_may_lie_below_chance() -> None:
    second, third = "36462424332333221334", "21443216111233113322"
    assert cohen_kappa(second, third).value == pytest.approx(-0.006289308, abs=1e-9)


FLEISS = (
    "444444222555233335555555222444113333333355113334114444555555144444124444222333144444224445333335"
    "111455111112224444133555555555244444224555114444144445222224111155224444133333555555"
)


def test_fleiss_kappa_agrees_with_fleiss_and_r() -> None:
    rows = [FLEISS[i : i + 6] for i in range(0, 180, 6)]
    counts = np.array([[row.count(label) for label in "12345"] for row in rows])
    found = fleiss_kappa(counts)
    assert found.value == pytest.approx(0.4302445, abs=1e-7)
    assert found.null_standard_error == pytest.approx(0.0243739, abs=1e-7)
    four = np.array([[row[:4].count(label) for label in "12345"] for row in rows])
    assert fleiss_kappa(four).value == pytest.approx(0.4893319, abs=1e-7)


def test_fleiss_kappa_agrees_with_the_table_of_fourteen_raters() -> None:
    rows = (
        "0 0 0 0 14 0 2 6 4 2 0 0 3 5 6 0 3 9 2 0 2 2 8 1 1 7 7 0 0 0 3 2 6 3 0 2 5 3 2 2 "
        "6 5 2 1 0 0 2 2 3 7"
    )
    counts = np.array(rows.split(), dtype=np.int64).reshape(10, 5)
    assert fleiss_kappa(counts).value == pytest.approx(0.2099307, abs=1e-7)


def test_one_label_throughout_leaves_kappa_undefined() -> None:
    assert cohen_kappa("aaaa", "aaaa").value is None
    assert cohen_kappa("aaaa", "aaaa").interval() is None
    assert fleiss_kappa(np.array([[3, 0], [2, 0]])).value is None


def test_readings_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        cohen_kappa("ab", "a")
    with pytest.raises(DataError, match="at least two readings"):
        fleiss_kappa(np.array([[1, 0], [2, 1]]))
    with pytest.raises(DataError, match="two good and two bad"):
        delong_test(np.arange(3.0), np.arange(3.0), np.array([True, False, False]))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_kappa_of_two_does_not_depend_on_who_is_first(pairs: list[tuple[int, int]]) -> None:
    first, second = [p[0] for p in pairs], [p[1] for p in pairs]
    one, other = cohen_kappa(first, second), cohen_kappa(second, first)
    if one.value is None or other.value is None:
        assert one.value is None
        assert other.value is None
        return
    assert one.value == pytest.approx(other.value, abs=1e-12)
    assert one.standard_error == pytest.approx(other.standard_error, abs=1e-9)
    assert -1 <= one.value <= 1


def counts_of(pairs: list[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array([[(p == label) + (q == label) for label in range(4)] for p, q in pairs])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_fleiss_kappa_stays_below_one_unless_all_agree(pairs: list[tuple[int, int]]) -> None:
    value = fleiss_kappa(counts_of(pairs)).value
    if value is not None:
        assert (value == pytest.approx(1)) == all(p == q for p, q in pairs)
