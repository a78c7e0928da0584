"""From dark and open-beam frames to a calibration, or to what is wrong with the frames.

    files -> decode_image -> Series of dark frames -> offset
                          -> Series of open frames, less the offset -> gain
      -> bad pixels, clusters -> Calibration

A series is read once, frame by frame: memory does not grow with their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inspection.detector.bad_pixels import clusters_of, find_bad_pixels
from inspection.detector.calibration import Calibration, Facts, make_calibration
from inspection.detector.flat_field import OPEN_LEVEL
from inspection.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from inspection.frame import Frame

    Map = NDArray[np.float32]

LEAST_FRAMES: Final = 8
"""Fewer tell neither the noise of a pixel nor a mean that is quieter than the images."""
MOST_SATURATED: Final = 0.005
"""Share of the pixels that may lie at the top of their range in the open beam."""
MOST_DRIFT: Final = 0.01
"""How far frames of a series may differ in level, as a share of the open beam."""
LEAST_ANSWER: Final = 20.0
"""The open beam against the noise without beam."""
MOST_BAD: Final = 0.02
"""With a larger share it is the exposure that is wrong, or the detector is no longer one."""
TOPS: Final = (2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
"""Where detectors' ranges end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Frames of one kind, summed up.

    Attributes:
        mean, noise: (H, W) of a pixel over the frames.
        halves: the means of every other frame, and of the rest.
        saturated: (H, W) pixels at the top of their range in any frame.
        frames: how many.
        level: median grey level, over the frames.
        lowest, highest: (name, median grey level) of the darkest and the brightest frame.
        kv, ma, exposure_ms, detector: as the files say it, where they do.
    """

    mean: Map
    noise: Map
    halves: tuple[Map, Map]
    saturated: NDArray[np.bool_]
    frames: int
    level: float
    lowest: tuple[str, float]
    highest: tuple[str, float]
    kv: float | None = None
    ma: float | None = None
    exposure_ms: float | None = None
    detector: str | None = None


def sum_up(frames: Iterable[tuple[str, Frame]], *, kind: str, offset: Map | None = None) -> Series:
    """A series from its frames.

    With an offset, it is taken off, and each frame is brought to the mean level of all: a tube
    that flickers is not noise of the pixels.

    Args:
        frames: (name, frame) each.
        kind: "dark" or "open", for what is said when something is wrong.
        offset: of the detector.

    Raises:
        DataError: too few, of several sizes or exposures, not 16-bit grey, or saturated.
    """
    first: tuple[str, Frame] | None = None
    sums: list[NDArray[np.float64]] = []
    saturated = np.zeros((0, 0), dtype=np.bool_)
    levels: dict[str, float] = {}
    for name, frame in frames:
        if first is None:
            first = (name, frame)
            sums = [np.zeros(frame.size_px) for _ in range(3)]
            saturated = np.zeros(frame.size_px, dtype=np.bool_)
        _check_frame(name, frame, first, kind)
        saturated |= _at_the_top(name, frame, kind)
        pixels = frame.pixels.astype(np.float64)
        if offset is not None:
            pixels -= offset
        levels[name] = float(np.median(pixels))
        if offset is not None:
            pixels *= next(iter(levels.values())) / max(levels[name], 1.0)
        sums[len(levels) % 2] += pixels
        sums[2] += pixels * pixels
    if first is None or len(levels) < LEAST_FRAMES:
        raise DataError(
            f"{len(levels)} {kind} frames are too few",
            remedy=f"Take at least {LEAST_FRAMES} {kind} frames, better 16, one after the other.",
        )
    count = len(levels)
    odd, even, squares = sums
    mean = (odd + even) / count
    variance = np.maximum(squares - count * mean * mean, 0.0) / (count - 1)
    level = float(np.mean(list(levels.values())))
    scale = 1.0 if offset is None else level / next(iter(levels.values()))
    said = first[1].acquisition
    by_level = sorted(levels.items(), key=lambda each: each[1])
    halves = [scale * odd / (count // 2 or 1), scale * even / (count - count // 2)]
    return Series(
        mean=(scale * mean).astype(np.float32),
        noise=(scale * np.sqrt(variance)).astype(np.float32),
        halves=(halves[0].astype(np.float32), halves[1].astype(np.float32)),
        saturated=saturated,
        frames=count,
        level=level,
        lowest=by_level[0],
        highest=by_level[-1],
        kv=said.kv if said else None,
        ma=said.ma if said else None,
        exposure_ms=said.exposure_ms if said else None,
        detector=said.detector if said else None,
    )


def calibrate(
    dark: Series,
    beam: Series,
    *,
    station: str,
    made_at: str,
    max_age_s: float,
    detector: str | None = None,
) -> Calibration:
    """The calibration that two series make.

    Args:
        dark: frames without beam.
        beam: frames of the open beam, less `dark.mean`.
        station: where the detector stands.
        made_at: RFC 3339, UTC.
        max_age_s: how long it is to hold.
        detector: its serial; what the files say when absent.

    Raises:
        DataError: the series contradict each other, drift, or show no beam.
    """
    check_series(dark, beam)
    said = beam.detector or dark.detector
    if detector is not None and said is not None and detector != said:
        raise DataError(
            f"the frames are of detector {said}, not of {detector}",
            remedy="Name the detector that took them, or take them again at this one.",
        )
    gain = np.maximum(beam.mean, np.float32(1))
    found = find_bad_pixels(
        offset=dark.mean,
        gain=beam.mean,
        noise_dark=dark.noise,
        noise_open=beam.noise,
        halves=beam.halves,
        saturated=beam.saturated,
        open_frames=beam.frames,
    )
    share = float(np.mean(found.mask))
    if share > MOST_BAD:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.items() if count)
        raise DataError(
            f"{share:.1%} of the pixels would be bad ({kinds}): these are not bad pixels",
            remedy="See that nothing stands in the open beam and that the exposure is the usual "
            "one; a detector with so many bad pixels is to be replaced.",
        )
    facts = Facts(
        station=station,
        detector=detector or said,
        made_at=made_at,
        level=OPEN_LEVEL,
        max_age_s=max_age_s,
        dark_frames=dark.frames,
        open_frames=beam.frames,
        kv=beam.kv,
        ma=beam.ma,
        exposure_ms=beam.exposure_ms,
        open_level=float(np.median(beam.mean)),
        dark_noise=float(np.median(dark.noise)),
        snr=signal_to_noise(beam, found.mask),
        bad=found.kinds,
        clusters=clusters_of(found.mask),
    )
    return make_calibration(facts, offset=dark.mean, gain=gain, bad=found.mask)


def check_series(dark: Series, beam: Series) -> None:
    """That two series can be of one detector, at rest.

    Raises:
        DataError: they cannot.
    """
    if dark.mean.shape != beam.mean.shape:
        raise DataError("dark and open frames differ in size")
    for name in ("exposure_ms", "detector"):
        one, other = getattr(dark, name), getattr(beam, name)
        if one is not None and other is not None and one != other:
            raise DataError(
                f"dark and open frames differ in {name}: {one} and {other}",
                remedy="Take both with the same detector and the same exposure time.",
            )
    noise = max(float(np.median(dark.noise)), 0.3)  # that of rounding to whole levels
    name, level = beam.lowest
    if level < LEAST_ANSWER * noise:
        raise DataError(
            f"open frame {name} is {level:.0f} grey levels brighter than the dark ones, which have "
            f"a noise of {noise:.0f}",
            remedy="See that the tube was on and the shutter open, and that dark and open frames "
            "were not exchanged.",
        )
    for series, kind in ((dark, "dark"), (beam, "open")):
        drift = (series.highest[1] - series.lowest[1]) / beam.level
        if drift > MOST_DRIFT:
            raise DataError(
                f"the {kind} frames differ by {drift:.1%} of the open beam: "
                f"{series.lowest[0]} is the darkest, {series.highest[0]} the brightest",
                remedy="Let detector and tube warm up, and take the frames again, all with one "
                "exposure.",
            )


def signal_to_noise(beam: Series, bad: NDArray[np.bool_]) -> float:
    """Signal to noise of a good pixel in one open frame: median signal, root mean square noise.

    The noise is a pixel's own, from frame to frame: the fixed pattern, which flat-fielding takes
    away, is not in it. It is per pixel, not normalised to a spatial resolution as E2597's SNRn.
    """
    good = ~bad
    noise = float(np.sqrt(np.mean(np.square(beam.noise[good], dtype=np.float64))))
    if not noise > 0:
        raise DataError(
            "the open frames are copies of each other: they show no noise",
            remedy="Give frames that were taken one after the other.",
        )
    return float(np.median(beam.mean[good])) / noise


def _check_frame(name: str, frame: Frame, first: tuple[str, Frame], kind: str) -> None:
    if frame.bits != 16 or frame.channels != 1:
        raise DataError(
            f"{kind} frame {name} is not 16-bit grey",
            remedy="Give the frames as the detector wrote them, without its own correction.",
        )
    if frame.size_px != first[1].size_px:
        raise DataError(f"{kind} frames {first[0]} and {name} differ in size")
    one, other = first[1].acquisition, frame.acquisition
    for key in ("detector", "kv", "ma", "exposure_ms", "frames_averaged"):
        before, now = getattr(one, key, None), getattr(other, key, None)
        if before != now:
            raise DataError(
                f"{kind} frames {first[0]} and {name} differ in {key}: {before} and {now}",
                remedy="Take all frames of a series with one detector and one exposure.",
            )


def _at_the_top(name: str, frame: Frame, kind: str) -> NDArray[np.bool_]:
    """(H, W) pixels at the end of the detector's range; none when the frame does not reach it."""
    highest = int(frame.pixels.max())
    top = np.asarray(frame.pixels == highest)
    share = float(np.mean(top))
    if kind == "open" and share > MOST_SATURATED:
        raise DataError(
            f"{share:.1%} of open frame {name} lies at its highest level, {highest}: saturated",
            remedy="Lower current or exposure time until the open beam lies at 50 to 80 % of the "
            "detector's range.",
        )
    return top if highest in TOPS else np.zeros_like(top)
