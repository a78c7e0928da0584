"""What every RecordStore promises of statements and reviews: kept, once, and only where allowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import (
    ChangedMeanwhile,
    InspectionError,
    KeyReused,
    NotFound,
    RecordError,
    RequestError,
    StateConflict,
)
from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValues,
    Release,
    ViewSet,
)
from inspection.names import new_inspection_id
from inspection.store import Submission
from tests.contracts.drafts import make_draft, make_review, make_statement, make_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from inspection.store import RecordStore

KINDS = (PartEvent, Assembly, Hold, ProcessValues, Erasure)


def together(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What each of `count` threads gets when all act at once; errors of ours are answers."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        try:
            return act(number)
        except InspectionError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def submission(key: str, request: str = "aa", principal: str = "mes") -> Submission:
    return Submission(principal=principal, key=key, request_sha256=request * 32)


class StatementsContract:
    """Statements and reviews."""

    # --- keeping -------------------------------------------------------------------------------

    def test_every_kind_of_statement_is_kept_in_the_order_of_commits(
        self, store: RecordStore
    ) -> None:
        record = store.append(make_draft())
        added: list[Any] = [make_statement(kind) for kind in KINDS]
        added.append(make_statement(Release, hold_id=added[2].id))
        added.append(make_statement(Naming))
        for statement in added:
            assert store.add(statement) == statement
        review = store.append_review(make_review(record.id))
        changes = store.changes(0)
        assert [change.entry for change in changes] == [record, *added, review]
        assert [change.sequence for change in changes] == list(range(1, 10))
        assert [change.kind for change in changes][1:8] == [
            *("event", "assembly", "hold", "process-values", "erasure", "release", "naming")
        ]

    def test_history_holds_what_speaks_of_the_part(self, store: RecordStore) -> None:
        record = store.append(make_draft())
        event = store.add(make_statement(PartEvent))
        store.add(make_statement(PartEvent, part="another"))
        store.add(make_statement(PartEvent, product="carrier"))
        fitted = store.add(make_statement(Assembly))
        hold = store.add(make_statement(Hold))
        store.add(make_statement(Hold, scope="lot", value="0000000001"))
        lifted = store.add(make_statement(Release, hold_id=hold.id))
        expected = [record, event, fitted, hold, lifted]
        assert list(store.part_history("knuckle", "0000000001")) == expected
        assert list(store.part_history("bush", "b1")) == [fitted]

    def test_process_values_are_found_by_part_and_by_machine(self, store: RecordStore) -> None:
        mine, other = make_value(part="p"), make_value(part="q")
        machine = make_value(machine="LPC-1", value=1.5)
        store.add(make_statement(ProcessValues, values=(mine, other, machine)))
        assert list(store.process_values(product="knuckle", part="p")) == [mine]
        assert list(store.process_values(machine="LPC-1")) == [machine]

    def test_erased_file_says_under_which_rule_the_last_time(self, store: Any) -> None:
        assert store.erased("ab" * 32) is None
        store.add(make_statement(Erasure, rule="old"))
        last = store.add(make_statement(Erasure, files=("cd" * 32, "ab" * 32), rule="new"))
        assert store.erased("ab" * 32) == store.erased("cd" * 32) == last

    # --- refusing ------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", KINDS)
    def test_id_of_a_statement_is_given_once(self, store: RecordStore, kind: type[Any]) -> None:
        record = store.append(make_draft())
        statement = make_statement(kind)
        store.add(statement)
        for taken in (statement.id, record.id):
            with pytest.raises(RecordError, match="already there"):
                store.add(make_statement(PartEvent, id=taken))
        assert store.newest() == 2

    def test_only_a_hold_that_stands_is_released(self, store: RecordStore) -> None:
        event = store.add(make_statement(PartEvent))
        for nothing in ("nothing", event.id):
            with pytest.raises(NotFound):
                store.add(make_statement(Release, hold_id=nothing))
        hold = store.add(make_statement(Hold))
        answers = together(8, lambda _: store.add(make_statement(Release, hold_id=hold.id)))
        assert sum(isinstance(answer, Release) for answer in answers) == 1
        assert sum(isinstance(answer, StateConflict) for answer in answers) == 7
        assert store.holds() == []
        ((known),) = store.holds(standing=False)
        assert known.hold == hold
        assert known.released_by is not None

    def test_set_of_views_is_not_simply_added(self, store: RecordStore) -> None:
        made = ViewSet(
            id=new_inspection_id(),
            trace_id="0CX7-J2KQ-M4TZ9",
            station="xray-1",
            product="knuckle",
            part="s",
            serial="s",
            views=("a",),
            by="kim",
            recorded_at="2026-03-01T00:00:00.000Z",
        )
        with pytest.raises(RequestError, match="opened"):
            store.add(made)
        assert store.newest() == 0

    def test_text_that_a_database_may_not_keep_is_refused_and_harms_nobody(
        self, store: RecordStore
    ) -> None:
        record = store.append(make_draft())
        acts: list[Callable[[], object]] = [
            lambda: store.append_review(make_review(record.id, reason="a\0b")),
            lambda: store.append_review(make_review(record.id, reviewer="\ud800")),
            lambda: store.append_review(make_review("\ud800")),
            lambda: store.append_review(make_review("\0")),
            lambda: store.append(make_draft(station="a\0")),
            lambda: store.append(make_draft(serial="\udcff")),
            lambda: store.append(replace(make_draft(), lot="\0")),
            lambda: store.append(make_draft(received_at="yesterday")),
            lambda: store.close_views("\0", by=None, received_at="2026-03-01T00:00:00.000Z"),
            lambda: store.add(make_statement(PartEvent), submission("\0")),
        ]
        good = [make_draft(serial=f"good-{n}") for n in range(len(acts))]
        answers = together(
            2 * len(acts),
            lambda n: acts[n // 2]() if n % 2 else store.append(good[n // 2]),
        )
        assert [isinstance(answer, InspectionError) for answer in answers] == [
            bool(n % 2) for n in range(2 * len(acts))
        ]
        # A backslash before "u0000" is no NUL.
        said = store.append_review(make_review(record.id, reason="a\\u0000b"))
        assert list(store.reviews(record.id)) == [said]

    # --- the same request again ----------------------------------------------------------------

    def test_same_submission_adds_one_statement(self, store: RecordStore) -> None:
        first = store.add(make_statement(PartEvent), submission("k"))
        for _ in range(3):
            store.add(make_statement(PartEvent))
        assert store.add(make_statement(PartEvent), submission("k")) == first
        assert store.newest() == 4
        with pytest.raises(KeyReused):
            store.add(make_statement(PartEvent), submission("k", "bb"))
        other = store.add(make_statement(PartEvent), submission("k", "bb", principal="qa"))
        assert other != first

    def test_same_submission_from_many_threads_is_one_statement(self, store: RecordStore) -> None:
        answers = together(12, lambda _: store.add(make_statement(PartEvent), submission("k")))
        assert len({answer.id for answer in answers}) == 1
        assert store.newest() == 1

    def test_refused_statement_leaves_its_key_free(self, store: RecordStore) -> None:
        with pytest.raises(NotFound):
            store.add(make_statement(Release), submission("k"))
        hold = store.add(make_statement(Hold), submission("k"))
        assert store.newest() == 1
        released = store.add(make_statement(Release, hold_id=hold.id), submission("l"))
        # The hold is released by now, and this is still the answer to the same request.
        again = make_statement(Release, hold_id=hold.id)
        assert store.add(again, submission("l")) == released

    # --- reviews -------------------------------------------------------------------------------

    def test_review_is_refused_when_there_is_another_that_its_reviewer_has_not_seen(
        self, store: RecordStore
    ) -> None:
        record = store.append(make_draft())
        for wrong in (1, 5):
            with pytest.raises(ChangedMeanwhile):
                store.append_review(make_review(record.id), seen=wrong)
        first = store.append_review(make_review(record.id), seen=0)
        with pytest.raises(ChangedMeanwhile):
            store.append_review(make_review(record.id), seen=0)
        second = store.append_review(make_review(record.id), seen=1)
        blind = store.append_review(make_review(record.id))
        assert list(store.reviews(record.id)) == [first, second, blind]

    def test_of_reviews_that_have_seen_the_same_one_is_kept(self, store: RecordStore) -> None:
        record = store.append(make_draft())
        answers = together(8, lambda _: store.append_review(make_review(record.id), seen=0))
        assert sum(isinstance(answer, ChangedMeanwhile) for answer in answers) == 7
        assert len(store.reviews(record.id)) == 1
