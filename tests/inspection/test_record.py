from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inspection.entries import canonical_json, kind_of, parse_entry
from inspection.errors import RecordError, RequestError
from inspection.names import TraceIds
from inspection.record import (
    ATTEMPT_REASONS,
    NOT_COUNTED,
    AttemptReason,
    InspectionRecord,
    InspectionRequest,
    complete,
)
from inspection.standing import InForce, disposition_in_force
from tests.contracts.drafts import make_draft, make_review

if TYPE_CHECKING:
    from inspection.entries import Entry
    from inspection.verdict import Disposition

TRACE_IDS = TraceIds()


def inspected(
    disposition: Disposition, reason: AttemptReason = "first", attempt: int = 1, **fields: Any
) -> InspectionRecord:
    counts = reason not in NOT_COUNTED
    return complete(
        make_draft(disposition=disposition, reason=reason, **fields),
        trace_id=TRACE_IDS.next(),
        attempt=attempt if counts else None,
    )


# --- what a station asks -----------------------------------------------------------------------


def request(**fields: Any) -> InspectionRequest:
    return InspectionRequest(
        **{
            "station": "xray-1",
            "product": "knuckle",
            "capture_id": "c1",
            "idempotency_key": "k1",
            "serial": "0000000001",
            **fields,
        }
    )


@pytest.mark.parametrize("name", ["station", "product", "capture_id", "idempotency_key"])
def test_field_that_is_needed_must_be_there(name: str) -> None:
    with pytest.raises(RequestError, match=name):
        request(**{name: ""})


@pytest.mark.parametrize(
    "fields",
    [
        {"lot": "x" * 201},
        {"station": "a\nb"},
        {"mould": "a\x00"},
        {"reason": "because"},
        {"serial": ""},
        {"serial": "   "},
        {"serial": "unread:06AG-RYWH-X7H88"},
    ],
)
def test_field_without_a_meaning_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        request(**fields)


def test_request_is_the_same_whatever_its_key_and_another_with_any_other_field() -> None:
    image = "aa" * 32
    same = request().digest(image)
    assert request(idempotency_key="another").digest(image) == same
    assert request().digest("bb" * 32) != same
    for field in fields(InspectionRequest):
        if field.name not in ("idempotency_key", "reason", "view_set", "view"):
            assert request(**{field.name: "other"}).digest(image) != same, field.name
    assert request(reason="audit").digest(image) != same
    assert request(view_set="s", view="top").digest(image) != same


# --- a record ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "attempt", "kept"),
    [
        (None, 1, "first"),
        (None, 2, "recheck"),
        ("first", 2, "recheck"),
        ("first", 1, "first"),
        ("recheck", 1, "recheck"),
        ("after-rework", 3, "after-rework"),
        ("audit", None, "audit"),
    ],
)
def test_reason_is_the_stations_unless_the_part_is_known(
    said: AttemptReason | None, attempt: int | None, kept: str
) -> None:
    record = complete(make_draft(reason=said), trace_id="0000-0000-00000", attempt=attempt)
    assert (record.reason, record.attempt) == (kept, attempt)


def test_unread_part_goes_by_its_trace_id_and_never_passes() -> None:
    draft = make_draft(serial=None, disposition="review")
    assert complete(draft, trace_id="T", attempt=1).part == "unread:T"
    with pytest.raises(RecordError):
        complete(make_draft(serial=None, disposition="pass"), trace_id="T", attempt=1)
    with pytest.raises(RecordError):
        complete(replace(draft, serial=""), trace_id="T", attempt=1)


def test_whatever_is_no_pass_says_why() -> None:
    with pytest.raises(RecordError):
        replace(inspected("fail"), reasons=())


