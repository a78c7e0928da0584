"""The journey of one part, top to bottom.

image bytes -> decode_image -> Frame -> prepare(Recipe) -> Engine.infer -> Prediction
  -> decide(OperatingPoint) -> accept (zones) -> Verdict -> RecordStore.append
  -> InspectionRecord            └> place: the part is aligned meanwhile
            └> Spool: the image goes to the disk meanwhile
"""

from __future__ import annotations

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from inspection.acceptance import accept, misplaced, place
from inspection.errors import RequestError, SerialError, SerialFormatError, Unjudgeable
from inspection.frame import DecodeLimits, decode_image
from inspection.recipe import judged_pixels, network_input
from inspection.record import (
    DetectorReference,
    EvidenceReference,
    InspectionDraft,
    InspectionRecord,
    InspectionRequest,
    ModelReference,
    RecipeReference,
)
from inspection.spool import Spool
from inspection.verdict import Reason, decide, needs_person, unjudged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from inspection.acceptance import Acceptance
    from inspection.decoding.acquisition import Acquisition
    from inspection.detector.flat_field import FlatField
    from inspection.engine import Engine, Prediction
    from inspection.frame import Frame
    from inspection.image_store import ImageStore
    from inspection.package import ModelPackage
    from inspection.recipe import Recipe
    from inspection.store import RecordStore
    from inspection.verdict import Verdict

_BESIDE: Final = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="place")
"""Aligns parts while the engine is busy with them."""

ORIGIN: Final = ("lot", "machine", "mould", "cavity")
"""What a station may say of where a part comes from, and what a serial's fields may say too."""


class Detectors(Protocol):
    """The calibrations of all detectors of a line's stations."""

    def flat_field(self, station: str, acquisition: Acquisition | None) -> FlatField:
        """The calibration in force of a station.

        Raises:
            Unjudgeable: there is none, it is too old, of another detector than the one that the
                frame names, or the detector was found unfit.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one product is judged with: a package, the engine that runs it, and the stores.

    Attributes:
        decode: `decode_image`, or what stands for it.
        model, recipe: the package's, as records name them.
    """

    package: ModelPackage
    engine: Engine
    images: ImageStore
    records: RecordStore
    limits: DecodeLimits
    detectors: Detectors | None = None
    decode: Callable[..., Frame] = decode_image
    model: ModelReference = field(init=False)
    recipe: RecipeReference = field(init=False)

    def __post_init__(self) -> None:
        document, recipe = self.package.document, self.package.recipe
        model = ModelReference(
            name=document.model, version=document.version, digest=self.package.digest
        )
        made_by = RecipeReference(
            product=recipe.product, revision=recipe.revision, digest=recipe.digest
        )
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "recipe", made_by)


