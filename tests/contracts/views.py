"""What every RecordStore promises of several views that make one inspection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspection.errors import (
    NotFound,
    RecordError,
    RequestError,
    StateConflict,
)
from inspection.events import Naming
from inspection.names import new_inspection_id
from inspection.store import Filter, Submission
from inspection.verdict import Verdict
from tests.contracts.drafts import (
    make_draft,
    make_review,
    make_statement,
    make_verdict,
    make_view_set,
)

if TYPE_CHECKING:
    from inspection.events import ViewSet
    from inspection.record import InspectionRecord
    from inspection.store import RecordStore
    from inspection.verdict import Disposition

RECEIVED = "2026-03-01T00:00:05.000Z"
VIEWS = ("front", "side", "back")
DISPOSITIONS: tuple[Disposition, ...] = ("pass", "review", "fail")


def send(
    store: RecordStore, of: ViewSet, view: str, disposition: Disposition = "pass", **fields: Any
) -> InspectionRecord:
    """One view of a set."""
    usual = {"station": of.station, "product": of.product, "serial": of.serial}
    draft = make_draft(
        disposition=disposition, **{**usual, "view_set": of.id, "view": view, **fields}
    )
    return store.append(draft)


def close(store: RecordStore, of: ViewSet) -> InspectionRecord:
    return store.close_views(of.id, by="line-1", received_at=RECEIVED)


class ViewsContract:
    """Sets of views."""

    def test_views_make_one_inspection(self, store: RecordStore) -> None:
        draft = make_view_set(lot="L7", machine="LPC-2", mould="M4", cavity="1")
        of = store.open_views(draft)
        assert (of.id, of.part, of.views, of.lot) == (draft.id, "0000000001", VIEWS, "L7")
        found: tuple[Disposition, ...] = ("pass", "fail", "review")
        views = [
            send(store, of, name, disposition)
            for name, disposition in zip(VIEWS, found, strict=True)
        ]
        assert [(v.view, v.view_set, v.attempt, v.part) for v in views] == [
            (name, of.id, None, of.part) for name in VIEWS
        ]
        closed = close(store, of)
        assert (closed.attempt, closed.reason, closed.disposition) == (1, "first", "fail")
        assert (closed.view, closed.view_set, closed.capture_id) == (None, of.id, f"views:{of.id}")
        assert (closed.lot, closed.machine, closed.mould, closed.cavity) == (
            *("L7", "LPC-2", "M4"),
            "1",
        )
        assert [(v.view, v.inspection_id, v.disposition) for v in closed.views] == [
            (v.view, v.id, v.disposition) for v in views
        ]
        worst = views[1]
        for name in ("image_sha256", "image_size_px", "evidence", "findings", "model", "recipe"):
            assert getattr(closed, name) == getattr(worst, name)
        ((code, detail),) = [(reason.code, reason.detail) for reason in closed.reasons]
        assert code == "views"
        assert "view side" in detail
        assert worst.reasons[0].detail in detail
        state = store.view_set(of.id)
        assert (state.opened, state.views, state.closed) == (of, tuple(views), closed)

    def test_single_views_are_not_listed_and_take_no_attempt(self, store: RecordStore) -> None:
        first = store.append(make_draft())
        sets = [store.open_views(make_view_set()) for _ in range(2)]
        for of in sets:
            for name in VIEWS:
                send(store, of, name)
        closed = [close(store, of) for of in sets]
        assert [record.attempt for record in closed] == [2, 3]
        assert [record.reason for record in closed] == ["recheck", "recheck"]
        assert list(store.find(Filter()).records) == [*closed[::-1], first]
        (row,) = store.counts(Filter())
        assert (row.inspections, row.passed, row.first) == (3, 2, 1)

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
            st.tuples(
                st.sampled_from((None, *DISPOSITIONS)),
                st.dictionaries(st.sampled_from(("crack", "pore")), st.floats(0, 1), min_size=1),
                st.floats(0, 9),
            ),
            min_size=1,
            max_size=5,
        ),
        st.randoms(),
    )
    def test_worst_view_decides_and_a_missing_one_is_no_pass(
        self,
        store: RecordStore,
        wanted: list[tuple[Disposition | None, dict[str, float], float]],
        random: Any,
    ) -> None:
        names = [f"v{n}" for n in range(len(wanted))]
        of = store.open_views(make_view_set(serial=new_inspection_id(), views=tuple(names)))
        order = [n for n, (disposition, _, _) in enumerate(wanted) if disposition is not None]
        random.shuffle(order)  # the order of the set counts, not that in which they come
        came = {}
        for n in order:
            disposition, probability, novelty = wanted[n]
            usual = make_verdict(disposition or "pass")
            verdict = Verdict(
                disposition=usual.disposition,
                probability=probability,
                novelty=novelty,
                findings=usual.findings,
                reasons=usual.reasons,
            )
            came[n] = send(store, of, names[n], verdict=verdict)
        if not came:
            with pytest.raises(StateConflict, match="no view"):
                close(store, of)
            return
        closed = close(store, of)
        dispositions = [came[n].disposition for n in sorted(came)]
        missing = [name for n, name in enumerate(names) if n not in came]
        worst = next(d for d in ("fail", "review", "pass") if d in dispositions)
        expected = "review" if missing and worst == "pass" else worst
        assert closed.disposition == expected
        decided = next(came[n] for n in sorted(came) if came[n].disposition == worst)
        assert closed.image_sha256 == decided.image_sha256
        assert [reason.code for reason in closed.reasons] == (
            ["views"] * (worst != "pass") + ["view-missing"] * bool(missing)
        )
        if missing:
            assert closed.reasons[-1].detail.endswith(f"missing: {', '.join(missing)}")
        assert [view.inspection_id is None for view in closed.views] == [
            n not in came for n in range(len(names))
        ]
        for name, value in closed.probability.items():
            assert value == max(r.probability.get(name, 0.0) for r in came.values())
        assert closed.novelty == max(r.novelty or 0.0 for r in came.values())
        assert store.get(closed.id) == closed

    # --- once only -----------------------------------------------------------------------------

    def test_closing_again_changes_nothing(self, store: RecordStore) -> None:
        of = store.open_views(make_view_set())
        send(store, of, "front")
        gate = threading.Barrier(8)

        def act(_: int) -> InspectionRecord:
            gate.wait()
            return close(store, of)

        with ThreadPoolExecutor(8) as pool:
            records = list(pool.map(act, range(8)))
        assert len({record.id for record in records}) == 1
        assert store.close_views(of.id, by=None, received_at=RECEIVED) == records[0]
        assert store.newest() == 3

    def test_same_opening_again_is_the_same_set(self, store: RecordStore) -> None:
        sent = Submission(principal="line-1", key="k", request_sha256="aa" * 32)
        draft = make_view_set()
        of = store.open_views(draft, sent)
        assert store.open_views(make_view_set(), sent) == of
        with pytest.raises(RecordError, match="already there"):
            store.open_views(draft)

    def test_view_that_comes_again_gets_its_record_even_when_the_set_is_closed(
        self, store: RecordStore
    ) -> None:
        of = store.open_views(make_view_set())
        draft = make_draft(view_set=of.id, view="front", disposition="pass")
        record = store.append(draft)
        assert store.append(draft) == record
        close(store, of)
        assert store.append(draft) == record
        assert len(store.view_set(of.id).views) == 1

    def test_origin_of_a_part_is_what_its_set_or_its_views_say(self, store: RecordStore) -> None:
        of = store.open_views(make_view_set(lot="L7", views=("front", "side")))
        send(store, of, "front", disposition="pass", mould="M4")
        send(store, of, "side", disposition="pass", lot="L7")
        closed = close(store, of)
        assert (closed.lot, closed.mould, closed.disposition) == ("L7", "M4", "pass")

    def test_views_that_disagree_where_a_part_comes_from_are_no_pass(
        self, store: RecordStore
    ) -> None:
        of = store.open_views(make_view_set(serial="other", views=("front", "side")))
        send(store, of, "front", disposition="pass", serial="other", mould="M4")
        send(store, of, "side", disposition="pass", serial="other", mould="M5")
        closed = close(store, of)
        assert (closed.mould, closed.disposition) == (None, "review")
        assert [reason.code for reason in closed.reasons] == ["views-disagree"]

    # --- what does not fit ---------------------------------------------------------------------

    def test_view_that_does_not_fit_its_set_is_refused(self, store: RecordStore) -> None:
        of = store.open_views(make_view_set(lot="L7"))
        send(store, of, "front")
        count = store.newest()
        with pytest.raises(NotFound, match="no set"):
            send(store, replace(of, id=new_inspection_id()), "front")
        for view, fields in (
            ("front", {}),
            ("top", {}),
            ("side", {"station": "xray-2"}),
            ("side", {"product": "carrier"}),
            ("side", {"serial": "0000000002"}),
            ("side", {"serial": None, "disposition": "review"}),
            ("side", {"reason": "challenge"}),
            ("side", {"lot": "another lot"}),
        ):
            with pytest.raises(StateConflict):
                send(store, of, view, **fields)
        assert store.newest() == count
        close(store, of)
        with pytest.raises(StateConflict, match="closed"):
            send(store, of, "side")

    def test_set_that_is_not_there_or_empty_is_not_closed(self, store: RecordStore) -> None:
        with pytest.raises(NotFound):
            store.close_views("nothing", by=None, received_at=RECEIVED)
        of = store.open_views(make_view_set())
        with pytest.raises(StateConflict, match="no view"):
            close(store, of)
        with pytest.raises(NotFound):
            store.view_set("nothing")

    def test_names_of_closing_inspections_are_not_for_stations(self, store: RecordStore) -> None:
        of = store.open_views(make_view_set())
        for name in ("capture_id", "idempotency_key"):
            taken: dict[str, Any] = {name: f"views:{of.id}"}
            with pytest.raises(RequestError, match="sets of views"):
                store.append(make_draft(**taken))

    def test_review_is_of_the_whole_not_of_a_view(self, store: RecordStore) -> None:
        of = store.open_views(make_view_set())
        view = send(store, of, "front")
        with pytest.raises(StateConflict, match="one view"):
            store.append_review(make_review(view.id))
        closed = close(store, of)
        review = store.append_review(make_review(closed.id))
        assert list(store.reviews(closed.id)) == [review]

    # --- whose it is ---------------------------------------------------------------------------

    def test_set_with_an_unread_mark_is_one_part_that_can_be_bound(
        self, store: RecordStore
    ) -> None:
        store.append(make_draft(serial="s"))
        of, other = (
            store.open_views(make_view_set(serial=None, views=("a", "b"))) for _ in range(2)
        )
        assert of.part == f"unread:{of.trace_id}" != other.part
        parts = {send(store, of, name, "review").part for name in of.views}
        naming = make_statement(Naming, part=of.part, serial="s", why="bound")
        store.add(naming)
        closed = close(store, of)
        assert parts == {of.part}
        assert (closed.part, closed.serial, closed.attempt) == (of.part, None, 2)
        send(store, other, "a", "review")
        assert close(store, other).attempt == 1

    @pytest.mark.parametrize("reason", ["audit", "challenge", "simulated", "after-rework"])
    def test_reason_of_a_set_is_that_of_its_views_and_of_the_whole(
        self, store: RecordStore, reason: str
    ) -> None:
        of = store.open_views(make_view_set(reason=reason))
        view = send(store, of, "front")
        closed = close(store, of)
        assert (view.reason, closed.reason) == (reason, reason)
        assert closed.attempt == (1 if reason == "after-rework" else None)

    def test_trace_ids_rise_over_inspections_and_sets(self, store: RecordStore) -> None:
        given: list[str] = []
        for n in range(5):
            given.append(store.append(make_draft(serial=f"s{n}")).trace_id)
            given.append(store.open_views(make_view_set()).trace_id)
        assert given == sorted(set(given))
