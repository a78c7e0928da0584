"""The journey of one part, top to bottom.

image bytes -> decode_image -> Frame -> prepare(Recipe) -> Engine.infer -> Prediction
  -> decide(OperatingPoint) -> Verdict -> ImageStore.put, RecordStore.append -> InspectionRecord
"""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from inspection.errors import SerialFormatError, Unjudgeable
from inspection.frame import DecodeLimits, decode_image
from inspection.recipe import prepare
from inspection.record import (
    EvidenceReference,
    InspectionDraft,
    InspectionRecord,
    InspectionRequest,
    ModelReference,
    RecipeReference,
)
from inspection.verdict import Reason, decide, needs_person, unjudged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inspection.engine import Engine, Prediction
    from inspection.frame import Frame
    from inspection.package import ModelPackage
    from inspection.recipe import Recipe
    from inspection.store import ImageStore, RecordStore
    from inspection.verdict import Verdict

ORIGIN: Final = ("lot", "machine", "mould", "cavity")
"""What a station may say of where a part comes from, and what a serial's fields may say too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one product is judged with: a package, the engine that runs it, and the stores."""

    package: ModelPackage
    engine: Engine
    images: ImageStore
    records: RecordStore
    limits: DecodeLimits


def inspect_part(
    data: bytes,
    request: InspectionRequest,
    line: Line,
    *,
    declared: str | None = None,
    received_at: datetime | None = None,
    principal: str | None = None,
) -> InspectionRecord:
    """Judge one image and return its record once image and record are durable.

    An image that can be decoded is always recorded, as a review when it cannot be judged. Nothing
    is written for what is refused.

    Args:
        data: the image file as the station sent it.
        request: what the station says about it.
        line: what to judge it with.
        declared: the media type that came with the bytes.
        received_at: when the bytes were in; now when absent.
        principal: the name on the access key that was used.

    Raises:
        ImageError: it cannot be decoded. SerialError: the mark does not fit the product's format.
        EngineError: the network failed. RecordError: no durable record, so no verdict.
    """
    recipe = line.package.recipe
    received = (received_at or datetime.now(UTC)).astimezone(UTC)
    timings: dict[str, float] = {}
    serial, told = _read_mark(request, recipe)
    with _timed(timings, "decode"):
        frame = decode_image(data, limits=line.limits, declared=declared)
    verdict, prediction = judge(frame, line, timings)
    if serial is None:
        verdict = needs_person(
            verdict, Reason(code="mark-unread", detail="the part's mark was not read")
        )
    for reason in _doubts(request, recipe, told):
        verdict = needs_person(verdict, reason)
    with _timed(timings, "store"):
        line.images.put(data)
        evidence = _keep_evidence(prediction, frame, line) if prediction else None
    return line.records.append(
        InspectionDraft(
            station=request.station,
            product=request.product,
            capture_id=request.capture_id,
            idempotency_key=request.idempotency_key,
            request_sha256=request.digest(frame.sha256),
            serial=serial,
            lot=request.lot or told.get("lot"),
            machine=request.machine or told.get("machine"),
            mould=request.mould or told.get("mould"),
            cavity=request.cavity or told.get("cavity"),
            reason=request.reason,
            verdict=verdict,
            model=ModelReference(
                name=line.package.document.model,
                version=line.package.document.version,
                digest=line.package.digest,
            ),
            recipe=RecipeReference(
                product=recipe.product, revision=recipe.revision, digest=recipe.digest
            ),
            image_sha256=frame.sha256,
            image_media_type=frame.media_type,
            image_size_px=frame.size_px,
            evidence=evidence,
            captured_at=request.captured_at,
            received_at=received.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            timings_ms={stage: round(value, 3) for stage, value in timings.items()},
            principal=principal,
            view_set=request.view_set,
            view=request.view,
            engine=_engine_of(prediction, line),
        )
    )


def _read_mark(request: InspectionRequest, recipe: Recipe) -> tuple[str | None, Mapping[str, str]]:
    """The serial as it is kept, and what its fields say of the part's origin.

    Raises:
        SerialError: the mark does not fit the product's format.
    """
    if request.serial is None:
        return None, {}
    if recipe.serial is None:
        if not request.serial.isprintable():
            raise SerialFormatError(
                "the mark is an envelope, and the product's recipe has no format for it",
                remedy="Send the serial alone, or give the recipe a [serial] with its forms.",
            )
        return request.serial, {}
    serial = recipe.serial.parse(request.serial)
    return serial.text, serial.fields


def _doubts(
    request: InspectionRequest, recipe: Recipe, told: Mapping[str, str]
) -> Iterator[Reason]:
    """What keeps a good image from being a pass."""
    for name in ORIGIN:
        said = getattr(request, name)
        if said is not None and name in told and said != told[name]:
            yield Reason(
                code="serial-disagrees",
                detail=f"the station says {name} {said}, the serial says {told[name]}",
            )
    if recipe.views and request.view_set is None:
        yield Reason(
            code="view-missing",
            detail=f"one image without a set of views; the recipe wants {', '.join(recipe.views)}",
        )


def judge(frame: Frame, line: Line, timings: dict[str, float]) -> tuple[Verdict, Prediction | None]:
    """The verdict on a frame, and the prediction behind it unless the frame was unjudgeable."""
    package = line.package
    try:
        with _timed(timings, "prepare"):
            image = prepare(frame, package.recipe)
    except Unjudgeable as error:
        return unjudged(Reason(code="unjudgeable", detail=str(error))), None
    with _timed(timings, "infer"):
        (prediction,) = line.engine.infer([image])
    document = package.document
    verdict = decide(
        prediction, document.calibration, document.operating_point, package.recipe, frame.size_px
    )
    return verdict, prediction


def _engine_of(prediction: Prediction | None, line: Line) -> str | None:
    """What judged, in words; None where no engine was asked."""
    if prediction is None:
        return None
    return prediction.engine or line.engine.description


def _keep_evidence(prediction: Prediction, frame: Frame, line: Line) -> EvidenceReference:
    buffer = io.BytesIO()
    np.save(buffer, prediction.evidence.astype(np.float16), allow_pickle=False)
    judged = line.package.recipe.judged_region(frame.size_px)
    calibration = line.package.document.calibration
    return EvidenceReference(
        sha256=line.images.put(buffer.getvalue()),
        region_px=(judged.top, judged.left, judged.height, judged.width),
        slope=calibration.slope,
        intercept=calibration.intercept,
    )


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1000
