"""DICOM and DICONDE: levels exact or refused, the pitch on the part, and what the file says.

The files are written by pydicom, and its reading of them is what ours is held against.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from inspection.errors import ImageError, UnreadableImage, UnsupportedImage
from inspection.frame import decode_image
from tests.dicom_files import SYNTAXES, dicom

if TYPE_CHECKING:
    from numpy.typing import NDArray


def noise(bits: int = 16) -> NDArray[Any]:
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(2).integers(0, 2**bits, (38, 51), dtype)


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [(s, b) for s in SYNTAXES for b in (8, 12, 16) if (s, b) != ("big-endian", 8)],
)
def test_every_bit_in_every_transfer_syntax(syntax: str, bits: int) -> None:
    pixels = noise(bits)
    data = dicom(pixels, syntax=syntax, stored=bits)
    frame = decode_image(data, declared="application/dicom")
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert frame.pixels.dtype == pixels.dtype
    if syntax != "jpeg-2000":  # for which pydicom wants another library
        np.testing.assert_array_equal(pydicom.dcmread(io.BytesIO(data)).pixel_array, frame.pixels)


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_white_is_zero_is_turned_round_within_the_stored_bits(bits: int) -> None:
    pixels = noise(bits)
    data = dicom(pixels, stored=bits, PhotometricInterpretation="MONOCHROME1")
    frame = decode_image(data)
    np.testing.assert_array_equal(frame.pixels, 2**bits - 1 - pixels)
    assert frame.pixels.dtype == pixels.dtype


class TestRescaling:
    def test_exact_levels_are_applied(self) -> None:
        data = dicom(noise(12), stored=12, RescaleSlope="16", RescaleIntercept="-0")
        np.testing.assert_array_equal(decode_image(data).pixels, noise(12) * 16)

    def test_a_negative_intercept_that_fits(self) -> None:
        pixels = np.maximum(noise(16), 1024)
        data = dicom(pixels, RescaleSlope="1", RescaleIntercept="-1024")
        np.testing.assert_array_equal(decode_image(data).pixels, pixels - 1024)

    def test_signed_values_that_an_intercept_lifts(self) -> None:
        pixels = noise(16).view(np.int16)
        data = dicom(pixels, RescaleSlope="1", RescaleIntercept="32768")
        lifted = pixels.astype(np.int32) + 32768
        np.testing.assert_array_equal(decode_image(data).pixels, lifted)
        with pytest.raises(UnsupportedImage, match="levels from -"):
            decode_image(dicom(pixels))

    def test_signed_values_that_are_never_negative(self) -> None:
        pixels = (noise(12) & 0x7FF).view(np.int16)
        np.testing.assert_array_equal(decode_image(dicom(pixels, stored=12)).pixels, pixels)

    @pytest.mark.parametrize("slope", ["0.5", "1.0000001", "-1", "0"])
    def test_what_is_not_exact_is_refused_with_what_to_do(self, slope: str) -> None:
        with pytest.raises(UnsupportedImage, match="RescaleSlope"):
            decode_image(dicom(noise(12), stored=12, RescaleSlope=slope, RescaleIntercept="0"))

    def test_turning_round_comes_first(self) -> None:
        told = {"RescaleSlope": "2", "RescaleIntercept": "10"}
        data = dicom(noise(12), stored=12, PhotometricInterpretation="MONOCHROME1", **told)
        np.testing.assert_array_equal(decode_image(data).pixels, 2 * (4095 - noise(12)) + 10)


class TestPitch:
    @staticmethod
    def of(**elements: Any) -> float | None:
        return decode_image(dicom(noise(), **elements)).pitch_mm

    def test_the_detector_s_spacing_over_the_magnification(self) -> None:
        spacing = {"ImagerPixelSpacing": [0.2, 0.2]}
        told = {"DistanceSourceToDetector": "1000", "DistanceSourceToPatient": "500"}
        assert self.of(**spacing, **told) == pytest.approx(0.1)
        assert self.of(**spacing, EstimatedRadiographicMagnificationFactor="1.25") == pytest.approx(
            0.16
        )

    def test_a_spacing_that_was_calibrated_on_the_part(self) -> None:
        told = {"PixelSpacing": [0.07, 0.07], "ImagerPixelSpacing": [0.2, 0.2]}
        assert self.of(**told, PixelSpacingCalibrationType="FIDUCIAL") == pytest.approx(0.07)

    def test_without_a_plane_there_is_none(self) -> None:
        assert self.of(PixelSpacing=[0.2, 0.2]) is None
        assert self.of(ImagerPixelSpacing=[0.2, 0.2]) is None
        oblong = {"ImagerPixelSpacing": [0.2, 0.1]}
        assert self.of(**oblong, EstimatedRadiographicMagnificationFactor="2") is None
        shrunk = {"ImagerPixelSpacing": [0.2, 0.2]}
        assert self.of(**shrunk, EstimatedRadiographicMagnificationFactor="0.5") is None


def test_what_the_file_says_of_exposure_and_part() -> None:
    data = dicom(
        noise(),
        syntax="implicit",
        SpecificCharacterSet="ISO_IR 192",
        PatientID="KN42A00016",
        PatientName="Achsschenkel links",
        KVP="120",
        XRayTubeCurrentInuA="1500",
        ExposureTime="250",
        NumberOfFramesIntegrated="16",
        DetectorID="DXR-250-0417",
        ComponentManufacturer="Gießerei Süd",
        MaterialThickness="12.5",
        EvaluatorName="Kim",
    )
    said = decode_image(data).acquisition
    assert said is not None
    assert (said.kv, said.ma, said.exposure_ms, said.frames_averaged) == (120, 1.5, 250, 16)
    assert (said.detector, said.serial) == ("DXR-250-0417", "KN42A00016")
    assert dict(said.tags) == {
        "ComponentName": "Achsschenkel links",
        "ComponentManufacturer": "Gießerei Süd",
        "MaterialThickness": "12.5",
    }, "and no person"


@pytest.mark.parametrize(
    ("character_set", "encoding"), [("ISO 2022 IR 149", "euc_kr"), ("ISO_IR 100", "latin-1")]
)
def test_texts_of_other_character_sets(character_set: str, encoding: str) -> None:
    text = "주물" if encoding == "euc_kr" else "Süd"
    data = dicom(noise(), SpecificCharacterSet=["", character_set], ComponentManufacturer="X" * 8)
    packed = (b"\x1b$)C" if encoding == "euc_kr" else b"") + text.encode(encoding)
    said = decode_image(data.replace(b"X" * 8, packed.ljust(8))).acquisition
    assert said is not None
    assert dict(said.tags)["ComponentManufacturer"] == text


def test_several_frames_are_refused_with_what_to_do() -> None:
    two = np.stack([noise(), noise()])
    with pytest.raises(UnsupportedImage, match="2 frames") as caught:
        decode_image(dicom(two, NumberOfFrames="2"))
    assert "average" in caught.value.remedy


def test_files_of_many_makers_are_read_as_pydicom_reads_them_or_refused() -> None:
    """Those that pydicom brings along: of scanners, of other libraries, and damaged ones."""
    files = sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm"))
    decoded = 0
    for path in files:
        try:
            frame = decode_image(path.read_bytes())
        except ImageError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has much to say
            dataset = pydicom.dcmread(path)
            levels = dataset.pixel_array * int(dataset.get("RescaleSlope", 1))
            levels = levels + int(dataset.get("RescaleIntercept", 0))
        np.testing.assert_array_equal(frame.pixels, levels, err_msg=path.name)
        decoded += 1
    assert decoded > 12


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_truncated_anywhere_is_refused(syntax: str) -> None:
    data = dicom(noise(), syntax=syntax)
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        with pytest.raises((UnreadableImage, UnsupportedImage)):
            decode_image(data[:length])
