"""What every RecordStore promises. A store's tests subclass this and give the fixture `store`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from inspection.errors import (
    CaptureConflict,
    KeyReused,
    NotFound,
    RecordError,
    RequestError,
)
from inspection.record import InspectionRecord, ReviewRecord
from inspection.standing import disposition_in_force
from inspection.store import Filter
from tests.contracts.drafts import make_draft, make_review
from tests.contracts.naming import NamingContract
from tests.contracts.statements import StatementsContract
from tests.contracts.views import ViewsContract

if TYPE_CHECKING:
    from inspection.record import InspectionDraft
    from inspection.store import RecordStore


def _ask(store: RecordStore, draft: InspectionDraft) -> InspectionRecord | None:
    return store.replay(
        draft.station, draft.idempotency_key, draft.capture_id, draft.request_sha256
    )


def _all(store: RecordStore, **fields: object) -> list[InspectionRecord]:
    found: list[InspectionRecord] = []
    before = None
    while True:
        page = store.find(Filter(**{"limit": 7, **fields, "before_sequence": before}))  # type: ignore[arg-type]
        found += page.records
        before = page.next_before
        if before is None:
            return found


class RecordStoreContract(StatementsContract, NamingContract, ViewsContract):
    """The promises, one test each."""

    # --- appending ---------------------------------------------------------------------------

    def test_record_is_what_was_sent_and_reads_back_the_same(self, store: RecordStore) -> None:
        draft = make_draft(lot="L7", machine="LPC-2", mould="M4", cavity="1", principal="line-1")
        record = store.append(draft)
        assert (record.part, record.serial) == (draft.serial, draft.serial)
        assert (record.attempt, record.reason, record.disposition) == (1, "first", "fail")
        assert (record.image_sha256, record.evidence) == (draft.image_sha256, draft.evidence)
        assert store.get(record.id) == record
        assert store.by_trace_id(record.trace_id) == record

    def test_attempts_count_a_part_of_a_product_whatever_the_station_calls_them(
        self, store: RecordStore
    ) -> None:
        first = store.append(make_draft())
        second = store.append(make_draft(reason="first"))
        third = store.append(make_draft(reason="after-rework"))
        other = store.append(make_draft(product="carrier"))
        assert [r.attempt for r in (first, second, third, other)] == [1, 2, 3, 1]
        assert [r.reason for r in (first, second, third, other)] == [
            "first",
            "recheck",
            "after-rework",
            "first",
        ]

    @pytest.mark.parametrize("reason", ["audit", "challenge", "simulated"])
    def test_what_does_not_count_has_no_attempt_and_takes_none(
        self, store: RecordStore, reason: str
    ) -> None:
        aside = store.append(make_draft(reason=reason))
        first = store.append(make_draft())
        between = store.append(make_draft(reason=reason))
        second = store.append(make_draft())
        assert [r.attempt for r in (aside, first, between, second)] == [None, 1, None, 2]

    def test_unread_marks_are_parts_of_their_own(self, store: RecordStore) -> None:
        one = store.append(make_draft(serial=None))
        two = store.append(make_draft(serial=None))
        aside = store.append(make_draft(serial=None, reason="challenge"))
        assert [r.attempt for r in (one, two, aside)] == [1, 1, None]
        assert one.part == f"unread:{one.trace_id}" != two.part
        assert list(store.part_history(one.product, one.part)) == [one]

    def test_trace_ids_rise_in_the_order_of_the_records(self, store: RecordStore) -> None:
        ids = [store.append(make_draft(serial=f"s{n}")).trace_id for n in range(20)]
        assert ids == sorted(set(ids))

    def test_appends_of_many_threads_are_all_kept_and_count_each_part_once(
        self, store: RecordStore
    ) -> None:
        drafts = [make_draft(serial=f"s{n % 5}") for n in range(160)]
        with ThreadPoolExecutor(32) as pool:
            records = list(pool.map(store.append, drafts))
        assert {r.capture_id for r in _all(store)} == {d.capture_id for d in drafts}
        assert len({r.id for r in records}) == len({r.trace_id for r in records}) == 160
        for part in range(5):
            attempts = sorted(r.attempt or 0 for r in records if r.part == f"s{part}")
            assert attempts == list(range(1, 33))
            history = store.part_history("knuckle", f"s{part}")
            assert [e.attempt for e in history if isinstance(e, InspectionRecord)] == attempts

    # --- the same request again --------------------------------------------------------------

    def test_new_request_has_no_answer_and_a_sent_one_has_its_record(
        self, store: RecordStore
    ) -> None:
        draft = make_draft()
        assert _ask(store, draft) is None
        record = store.append(draft)
        assert _ask(store, draft) == record

    def test_same_request_twice_is_one_record(self, store: RecordStore) -> None:
        draft = make_draft()
        assert store.append(draft) == store.append(draft)
        assert len(_all(store)) == 1

    def test_same_request_under_a_new_key_is_the_same_request(self, store: RecordStore) -> None:
        draft = make_draft(image_sha256="aa" * 32)
        again = make_draft(image_sha256="aa" * 32, capture_id=draft.capture_id)
        assert again.idempotency_key != draft.idempotency_key
        record = store.append(draft)
        assert _ask(store, again) == record
        assert store.append(again) == record

    def test_key_of_another_request_is_refused(self, store: RecordStore) -> None:
        draft = make_draft()
        store.append(draft)
        other = make_draft(idempotency_key=draft.idempotency_key)
        with pytest.raises(KeyReused):
            _ask(store, other)
        with pytest.raises(KeyReused):
            store.append(other)
        assert len(_all(store)) == 1

    def test_capture_of_another_request_is_refused(self, store: RecordStore) -> None:
        draft = make_draft()
        store.append(draft)
        other = make_draft(capture_id=draft.capture_id)
        with pytest.raises(CaptureConflict):
            _ask(store, other)
        with pytest.raises(CaptureConflict):
            store.append(other)
        assert len(_all(store)) == 1

    def test_keys_and_captures_are_a_stations_own(self, store: RecordStore) -> None:
        draft = make_draft()
        other = make_draft(
            station="xray-2", capture_id=draft.capture_id, idempotency_key=draft.idempotency_key
        )
        assert store.append(draft).id != store.append(other).id

    def test_same_request_from_many_threads_at_once_is_one_record(self, store: RecordStore) -> None:
        draft = make_draft()
        gate = threading.Barrier(16)

        def send(_: int) -> InspectionRecord:
            gate.wait()
            return store.append(draft)

        with ThreadPoolExecutor(16) as pool:
            records = list(pool.map(send, range(16)))
        assert all(record == records[0] for record in records)
        assert _all(store) == [records[0]]

    # --- reviews -----------------------------------------------------------------------------

    def test_reviews_are_added_in_order_and_overwrite_nothing(self, store: RecordStore) -> None:
        record = store.append(make_draft(disposition="review"))
        first = store.append_review(make_review(record.id, disposition="fail"))
        second = store.append_review(make_review(record.id, disposition="pass"))
        assert list(store.reviews(record.id)) == [first, second]
        assert store.get(record.id) == record
        in_force = disposition_in_force(store.part_history(record.product, record.part))
        assert in_force is not None
        assert (in_force.disposition, in_force.review_id) == ("pass", second.id)

    def test_review_of_nothing_is_refused(self, store: RecordStore) -> None:
        with pytest.raises(NotFound):
            store.append_review(make_review("01890a5d-ac96-774b-bcce-b302099a8057"))
        assert list(store.reviews("01890a5d-ac96-774b-bcce-b302099a8057")) == []

    def test_review_id_is_given_once(self, store: RecordStore) -> None:
        record = store.append(make_draft())
        review = store.append_review(make_review(record.id))
        with pytest.raises(RecordError, match="already there"):
            store.append_review(make_review(record.id, id=review.id, disposition="fail"))
        assert list(store.reviews(record.id)) == [review]

    # --- looking up --------------------------------------------------------------------------

    def test_what_is_not_there_is_not_found(self, store: RecordStore) -> None:
        with pytest.raises(NotFound):
            store.get("01890a5d-ac96-774b-bcce-b302099a8057")
        with pytest.raises(NotFound):
            store.by_trace_id("0000-0000-00000")
        assert list(store.part_history("knuckle", "nobody")) == []

    def test_history_holds_inspections_and_reviews_as_they_came(self, store: RecordStore) -> None:
        one = store.append(make_draft())
        store.append(make_draft(serial="another"))
        store.append(make_draft(product="carrier"))
        said = store.append_review(make_review(one.id))
        two = store.append(make_draft())
        later = store.append_review(make_review(one.id))
        history = store.part_history(one.product, one.part)
        assert list(history) == [one, said, two, later]
        assert [isinstance(entry, ReviewRecord) for entry in history] == [False, True, False, True]

    def test_list_is_newest_first_and_complete_page_by_page(self, store: RecordStore) -> None:
        records = [store.append(make_draft(serial=f"s{n}")) for n in range(23)]
        store.append_review(make_review(records[3].id))
        assert _all(store) == records[::-1]
        page = store.find(Filter(limit=23))
        assert (len(page.records), page.next_before) == (23, None)

    def test_pages_do_not_move_when_records_come_in_between(self, store: RecordStore) -> None:
        records = [store.append(make_draft(serial=f"s{n}")) for n in range(10)]
        first = store.find(Filter(limit=4))
        store.append(make_draft(serial="newer"))
        second = store.find(Filter(limit=4, before_sequence=first.next_before))
        assert [*first.records, *second.records] == records[:1:-1]

    @pytest.mark.parametrize(
        "wanted",
        [
            {"serial": "s1"},
            {"station": "xray-2"},
            {"product": "carrier"},
            {"lot": "L1"},
            {"machine": "LPC-1"},
            {"mould": "M1"},
            {"disposition": "pass"},
            {"product": "carrier", "lot": "L1", "disposition": "review"},
            {"serial": "' OR 1=1 --"},
        ],
        ids="+".join,
    )
    def test_filters_restrict_alone_and_together(
        self, store: RecordStore, wanted: dict[str, str]
    ) -> None:
        records = [
            store.append(
                make_draft(
                    serial=f"s{n % 4}",
                    station=f"xray-{n % 3}",
                    product=("knuckle", "carrier")[n % 2],
                    lot=(None, "L1", "L2")[n % 3],
                    machine=("LPC-1", None)[n % 2],
                    mould=f"M{n % 5}",
                    disposition=("pass", "fail", "review")[n % 3],
                )
            )
            for n in range(30)
        ]
        fitting = [
            r for r in reversed(records) if all(getattr(r, k) == v for k, v in wanted.items())
        ]
        assert _all(store, **wanted) == fitting

    def test_times_are_compared_as_instants(self, store: RecordStore) -> None:
        times = [f"2026-03-01T00:00:0{n}.{n}00Z" for n in range(5)]
        records = [
            store.append(make_draft(serial=f"s{n}", received_at=t)) for n, t in enumerate(times)
        ]
        found = _all(
            store,
            received_from="2026-03-01T09:00:01.100+09:00",  # included
            received_before="2026-03-01T00:00:03.300000Z",  # not included
        )
        assert found == [records[2], records[1]]
        assert _all(store, received_before="2026-03-01T00:00:00Z") == []
        assert _all(store, received_from="2026-03-01T00:00:04.4001Z") == []

    @pytest.mark.parametrize("text", ["2026-03-01T00:00:00", "yesterday", ""])
    def test_time_without_a_zone_is_refused(self, store: RecordStore, text: str) -> None:
        with pytest.raises(RequestError):
            store.find(Filter(received_from=text))

    # --- whether it works --------------------------------------------------------------------

    def test_healthy_store_says_so(self, store: RecordStore) -> None:
        store.check()
        store.append(make_draft())
        store.check()

    def test_closed_store_accepts_nothing(self, store: RecordStore) -> None:
        record = store.append(make_draft())
        store.close()
        store.close()
        for act in (
            lambda: store.append(make_draft()),
            lambda: store.append_review(make_review(record.id)),
            store.check,
            lambda: store.get(record.id),
        ):
            with pytest.raises(RecordError):
                act()
