"""The original image of an inspection, and the evidence over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from inspection.errors import NotFound, RecordsDamaged
from inspection.pipeline import Line
from inspection.proofs.archive import evidence_picture
from serving.auth import OwnReader
from serving.conditional import UNCHANGED, has_copy
from serving.errors import FileErased
from serving.routes.documenting import problems, sample
from serving.routes.inspections import InspectionId
from serving.state import server_of

if TYPE_CHECKING:
    from inspection.record import EvidenceReference, InspectionRecord
    from serving.state import Server

router = APIRouter(prefix="/v1/inspections", tags=["Inspections"])

FOR_EVER: Final = "private, max-age=31536000, immutable"
SUFFIXES: Final = {
    "image/png": "png",
    "image/tiff": "tif",
    "image/jpeg": "jpg",
    "application/dicom": "dcm",
}


@router.get(
    "/{inspection_id}/image",
    response_class=Response,
    summary="Get the original image",
    responses={
        200: {
            "description": "The bytes as they were posted",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in SUFFIXES
            },
        },
        **UNCHANGED,
        **problems(404, 410),
    },
    openapi_extra=sample('curl -OJ "$SERVER/v1/inspections/$ID/image"'),
)
def get_image(request: Request, reader: OwnReader, inspection_id: InspectionId) -> Response:
    """The very bytes that the station sent, verified against their digest."""
    server = server_of(request)
    record = server.records.get(inspection_id)
    reader.check_own(record.principal)
    name = f"{record.trace_id}.{SUFFIXES[record.image_media_type]}"
    return _bytes_or_same(
        request,
        tag=record.image_sha256,
        caching=FOR_EVER,
        media_type=record.image_media_type,
        name=name,
        make=lambda: file_of(server, record.image_sha256),
    )


@router.get(
    "/{inspection_id}/heatmap",
    response_class=Response,
    summary="Get the evidence as a picture",
    responses={
        200: {
            "description": "The overlay; with `raw` the evidence map, NumPy .npy, "
            "float16 (classes, height, width), log-odds",
            "content": {
                "image/png": {"schema": {"type": "string", "format": "binary"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **UNCHANGED,
        **problems(404, 410),
    },
    openapi_extra=sample('curl -o heatmap.png "$SERVER/v1/inspections/$ID/heatmap?alpha=0.6"'),
)
def get_heatmap(
    request: Request,
    reader: OwnReader,
    inspection_id: InspectionId,
    alpha: Annotated[float, Query(ge=0, le=1, description="strength of the colour")] = 0.5,
    raw: Annotated[bool, Query(description="the evidence map itself")] = False,
) -> Response:
    """The image in grey with the evidence over it and the findings outlined.

    404 when the image could not be judged: then there is no evidence.
    """
    server = server_of(request)
    record = server.records.get(inspection_id)
    reader.check_own(record.principal)
    evidence = _evidence_of(record)
    if raw:
        return _bytes_or_same(
            request,
            tag=evidence.sha256,
            caching=FOR_EVER,
            media_type="application/octet-stream",
            name=f"{record.trace_id}.npy",
            make=lambda: file_of(server, evidence.sha256),
        )
    # How the picture is drawn may change with a release, so it is not kept for ever.
    return _bytes_or_same(
        request,
        tag=f"{record.id}-{alpha:g}",
        caching="private, max-age=3600",
        media_type="image/png",
        name=f"{record.trace_id}-heatmap.png",
        make=lambda: heatmap_of(server, record, alpha),
    )


def heatmap_of(server: Server, record: InspectionRecord, alpha: float) -> bytes:
    """The overlay PNG of an inspection, from what was stored with it.

    Raises:
        NotFound: it has no evidence map.
        RecordsDamaged: image or map are not what the record says.
    """
    evidence = _evidence_of(record)
    image, scores = (file_of(server, each) for each in (record.image_sha256, evidence.sha256))
    line = server.lines.get(record.product)
    display = None
    if isinstance(line, Line) and line.recipe.digest == record.recipe.digest:
        display = line.package.recipe.display
    return evidence_picture(record, image, scores, alpha=alpha, display=display)


def file_of(server: Server, sha256: str) -> bytes:
    """A kept file, verified against its digest.

    Raises:
        FileErased: it was deleted under a rule of retention; says which.
        RecordsDamaged: what is there has another digest, or it is gone and no rule says so.
    """
    try:
        return server.images.get(sha256)
    except NotFound:
        erasure = server.records.erased(sha256)
        if erasure is None:
            raise RecordsDamaged(
                f"file {sha256} is on record and not on the disk, and no rule deleted it"
            ) from None
        raise FileErased(
            f"file {sha256} was deleted on {erasure.recorded_at} by {erasure.by}: {erasure.rule}"
        ) from None


def _evidence_of(record: InspectionRecord) -> EvidenceReference:
    if record.evidence is None:
        raise NotFound(
            f"inspection {record.id} has no evidence map: its image could not be judged",
            remedy="See `reasons` of the inspection.",
        )
    return record.evidence


def _bytes_or_same(
    request: Request,
    *,
    tag: str,
    caching: str,
    media_type: str,
    name: str,
    make: Callable[[], bytes],
) -> Response:
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": caching,
        "Content-Disposition": f'inline; filename="{name}"',
    }
    if has_copy(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(make(), 200, headers, media_type)
