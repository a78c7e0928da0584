"""What a station's file becomes: every bit, or a refusal that says why."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from inspection.frame import DecodeLimits, Frame, decode_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RNG_SEED = 5


def noise(dtype: type, *, colour: bool, size: tuple[int, int] = (37, 53)) -> NDArray[Any]:
    shape = (*size, 3) if colour else size
    top = int(np.iinfo(dtype).max)
    return np.random.default_rng(RNG_SEED).integers(0, top, shape, endpoint=True).astype(dtype)


def png(pixels: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert done
    return bytes(data)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(buffer, pixels, **{"photometric": kind, **options})
    return buffer.getvalue()


def jpeg(pixels: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(".jpg", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert done
    return bytes(data)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
class TestEveryBitIsKept:
    def test_png(self, dtype: type, colour: bool) -> None:
        pixels = noise(dtype, colour=colour)
        frame = decode_image(png(pixels), declared="image/png")
        assert frame.pixels.dtype == dtype
        np.testing.assert_array_equal(frame.pixels, pixels)

    @pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
    @pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 5}])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_tiff(
        self, dtype: type, colour: bool, compression: str | None, layout: dict[str, Any], order: str
    ) -> None:
        pixels = noise(dtype, colour=colour)
        data = tiff(pixels, compression=compression, byteorder=order, **layout)
        frame = decode_image(data, declared="image/tiff")
        assert frame.pixels.dtype == dtype
        np.testing.assert_array_equal(frame.pixels, pixels)

    def test_frame_knows_its_source(self, dtype: type, colour: bool) -> None:
        data = png(noise(dtype, colour=colour))
        frame = decode_image(data)
        assert frame.sha256 == hashlib.sha256(data).hexdigest()
        assert (frame.media_type, frame.size_px) == ("image/png", (37, 53))
        assert (frame.channels, frame.bits) == (3 if colour else 1, np.dtype(dtype).itemsize * 8)
        with pytest.raises(ValueError, match="read-only"):
            frame.pixels[0, 0] = 1


def test_planes_one_after_the_other_become_rgb() -> None:
    pixels = noise(np.uint16, colour=True)
    data = tiff(np.moveaxis(pixels, -1, 0), planarconfig="separate")
    np.testing.assert_array_equal(decode_image(data).pixels, pixels)


def test_white_is_zero_is_turned_round() -> None:
    pixels = noise(np.uint16, colour=False)
    data = tiff(pixels, photometric="miniswhite")
    np.testing.assert_array_equal(decode_image(data).pixels, 65535 - pixels)


@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_is_decoded(colour: bool) -> None:
    smooth = cv2.GaussianBlur(noise(np.uint8, colour=colour), (0, 0), 5)
    frame = decode_image(jpeg(smooth), declared="image/jpeg")
    assert frame.pixels.shape == smooth.shape
    assert np.abs(frame.pixels.astype(int) - smooth).mean() < 3


def test_opaque_alpha_is_cut_and_transparency_refused() -> None:
    grey = noise(np.uint8, colour=False)
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    done, data = cv2.imencode(".png", opaque)
    assert done
    np.testing.assert_array_equal(decode_image(bytes(data)).pixels, opaque[..., :3])
    opaque[3, 4, 3] = 254
    done, data = cv2.imencode(".png", opaque)
    with pytest.raises(UnsupportedImage, match="transparent"):
        decode_image(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"%PDF-1.7", b"BM" + bytes(60), b"GIF89a" + bytes(60)]
)
def test_what_is_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImage, match="not an image"):
        decode_image(data)


def test_declared_type_must_agree_with_the_bytes() -> None:
    with pytest.raises(UnreadableImage, match="declared as image/tiff"):
        decode_image(png(noise(np.uint8, colour=False)), declared="image/tiff")


@pytest.mark.parametrize("kind", ["png", "png16", "tiff", "tiff-lzw", "tiff-tiled", "jpeg"])
def test_truncated_anywhere_is_refused(kind: str) -> None:
    grey = cv2.GaussianBlur(noise(np.uint8, colour=False), (0, 0), 2)
    data = {
        "png": png(grey),
        "png16": png(noise(np.uint16, colour=False)),
        "tiff": tiff(grey),
        "tiff-lzw": tiff(grey, compression="lzw"),
        "tiff-tiled": tiff(grey, tile=(16, 16)),
        "jpeg": jpeg(grey),
    }[kind]
    for length in range(0, len(data) - 1, max(1, len(data) // 100)):
        with pytest.raises(ImageError):
            decode_image(data[:length])


class TestLimitsHoldBeforeDecoding:
    def test_bytes(self) -> None:
        with pytest.raises(ImageTooLarge, match="bytes"):
            decode_image(bytes(1001), limits=DecodeLimits(max_bytes=1000))

    def test_a_png_that_would_unpack_to_gigabytes(self) -> None:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 16, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
        with pytest.raises(ImageTooLarge, match="60000 x 60000"):
            decode_image(b"\x89PNG\r\n\x1a\n" + header + body)

    @pytest.mark.parametrize("make", [png, tiff, jpeg])
    def test_the_header_alone_is_enough(self, make: Callable[[NDArray[Any]], bytes]) -> None:
        data = make(noise(np.uint8, colour=False))
        with pytest.raises(ImageTooLarge, match="53 x 37"):
            decode_image(data, limits=DecodeLimits(max_pixels=1000))


def test_several_pages_are_refused_not_the_first_taken() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(2):
            writer.write(noise(np.uint8, colour=False))
    with pytest.raises(UnsupportedImage, match="2 pages"):
        decode_image(buffer.getvalue())


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_other_depths_are_refused(dtype: type) -> None:
    with pytest.raises(UnsupportedImage):
        decode_image(tiff(np.ones((20, 20), dtype)))


def test_tiff_compressions_outside_the_list_are_refused() -> None:
    with pytest.raises(UnsupportedImage, match="compression"):
        decode_image(tiff(noise(np.uint8, colour=False), compression="packbits"))


def test_animated_png_is_refused() -> None:
    data = png(noise(np.uint8, colour=False))
    with pytest.raises(UnsupportedImage, match="animated"):
        decode_image(data[:33] + chunk(b"acTL", struct.pack(">II", 2, 0)) + data[33:])


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["png", "tiff", "jpeg"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_never_do_worse_than_a_refusal(
    kind: str, edits: list[tuple[float, int]]
) -> None:
    grey = cv2.GaussianBlur(noise(np.uint8, colour=False), (0, 0), 2)
    makers = {"png": png, "tiff": tiff, "jpeg": jpeg}
    data = bytearray(makers[kind](grey))
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    try:
        frame = decode_image(bytes(data), limits=DecodeLimits(max_pixels=10**7))
    except ImageError:
        return
    assert frame.pixels.dtype in (np.uint8, np.uint16)


def test_a_frame_cannot_be_built_wrong() -> None:
    with pytest.raises(UnsupportedImage):
        Frame(pixels=np.zeros((4, 4), np.float32), sha256="0" * 64, media_type="image/png")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedImage):
        Frame(pixels=np.zeros((4, 4, 2), np.uint8), sha256="0" * 64, media_type="image/png")
