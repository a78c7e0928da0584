"""TIFF as detectors and tools write it: every bit, the page by rule, and the pitch where it is
told in earnest.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from inspection.errors import UnreadableImage, UnsupportedImage
from inspection.frame import DecodeLimits, decode_image
from tests.hostile_tiffs import (
    BITS,
    LONG,
    PHOTOMETRIC,
    PIXELS,
    RATIONAL,
    SHORT,
    STRIP,
    SUBFILE,
    grey_tags,
    tiff_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def noise(dtype: type, *, colour: bool = False) -> NDArray[Any]:
    shape = (45, 70, 3) if colour else (45, 70)
    top = int(np.iinfo(dtype).max)
    return np.random.default_rng(3).integers(0, top, shape, dtype, endpoint=True)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(buffer, pixels, **{"photometric": kind, **options})
    return buffer.getvalue()


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("compression", ["lzw", "zlib", "deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_predictor_in_every_layout(
    dtype: type, compression: str, layout: dict[str, Any], order: str, bigtiff: bool
) -> None:
    for colour in (False, True):
        pixels = noise(dtype, colour=colour)
        options = {"compression": compression, "byteorder": order, "bigtiff": bigtiff}
        data = tiff(pixels, predictor=True, **options, **layout)
        np.testing.assert_array_equal(decode_image(data).pixels, pixels)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 9}])
def test_planes_in_every_layout(layout: dict[str, Any]) -> None:
    pixels = noise(np.uint16, colour=True)
    data = tiff(np.moveaxis(pixels, -1, 0), planarconfig="separate", compression="lzw", **layout)
    np.testing.assert_array_equal(decode_image(data).pixels, pixels)


@pytest.mark.parametrize("bits", range(9, 16))
def test_packed_bits_are_kept_and_turned_round_within_themselves(bits: int) -> None:
    pixels = (PIXELS[:, :47] >> (16 - bits)).astype(np.uint16)
    tags = {**grey_tags(32, 47), BITS: (SHORT, [bits])}
    places = np.arange(bits - 1, -1, -1)
    rows = (pixels[..., None] >> places & 1).reshape(32, -1)
    strip = np.packbits(rows.astype(np.uint8), axis=1).tobytes()  # rows end at a byte
    frame = decode_image(tiff_of([(tags, [strip])]))
    np.testing.assert_array_equal(frame.pixels, pixels)
    white = tiff_of([({**tags, PHOTOMETRIC: (SHORT, [0])}, [strip])])
    np.testing.assert_array_equal(decode_image(white).pixels, 2**bits - 1 - pixels)


def test_a_last_strip_that_was_written_whole() -> None:
    padded = np.zeros((40, 48), "<u2")
    padded[:32] = PIXELS
    tags = {**grey_tags(32, 48), 278: (LONG, [20])}
    blocks = [padded[:20].tobytes(), padded[20:].tobytes()]
    np.testing.assert_array_equal(decode_image(tiff_of([(tags, blocks)])).pixels, PIXELS)


class TestThePageByRule:
    small = ({**grey_tags(16, 24), SUBFILE: (LONG, [1])}, [PIXELS[:16, :24].tobytes()])
    page = (grey_tags(32, 48), [STRIP])

    def test_the_full_one_among_reduced_copies(self) -> None:
        for pages in ([self.page, self.small], [self.small, self.page, self.small]):
            np.testing.assert_array_equal(decode_image(tiff_of(pages)).pixels, PIXELS)

    def test_a_pyramid_as_tools_write_it(self) -> None:
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            writer.write(PIXELS, tile=(16, 16), subifds=1)
            writer.write(PIXELS[::2, ::2], tile=(16, 16), subfiletype=1)
        np.testing.assert_array_equal(decode_image(buffer.getvalue()).pixels, PIXELS)

    def test_two_full_ones_are_refused_with_what_to_do(self) -> None:
        with pytest.raises(UnsupportedImage, match="2 pages") as caught:
            decode_image(tiff_of([self.page, self.page]))
        assert "one page" in caught.value.remedy


class TestPitch:
    @staticmethod
    def of(**options: Any) -> float | None:
        return decode_image(tiff(PIXELS, **options)).pitch_mm

    def test_pixels_per_centimetre_are_meant(self) -> None:
        assert self.of(resolution=(100, 100), resolutionunit="CENTIMETER") == pytest.approx(0.1)

    def test_the_resolution_of_a_print_is_not(self) -> None:
        assert self.of(resolution=(72, 72), resolutionunit="INCH") is None
        assert self.of(resolution=(100, 100), resolutionunit="NONE") is None
        assert self.of() is None

    @pytest.mark.parametrize(("unit", "expected"), [("mm", 0.05), ("um", 0.00005 * 1000 / 1000)])
    def test_imagej_names_its_unit(self, unit: str, expected: float) -> None:
        pitch = self.of(imagej=True, resolution=(20, 20), metadata={"unit": unit})
        assert pitch == (pytest.approx(expected) if expected > 1e-4 else None)

    def test_oblong_and_absurd_pixels_have_none(self) -> None:
        per_cm = {"resolutionunit": "CENTIMETER"}
        assert self.of(resolution=(100, 50), **per_cm) is None
        assert self.of(resolution=(10**7, 10**7), **per_cm) is None
        tags = {**grey_tags(32, 48), 296: (SHORT, [3])}
        zero = {**tags, 282: (RATIONAL, [(0, 0)]), 283: (RATIONAL, [(0, 0)])}
        assert decode_image(tiff_of([(zero, [STRIP])])).pitch_mm is None


def test_memory_is_not_taken_on_a_header_s_word() -> None:
    """A page of the largest size that is allowed, whose one strip holds 10 bytes."""
    tags = {**grey_tags(8192, 8192), 279: (LONG, [10])}
    with pytest.raises(UnreadableImage, match="10 bytes where 134217728 are due"):
        decode_image(tiff_of([(tags, [bytes(10)])]), limits=DecodeLimits())


def test_offsets_of_64_bits_are_followed() -> None:
    data = tiff(PIXELS, bigtiff=True)
    assert struct.unpack_from("<HHH", data, 2) == (43, 8, 0)
    np.testing.assert_array_equal(decode_image(data).pixels, PIXELS)
    wrong = data[:4] + struct.pack("<H", 4) + data[6:]
    with pytest.raises(UnreadableImage, match="8 bytes"):
        decode_image(wrong)