@pytest.mark.parametrize(
    "fields", [{"reason": " "}, {"reason": "x" * 2001}, {"disposition": "review"}]
)
def test_review_decides_and_says_why(fields: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        make_review("i", **fields)


# --- its one written form ----------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(0, 1)


@given(
    lot=st.none() | texts,
    principal=st.none() | texts,
    part=texts.filter(bool),
    probability=st.dictionaries(texts, numbers, max_size=4),
    novelty=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    timings=st.dictionaries(texts, st.floats(0, 1e6), max_size=3),
    attempt=st.none() | st.integers(1, 10**6),
)
def test_record_is_written_in_one_form_and_reads_back(
    lot: str | None,
    principal: str | None,
    part: str,
    probability: dict[str, float],
    novelty: float | None,
    timings: dict[str, float],
    attempt: int | None,
) -> None:
    record = replace(
        inspected("fail"),
        lot=lot,
        principal=principal,
        part=part,
        serial=part,
        probability=probability,
        novelty=novelty,
        timings_ms=timings,
        attempt=attempt,
    )
    body = canonical_json(record)
    back = parse_entry("inspection", body)
    assert back == record
    assert canonical_json(back) == body
    assert rfc8785.dumps(json.loads(body, parse_int=float)) == body


@given(texts.filter(lambda text: bool(text.strip())), texts)
def test_review_is_written_in_one_form_and_reads_back(reason: str, reviewer: str) -> None:
    review = make_review("i", reason=reason, reviewer=reviewer)
    body = canonical_json(review)
    assert parse_entry("review", body) == review
    assert rfc8785.dumps(json.loads(body, parse_int=float)) == body


def test_keys_are_sorted_and_nothing_is_between_them() -> None:
    body = canonical_json(make_review("i", id="r", reviewer="김", reason="ok"))
    assert body.decode() == (
        '{"disposition":"pass","id":"r","inspection_id":"i","reason":"ok",'
        '"reviewed_at":"2026-03-01T00:00:00.000Z","reviewer":"김"}'
    )


def test_number_that_is_none_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="nan"):
        canonical_json(replace(inspected("fail"), novelty=math.nan))


def test_kinds_are_told_apart() -> None:
    record, review = inspected("fail"), make_review("i")
    assert (kind_of(record), kind_of(review)) == ("inspection", "review")
    with pytest.raises(ValidationError):
        parse_entry("review", canonical_json(record))
    with pytest.raises(ValidationError):
        parse_entry("inspection", canonical_json(review))


def test_field_that_is_not_known_is_refused() -> None:
    body = json.loads(canonical_json(make_review("i"))) | {"more": 1}
    with pytest.raises(ValidationError):
        parse_entry("review", json.dumps(body).encode())


# --- what is in force --------------------------------------------------------------------------


def stands(*entries: Entry) -> str | None:
    found = disposition_in_force(entries)
    return None if found is None else found.disposition


def test_nothing_is_in_force_before_an_inspection() -> None:
    assert disposition_in_force([]) is None


@pytest.mark.parametrize("disposition", ["pass", "fail", "review"])
def test_first_inspection_stands(disposition: Disposition) -> None:
    record = inspected(disposition)
    assert disposition_in_force([record]) == InForce(
        disposition=disposition, inspection_id=record.id, review_id=None, why="attempt 1, first"
    )


def view(disposition: Disposition, **fields: Any) -> InspectionRecord:
    draft = make_draft(disposition=disposition, view_set="s", view="front", **fields)
    return complete(draft, trace_id=TRACE_IDS.next(), attempt=None)


def test_a_view_alone_settles_nothing() -> None:
    assert stands(view("pass")) is None
    assert stands(view("fail")) is None
    assert stands(inspected("pass"), view("pass")) == "pass"
    assert stands(inspected("fail"), view("pass")) == "fail"


def test_a_pass_from_before_does_not_outlive_a_view_that_was_bad() -> None:
    passed, bad = inspected("pass"), view("fail")
    assert stands(passed, bad) == "review"
    assert stands(passed, bad, make_review(passed.id, disposition="pass")) == "review"
    assert stands(passed, view("review")) == "review"
    assert stands(passed, bad, inspected("pass", "recheck", 2)) == "pass"
    assert stands(passed, bad, inspected("fail", "recheck", 2)) == "fail"
    assert stands(passed, view("fail", reason="challenge")) == "pass"


@pytest.mark.parametrize("reason", sorted(NOT_COUNTED))
def test_what_does_not_count_changes_nothing(reason: AttemptReason) -> None:
    assert stands(inspected("fail", reason)) is None
    assert stands(inspected("pass"), inspected("fail", reason)) == "pass"
    aside = inspected("fail", reason)
    assert stands(inspected("fail"), aside, make_review(aside.id)) == "fail"


@pytest.mark.parametrize(
    ("before", "after", "in_force"),
    [
        ("pass", "pass", "pass"),
        ("pass", "review", "review"),
        ("pass", "fail", "fail"),
        ("review", "pass", "pass"),
        ("review", "review", "review"),
        ("review", "fail", "fail"),
        ("fail", "pass", "fail"),
        ("fail", "review", "fail"),
        ("fail", "fail", "fail"),
    ],
)
def test_recheck_stands_but_never_lifts_a_fail(
    before: Disposition, after: Disposition, in_force: str
) -> None:
    assert stands(inspected(before), inspected(after, "recheck", 2)) == in_force


