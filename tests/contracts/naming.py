"""What every RecordStore promises of a part's names: one part, whatever its marks were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspection.errors import NotFound, StateConflict
from inspection.events import Naming, PartEvent, ProcessValues
from inspection.names import new_inspection_id
from tests.contracts.drafts import make_draft, make_statement, make_value

if TYPE_CHECKING:
    from inspection.events import Statement
    from inspection.store import RecordStore

NAMES = ("a", "b", "c", "d")


def rename(store: RecordStore, part: str, serial: str, product: str = "knuckle") -> Statement:
    """Bind an unread mark, or mark a part anew."""
    why = "bound" if part.startswith("unread:") else "re-marked"
    naming = make_statement(Naming, product=product, part=part, serial=serial, why=why)
    return store.add(naming)


class NamingContract:
    """Names."""

    def test_attempts_go_on_when_a_part_is_marked_anew(self, store: RecordStore) -> None:
        store.append(make_draft(serial="a"))
        rename(store, "a", "b")
        second = store.append(make_draft(serial="b"))
        rename(store, "b", "c")
        third = store.append(make_draft(serial="c"))
        fourth = store.append(make_draft(serial="a"))
        assert [r.attempt for r in (second, third, fourth)] == [2, 3, 4]
        assert [r.part for r in (second, third, fourth)] == ["b", "c", "a"]
        for name in ("a", "b", "c"):
            names = store.names("knuckle", name)
            assert (names.root, set(names.names)) == ("a", {"a", "b", "c"})
            assert len(store.part_history("knuckle", name)) == 6

    def test_unread_mark_is_bound_to_a_serial_with_or_without_history(
        self, store: RecordStore
    ) -> None:
        for serial, before in (("s1", 2), ("s2", 0)):
            for _ in range(before):
                store.append(make_draft(serial=serial))
            unread = store.append(make_draft(serial=None))
            rename(store, unread.part, serial)
            after = store.append(make_draft(serial=serial))
            assert after.attempt == before + 2
            assert store.names("knuckle", unread.part).root == serial
            with pytest.raises(StateConflict, match="already bound"):
                rename(store, unread.part, "another")

    def test_unread_mark_bound_to_a_later_name_is_of_the_first(self, store: RecordStore) -> None:
        store.append(make_draft(serial="a"))
        rename(store, "a", "b")
        unread = store.append(make_draft(serial=None))
        rename(store, unread.part, "b")
        assert store.names("knuckle", unread.part).root == "a"
        assert store.append(make_draft(serial="a")).attempt == 3

    def test_new_mark_must_have_no_history(self, store: RecordStore) -> None:
        store.append(make_draft(serial="a"))
        store.append(make_draft(serial="inspected"))
        store.add(make_statement(PartEvent, part="cast"))
        store.add(make_statement(ProcessValues, values=(make_value(part="measured"),)))
        rename(store, "a", "b")
        count = store.newest()
        for taken in ("inspected", "cast", "measured", "b"):
            with pytest.raises(StateConflict, match="history of its own"):
                rename(store, "a", taken)
        with pytest.raises(StateConflict):
            rename(store, "b", "a")
        assert store.newest() == count

    def test_only_a_part_on_record_gets_a_name(self, store: RecordStore) -> None:
        for nobody in ("nobody", "unread:0CX7-J2KQ-M4TZ9"):
            with pytest.raises(NotFound, match="no part"):
                rename(store, nobody, "s")
        store.add(make_statement(PartEvent, part="nobody"))
        rename(store, "nobody", "s")

    def test_names_are_a_products_own(self, store: RecordStore) -> None:
        store.append(make_draft(serial="a"))
        store.append(make_draft(serial="b", product="carrier"))
        rename(store, "a", "b")
        assert store.append(make_draft(serial="b", product="carrier")).attempt == 2
        assert store.append(make_draft(serial="b")).attempt == 2

    @settings(
        max_examples=20,
        deadline=None,
        # One store for all examples, and one contract for several stores: both are meant.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("inspect"), st.sampled_from(NAMES), st.just("")),
                st.tuples(st.just("unread"), st.just(""), st.just("")),
                st.tuples(st.just("re-mark"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
                st.tuples(st.just("bind"), st.integers(0, 2), st.sampled_from(NAMES)),
            ),
            max_size=14,
        )
    )
    def test_whatever_happens_a_part_is_one_part(
        self, store: RecordStore, acts: list[tuple[str, str | int, str]]
    ) -> None:
        product = new_inspection_id()  # nobody else's names
        parts: list[set[str]] = []  # the names of each part, as plain Python keeps them
        attempts: list[int] = []
        unread: list[str] = []

        def part_of(name: str) -> int | None:
            return next((n for n, names in enumerate(parts) if name in names), None)

        for act, one, other in acts:
            name = unread[one] if isinstance(one, int) and one < len(unread) else str(one)
            if act in ("inspect", "unread"):
                serial = name if act == "inspect" else None
                record = store.append(make_draft(product=product, serial=serial))
                if part_of(record.part) is None:
                    parts.append({record.part})
                    attempts.append(0)
                attempts[part_of(record.part) or 0] += 1
                if serial is None:
                    unread.append(record.part)
                assert record.attempt == attempts[part_of(record.part) or 0]
                continue
            if name == other or (act == "bind") != name.startswith("unread:"):
                continue
            mine, theirs = part_of(name), part_of(other)
            bound = mine is not None and len(parts[mine]) > 1
            allowed = mine is not None and (not bound if act == "bind" else theirs is None)
            if not allowed:
                with pytest.raises(NotFound if mine is None else StateConflict):
                    rename(store, name, other, product)
                continue
            rename(store, name, other, product)
            assert mine is not None
            if theirs is None:
                parts[mine].add(other)
            else:
                parts[theirs] |= parts[mine]
                attempts[theirs] += attempts[mine]
                del parts[mine], attempts[mine]
        for names in parts:
            known = {store.names(product, name).root for name in names}
            assert len(known) == 1
            assert {n for name in names for n in store.names(product, name).names} == names
