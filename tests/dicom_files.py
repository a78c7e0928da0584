"""DICOM files as pydicom writes them: of one grey image, and whatever elements are named."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import imagecodecs
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYNTAXES: dict[str, str] = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-2000": JPEG2000Lossless,
}
DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"


def dicom(
    pixels: NDArray[Any], *, syntax: str = "explicit", stored: int | None = None, **elements: Any
) -> bytes:
    """A file that pydicom wrote, of one grey image and the elements that are named."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(SYNTAXES[syntax])
    dataset.file_meta.MediaStorageSOPClassUID = UID(DIGITAL_X_RAY)
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = DIGITAL_X_RAY
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    bits = 8 * pixels.dtype.itemsize
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = bits, stored or bits
    dataset.HighBit, dataset.PixelRepresentation = (stored or bits) - 1, pixels.dtype.kind == "i"
    reference = Dataset()
    reference.ReferencedSOPClassUID = DIGITAL_X_RAY
    dataset.ReferencedImageSequence = Sequence([reference])
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    raw = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == "big-endian" else "<")).tobytes()
    if syntax == "jpeg-2000":
        stream = imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0, codecformat="j2k")
        dataset.PixelData = encapsulate([bytes(stream)])
    else:
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    if syntax == "rle":
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
