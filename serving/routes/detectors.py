"""How the stations' detectors stand: calibration, age, health."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from serving.auth import Reader
from serving.detector_schemas import (
    LISTED,
    DetectorCalibration,
    DetectorCheck,
    DetectorLimits,
    DetectorList,
    DetectorObstacle,
    DetectorState,
)
from serving.problems import without_places
from serving.routes.documenting import problems, sample
from serving.state import Server, server_of

if TYPE_CHECKING:
    from inspection.detector.book import Standing
    from inspection.detector.calibration import Calibration

router = APIRouter(prefix="/v1", tags=["Detectors"])


@router.get(
    "/detectors",
    response_model=DetectorList,
    summary="List the stations' detectors: calibration, health, trend",
    responses=problems(),
    openapi_extra=sample('curl "$SERVER/v1/detectors"'),
)
def list_detectors(request: Request, reader: Reader) -> DetectorList:
    """Every station with a calibration or a check: what is in force, and how the health went.

    A station that does not judge says why in `reason`; images of products whose recipe flat-fields
    are then recorded as reviews with the same code. Calibrate and check at the box with
    `inspection detector`.
    """
    server = server_of(request)
    now = datetime.now(UTC)
    return DetectorList(
        items=[_state(server, standing, now) for standing in server.detectors.stations()]
    )


def _state(server: Server, standing: Standing, now: datetime) -> DetectorState:
    obstacle = standing.obstacle(now)
    made = standing.calibration
    return DetectorState(
        station=standing.station,
        judges=obstacle is None,
        reason=None
        if obstacle is None
        else DetectorObstacle(
            code=obstacle[0], detail=without_places(obstacle[1], server.settings)
        ),
        calibration=None if made is None else _calibration(made),
        limits=DetectorLimits(**asdict(standing.limits)),
        checks=[
            DetectorCheck(fit=each.fit, **asdict(each)) for each in standing.trend.checks[-LISTED:]
        ],
    )


def _calibration(made: Calibration) -> DetectorCalibration:
    facts = asdict(made.facts)
    expires = datetime.fromisoformat(made.facts.made_at) + timedelta(seconds=made.facts.max_age_s)
    known = {name: facts[name] for name in DetectorCalibration.model_fields if name in facts}
    return DetectorCalibration(
        **known,
        digest=made.flat.digest,
        expires_at=expires.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        size_px=made.flat.size_px,
    )