def inspect_part(
    data: bytes,
    request: InspectionRequest,
    line: Line,
    *,
    declared: str | None = None,
    sha256: str | None = None,
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
        sha256: of the bytes, in hex; computed when absent.
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
        frame = line.decode(data, limits=line.limits, declared=declared, sha256=sha256)
    with Spool(line.images, line.records, data, frame.sha256) as spool:
        verdict, prediction, flat = judge(frame, request.station, line, timings, view=request.view)
        in_file, doubt = None, None
        if frame.acquisition is not None and frame.acquisition.serial is not None:
            in_file = _mark_of_file(frame.acquisition.serial, request, recipe)
            doubt = _doubt_of_file(frame.acquisition.serial, in_file, serial)
        if serial is None and in_file is not None and request.view_set is None:
            serial, told = in_file  # the parts of a set of views go by the set's own mark
        if serial is None:
            detail = "the part's mark was not read"
            reason = Reason(code="mark-unread", detail=f"{detail}{f'; {doubt}' if doubt else ''}")
            verdict = needs_person(verdict, reason)
        elif doubt is not None:
            verdict = needs_person(verdict, Reason(code="serial-disagrees", detail=doubt))
        for reason in _doubts(request, recipe, told):
            verdict = needs_person(verdict, reason)
        with _timed(timings, "store"):
            evidence = _keep_evidence(prediction, frame, line, spool) if prediction else None
            carried = spool.carried()
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
                model=line.model,
                recipe=line.recipe,
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
                acquisition=frame.acquisition,
                detector=_detector_of(flat),
                carried=carried,
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


def _mark_of_file(
    text: str, request: InspectionRequest, recipe: Recipe
) -> tuple[str, Mapping[str, str]] | None:
    """What the image file says the mark is, as `_read_mark`; None where it is no such mark."""
    try:
        serial, told = _read_mark(replace(request, serial=text), recipe)
    except (SerialError, RequestError):
        return None
    return None if serial is None else (serial, told)


def _doubt_of_file(
    text: str, in_file: tuple[str, Mapping[str, str]] | None, serial: str | None
) -> str | None:
    """Why the mark in the image file speaks against the part's; None where it does not."""
    if in_file is None:
        return f"the image file's serial {text!r} does not fit the product's format"
    if serial is not None and in_file[0] != serial:
        return f"the station says serial {serial}, the image file says {in_file[0]}"
    return None


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


def judge(
    frame: Frame, station: str, line: Line, timings: dict[str, float], *, view: str | None = None
) -> tuple[Verdict, Prediction | None, FlatField | None]:
    """The verdict on a frame, the prediction behind it unless the frame was unjudgeable, and the
    calibration that it was flat-fielded by, where the recipe asks for one.
    """
    package = line.package
    flat: FlatField | None = None
    try:
        with _timed(timings, "prepare"):
            if package.recipe.flat_field and line.detectors is not None:
                flat = line.detectors.flat_field(station, frame.acquisition)
            pixels = judged_pixels(frame, package.recipe, flat)
            image = network_input(pixels, package.recipe)
    except Unjudgeable as error:
        return unjudged(Reason(code=error.reason, detail=str(error))), None, flat
    placing = None
    if package.recipe.references:
        placing = _BESIDE.submit(place, package.recipe, package.views, pixels, name=view)
    with _timed(timings, "infer"):
        (prediction,) = line.engine.infer([image])
    document = package.document
    verdict = decide(
        prediction, document.calibration, document.operating_point, package.recipe, frame.size_px
    )
    if placing is not None:
        verdict = _under_zones(verdict, prediction, placing, package, timings)
    return verdict, prediction, flat


def _under_zones(
    verdict: Verdict,
    prediction: Prediction,
    placing: Future[Acceptance],
    package: ModelPackage,
    timings: dict[str, float],
) -> Verdict:
    """The verdict once the part is aligned to its reference view and its zones have had a say.

    Of the time for aligning, `register` holds what was not over when the network had answered.
    """
    document = package.document
    try:
        with _timed(timings, "register"):
            placed = placing.result()
    except Unjudgeable as error:
        return misplaced(verdict, error)
    with _timed(timings, "size"):
        return accept(verdict, prediction, document.calibration, document.operating_point, placed)


def _engine_of(prediction: Prediction | None, line: Line) -> str | None:
    """What judged, in words; None where no engine was asked."""
    if prediction is None:
        return None
    return prediction.engine or line.engine.description


def _detector_of(flat: FlatField | None) -> DetectorReference | None:
    """The calibration as the record names it; None where the recipe asks for none."""
    if flat is None:
        return None
    return DetectorReference(digest=flat.digest, made_at=flat.made_at, checked_at=flat.checked_at)


def _keep_evidence(
    prediction: Prediction, frame: Frame, line: Line, spool: Spool
) -> EvidenceReference:
    buffer = io.BytesIO()
    np.save(buffer, prediction.evidence.astype(np.float16), allow_pickle=False)
    judged = line.package.recipe.judged_region(frame.size_px)
    calibration = line.package.document.calibration
    return EvidenceReference(
        sha256=spool.add_evidence(buffer.getvalue()),
        region_px=(judged.top, judged.left, judged.height, judged.width),
        slope=calibration.slope,
        intercept=calibration.intercept,
    )


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1000
