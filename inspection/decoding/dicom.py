"""DICOM and DICONDE (ASTM E2339): one radiograph as the detector wrote it, and what it says of it.

    elements (dicom_elements.py) -> stored values (dicom_pixels.py) -> white-is-zero turned round
      -> rescaled -> pixels; and the Acquisition beside them

Levels are those of the modality (PS3.3 section C.11.1): RescaleSlope * stored + RescaleIntercept,
applied only where that is exact in 16 bits and refused elsewhere. Windows, masks and overlays are
for people and are not applied. MONOCHROME1 is turned round within BitsStored.

Several frames are several views or moments, and which one is the part is not ours to guess; so they
are refused: it is the detector that averages, and the file says how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inspection.decoding.acquisition import Acquisition
from inspection.decoding.contents import Decoded, check_pixels
from inspection.decoding.dicom_elements import read_elements
from inspection.decoding.dicom_pixels import Geometry, check_syntax, stored_values
from inspection.errors import UnreadableImage, UnsupportedImage

if TYPE_CHECKING:
    from inspection.decoding.contents import DecodeLimits, Pixels
    from inspection.decoding.dicom_elements import Elements
    from inspection.decoding.dicom_pixels import Stored

_IMAGE: Final = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "LossyImageCompression"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
)
_PITCH: Final = (
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing"),
    *("EstimatedRadiographicMagnificationFactor", "DistanceSourceToDetector"),
    "DistanceSourceToPatient",
)
_EXPOSURE: Final = (
    *("KVP", "XRayTubeCurrent", "XRayTubeCurrentInuA", "XRayTubeCurrentInmA", "ExposureTime"),
    *("ExposureTimeInuS", "ExposureTimeInms", "NumberOfFramesIntegrated", "NumberOfAverages"),
    *("DetectorID", "DeviceSerialNumber", "PatientID"),
)
TAGS: Final = {
    "PatientName": "ComponentName",  # as DICONDE calls it
    **{
        keyword: keyword
        for keyword in (
            *("Modality", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber"),
            *("AcquisitionDate", "AcquisitionTime", "DetectorType", "FocalSpots"),
            *("DateOfLastDetectorCalibration", "FilterMaterial", "FilterType"),
            *("DistanceSourceToDetector", "DistanceSourceToPatient"),
            *("ComponentManufacturingProcedure", "ComponentManufacturer", "MaterialThickness"),
            *("MaterialGrade", "MaterialPropertiesDescription", "MaterialNotes"),
            *("ComponentShape", "CurvatureType", "OuterDiameter", "InnerDiameter", "RepairID"),
            *("ExpiryDate", "EnvironmentalConditions", "ActualEnvironmentalConditions"),
            *("InternalDetectorFrameTime", "SensorName", "SensorTemperature"),
            *("KVUsedInGainCalibration", "MAUsedInGainCalibration", "DateOfGainCalibration"),
            "NumberOfFramesUsedForIntegration",
        )
    },
}
"""Elements that are kept as text, and the names they are kept under. No person's name is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Levels:
    """How stored values become levels: sign, then turning round, then slope and intercept."""

    stored: int
    signed: bool
    inverted: bool
    slope: int
    intercept: int

    @property
    def as_stored(self) -> bool:
        """Whether a level is the stored value."""
        return not (self.signed or self.inverted or (self.slope, self.intercept) != (1, 0))


def decode_dicom(data: bytes, limits: DecodeLimits) -> Decoded:
    """Decode the one image of a DICOM file, and read what it says of the exposure and the part.

    Raises:
        ImageTooLarge: past the limit of pixels, or a deflated file beyond what these take.
        UnsupportedImage: colour, several frames, compression with loss, levels that do not fit.
        UnreadableImage: truncated, damaged, or headers that contradict themselves.
    """
    elements = read_elements(data, {*_IMAGE, *_PITCH, *_EXPOSURE, *TAGS})
    check_syntax(elements)
    geometry = _geometry_of(elements, limits)
    levels = _levels_of(elements, geometry)
    return Decoded(
        pixels=_levelled(stored_values(elements, geometry), levels),
        pitch_mm=_pitch_mm(elements),
        acquisition=_acquisition(elements),
    )


def _geometry_of(elements: Elements, limits: DecodeLimits) -> Geometry:
    if elements.pixels is None:
        raise UnreadableImage("the DICOM file holds no image, or is truncated before it")
    height, width = elements.whole("Rows"), elements.whole("Columns")
    check_pixels(height, width, limits)
    frames = elements.whole("NumberOfFrames", 1)
    if frames < 1:
        raise UnreadableImage(f"the DICOM file says it has {frames} frames")
    if frames > 1:
        raise UnsupportedImage(
            f"the DICOM file holds {frames} frames; which one is the part is not ours to guess",
            remedy="Send one frame in a file; have the detector average exposures of one view.",
        )
    kind = elements.text("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2") or elements.whole("SamplesPerPixel", 1) != 1:
        raise UnsupportedImage(f"a DICOM image of kind {kind} is not grey")
    allocated, stored = elements.whole("BitsAllocated"), elements.whole("BitsStored")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise UnsupportedImage(f"DICOM pixels of {stored} bits in {allocated}, not up to 16 in 16")
    if elements.whole("HighBit", stored - 1) != stored - 1:
        raise UnsupportedImage("the DICOM pixels' bits do not lie at the lower end")
    if allocated == 8 and elements.order == ">":
        raise UnsupportedImage("8-bit DICOM pixels of swapped bytes are not accepted")
    if (elements.text("LossyImageCompression") or "00") != "00":
        raise UnsupportedImage("the DICOM image was once compressed with loss")
    return Geometry(height=height, width=width, allocated=allocated, stored=stored)


