"""Several annotators about one image: the majority is the label, their share its certainty."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.errors import DataError
from tests.labelled_sets import bare_manifest, bare_rows
from training.data.rows import Row, Vote, of_votes, parse_rows, rows_as_csv


def votes(*labels: str) -> tuple[Vote, ...]:
    return tuple(Vote(annotator=f"a{i}", label=label) for i, label in enumerate(labels))


def voted(*labels: str, path: str = "a.png") -> Row:
    label, probability = of_votes(votes(*labels))
    return Row(
        path=path,
        sha256="0" * 64,
        label=label,
        part=path,
        group=path,
        probability=probability,
        votes=votes(*labels),
    )


@pytest.mark.parametrize(
    ("labels", "label", "share"),
    [
        (("good", "good", "crack"), "good", 1 / 3),
        (("good", "crack"), "crack", 1 / 2),
        (("crack", "crack", "void"), "crack", 1),
        (("crack", "void"), "crack;void", 1),
        (("crack;void", "crack", "good"), "crack;void", 2 / 3),
        (("crack", "void", "stain", "crack"), "crack", 1),
        (("crack", "void", "stain"), "crack;stain;void", 1),
    ],
)
def test_the_majority_is_the_label(labels: tuple[str, ...], label: str, share: float) -> None:
    found, certainty = of_votes(votes(*labels))
    assert found == label
    assert certainty == pytest.approx(share)


def test_votes_become_soft_targets_by_class() -> None:
    rows = [
        voted("good", "good", "good", path="1"),
        voted("good", "good", "void", path="2"),
        voted("crack;void", "crack", "good", "crack", path="3"),
        voted("void", path="4"),
    ]
    manifest = bare_manifest(rows, ["crack", "void"])
    assert manifest.targets().tolist() == [
        [0, 0],
        [0, pytest.approx(1 / 3)],
        [0.75, 0.25],
        [0, 1],
    ]
    assert manifest.bad.tolist() == [False, False, True, True]


def test_a_label_that_is_not_what_the_votes_say_is_refused() -> None:
    with pytest.raises(DataError, match=r"not what the votes say: 'good', 0\.333"):
        replace(voted("good", "good", "crack"), label="crack", probability=1.0)
    with pytest.raises(DataError, match="a0 voted more than once"):
        replace(voted("good"), votes=(*votes("good"), *votes("good")))
    with pytest.raises(DataError, match="cannot be an annotator"):
        Vote(annotator=" ", label="good")
    with pytest.raises(DataError, match="not a list of classes"):
        Vote(annotator="a", label="")
    with pytest.raises(DataError, match="not among the classes: void"):
        bare_manifest([*bare_rows([(2, 2)]), voted("good", "good", "void")])


def test_the_digest_changes_with_a_vote_and_its_annotator() -> None:
    rows = bare_rows([(2, 2), (2, 2)])
    sure, unsure = voted("good", "good"), voted("good", "good", "scratch")
    named = replace(sure, votes=(), probability=None, annotator="kim")
    bare = replace(named, annotator=None)
    digests = {bare_manifest([*rows, each]).digest for each in (sure, unsure, named, bare)}
    assert len(digests) == 4


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
fields = st.none() | texts.map(str.strip).filter(bool)
labels = st.sampled_from(["good", "crack", "crack;void", "void"])


@given(st.dictionaries(texts.filter(lambda t: t == t.strip()), labels, max_size=4), fields, fields)
def test_any_votes_survive_their_file(
    said: dict[str, str], station: str | None, view: str | None
) -> None:
    ballots = tuple(Vote(annotator=name, label=label) for name, label in said.items())
    label, probability = of_votes(ballots) if ballots else ("good", None)
    row = Row(
        path="a.png",
        sha256="0" * 64,
        label=label,
        part="a",
        group="a",
        probability=probability,
        station=station,
        view=view,
        votes=ballots,
    )
    text = rows_as_csv([row])
    assert parse_rows(text.splitlines(keepends=True), "test") == (row,)