@pytest.mark.parametrize("after", ["pass", "review", "fail"])
def test_inspection_after_rework_stands_over_a_fail(after: Disposition) -> None:
    assert stands(inspected("fail"), inspected(after, "after-rework", 2)) == after


@pytest.mark.parametrize("decision", ["pass", "fail"])
def test_person_decides_what_stands(decision: Disposition) -> None:
    record = inspected("review")
    review = make_review(record.id, disposition=decision)
    assert disposition_in_force([record, review]) == InForce(
        disposition=decision,
        inspection_id=record.id,
        review_id=review.id,
        why=f"decided by {review.reviewer}: {review.reason}",
    )


def test_last_of_several_decisions_stands() -> None:
    record = inspected("review")
    decisions = [make_review(record.id, disposition=d) for d in ("fail", "pass")]
    assert stands(record, *decisions) == "pass"
    assert stands(record, *reversed(decisions)) == "fail"


def test_decision_ends_when_the_part_is_inspected_again() -> None:
    record = inspected("fail")
    lifted = make_review(record.id, disposition="pass")
    assert stands(record, lifted) == "pass"
    assert stands(record, lifted, inspected("fail", "recheck", 2)) == "fail"
    assert stands(record, lifted, inspected("review", "recheck", 2)) == "review"


def test_fail_that_a_person_decided_is_lifted_by_no_recheck() -> None:
    record = inspected("review")
    failed = make_review(record.id, disposition="fail")
    assert stands(record, failed, inspected("pass", "recheck", 2)) == "fail"


def test_rework_lifts_a_fail_of_the_machines_and_sends_one_of_a_persons_to_a_person() -> None:
    record = inspected("review")
    failed = make_review(record.id, disposition="fail")
    reworked = inspected("pass", "after-rework", 2)
    assert stands(record, failed, reworked) == "review"
    assert stands(record, failed, reworked, make_review(reworked.id, disposition="pass")) == "pass"


def test_a_persons_fail_on_an_audit_counts_and_a_pass_does_not() -> None:
    first, audit = inspected("pass"), inspected("fail", "audit")
    assert stands(first, audit, make_review(audit.id, disposition="fail")) == "fail"
    failed, again = inspected("fail"), inspected("pass", "audit")
    assert stands(failed, again, make_review(again.id, disposition="pass")) == "fail"
    alone = inspected("review", "audit")
    decided = make_review(alone.id, disposition="fail")
    assert stands(alone, decided) == "fail"
    assert stands(alone, decided, inspected("pass")) == "fail"
    for reason in ("challenge", "simulated"):
        aside = inspected("fail", reason)
        assert stands(first, aside, make_review(aside.id, disposition="fail")) == "pass"


def test_pass_decided_late_on_an_older_inspection_lifts_no_newer_fail() -> None:
    older, newer = inspected("review"), inspected("fail", "recheck", 2)
    assert stands(older, newer, make_review(older.id, disposition="pass")) == "fail"
    assert stands(older, newer, make_review(newer.id, disposition="pass")) == "pass"


def test_fail_decided_late_on_an_older_inspection_stands() -> None:
    older, newer = inspected("review"), inspected("pass", "recheck", 2)
    assert stands(older, newer, make_review(older.id, disposition="fail")) == "fail"


def test_fail_may_be_lifted_by_a_review_of_the_recheck_that_did_not_lift_it() -> None:
    older, newer = inspected("fail"), inspected("pass", "recheck", 2)
    assert stands(older, newer, make_review(newer.id, disposition="pass")) == "pass"


def test_decision_on_another_parts_inspection_changes_nothing() -> None:
    assert stands(inspected("fail"), make_review("another", disposition="pass")) == "fail"


dispositions = st.sampled_from(["pass", "fail", "review"])


@given(st.lists(st.tuples(dispositions, st.sampled_from(ATTEMPT_REASONS)), max_size=8))
def test_without_people_or_rework_a_fail_stays(
    inspections: list[tuple[Disposition, AttemptReason]],
) -> None:
    entries = [inspected(d, r, n) for n, (d, r) in enumerate(inspections, start=1)]
    counted = [e for e in entries if e.reason not in NOT_COUNTED]
    found = disposition_in_force(entries)
    assert (found is None) == (not counted)
    if any(e.disposition == "fail" for e in counted) and not any(
        e.reason == "after-rework" for e in counted
    ):
        assert found is not None
        assert found.disposition == "fail"
