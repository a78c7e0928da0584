"""Whether a detector still sees as it did when it was calibrated.

    frames of a check -> measure against the calibration -> Figures -> Limits -> complaints, or none

After the idea of ASTM E2737 (performance evaluation and long-term stability of digital detector
arrays): a baseline, then the same few figures again and again, against limits. It is not that
practice: its phantoms and its table of results are not used, and figures of both do not compare.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from inspection.detector.bad_pixels import find_bad_pixels
from inspection.detector.calibrating import check_series, signal_to_noise
from inspection.detector.flat_field import blind_squares
from inspection.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.detector.calibrating import Series
    from inspection.detector.calibration import Calibration
    from inspection.frame import Frame

    Box = tuple[int, int, int, int]

LIMITS_NAME: Final = "limits.toml"
BLOCK: Final = 16
"""Side, in pixels, of the blocks over which drift of the gain is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a detector is held to. The defaults suit inspection of castings behind a flat panel.

    Attributes:
        least_snr_ratio: signal to noise against the calibration's, both at its open beam.
        most_contrast_sensitivity_percent: of the thickness, see `contrast_sensitivity`.
        most_lag_percent: of the open beam, left in the first frame after it went off.
        most_new_bad_ppm: bad pixels that the calibration does not know, per million.
        most_offset_drift_percent: of the open beam.
        most_gain_drift_percent: of the gain, anywhere on the detector.
        most_beam_change_percent: of the open beam's level.
        check_every_h: hours after which a check is too old; any age when absent.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    least_snr_ratio: float = 0.8
    most_contrast_sensitivity_percent: float = 2.0
    most_lag_percent: float = 1.0
    most_new_bad_ppm: float = 50.0
    most_offset_drift_percent: float = 0.5
    most_gain_drift_percent: float = 1.0
    most_beam_change_percent: float = 20.0
    check_every_h: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            name, value = each.name, getattr(self, each.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigurationError(f"detector limits: {name} is not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a check measured; None for what it was given no frames for.

    Attributes:
        open_level: median grey levels that the open beam adds.
        snr: median signal to noise of a pixel, brought to the calibration's open beam.
        snr_ratio: the same against the calibration's.
        contrast_sensitivity_percent: smallest step of thickness with a contrast-to-noise of 1.
        lag_percent: residual after the beam went off.
        bad_pixels: all that are bad now.
        new_bad_ppm: those that the calibration does not know, per million pixels.
        new_blind: squares of bad pixels that hide a defect and that the calibration does not know.
        offset_drift_percent, gain_drift_percent, beam_change_percent: as in Limits.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    open_level: float
    snr: float
    snr_ratio: float
    bad_pixels: int
    new_bad_ppm: float
    new_blind: int
    offset_drift_percent: float
    gain_drift_percent: float
    beam_change_percent: float
    contrast_sensitivity_percent: float | None = None
    lag_percent: float | None = None


def measure(
    calibration: Calibration,
    dark: Series,
    beam: Series,
    *,
    lag_percent: float | None = None,
    contrast_sensitivity_percent: float | None = None,
) -> Figures:
    """The figures of a check.

    Args:
        calibration: in force.
        dark: frames without beam.
        beam: frames of the open beam, less `dark.mean`.
        lag_percent: see `lag`.
        contrast_sensitivity_percent: see `contrast_sensitivity`.

    Raises:
        DataError: the frames are of another detector, or no series that can be used.
    """
    flat, facts = calibration.flat, calibration.facts
    if beam.mean.shape != flat.size_px:
        raise DataError(
            "the frames are not of the size that the detector was calibrated at",
            remedy="Set the binning back, or calibrate again.",
        )
    said = beam.detector or dark.detector
    if flat.detector is not None and said is not None and said != flat.detector:
        raise DataError(
            f"the frames are of detector {said}, the calibration is of {flat.detector}",
            remedy="Calibrate the detector that stands there now.",
        )
    check_series(dark, beam)
    now = find_bad_pixels(
        offset=dark.mean,
        gain=beam.mean,
        noise_dark=dark.noise,
        noise_open=beam.noise,
        halves=beam.halves,
        saturated=beam.saturated,
        open_frames=beam.frames,
    ).mask
    bad = now | flat.bad
    good = ~bad
    if not good.any():
        raise DataError("no pixel is good any more")
    open_level = float(np.median(beam.mean[good]))
    before = float(np.median(flat.gain[good]))
    snr = signal_to_noise(beam, bad) * math.sqrt(before / open_level)
    offset_drift = abs(float(np.median(dark.mean[good] - flat.offset[good]))) / before
    return Figures(
        open_level=open_level,
        snr=snr,
        snr_ratio=snr / facts.snr,
        bad_pixels=int(np.count_nonzero(now)),
        new_bad_ppm=1e6 * float(np.mean(now & ~flat.bad)),
        new_blind=len(blind_squares(bad)) - len(flat.blind),
        offset_drift_percent=100 * offset_drift,
        gain_drift_percent=100 * _gain_drift(beam.mean, flat.gain, good),
        beam_change_percent=100 * abs(open_level / before - 1),
        contrast_sensitivity_percent=contrast_sensitivity_percent,
        lag_percent=lag_percent,
    )


def lag(calibration: Calibration, dark: Series, after: Frame) -> float:
    """Residual signal, in percent of the open beam: median of the first frame after it went off,
    less the offset of the same check, over the gain.

    Raises:
        DataError: the frame is of another size or kind.
    """
    flat = calibration.flat
    if after.size_px != flat.size_px or after.bits != 16 or after.channels != 1:
        raise DataError("the lag frame is not of the size and kind of the calibration")
    left = (after.pixels.astype(np.float32) - dark.mean) / flat.gain
    return 100 * float(np.median(left[~flat.bad]))


def contrast_sensitivity(
    calibration: Calibration, frame: Frame, *, base: Box, step: Box, step_percent: float
) -> float:
    """Smallest step of thickness, in percent, that one frame shows with a contrast-to-noise of 1.

    A plate of thickness t carries a step of `step_percent` of t. In the flat-fielded frame
    CNR = |mean(base) - mean(step)| / std(base), and the answer is step_percent / CNR (ASTM E2597's
    achievable contrast sensitivity, here over two boxes of any plate with a step).

    Args:
        calibration: in force.
        frame: of the plate.
        base: (top, left, height, width) in pixels, over an even part of the plate.
        step: the same on the step.
        step_percent: of the thickness under `base`.

    Raises:
        DataError: a box lies outside the frame or is too small, or shows no step.
        Unjudgeable: the frame is not of this detector.
    """
    corrected = calibration.flat.correct(frame)
    parts = []
    for name, (top, left, height, width) in (("base", base), ("step", step)):
        part = corrected[max(top, 0) : top + height, max(left, 0) : left + width]
        if min(top, left) < 0 or part.shape != (height, width) or part.size < 100:
            raise DataError(
                f"the box {name} lies outside the frame or has fewer than 100 pixels",
                remedy="Give boxes as TOP,LEFT,HEIGHT,WIDTH in pixels of the frame.",
            )
        parts.append(part.astype(np.float64))
    noise = float(parts[0].std(ddof=1))
    contrast = abs(float(parts[0].mean() - parts[1].mean()))
    if not step_percent > 0 or noise == 0 or contrast == 0:
        raise DataError("the boxes show no step, or no noise: contrast sensitivity has no meaning")
    return step_percent * noise / contrast


def complaints_of(figures: Figures, limits: Limits) -> tuple[str, ...]:
    """What lies past its limit, in words; nothing when the detector is fit."""
    upper = (
        ("contrast sensitivity", "contrast_sensitivity_percent", "%"),
        ("lag", "lag_percent", "%"),
        ("new bad pixels", "new_bad_ppm", " per million"),
        ("offset drift", "offset_drift_percent", "%"),
        ("gain drift", "gain_drift_percent", "%"),
        ("change of the open beam", "beam_change_percent", "%"),
    )
    found = []
    if not figures.snr_ratio >= limits.least_snr_ratio:
        found.append(
            f"signal to noise is {figures.snr_ratio:.2f} of the calibration's, "
            f"at least {limits.least_snr_ratio:g} is wanted"
        )
    if figures.new_blind:
        found.append(f"{figures.new_blind} new squares of bad pixels could hide a defect")
    for words, name, unit in upper:
        value: float | None = getattr(figures, name)
        most: float = getattr(limits, f"most_{name}")
        if value is not None and not value <= most:
            found.append(f"{words} is {value:.3g}{unit}, at most {most:g}{unit} is allowed")
    return tuple(found)


def read_limits(folder: Path) -> Limits:
    """The limits of a station: its limits.toml, or the defaults where there is none.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value makes no sense.
    """
    path = folder / LIMITS_NAME
    remedy = "Correct it; docs/detector.md lists the keys."
    try:
        return _adapter().validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Limits()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", remedy=remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(each) for each in first["loc"]) or "file"
        raise ConfigurationError(f"{path}: {key}: {first['msg']}", remedy=remedy) from error


def _gain_drift(
    now: NDArray[np.float32], before: NDArray[np.float32], good: NDArray[np.bool_]
) -> float:
    """99th percentile of how far the pattern moved: means of blocks, less the change of them all.

    A block's mean over BLOCK x BLOCK pixels has a sixteenth of a pixel's noise.
    """
    height, width = (BLOCK * (side // BLOCK) for side in now.shape)
    if not height or not width:
        raise DataError(f"the detector is smaller than {BLOCK} pixels")
    ratio = np.where(good, now / before, 0.0)[:height, :width]
    cells = (height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    counts = good[:height, :width].reshape(cells).sum(axis=(1, 3))
    means = ratio.reshape(cells).sum(axis=(1, 3))[counts > 0] / counts[counts > 0]
    return float(np.percentile(np.abs(means / np.median(means) - 1), 99))


@cache
def _adapter() -> TypeAdapter[Limits]:
    return TypeAdapter(Limits)