def _levels_of(elements: Elements, geometry: Geometry) -> _Levels:
    if elements.has("ModalityLUTSequence"):
        raise UnsupportedImage("the DICOM file has a modality table; only slopes are applied")
    signed = elements.whole("PixelRepresentation", 0)
    if signed not in (0, 1):
        raise UnreadableImage(f"the DICOM file's PixelRepresentation is {signed}")
    slope, intercept = (
        _rescale(elements, "RescaleSlope", 1),
        _rescale(elements, "RescaleIntercept", 0),
    )
    if slope < 1:
        raise UnsupportedImage(f"a RescaleSlope of {slope} is not above 0")
    return _Levels(
        stored=geometry.stored,
        signed=bool(signed),
        inverted=elements.text("PhotometricInterpretation") == "MONOCHROME1",
        slope=slope,
        intercept=intercept,
    )


def _rescale(elements: Elements, keyword: str, default: int) -> int:
    """A whole number of at most five digits: what can be exact in 16 bits."""
    if not elements.text(keyword):
        return default
    number = elements.number(keyword)
    if number is None or not number.is_integer() or abs(number) > 65_535:
        raise UnsupportedImage(
            f"with a {keyword} of {elements.text(keyword)!r} levels are not exact in 16 bits",
            remedy="Have the detector write its own levels: RescaleSlope 1, RescaleIntercept 0.",
        )
    return int(number)


def _levelled(values: Stored, levels: _Levels) -> Pixels:
    """Stored values to levels, exactly.

    Raises:
        UnreadableImage: a value beyond BitsStored. UnsupportedImage: a level that does not fit.
    """
    top = 2**levels.stored - 1
    if not levels.signed and int(values.max()) > top:
        raise UnreadableImage(f"a DICOM pixel of {values.max()} has more than {levels.stored} bits")
    if levels.as_stored:
        return values
    exact = values.astype(np.int64)
    low = 0
    if levels.signed:
        exact &= top  # what lies above BitsStored repeats the sign
        exact -= (exact > top // 2) * (top + 1)
        low = -(top + 1) // 2
    if levels.inverted:
        exact = (2 * low + top) - exact
    exact = exact * levels.slope + levels.intercept
    if int(exact.min()) < 0 or int(exact.max()) > 65_535:
        raise UnsupportedImage(
            f"the DICOM image has levels from {exact.min()} to {exact.max()}; 0 to 65535 fit",
            remedy="Have the detector write its own levels: unsigned, RescaleIntercept 0.",
        )
    plain = (
        values.dtype == np.uint8
        and not levels.signed
        and (levels.slope, levels.intercept) == (1, 0)
    )
    return exact.astype(np.uint8) if plain else exact.astype(np.uint16)


def _pitch_mm(elements: Elements) -> float | None:
    """Size of a pixel on the part, where the file says enough; None elsewhere.

    1. PixelSpacing that says it was calibrated on the object (PS3.3 section 10.7.1.3).
    2. ImagerPixelSpacing, which is that of the detector's plane, over the magnification: the one
       that is written, or source to detector over source to part.
    """
    calibrated = elements.text("PixelSpacingCalibrationType") in ("GEOMETRY", "FIDUCIAL")
    if calibrated and (spacing := _square(elements, "PixelSpacing")):
        return spacing
    spacing = _square(elements, "ImagerPixelSpacing")
    magnification = elements.number("EstimatedRadiographicMagnificationFactor")
    if magnification is None:
        detector = elements.number("DistanceSourceToDetector")
        part = elements.number("DistanceSourceToPatient")
        magnification = detector / part if detector and part and part > 0 else None
    if spacing is None or magnification is None or not 1 <= magnification <= 1000:
        return None
    return spacing / magnification


def _square(elements: Elements, keyword: str) -> float | None:
    """The one spacing of square pixels, in millimetres."""
    spacing = elements.numbers(keyword)
    if len(spacing) != 2 or not 1e-4 <= spacing[0] <= 10:
        return None
    return spacing[0] if abs(spacing[0] - spacing[1]) <= 1e-3 * spacing[0] else None


def _acquisition(elements: Elements) -> Acquisition:
    """What the file says; a number that is none, negative or absurd was not said."""

    def told(keyword: str, scale: float = 1.0) -> float | None:
        number = elements.number(keyword)
        return round(number * scale, 6) if number is not None and 0 <= number <= 1e9 else None

    def first(*options: float | None) -> float | None:
        return next((option for option in options if option is not None), None)

    def cut(keyword: str) -> str | None:
        text = elements.text(keyword)
        return None if text is None else text[: Acquisition.MAX_LENGTH]

    averaged = first(told("NumberOfFramesIntegrated"), told("NumberOfAverages"))
    serial = elements.text("PatientID")
    tags = ((name, cut(keyword)) for keyword, name in TAGS.items())
    frames = None if averaged is None or not averaged.is_integer() else int(averaged)
    return Acquisition(
        kv=told("KVP"),
        ma=first(
            told("XRayTubeCurrentInmA"),
            told("XRayTubeCurrentInuA", 1e-3),
            told("XRayTubeCurrent"),
        ),
        exposure_ms=first(
            told("ExposureTimeInms"), told("ExposureTimeInuS", 1e-3), told("ExposureTime")
        ),
        frames_averaged=frames,
        detector=cut("DetectorID") or cut("DeviceSerialNumber"),
        # A mark that was cut would be another part's.
        serial=serial if serial and len(serial) <= Acquisition.MAX_LENGTH else None,
        tags=tuple((name, text) for name, text in tags if text is not None),
    )
