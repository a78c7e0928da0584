"""What every RecordStore answers. A store's tests subclass this and give `store` and `filled`.

The answers are compared with those of plain Python over everything that was put in (`asked.py`).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from inspection.errors import NotFound, RecordError, RequestError
from inspection.events import Assembly, ProcessValue, Release
from inspection.names import new_inspection_id
from inspection.store import Filter, ViewSetDraft
from tests.contracts.asked import (
    BY,
    MORE,
    NOW,
    PAIRS,
    SINGLES,
    counted,
    fits,
    listed,
    make_event,
    make_hold,
    make_naming,
    make_values,
)
from tests.contracts.drafts import make_draft, make_review

if TYPE_CHECKING:
    from inspection.record import InspectionRecord
    from inspection.store import Change, RecordStore


class AskingContract:
    """The answers, one test each."""

    # --- lists ---------------------------------------------------------------------------------

    def test_any_filters_together_list_what_fits_and_nothing_else(
        self, filled: tuple[RecordStore, list[InspectionRecord]]
    ) -> None:
        store, records = filled
        empty = 0
        for wanted in (*SINGLES, *PAIRS, *MORE):
            expected = [r for r in reversed(records) if fits(r, Filter(**wanted))]  # type: ignore[arg-type]
            assert listed(store, **wanted) == (expected, 0), wanted
            empty += not expected
        assert 5 < empty < 80, "both kinds are asked for"

    def test_a_page_that_is_cut_short_says_so_and_goes_on(
        self,
        filled: tuple[RecordStore, list[InspectionRecord]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store, records = filled
        monkeypatch.setattr("inspection.stores.search.BUDGET", 3)
        monkeypatch.setattr("inspection.stores.search.STRETCHES", 1)
        monkeypatch.setattr("inspection.stores.search._NEAR", 0)
        cuts = 0
        for wanted in (*PAIRS[::3], *MORE):
            expected = [r for r in reversed(records) if fits(r, Filter(**wanted))]  # type: ignore[arg-type]
            everything, cut = listed(store, **wanted)
            assert everything == expected, wanted
            cuts += cut
        assert cuts > 20

    def test_what_nothing_can_fit_is_known_without_looking(
        self,
        filled: tuple[RecordStore, list[InspectionRecord]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("inspection.stores.search.BUDGET", 1)
        page = filled[0].find(Filter(mould="M4", disposition="review"))
        assert (page.records, page.next_before, page.truncated) == ((), None, False)

    # --- counts --------------------------------------------------------------------------------

    def test_counts_are_those_of_the_list(
        self, filled: tuple[RecordStore, list[InspectionRecord]]
    ) -> None:
        store, records = filled
        for wanted in (*SINGLES, *PAIRS, *MORE):
            expected = [r for r in records if fits(r, Filter(**wanted))]  # type: ignore[arg-type]
            (row,) = store.counts(Filter(**wanted))  # type: ignore[arg-type]
            assert row == counted(expected, (), None)[0], wanted
            assert row.inspections == row.passed + row.failed + row.review

    @pytest.mark.parametrize("bucket", [None, "hour", "day", "month"])
    def test_counts_by_anything_in_buckets_of_time(
        self, filled: tuple[RecordStore, list[InspectionRecord]], bucket: Any
    ) -> None:
        store, records = filled
        groups: tuple[tuple[str, ...], ...] = (
            *((name,) for name in ("product", "station", "lot", "machine", "mould")),
            *(("disposition",), ("reason",), ("defect_class",)),
            *(("product", "disposition"), ("lot", "disposition"), ("machine", "defect_class")),
        )
        for wanted in (*SINGLES[::2], *MORE):
            expected = [r for r in records if fits(r, Filter(**wanted))]  # type: ignore[arg-type]
            for by in groups:
                rows = store.counts(Filter(**wanted), by=by, bucket=bucket)  # type: ignore[arg-type]
                fitting = counted(expected, by, bucket, wanted.get("defect_class"))
                assert list(rows) == fitting, (wanted, by)

    def test_first_pass_yield_is_of_first_attempts_alone(self, store: RecordStore) -> None:
        for serial, dispositions in {
            "a": ("fail", "pass"),
            "b": ("pass",),
            "c": ("review",),
        }.items():
            for disposition in dispositions:
                store.append(make_draft(serial=serial, disposition=disposition))  # type: ignore[arg-type]
        store.append(make_draft(serial="d", disposition="pass", reason="audit"))
        (row,) = store.counts(Filter())
        assert (row.inspections, row.passed, row.first, row.first_passed) == (5, 3, 3, 1)
        assert row.first_pass_yield == pytest.approx(1 / 3)
        (row,) = store.counts(Filter(serial="nobody"))
        assert (row.inspections, row.first_pass_yield) == (0, None)

    def test_too_much_to_count_is_refused(self, store: RecordStore) -> None:
        store.append(make_draft(received_at="2026-01-01T00:00:00.000Z", lot="L1"))
        store.append(make_draft(received_at="2026-03-01T00:00:00.000Z", lot="L2"))
        with pytest.raises(
            RequestError, match="hours are counted side by side over at most 7 days"
        ):
            store.counts(Filter(), bucket="hour")
        with pytest.raises(RequestError, match="lots are counted side by side over at most 7 days"):
            store.counts(Filter(), by=("lot",))
        with pytest.raises(RequestError, match="once"):
            store.counts(Filter(), by=("lot", "lot"))
        assert len(store.counts(Filter(), by=("product",), bucket="day")) == 2
        assert len(store.counts(Filter(lot="L1"), by=("lot",), bucket="month")) == 1

    # --- parts ---------------------------------------------------------------------------------

    def test_a_part_keeps_its_history_under_all_its_names(self, store: RecordStore) -> None:
        unread = store.append(make_draft(serial=None, disposition="review"))
        seen = store.append(make_draft(serial="A"))
        said = store.append_review(make_review(unread.id, disposition="fail"))
        event = store.add(make_event("A"))
        bound = store.add(make_naming(unread.part, "A", "bound"))
        marked = store.add(make_naming("A", "B", "re-marked"))
        again = store.append(make_draft(serial="B"))
        fitted = store.add(
            Assembly(
                id=new_inspection_id(),
                product="axle",
                part="X1",
                component_product="knuckle",
                component_part="B",
                action="fitted",
                at=NOW,
                **BY,
            )
        )
        hold = store.add(make_hold("part", "B"))
        release = store.add(
            Release(id=new_inspection_id(), hold_id=hold.id, reason="cleared", **BY)
        )
        store.append(make_draft(serial="B", product="carrier"))
        store.append(make_draft(serial="C"))
        everything = [unread, seen, said, event, bound, marked, again, fitted, hold, release]
        assert again.attempt == 3
        for name in (unread.part, "A", "B"):
            names = store.names("knuckle", name)
            assert (names.root, set(names.names)) == ("A", {"A", "B", unread.part})
            assert list(store.part_history("knuckle", name)) == everything
        assert list(store.part_history("axle", "X1")) == [fitted]
        assert store.names("knuckle", "C").names == ("C",)
        both = store.histories("knuckle", ["C", "B", "nobody", "B", unread.part])
        assert list(both) == ["C", "B", "nobody", unread.part]
        assert list(both["B"][1]) == list(both[unread.part][1]) == everything
        assert (list(both["nobody"][1]), both["nobody"][0].names) == ([], ("nobody",))
        assert store.histories("knuckle", []) == {}
        with pytest.raises(RequestError):
            store.histories("knuckle", [f"s{n}" for n in range(501)])

    def test_views_of_a_set_and_what_closed_it(self, store: RecordStore) -> None:
        opened = store.open_views(
            ViewSetDraft(
                id=new_inspection_id(),
                station="xray-1",
                product="knuckle",
                serial="A",
                views=("top", "side"),
                by="xray-1",
                recorded_at=NOW,
            )
        )
        assert store.view_set(opened.id).views == ()
        taken = [
            store.append(make_draft(serial="A", view_set=opened.id, view=view))
            for view in ("side", "top")
        ]
        state = store.view_set(opened.id)
        assert (state.opened, list(state.views), state.closed) == (opened, taken, None)
        closed = store.close_views(opened.id, by="xray-1", received_at=NOW)
        assert store.view_set(opened.id).closed == closed
        assert store.find(Filter()).records == (closed,)
        assert store.get(taken[0].id) == taken[0]
        assert list(store.part_history("knuckle", "A")) == [opened, *taken, closed]
        with pytest.raises(NotFound):
            store.view_set("nothing")

    def test_holds_stand_until_they_are_released(self, store: RecordStore) -> None:
        store.append(make_draft(serial="A", lot="L1", mould="M1"))
        part, lot, mould = (
            store.add(make_hold(scope, value))
            for scope, value in (("part", "A"), ("lot", "L1"), ("mould", "M1"))
        )
        keys: Any = [("knuckle", "part", "A"), ("knuckle", "lot", "L1"), ("carrier", "lot", "L1")]
        assert [each.hold for each in store.holds_on(keys)] == [part, lot]
        assert store.holds_on([]) == []
        assert store.holds_on([("knuckle", "part", "L1")]) == []
        release = store.add(Release(id=new_inspection_id(), hold_id=lot.id, reason="cleared", **BY))
        assert [each.hold for each in store.holds_on(keys)] == [part]
        assert [each.hold for each in store.holds()] == [mould, part]
        everything = store.holds(product="knuckle", standing=False)
        assert [(each.hold, each.released_by) for each in everything] == [
            (mould, None),
            (lot, release.id),
            (part, None),
        ]
        assert [each.hold for each in store.holds(standing=False, limit=1)] == [mould]
        assert store.holds(product="carrier") == []

    def test_process_values_of_a_part_and_of_a_machine_by_time(self, store: RecordStore) -> None:
        def value(minute: int, **fields: Any) -> ProcessValue:
            fields = {"machine": "LPC-1", "value": float(minute), **fields}
            at = f"2026-03-01T01:{minute:02}:00+00:00"
            return ProcessValue(**{"name": "melt", "unit": "degC", "at": at, **fields})

        window = value(5, until="2026-03-01T01:25:00Z", name="pressure", unit="bar")
        ofpart = value(20, machine=None, product="knuckle", part="A")
        first = [value(30), value(10), window]
        store.add(make_values(*first))
        store.add(make_values(ofpart, value(20), value(15, machine="LPC-2")))
        ask = store.process_values
        assert list(ask(machine="LPC-1")) == [window, value(10), value(20), value(30)]
        within: Any = {"start": "2026-03-01T01:20:00Z", "end": "2026-03-01T10:30:00+09:00"}
        assert list(ask(machine="LPC-1", **within)) == [window, value(20)]
        assert list(ask(machine="LPC-1", start="2026-03-01T01:25:00Z")) == [value(30)]
        assert list(ask(product="knuckle", part="A")) == [ofpart]
        assert list(ask(product="knuckle", part="A", machine="LPC-2")) == [
            value(15, machine="LPC-2"),
            ofpart,
        ]
        assert list(ask(machine="LPC-1", limit=1)) == [window]
        for wrong in ({}, {"part": "A"}, {"machine": "LPC-1", "limit": 0}):
            with pytest.raises(RequestError):
                ask(**wrong)

    # --- the order of commits ------------------------------------------------------------------

    def test_changes_are_everything_in_the_order_of_commits(
        self, filled: tuple[RecordStore, list[InspectionRecord]]
    ) -> None:
        store, records = filled
        newest = store.newest()
        seen: list[Change] = []
        while len(seen) < newest:
            page = store.changes(len(seen), limit=13)
            assert [change.sequence for change in page] == list(
                range(len(seen) + 1, min(len(seen) + 13, newest) + 1)
            )
            seen += page
        assert store.changes(newest) == []
        assert [e.entry for e in seen if e.entry in records] == records
        assert {"inspection", "view-set"} == {each.kind for each in seen}
        for wrong in ({"after": 0, "limit": 0}, {"after": 0, "limit": 1001}, {"after": -1}):
            with pytest.raises(RequestError):
                store.changes(**wrong)

    def test_whoever_waits_is_woken_by_the_commit(self, store: RecordStore) -> None:
        store.append(make_draft())
        begun = time.monotonic()
        assert store.wait_beyond(0, 5) == 1
        assert store.wait_beyond(1, 0.05) == 1
        assert 0.05 <= time.monotonic() - begun < 2
        answers: list[tuple[int, float]] = []

        def wait() -> None:
            answers.append((store.wait_beyond(1, 20), time.monotonic()))

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        store.append(make_draft())
        committed = time.monotonic()
        for thread in threads:
            thread.join()
        assert [newest for newest, _ in answers] == [2] * 4
        assert max(at for _, at in answers) - committed < 0.4, "woken, not found by looking"

    def test_closing_lets_go_whoever_waits(self, store: RecordStore) -> None:
        failures: list[Exception] = []

        def wait() -> None:
            try:
                store.wait_beyond(0, 60)
            except RecordError as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        store.close()
        thread.join(timeout=5)
        assert not thread.is_alive()
        assert len(failures) == 1

    def test_a_secret_is_made_once_and_kept(self, store: RecordStore) -> None:
        secret = store.secret("cursors")
        assert len(secret) == 32
        assert secret != bytes(32)
        assert store.secret("cursors") == secret
        with pytest.raises(RecordError):
            store.secret("nothing")
