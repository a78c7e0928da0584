"""What `GET /v1/detectors` answers."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

LISTED: Final = 100
"""Checks of a station that are listed, the newest ones."""

_DIGEST: Final = "1c2d7a1aa8bdac3ad38b22dbbfb5d83e2953541081c06dcd92cc1d0a8ec8c26b"

_EXAMPLE: Final[dict[str, Any]] = {
    "items": [
        {
            "station": "xray-1",
            "judges": True,
            "reason": None,
            "calibration": {
                "digest": _DIGEST,
                "detector": "XRD-0822-117",
                "made_at": "2026-11-22T06:02:11.460Z",
                "expires_at": "2026-11-22T14:02:11.460Z",
                "size_px": [2048, 2048],
                "kv": 120.0,
                "ma": 4.5,
                "exposure_ms": 500.0,
                "dark_frames": 16,
                "open_frames": 16,
                "open_level": 51930.5,
                "dark_noise": 11.7,
                "snr": 490.7,
                "bad": {
                    "dead": 84,
                    "saturated": 0,
                    "over": 0,
                    "under": 0,
                    "hot": 0,
                    "noisy": 3,
                    "uneven": 0,
                    "surrounded": 0,
                },
                "clusters": {"count": 2, "largest_px": 3, "kernel_px": 0, "blind": 0},
            },
            "limits": {
                "least_snr_ratio": 0.8,
                "most_contrast_sensitivity_percent": 2.0,
                "most_lag_percent": 1.0,
                "most_new_bad_ppm": 50.0,
                "most_offset_drift_percent": 0.5,
                "most_gain_drift_percent": 1.0,
                "most_beam_change_percent": 20.0,
                "check_every_h": 24.0,
            },
            "checks": [
                {
                    "checked_at": "2026-11-22T06:05:40.102Z",
                    "detector": "XRD-0822-117",
                    "calibration": _DIGEST,
                    "dark_frames": 16,
                    "open_frames": 16,
                    "fit": True,
                    "complaints": [],
                    "figures": {
                        "open_level": 51928.0,
                        "snr": 489.9,
                        "snr_ratio": 0.998,
                        "bad_pixels": 87,
                        "new_bad_ppm": 0.0,
                        "new_blind": 0,
                        "offset_drift_percent": 0.02,
                        "gain_drift_percent": 0.03,
                        "beam_change_percent": 0.01,
                        "contrast_sensitivity_percent": 0.9,
                        "lag_percent": 0.3,
                    },
                }
            ],
        }
    ]
}


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DetectorClusters(_Wire):
    """How the bad pixels lie together."""

    count: int = Field(description="groups of two and more that touch")
    largest_px: int
    kernel_px: int = Field(description="bad pixels with fewer than five good ones around them")
    blind: int = Field(description="squares of 3 x 3 that hide a defect")


class DetectorCalibration(_Wire):
    """The newest calibration of a station."""

    digest: str = Field(description="as inspections name it")
    detector: str | None = Field(description="the detector's serial, where it is known")
    made_at: str
    expires_at: str = Field(description="from then on the station's images go to review")
    size_px: tuple[int, int] = Field(description="height and width")
    kv: float | None
    ma: float | None
    exposure_ms: float | None
    dark_frames: int
    open_frames: int
    open_level: float = Field(description="median grey levels that the open beam adds")
    dark_noise: float = Field(description="median noise of a pixel without beam, grey levels")
    snr: float = Field(description="signal to noise of a pixel in the open beam")
    bad: dict[str, int] = Field(description="bad pixels by kind")
    clusters: DetectorClusters


class DetectorFigures(_Wire):
    """What a check measured; null for what it was given no frames for."""

    open_level: float
    snr: float
    snr_ratio: float = Field(description="against the calibration's")
    bad_pixels: int
    new_bad_ppm: float = Field(description="bad pixels that the calibration does not know")
    new_blind: int = Field(description="new squares of bad pixels that hide a defect")
    offset_drift_percent: float
    gain_drift_percent: float
    beam_change_percent: float
    contrast_sensitivity_percent: float | None
    lag_percent: float | None


class DetectorCheck(_Wire):
    """One check of a detector's health."""

    checked_at: str
    detector: str | None
    calibration: str = Field(description="digest of the one that it was measured against")
    dark_frames: int
    open_frames: int
    fit: bool
    complaints: list[str] = Field(description="what lay past its limit")
    figures: DetectorFigures


class DetectorLimits(_Wire):
    """What a station's detector is held to."""

    least_snr_ratio: float
    most_contrast_sensitivity_percent: float
    most_lag_percent: float
    most_new_bad_ppm: float
    most_offset_drift_percent: float
    most_gain_drift_percent: float
    most_beam_change_percent: float
    check_every_h: float | None = Field(description="null when a check never gets too old")


class DetectorObstacle(_Wire):
    """Why a station's images go to review: the reason that its inspections carry."""

    code: str
    detail: str


class DetectorState(_Wire):
    """One station's detector."""

    station: str
    judges: bool = Field(description="false: images of recipes that flat-field go to review")
    reason: DetectorObstacle | None
    calibration: DetectorCalibration | None
    limits: DetectorLimits
    checks: list[DetectorCheck] = Field(description=f"the last {LISTED}, the oldest first")


class DetectorList(_Wire):
    """Every station that has a calibration or a check."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    items: list[DetectorState]
