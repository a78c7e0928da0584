"""What a part is made of: wide and deep, bounded, with holds of what is further out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from inspection import genealogy
from inspection.errors import NotFound, RequestError
from inspection.events import Assembly, Hold
from inspection.genealogy import genealogy_of
from inspection.lives import TOGETHER, lives_of
from inspection.names import new_inspection_id
from inspection.stores.sql import SqlRecordStore, open_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT = "2026-11-21T10:00:00Z"
SAID: dict[str, Any] = {"by": "mes", "recorded_at": AT}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlRecordStore]:
    opened = open_records(f"sqlite:///{tmp_path}/records.db")
    yield opened
    opened.close()


def fit(store: SqlRecordStore, above: str, below: str, action: Any = "fitted") -> None:
    store.add(
        Assembly(
            id=new_inspection_id(),
            product="A",
            part=above,
            component_product="A",
            component_part=below,
            action=action,
            at=AT,
            **SAID,
        )
    )


def test_more_components_than_are_looked_up_at_a_time(
    store: SqlRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspection.lives.TOGETHER", 5)
    names = [f"c{number}" for number in range(12)]
    for name in names:
        fit(store, "top", name)
    found = genealogy_of(store, "A", "top")
    assert [each.component for each in found.components] == [("A", name) for name in names]
    assert not found.truncated
    assert set(lives_of(store, "A", [*names, "nobody"])) == set(names)
    assert TOGETHER == 500


def test_links_are_bounded_and_it_is_said(
    store: SqlRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(genealogy, "MOST_LINKS", 3)
    for number in range(4):
        fit(store, "top", f"c{number}")
    found = genealogy_of(store, "A", "top")
    assert (len(found.components), found.truncated) == (3, True)


def test_the_depth_is_bounded_and_it_is_said(store: SqlRecordStore) -> None:
    for number in range(6):
        fit(store, f"p{number}", f"p{number + 1}")
    whole = genealogy_of(store, "A", "p0", depth=6)
    assert [each.depth for each in whole.components] == [1, 2, 3, 4, 5, 6]
    assert not whole.truncated
    cut = genealogy_of(store, "A", "p0", depth=5)
    assert (len(cut.components), cut.truncated) == (5, True)
    middle = genealogy_of(store, "A", "p3", depth=6)
    assert [each.assembly[1] for each in middle.assemblies] == ["p2", "p1", "p0"]
    for depth in (0, 21):
        with pytest.raises(RequestError, match="depth"):
            genealogy_of(store, "A", "p0", depth=depth)


def test_what_was_removed_is_named_and_not_followed(store: SqlRecordStore) -> None:
    fit(store, "top", "left")
    fit(store, "left", "bolt")
    fit(store, "top", "left", "removed")
    found = genealogy_of(store, "A", "top")
    assert [(each.component[1], each.removed_at) for each in found.components] == [("left", AT)]
    fit(store, "top", "left")
    again = genealogy_of(store, "A", "top")
    assert [(each.component[1], each.removed_at) for each in again.components] == [
        ("left", None),
        ("bolt", None),
    ]


def test_a_part_that_two_hold_is_met_once_and_a_cycle_is_cut(store: SqlRecordStore) -> None:
    for above, below in (("top", "a"), ("top", "b"), ("a", "bolt"), ("b", "bolt"), ("bolt", "top")):
        fit(store, above, below)
    found = genealogy_of(store, "A", "top")
    assert [(each.component[1], each.repeated) for each in found.components] == [
        ("a", False),
        ("b", False),
        ("bolt", False),
        ("bolt", True),
        ("top", True),
    ]


def test_a_hold_on_a_component_is_shown(store: SqlRecordStore) -> None:
    fit(store, "top", "a")
    hold = Hold(
        id=new_inspection_id(), product="A", scope="part", value="a", reason="cracked", **SAID
    )
    store.add(hold)
    (link,) = genealogy_of(store, "A", "top").components
    assert link.far is not None
    assert link.far.holds == (hold,)


def test_nothing_is_known_of_nobody(store: SqlRecordStore) -> None:
    with pytest.raises(NotFound, match="nobody"):
        genealogy_of(store, "A", "nobody")
