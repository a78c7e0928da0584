"""What is remembered of an inspection, for ever.

    draft -> RecordStore.append -> InspectionRecord

Records are only ever added. `events.py` has what else is remembered of a part, `entries.py` how all
of it is written down, `standing.py` what follows from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Final, Literal, get_args

from pydantic import ConfigDict

from inspection.canonical import canonical_bytes
from inspection.decoding.acquisition import Acquisition
from inspection.errors import RecordError, RequestError
from inspection.mark_forms import SEPARATORS
from inspection.names import new_inspection_id
from inspection.verdict import Disposition, Finding, Reason, Verdict

AttemptReason = Literal["first", "recheck", "after-rework", "audit", "challenge", "simulated"]
ATTEMPT_REASONS: tuple[AttemptReason, ...] = get_args(AttemptReason)
NOT_COUNTED: frozenset[str] = frozenset({"audit", "challenge", "simulated"})
"""Reasons under which an inspection has no attempt number and never changes what is in force."""

_SEPARATORS = dict.fromkeys(map(ord, SEPARATORS))

UNREAD = "unread:"
"""What the provisional identity of a part with an unread mark begins with; no serial does."""


# --- what was asked --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionRequest:
    """What a station says about the image it sends.

    Attributes:
        serial: the mark as read; None when it could not be read.
        captured_at: RFC 3339 with a zone, by the station's clock.
        reason: why this capture was made; None is "first" for a new part, else "recheck".
        view_set: ID of the set of views that this image belongs to; None when it is the only one.
        view: which of the set's views it shows.
    """

    station: str
    product: str
    capture_id: str
    idempotency_key: str
    serial: str | None = None
    captured_at: str | None = None
    lot: str | None = None
    machine: str | None = None
    mould: str | None = None
    cavity: str | None = None
    reason: AttemptReason | None = None
    view_set: str | None = None
    view: str | None = None

    MAX_LENGTH: ClassVar[int] = 200

    def __post_init__(self) -> None:
        for name in ("station", "product", "capture_id", "idempotency_key"):
            if not getattr(self, name):
                raise RequestError(f"`{name}` is missing", remedy=f"Send `{name}`.")
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            # An ISO/IEC 15434 envelope around a serial has separators that cannot be printed.
            shown = value.translate(_SEPARATORS) if name == "serial" else value
            if len(value) > self.MAX_LENGTH or not shown.isprintable():
                raise RequestError(
                    f"`{name}` is longer than {self.MAX_LENGTH} characters or holds control "
                    "characters"
                )
        if self.serial is not None and not self.serial.strip():
            raise RequestError(
                "`serial` is blank", remedy="Leave `serial` out when the mark could not be read."
            )
        if self.serial is not None and self.serial.startswith(UNREAD):
            raise RequestError(f"a serial cannot begin with {UNREAD!r}: that is for unread marks")
        if self.reason is not None and self.reason not in ATTEMPT_REASONS:
            raise RequestError(f"`reason` is one of {', '.join(ATTEMPT_REASONS)}")
        if (self.view_set is None) != (self.view is None):
            raise RequestError("`view_set` and `view` come together", remedy="Send both or none.")

    def digest(self, image_sha256: str) -> str:
        """Two requests are the same when this is: station, fields and image, not the key."""
        said = {name: getattr(self, name) for name in _IN_DIGEST}
        for name in ("view_set", "view"):  # a request of an earlier release keeps its digest
            if said[name] is None:
                del said[name]
        return hashlib.sha256(canonical_bytes({**said, "image": image_sha256})).hexdigest()


_IN_DIGEST: Final = tuple(
    each.name for each in fields(InspectionRequest) if each.name != "idempotency_key"
)


# --- what is kept ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """The package that judged."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeReference:
    """The recipe that it was judged by."""

    product: str
    revision: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReference:
    """Where the evidence map is and how it lies on the frame.

    Attributes:
        sha256: of the file in the image store: NumPy .npy, (K, h, w) float16, log-odds.
        region_px: (top, left, height, width) of the frame that it covers.
        slope, intercept: the calibration that turns it into local probability.
    """

    sha256: str
    region_px: tuple[int, int, int, int]
    slope: tuple[float, ...]
    intercept: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorReference:
    """The calibration of the detector by which the image was flat-fielded.

    Attributes:
        digest: of the calibration set.
        made_at: when it was made; RFC 3339, UTC.
        checked_at: when the detector was last found healthy; None when it never was checked.
    """

    digest: str
    made_at: str
    checked_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Contents of files that become durable with the record, before the files themselves are.

    None where there is no such file, or it is durable already.
    """

    image: bytes | None = None
    evidence: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionDraft:
    """Everything about an inspection but what only the store can give: names and attempt."""

    station: str
    product: str
    capture_id: str
    idempotency_key: str
    request_sha256: str
    serial: str | None
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None
    reason: AttemptReason | None
    verdict: Verdict
    model: ModelReference
    recipe: RecipeReference
    image_sha256: str
    image_media_type: str
    image_size_px: tuple[int, int]
    evidence: EvidenceReference | None
    captured_at: str | None
    received_at: str
    timings_ms: dict[str, float] = field(default_factory=dict)
    principal: str | None = None
    view_set: str | None = None
    view: str | None = None
    engine: str | None = None
    acquisition: Acquisition | None = None
    detector: DetectorReference | None = None
    carried: Carried | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewReference:
    """One view of a part, in the inspection that sums its views up.

    `inspection_id` and `disposition` are None where the view is missing.
    """

    view: str
    inspection_id: str | None
    disposition: Disposition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionRecord:
    """One inspection as it stands in the records.

    `serial` is None when the mark was unread; `part` then holds a provisional identity made from
    the trace ID, and otherwise the serial. `attempt` is None for reasons that do not count.

    Attributes:
        view: which view of `view_set` this image shows; such a record alone settles nothing.
        view_set: the set of views that it belongs to, or that it closes.
        views: of the record that closes a set: each view, and which image it was judged by. Image,
            evidence and findings are then those of the worst view.
        engine: what ran the network, in words; None where none was asked, and in records of
            releases before 0.2.
        acquisition: what the image file says of the exposure; None where it says nothing.
        detector: the calibration that the image was flat-fielded by; None without one.
        allowed: what was found and the rules of its zone allow; strongest first.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    trace_id: str
    part: str
    serial: str | None
    station: str
    product: str
    lot: str | None
    machine: str | None
    mould: str | None
    cavity: str | None
    capture_id: str
    attempt: int | None
    reason: AttemptReason
    disposition: Disposition
    probability: dict[str, float]
    novelty: float | None
    findings: tuple[Finding, ...]
    reasons: tuple[Reason, ...]
    model: ModelReference
    recipe: RecipeReference
    image_sha256: str
    image_media_type: str
    image_size_px: tuple[int, int]
    evidence: EvidenceReference | None
    captured_at: str | None
    received_at: str
    timings_ms: dict[str, float]
    idempotency_key: str
    request_sha256: str
    principal: str | None
    view_set: str | None = None
    view: str | None = None
    views: tuple[ViewReference, ...] = ()
    engine: str | None = None
    acquisition: Acquisition | None = None
    detector: DetectorReference | None = None
    allowed: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.serial is not None and not self.serial:
            raise RecordError("an empty serial is no serial: an unread mark has None")
        if self.serial is None and self.disposition == "pass":
            raise RecordError("a part whose mark was not read is never a pass")
        if self.disposition != "pass" and not self.reasons:
            raise RecordError("whatever is not a pass says why")
        if self.view is not None and (self.view_set is None or self.views or self.attempt):
            raise RecordError("a view belongs to a set, holds no views and is no attempt")
        if (
            self.views
            and self.disposition == "pass"
            and any(each.disposition != "pass" for each in self.views)
        ):
            raise RecordError("a part passes only when every view of it was seen and passed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRecord:
    """A person's decision on an inspection; added, never changed.

    Attributes:
        reviewer: the name on the access key that decided.
        reason: in the person's words.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str
    inspection_id: str
    disposition: Literal["pass", "fail"]
    reason: str
    reviewer: str
    reviewed_at: str

    def __post_init__(self) -> None:
        if self.disposition not in ("pass", "fail"):
            raise RequestError("`disposition` of a review is pass or fail: a person decides")
        if not self.reason.strip() or len(self.reason) > 2000:
            raise RequestError("`reason` of a review holds 1 to 2,000 characters")


def complete(
    draft: InspectionDraft,
    *,
    trace_id: str,
    attempt: int | None,
    inspection_id: str | None = None,
    part: str | None = None,
    views: tuple[ViewReference, ...] = (),
) -> InspectionRecord:
    """The record of a draft.

    Args:
        draft: what was found.
        trace_id: its own.
        attempt: the part's next number; None when it does not count, or is only one view.
        inspection_id: a fresh one when absent.
        part: the identity of the set of views that it belongs to; its own when absent.
        views: what a record that closes a set sums up.
    """
    reason = draft.reason or ("recheck" if (attempt or 1) > 1 else "first")
    if reason == "first" and attempt is not None and attempt > 1:
        reason = "recheck"  # a station that always says "first" does not make the part new
    verdict = draft.verdict
    return InspectionRecord(
        id=inspection_id or new_inspection_id(),
        trace_id=trace_id,
        part=part or (f"{UNREAD}{trace_id}" if draft.serial is None else draft.serial),
        serial=draft.serial,
        station=draft.station,
        product=draft.product,
        lot=draft.lot,
        machine=draft.machine,
        mould=draft.mould,
        cavity=draft.cavity,
        capture_id=draft.capture_id,
        attempt=attempt,
        reason=reason,
        disposition=verdict.disposition,
        probability={name: round(p, 6) for name, p in verdict.probability.items()},
        novelty=None if verdict.novelty is None else round(verdict.novelty, 6),
        findings=tuple(map(_rounded, verdict.findings)),
        reasons=verdict.reasons,
        model=draft.model,
        recipe=draft.recipe,
        image_sha256=draft.image_sha256,
        image_media_type=draft.image_media_type,
        image_size_px=draft.image_size_px,
        evidence=draft.evidence,
        captured_at=draft.captured_at,
        received_at=draft.received_at,
        timings_ms=draft.timings_ms,
        idempotency_key=draft.idempotency_key,
        request_sha256=draft.request_sha256,
        principal=draft.principal,
        view_set=draft.view_set,
        view=draft.view,
        views=views,
        engine=draft.engine,
        acquisition=draft.acquisition,
        detector=draft.detector,
        allowed=tuple(map(_rounded, verdict.allowed)),
    )


def _rounded(finding: Finding) -> Finding:
    """A finding as it is kept: probability to six places, size to a micrometre."""
    size_mm = None if finding.size_mm is None else round(finding.size_mm, 3)
    return replace(finding, probability=round(finding.probability, 6), size_mm=size_mm)
